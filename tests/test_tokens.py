"""Counting: exact where the tokenizer is public, offline everywhere, once per message."""

from __future__ import annotations

import base64
import hashlib
import importlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import memory
from memory.messages import Attachment, Reading, ToolCall, ToolResult
from memory.tokens import EncodingName, TiktokenCounter, encoding_named, read_ranks, tokenizer_for

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_current_weather",
        "description": "Get the current weather in a given location",
        "parameters": {
            "type": "object",
            "properties": {
                "location": {"type": "string", "description": "The city and state, e.g. San Francisco, CA"},
                "unit": {
                    "type": "string",
                    "description": "The unit of temperature to return",
                    "enum": ["celsius", "fahrenheit"],
                },
            },
            "required": ["location"],
        },
    },
}
REPLY_PRIMING = 3


def user(text: str) -> Reading:
    return Reading(role="user", text=text)


@pytest.fixture(params=["cl100k_base", "o200k_base"])
def source(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What tiktoken's own source says of an encoding, with the download left out."""
    said: dict[str, Any] = {}

    def load(url: str, expected_hash: str) -> dict[bytes, int]:
        said["sha256"] = expected_hash
        return {}

    published = importlib.import_module("tiktoken_ext.openai_public")
    monkeypatch.setattr(published, "load_tiktoken_bpe", load)
    said.update(getattr(published, request.param)())
    return said


def test_packed_ranks_rebuild_the_published_file(source: dict[str, Any]) -> None:
    lines = [base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(read_ranks(source["name"]))]

    assert hashlib.sha256(b"".join(lines)).hexdigest() == source["sha256"]


def test_patterns_are_those_of_the_installed_tiktoken(source: dict[str, Any]) -> None:
    assert encoding_named(source["name"])._pat_str == source["pat_str"]


def test_packed_ranks_stay_small() -> None:
    files = list((Path(memory.__file__).parent / "ranks").glob("*.xz"))

    assert len(files) == 2
    assert sum(file.stat().st_size for file in files) < 1_250_000


def test_counting_needs_no_network() -> None:
    script = (
        "import socket\n"
        "def refuse(*_, **__): raise AssertionError('network')\n"
        "socket.socket.connect = refuse; socket.getaddrinfo = refuse\n"
        "from memory.tokens import TiktokenCounter\n"
        "assert TiktokenCounter('gpt-4o').count_text('hello world') == 2\n"
        "assert TiktokenCounter('gpt-4').count_text('hello world') == 2\n"
    )

    subprocess.run([sys.executable, "-c", script], check=True)


def test_importing_the_counter_does_not_import_tiktoken() -> None:
    script = "import sys, memory.tokens, memory.tracker; assert not {'tiktoken', 'genai_prices'} & set(sys.modules)"

    subprocess.run([sys.executable, "-c", script], check=True)


def test_threads_that_start_together_get_one_encoding() -> None:
    names: list[EncodingName] = ["o200k_base", "cl100k_base"] * 8
    with ThreadPoolExecutor(16) as pool:
        encodings = list(pool.map(encoding_named, names))

    assert len({id(encoding) for encoding in encodings}) == 2


@pytest.mark.parametrize(("model", "reported"), [("gpt-4o", 101), ("gpt-4o-mini", 101), ("gpt-4", 105)])
def test_openai_request_with_a_tool_counts_what_the_api_reports(model: str, reported: int) -> None:
    """The example of OpenAI's cookbook, "How to count tokens with tiktoken", and the API's own figures there."""
    counter = TiktokenCounter(model)
    messages = [
        "You are a helpful assistant that can answer to questions about the weather.",
        "What's the weather like in San Francisco?",
    ]

    counted = counter.count_tools([WEATHER]) + sum(counter.count_reading(user(text)) for text in messages)

    assert counted + REPLY_PRIMING == reported


@pytest.mark.parametrize(
    ("model", "encoding", "factor"),
    [
        ("gpt-4o", "o200k_base", 1.0),
        ("gpt-4.1-mini", "o200k_base", 1.0),
        ("gpt-4.5-preview", "o200k_base", 1.0),
        ("gpt-5.4-nano", "o200k_base", 1.0),
        ("o3-mini", "o200k_base", 1.0),
        ("azure/gpt-4o", "o200k_base", 1.0),
        ("gpt-4", "cl100k_base", 1.0),
        ("gpt-4-turbo-2024-04-09", "cl100k_base", 1.0),
        ("gpt-4-0613", "cl100k_base", 1.0),
        ("ft:gpt-3.5-turbo-0125:org::id", "cl100k_base", 1.0),
        ("claude-3-5-sonnet-20241022", "o200k_base", 1.2),
        ("claude-opus-4-6", "o200k_base", 1.2),
        ("claude-haiku-4-5-20251001", "o200k_base", 1.2),
        ("claude-opus-4-7", "o200k_base", 1.6),
        ("anthropic/claude-opus-4.8", "o200k_base", 1.6),
        ("us.anthropic.claude-sonnet-5-5-v1:0", "o200k_base", 1.6),
        ("models/gemini-2.5-pro", "o200k_base", 1.1),
        ("qwen3-coder", "o200k_base", 1.0),
        (None, "o200k_base", 1.0),
    ],
)
def test_model_decides_the_encoding_and_the_factor(model: str | None, encoding: str, factor: float) -> None:
    tokenizer = tokenizer_for(model)

    assert (tokenizer.encoding, tokenizer.factor) == (encoding, factor)


def test_provider_decides_where_no_model_is_named() -> None:
    assert tokenizer_for(None, "anthropic") == tokenizer_for("claude-sonnet-4-5")
    assert tokenizer_for(None, "google") == tokenizer_for("gemini-2.5-pro")


def test_model_name_outweighs_the_provider_that_serves_it() -> None:
    assert tokenizer_for("claude-sonnet-4@20250514", "vertex_ai") == tokenizer_for("claude-sonnet-4")


@pytest.mark.parametrize("unit", [" ", "\t", "\n", "a", "^", "=", " \n", "\u3000", "日", "\ud800", "é"])
@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4"])
def test_a_million_characters_of_one_kind_are_counted(unit: str, model: str) -> None:
    assert TiktokenCounter(model).count_text(unit * (1_000_000 // len(unit))) > 1_000


def test_a_slice_changes_the_count_by_at_most_a_token_or_two() -> None:
    text = "The quick brown fox jumps over 13 lazy dogs.\n" * 5_000
    whole = len(encoding_named("o200k_base").encode_ordinary(text))

    assert abs(TiktokenCounter("gpt-4o").count_text(text) - whole) <= 2 * (len(text) // 100_000)


@pytest.mark.parametrize("text", ["", "\ud800", "a\udfffb", "<|endoftext|>", "\x00", "🦊" * 10])
def test_odd_texts_have_a_count(text: str) -> None:
    assert TiktokenCounter("gpt-4o").count_text(text) >= len(text) / 100


@given(st.text())
def test_any_text_counts_at_most_its_bytes(text: str) -> None:
    count = TiktokenCounter("gpt-4o").count_text(text)

    assert (count == 0) == (text == "")
    assert count <= len(text.encode("utf-8", "replace"))


def test_every_part_of_a_message_counts() -> None:
    counter = TiktokenCounter("gpt-4o")
    whole = Reading(
        role="assistant",
        text="I look into the file.",
        reasoning="Which file could it be?",
        calls=(ToolCall(id="1", name="read_file", arguments='{"path": "a.py"}'),),
        results=(ToolResult(call_id="1", name=None, text="import this"),),
        attachments=(Attachment(kind="image", width_pixels=512, height_pixels=512),),
    )
    without = [
        Reading(role=whole.role, **{name: getattr(whole, name) for name in parts})
        for parts in (
            ("reasoning", "calls", "results", "attachments"),
            ("text", "calls", "results", "attachments"),
            ("text", "reasoning", "results", "attachments"),
            ("text", "reasoning", "calls", "attachments"),
            ("text", "reasoning", "calls", "results"),
        )
    ]

    assert all(counter.count_reading(part) < counter.count_reading(whole) for part in without)


def test_a_message_is_encoded_once() -> None:
    counter = TiktokenCounter("claude-sonnet-4-5")

    counter.count_reading(
        Reading(role="tool", results=tuple(ToolResult(call_id=str(n), name=None, text="é" * 50) for n in range(10)))
    )

    assert counter.bytes_tokenised == 10 * 100 + 9  # nine line breaks join ten results


def test_signature_is_not_billed_as_text() -> None:
    counter = TiktokenCounter("claude-opus-4-6")
    signed = Reading(role="assistant", text="Done.", opaque_characters=700, is_signed=True)

    assert counter.count_reading(signed) == counter.count_reading(Reading(role="assistant", text="Done."))


def test_encrypted_reasoning_counts_less_than_its_base64() -> None:
    counter = TiktokenCounter("gpt-5")
    encrypted = Reading(role="assistant", opaque_characters=40_000, is_signed=True)

    assert 5_000 < counter.count_reading(encrypted) < 40_000 / 4


def test_no_tools_cost_nothing() -> None:
    assert TiktokenCounter("gpt-4o").count_tools([]) == 0
    assert TiktokenCounter("claude-sonnet-4-5").count_tools(()) == 0


@pytest.mark.parametrize("model", ["gpt-4o", "claude-sonnet-4-5", "gemini-2.5-pro", "qwen3"])
@pytest.mark.parametrize(
    "tool",
    [
        WEATHER,
        WEATHER["function"],
        {"name": "f", "description": "d", "input_schema": {"type": "object", "properties": {"a": {"type": "string"}}}},
        {"functionDeclarations": [WEATHER["function"], WEATHER["function"]]},
        {"type": "web_search_20250305", "name": "web_search"},
        {"type": "function", "function": {"name": "bare"}},
        {
            "type": "function",
            "function": {"name": "odd", "parameters": {"properties": {"x": True, "y": {"items": []}}}},
        },
        {},
    ],
)
def test_tools_of_any_shape_have_a_count(tool: dict[str, Any], model: str) -> None:
    assert TiktokenCounter(model).count_tools([tool]) > 0


def test_nested_parameters_count() -> None:
    flat = {"name": "f", "parameters": {"properties": {"a": {"type": "array", "items": {"type": "object"}}}}}
    inner = {"type": "object", "properties": {"street": {"type": "string", "description": "Street and number"}}}
    deep = {"name": "f", "parameters": {"properties": {"a": {"type": "array", "items": inner}}}}
    counter = TiktokenCounter("gpt-4o")

    assert counter.count_tools([deep]) > counter.count_tools([flat]) + 5
