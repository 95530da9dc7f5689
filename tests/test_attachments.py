"""Attachments: sizes read from the head of the data, tokens by each provider's rule, never by the base64."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.attachments import attachment_tokens, describe
from memory.messages import Attachment, Reading
from memory.tokens import TiktokenCounter

MODELS = ["gpt-4o", "gpt-4o-mini", "gpt-5.4", "o4-mini", "claude-sonnet-4-5", "claude-opus-4-8", "gemini-2.5-pro", "x"]


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def png(width: int, height: int, filler: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(header)) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    return b"\x89PNG\r\n\x1a\n" + chunk + b"\x7f" * filler


def jpeg(width: int, height: int, *, before: bytes = b"") -> bytes:
    app = b"\xff\xe0" + struct.pack(">H", 16) + b"JFIF\x00" + bytes(9)
    frame = b"\xff\xc2" + struct.pack(">HBHH", 17, 8, height, width) + bytes(10)
    return b"\xff\xd8" + app + before + frame


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + bytes(20)


def webp(kind: bytes, width: int, height: int) -> bytes:
    bodies = {
        b"VP8 ": bytes(3) + b"\x9d\x01\x2a" + struct.pack("<HH", width, height),
        b"VP8L": b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14) + bytes(5),
        b"VP8X": bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little"),
    }
    return b"RIFF" + bytes(4) + b"WEBP" + kind + bytes(4) + bodies[kind]


def wav(seconds: float, rate: int = 16_000) -> bytes:
    head = b"RIFF" + bytes(4) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, rate, rate * 2, 2, 16)
    return head + b"data" + bytes(4) + bytes(int(rate * 2 * seconds))


EXIF = b"\xff\xe1" + struct.pack(">H", 60_000) + bytes(59_998)


@pytest.mark.parametrize(
    "data",
    [
        png(640, 480),
        jpeg(640, 480),
        jpeg(640, 480, before=EXIF * 3),
        jpeg(640, 480, before=b"\xff\xff"),
        gif(640, 480),
        webp(b"VP8 ", 640, 480),
        webp(b"VP8L", 640, 480),
        webp(b"VP8X", 640, 480),
    ],
    ids=["png", "jpeg", "jpeg-exif", "jpeg-padding", "gif", "webp-lossy", "webp-lossless", "webp-extended"],
)
@pytest.mark.parametrize(
    "carry",
    [
        encoded,
        lambda data: data,
        lambda data: base64.urlsafe_b64encode(data).decode().rstrip("="),
        lambda data: base64.encodebytes(data).decode(),
        lambda data: f"data:image/png;base64,{encoded(data)}",
    ],
    ids=["base64", "bytes", "url-safe", "with line breaks", "data url"],
)
def test_size_of_an_image_is_read_from_its_head(data: bytes, carry: Any) -> None:
    found = describe("image", base64_data=carry(data))

    assert (found.width_pixels, found.height_pixels) == (640, 480)
    assert found.size_bytes == len(data)


def test_media_type_comes_from_the_data_url_where_it_is_not_given() -> None:
    assert describe("image", base64_data=f"data:image/gif;base64,{encoded(gif(1, 1))}").media_type == "image/gif"
    assert describe("image", media_type="image/png", base64_data="data:;base64,").media_type == "image/png"


@pytest.mark.parametrize(
    ("kind", "media_type", "expected"),
    [
        ("image", None, "image"),
        ("file", "image/png", "image"),
        ("input_file", "application/pdf", "document"),
        ("blob", "audio/mp3", "audio"),
        ("blob", "video/mp4", "video"),
        ("document", "image/png", "document"),
        ("", None, "document"),
    ],
)
def test_kind_is_judged_by_the_media_type_where_the_word_is_unknown(
    kind: str, media_type: str | None, expected: str
) -> None:
    assert describe(kind, media_type=media_type).kind == expected


def test_pages_of_a_pdf_are_counted() -> None:
    body = b"%PDF-1.7\n" + b"<< /Type /Page /Parent 1 0 R >>\n" * 7 + b"<< /Type /Pages /Count 7 >>"

    assert describe("document", media_type="application/pdf", base64_data=encoded(body)).page_count == 7


def test_pages_of_a_compressed_pdf_are_taken_from_its_page_tree() -> None:
    body = b"%PDF-1.7\n<< /Type /Pages /Count 3 >> << /Type/Pages/Count 12 >>" + bytes(500)

    assert describe("document", base64_data=encoded(body)).page_count == 12


def test_length_of_a_wave_file_is_known() -> None:
    assert describe("audio", media_type="audio/wav", base64_data=encoded(wav(2.5))).duration_seconds == pytest.approx(
        2.5
    )


@given(
    kind=st.text(max_size=10) | st.sampled_from(["image", "audio", "video", "document"]),
    media_type=st.none() | st.text(max_size=20),
    data=st.none() | st.text(max_size=200) | st.binary(max_size=200),
    detail=st.none() | st.text(max_size=5),
)
def test_garbage_is_described_and_counted(
    kind: str, media_type: str | None, data: str | bytes | None, detail: str | None
) -> None:
    found = describe(kind, media_type=media_type, base64_data=data, detail=detail)

    assert all(attachment_tokens(found, model=model) >= 0 for model in MODELS)


@given(
    head=st.sampled_from([png(3, 5), jpeg(3, 5), gif(3, 5), webp(b"VP8X", 3, 5), wav(0.1), b"%PDF-1.4 /Type /Page"]),
    cut=st.integers(0, 120),
    tail=st.binary(max_size=50),
    kind=st.sampled_from(["image", "audio", "document"]),
)
def test_a_half_written_file_is_described(head: bytes, cut: int, tail: bytes, kind: str) -> None:
    describe(kind, base64_data=encoded(head[:cut] + tail))


def test_one_image_of_300_kb_is_about_a_thousand_tokens() -> None:
    image = describe("image", base64_data=encoded(png(1024, 1024, filler=300_000)))
    reading = Reading(role="user", text="What is this?", attachments=(image,))

    assert all(
        200 < TiktokenCounter(model).count_reading(reading) < 6_000 for model in MODELS if model != "gpt-4o-mini"
    )


def test_an_image_of_5_mb_is_described_by_a_few_bytes() -> None:
    class Counting(str):
        decoded = 0

        def __getitem__(self, key: Any) -> str:
            part = super().__getitem__(key)
            Counting.decoded += len(part) if isinstance(key, slice) else 0
            return part

    describe("image", base64_data=Counting(encoded(jpeg(4_000, 3_000, before=EXIF * 80))))

    assert Counting.decoded < 10_000


def image(width: int, height: int, detail: str | None = None) -> Attachment:
    return Attachment(kind="image", width_pixels=width, height_pixels=height, detail=detail)


@pytest.mark.parametrize(
    ("model", "attachment", "tokens"),
    [
        # https://platform.openai.com/docs/guides/images-vision, its own examples
        ("gpt-4o", image(1024, 1024), 765),
        ("gpt-4o", image(2048, 4096), 1105),
        ("gpt-4o", image(4096, 8192, "low"), 85),
        ("gpt-4.1", image(1024, 1024, "high"), 765),
        ("gpt-4o-mini", image(1024, 1024), 2833 + 4 * 5667),
        ("gpt-5", image(1024, 1024), 70 + 4 * 140),
        ("gpt-5.1-codex", image(1024, 1024), 70 + 4 * 140),
        ("o3", image(1024, 1024), 75 + 4 * 150),
        ("gpt-4.1-mini", image(1024, 1024), 1659),
        ("gpt-4.1-mini", image(1800, 2400), 2353),
        ("o4-mini-2025-04-16", image(1024, 1024), 1762),
        # https://community.openai.com/t/1344040, measured on the bill
        ("gpt-5-mini", image(256, 256), 77),
        ("gpt-5-mini", image(768, 1024), 922),
        ("gpt-5-mini", image(2048, 768), 1844),
        ("gpt-5.4", image(1600, 1600), 3000),
        # https://agentpatterns.ai/token-engineering/tokenizer-swap-tax/, measured, a few tokens of frame included
        ("claude-opus-4-6", image(682, 318), pytest.approx(310, abs=12)),
        ("claude-opus-4-6", image(3456, 2234), pytest.approx(1578, abs=15)),
        ("claude-opus-4-7", image(3456, 2234), pytest.approx(4744, abs=50)),
        ("claude-sonnet-4-5", image(1092, 1092), pytest.approx(1590, rel=0.05)),
        # https://cloud.google.com/vertex-ai/generative-ai/docs/multimodal/image-understanding
        ("gemini-2.5-flash", image(384, 384), 258),
        ("gemini-2.5-flash", image(960, 540), 6 * 258),
        ("gemini-2.0-flash", image(1536, 1536), 4 * 258),
        ("gemini-3-pro-preview", image(960, 540), 1120),
        ("gemini-2.5-pro", Attachment(kind="audio", duration_seconds=10.0), 320),
        ("gpt-4o-audio-preview", Attachment(kind="audio", duration_seconds=10.0), 100),
        ("gemini-2.5-pro", Attachment(kind="video", duration_seconds=10.0), 2630),
        ("gemini-3-flash", Attachment(kind="video", duration_seconds=10.0), 700),
        ("gemini-2.5-pro", Attachment(kind="document", page_count=4), 1032),
        ("claude-sonnet-4-5", Attachment(kind="document", page_count=3), 6750),
        ("claude-sonnet-4-5", Attachment(kind="document", media_type="text/plain", size_bytes=4_000), 1000),
    ],
)
def test_attachment_is_billed_by_the_provider_rule(model: str, attachment: Attachment, tokens: int) -> None:
    assert attachment_tokens(attachment, model=model) == tokens


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", ["image", "audio", "video", "document"])
def test_an_attachment_of_unknown_size_is_not_free(kind: str, model: str) -> None:
    assert attachment_tokens(describe(kind), model=model) > 50


@pytest.mark.parametrize("model", MODELS)
def test_no_image_is_dearer_than_the_provider_allows(model: str) -> None:
    assert attachment_tokens(image(20_000, 20_000), model=model) < 200_000
    assert attachment_tokens(image(1, 20_000), model=model) > 0
