"""Images, sounds, films and documents: how large they are, and how many tokens a provider bills for them.

An attachment is never counted by its base64: a picture of 300 kB costs about a thousand tokens, not a hundred
thousand. `describe` reads sizes from the first bytes of the data; `attachment_tokens` applies the provider's rule.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Mapping
from typing import Literal, TypeAlias, TypeVar

from .messages import Attachment
from .models import Family, bare_name, family_of, is_since_opus_4_7

Kind: TypeAlias = Literal["image", "audio", "video", "document"]
_Size: TypeAlias = tuple[int, int] | None
_Rule = TypeVar("_Rule")

_PDF_LIMIT_BYTES = 4 * 1024 * 1024
"""A page count is looked for in this much of a PDF: a few milliseconds."""


def describe(
    kind: str,
    *,
    media_type: str | None = None,
    base64_data: str | bytes | None = None,
    detail: str | None = None,
) -> Attachment:
    """Return what is known of an attachment from its type and the head of its data.

    Args:
        kind: `image`, `audio`, `video` or `document`; anything else is judged by `media_type`, else a document.
        media_type: For example `image/png`; taken from a `data:` URL where it is missing.
        base64_data: Base64 (standard or URL-safe), a `data:` URL, or the raw bytes as some SDKs hold them.
        detail: OpenAI's `detail` of an image.

    Decodes only the bytes it looks at. Never raises: what cannot be read stays None.
    """
    payload, url_type = _payload(base64_data)
    media_type = media_type or url_type
    known = _kind(kind, media_type)
    width, height = _image_size(payload) or (None, None) if known == "image" else (None, None)
    return Attachment(
        kind=known,
        media_type=media_type,
        size_bytes=len(payload) if payload is not None else None,
        width_pixels=width,
        height_pixels=height,
        detail=detail,
        page_count=_page_count(payload) if known == "document" else None,
        duration_seconds=_wav_seconds(payload) if known == "audio" else None,
    )


def attachment_tokens(attachment: Attachment, *, model: str | None = None, provider: str | None = None) -> int:
    """Return the tokens a provider bills for an attachment, by its own published rule.

    Where a size is unknown (a URL, a file id, an odd format) the default of that kind stands in; every rule and
    default names its source beside it. Models of no known family are counted by OpenAI's rules.
    """
    family = family_of(model, provider)
    name = bare_name(model) if model else ""
    match attachment.kind:
        case "image":
            return _image_tokens(attachment, family, name)
        case "audio":
            return _audio_tokens(attachment, family)
        case "video":
            return _video_tokens(attachment, name)
        case "document":
            return _document_tokens(attachment, family, name)


# --- Images -----------------------------------------------------------------------------------------------------------

_DEFAULT_SIZE = (1024, 1024)
"""Stands in for an image whose size is unknown; most pictures sent to a model are near it after scaling."""


def _image_tokens(image: Attachment, family: Family, model: str) -> int:
    size = (image.width_pixels or _DEFAULT_SIZE[0], image.height_pixels or _DEFAULT_SIZE[1])
    match family:
        case "anthropic":
            return _anthropic_image(size, model)
        case "gemini":
            return _gemini_image(size, model)
        case "openai" | "other":
            return _openai_image(size, model, image.detail)


_PATCHES = {
    "gpt-4.1-mini": (1.62, 1536),
    "gpt-4.1-nano": (2.46, 1536),
    "o4-mini": (1.72, 1536),
    "codex-mini": (1.72, 1536),
    "gpt-5-mini": (1.2, 1536),
    "gpt-5-nano": (1.5, 1536),
    "gpt-5.2": (1.2, 1536),
    "gpt-5.3": (1.2, 1536),
    "gpt-5.4-mini": (1.2, 1536),
    "gpt-5.4-nano": (1.2, 1536),
    "gpt-5.": (1.2, 2500),
    "gpt-6": (1.2, 2500),
}
"""(tokens per patch of 32 pixels, most patches an image) by the beginning of the name, `gpt-5.1` excepted.

Source: https://platform.openai.com/docs/guides/images-vision (2026), except that what was measured on the bill stands
here for gpt-5 and later, where the documentation says 1.62 and more:
https://community.openai.com/t/1344040 and https://community.openai.com/t/1377015 (2026-06).
"""

_ORIGINAL_PATCHES = 10_000
"""Most patches with `detail: original`, where a model has it. Source as above."""

_TILES = {
    "gpt-4o-mini": (2833, 5667),
    "computer-use": (65, 129),
    "gpt-5": (70, 140),
    "o1": (75, 150),
    "o3": (75, 150),
}
"""(base, per tile of 512 pixels); all others 85 and 170. Source: the documentation above."""


def _openai_image(size: tuple[int, int], model: str, detail: str | None) -> int:
    patches = None if model.startswith("gpt-5.1") else _by_prefix(_PATCHES, model)
    if patches is not None:
        tokens_per_patch, most = patches
        if detail == "original" and most > 1536:
            most = _ORIGINAL_PATCHES
        return math.ceil(_openai_patches(size, most) * tokens_per_patch)
    base, per_tile = _by_prefix(_TILES, model) or (85, 170)
    return base if detail == "low" else base + per_tile * _openai_tiles(size)


def _by_prefix(table: Mapping[str, _Rule], model: str) -> _Rule | None:
    """Return the rule of the longest beginning of a name: `gpt-4o-mini` is not `gpt-4o`."""
    found = max((prefix for prefix in table if model.startswith(prefix)), key=len, default=None)
    return None if found is None else table[found]


def _openai_tiles(size: tuple[int, int]) -> int:
    """Fit into 2048 x 2048, scale the short side down to 768, count tiles of 512 (the documented order)."""
    fit = min(1.0, 2048 / max(size))
    fit = min(fit, 768 / min(size))
    return math.ceil(round(size[0] * fit) / 512) * math.ceil(round(size[1] * fit) / 512)


def _openai_patches(size: tuple[int, int], most: int) -> int:
    """Count patches of 32 pixels; too large an image is shrunk until whole patches fit, as documented."""
    width, height = size[0] / 32, size[1] / 32
    if math.ceil(width) * math.ceil(height) <= most:
        return math.ceil(width) * math.ceil(height)
    fit = math.sqrt(most / (width * height))
    fit *= min(max(1, math.floor(side * fit)) / (side * fit) for side in (width, height))
    # Rounded first, since 33.000000001 patches are 33.
    return min(most, math.ceil(round(width * fit, 6)) * math.ceil(round(height * fit, 6)))


def _anthropic_image(size: tuple[int, int], model: str) -> int:
    """One token per patch of 28 pixels, after scaling to the model's largest size.

    Source: https://platform.claude.com/docs/en/build-with-claude/vision (2026-06): up to 1,568 pixels a side and
    1,568 tokens; 2,576 pixels and 4,784 tokens for models since Claude Opus 4.7. The older rule of thumb,
    width x height / 750, gives the same within a few per cent.
    """
    longest, most = (2576, 4784) if is_since_opus_4_7(model) else (1568, 1568)
    fit = min(1.0, longest / max(size))
    return min(most, math.ceil(size[0] * fit / 28) * math.ceil(size[1] * fit / 28))


def _gemini_image(size: tuple[int, int], model: str) -> int:
    """258 tokens up to 384 x 384, else 258 per tile; Gemini 3 and later bill 1,120 an image by default.

    Tiles are the short side / 1.5 wide, between 256 and 768 pixels. Sources:
    https://cloud.google.com/vertex-ai/generative-ai/docs/multimodal/image-understanding and
    https://ai.google.dev/gemini-api/docs/media-resolution (2026-01).
    """
    if _SINCE_GEMINI_3.match(model):
        return 1120
    if max(size) <= 384:
        return 258
    tile = min(768, max(256, min(size) // 1.5))
    return 258 * math.ceil(size[0] / tile) * math.ceil(size[1] / tile)


_SINCE_GEMINI_3 = re.compile(r"gemini-[3-9]")


# --- Sound, film, documents -------------------------------------------------------------------------------------------

_AUDIO_BYTES_PER_SECOND = 16_000
"""Stands in for the length of compressed sound: 128 kbit/s, the common rate of MP3."""
_DEFAULT_AUDIO_SECONDS = 60.0
_DEFAULT_VIDEO_SECONDS = 60.0
_VIDEO_BYTES_PER_SECOND = 250_000
"""Stands in for the length of a film: 2 Mbit/s, an ordinary 720p stream."""
_PDF_BYTES_PER_PAGE = 75_000
"""Stands in for the page count of a PDF that does not show it."""


def _audio_tokens(audio: Attachment, family: Family) -> int:
    """32 tokens a second on Gemini, 10 on OpenAI.

    Source: https://ai.google.dev/gemini-api/docs/audio (2026-01): 32 a second; OpenAI bills one token per 100 ms of
    user audio: https://platform.openai.com/docs/guides/realtime-costs (2025-11).
    """
    seconds = audio.duration_seconds
    if seconds is None:
        seconds = audio.size_bytes / _AUDIO_BYTES_PER_SECOND if audio.size_bytes else _DEFAULT_AUDIO_SECONDS
    return math.ceil(seconds * (32 if family == "gemini" else 10))


def _video_tokens(video: Attachment, model: str) -> int:
    """263 tokens a second before Gemini 3, then 70: one frame. Nobody else takes films.

    Source: https://ai.google.dev/gemini-api/docs/tokens and https://ai.google.dev/gemini-api/docs/media-resolution
    (2026-01).
    """
    seconds = video.duration_seconds
    if seconds is None:
        seconds = video.size_bytes / _VIDEO_BYTES_PER_SECOND if video.size_bytes else _DEFAULT_VIDEO_SECONDS
    return math.ceil(seconds * (70 if _SINCE_GEMINI_3.match(model) else 263))


def _document_tokens(document: Attachment, family: Family, model: str) -> int:
    """Tokens of a PDF by its pages; of other documents by four bytes a token.

    Gemini bills 258 a page, since Gemini 3 560 (https://ai.google.dev/gemini-api/docs/media-resolution, 2026-01).
    Claude reads text and picture of each page: about 7,000 tokens for three pages
    (https://platform.claude.com/docs/en/build-with-claude/pdf-support, 2026-06), 1,883 a page measured on thirty
    (https://agentpatterns.ai/token-engineering/tokenizer-swap-tax/, 2026-04): 2,250 here. OpenAI does the same and
    publishes no number (https://platform.openai.com/docs/guides/pdf-files, 2025-11): 1,500 here.
    """
    if document.media_type is not None and document.media_type.startswith("text/"):
        return (document.size_bytes or 0) // 4
    pages = document.page_count
    if pages is None:
        pages = max(1, (document.size_bytes or 0) // _PDF_BYTES_PER_PAGE)
    if family == "gemini":
        return pages * (560 if _SINCE_GEMINI_3.match(model) else 258)
    return pages * (2250 if family == "anthropic" else 1500)


# --- Reading the head of the data -------------------------------------------------------------------------------------


class _Payload:
    """Bytes behind base64 that decodes only the slices it is asked for."""

    def __init__(self, encoded: str) -> None:
        if any(space in encoded[:200] for space in "\r\n \t"):
            encoded = "".join(encoded.split())
        self._encoded = encoded.rstrip("=")

    def __len__(self) -> int:
        return len(self._encoded) * 3 // 4

    def __getitem__(self, wanted: slice) -> bytes:
        start, stop = wanted.start or 0, min(len(self), len(self) if wanted.stop is None else wanted.stop)
        first = start // 3 * 4
        chunk = self._encoded[first : -(-stop // 3) * 4].replace("-", "+").replace("_", "/")
        try:
            decoded = base64.b64decode(chunk + "=" * (-len(chunk) % 4))
        except (binascii.Error, ValueError):
            return b""
        return decoded[start - start // 3 * 3 : stop - start // 3 * 3]


def _payload(data: str | bytes | None) -> tuple[_Payload | bytes | None, str | None]:
    if data is None or isinstance(data, bytes):
        return data, None
    if not data.startswith("data:"):
        return _Payload(data), None
    head, _, body = data.partition(",")
    return _Payload(body), head[len("data:") :].split(";")[0] or None


def _kind(kind: str, media_type: str | None) -> Kind:
    match kind, (media_type or "").split("/")[0]:
        case ("image", _) | (_, "image") if kind not in ("audio", "video", "document"):
            return "image"
        case ("audio", _) | (_, "audio") if kind not in ("video", "document"):
            return "audio"
        case ("video", _) | (_, "video") if kind != "document":
            return "video"
        case _:
            return "document"


def _image_size(data: _Payload | bytes | None) -> _Size:
    if data is None:
        return None
    head = data[:32]
    size: _Size = None
    if head.startswith(b"\x89PNG\r\n\x1a\n") and len(head) >= 24:
        size = int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    elif head.startswith((b"GIF87a", b"GIF89a")) and len(head) >= 10:
        size = int.from_bytes(head[6:8], "little"), int.from_bytes(head[8:10], "little")
    elif head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        size = _webp_size(head)
    elif head.startswith(b"\xff\xd8"):
        size = _jpeg_size(data)
    return size if size and min(size) > 0 and max(size) <= 1 << 20 else None


def _webp_size(head: bytes) -> _Size:
    """Source: https://developers.google.com/speed/webp/docs/riff_container."""
    if len(head) < 30:
        return None
    match head[12:16]:
        case b"VP8 ":
            return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
        case b"VP8L":
            bits = int.from_bytes(head[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X":
            return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
        case _:
            return None


_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Start-of-frame markers; the other three of the range define tables (ITU T.81, table B.1)."""


def _jpeg_size(data: _Payload | bytes) -> _Size:
    at = 2
    # A real file has its frame within a few dozen segments; the bound keeps garbage cheap.
    for _ in range(500):
        segment = data[at : at + 9]
        if len(segment) < 9 or segment[0] != 0xFF:
            return None
        if segment[1] in _JPEG_FRAMES:
            return int.from_bytes(segment[7:9], "big"), int.from_bytes(segment[5:7], "big")
        # 0xFF before a marker is padding and has no length of its own.
        at += 1 if segment[1] == 0xFF else 2 + int.from_bytes(segment[2:4], "big")
    return None


_PAGE = re.compile(rb"/Type\s*/Page(?![a-zA-Z])")
_COUNT = re.compile(rb"/Count\s+(\d{1,6})")


def _page_count(data: _Payload | bytes | None) -> int | None:
    """Count page objects; where they are compressed away, take the largest `/Count` of a page tree."""
    if data is None or b"%PDF-" not in data[:1024]:
        return None
    body = data[:_PDF_LIMIT_BYTES]
    pages = sum(1 for _ in _PAGE.finditer(body))
    counted = max((int(found[1]) for found in _COUNT.finditer(body)), default=0)
    return max(pages, counted) or None


def _wav_seconds(data: _Payload | bytes | None) -> float | None:
    """Length of the sound by its bytes a second. Source: the WAVE format of 1991, `fmt ` chunk."""
    if data is None:
        return None
    head = data[:64]
    if not head.startswith(b"RIFF") or head[8:12] != b"WAVE" or head[12:16] != b"fmt " or len(head) < 32:
        return None
    bytes_per_second = int.from_bytes(head[28:32], "little")
    return max(0, len(data) - 44) / bytes_per_second if bytes_per_second else None
