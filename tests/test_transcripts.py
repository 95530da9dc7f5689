"""Transcript files: what is read, in which format, and one clear error for what is not."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.transcripts import Transcript, parse_transcripts, read_transcripts
from memory.dialects import DIALECTS
from memory.errors import ConfigError, TranscriptError
from memory.messages import DialectName

from .corpus import find_corpus, transcripts

CHAT: list[dict[str, Any]] = [
    {"role": "user", "content": "read a.py"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "read", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "x = 1"},
]
ANTHROPIC: list[dict[str, Any]] = [
    {"role": "user", "content": "read a.py"},
    {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "read", "input": {}}]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "x = 1"}]},
]
GEMINI: list[dict[str, Any]] = [
    {"role": "user", "parts": [{"text": "read a.py"}]},
    {"role": "model", "parts": [{"functionCall": {"name": "read", "args": {}}}]},
    {"role": "user", "parts": [{"functionResponse": {"name": "read", "response": {"result": "x = 1"}}}]},
]
RESPONSES: list[dict[str, Any]] = [
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "read a.py"}]},
    {"type": "function_call", "call_id": "c1", "name": "read", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c1", "output": "x = 1"},
]
BY_DIALECT: Mapping[DialectName, Sequence[dict[str, Any]]] = {
    "openai_chat": CHAT,
    "anthropic": ANTHROPIC,
    "gemini": GEMINI,
    "openai_responses": RESPONSES,
}
BODY_KEY = {"openai_chat": "messages", "anthropic": "messages", "gemini": "contents", "openai_responses": "input"}


def lines(values: Sequence[object]) -> str:
    return "\n".join(json.dumps(value) for value in values) + "\n"


def write(tmp_path: Path, content: str | bytes, name: str = "run.json") -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    return path


def read_one(tmp_path: Path, content: str | bytes, name: str = "run.json") -> Transcript:
    (found,) = read_transcripts(write(tmp_path, content, name))
    return found


@pytest.mark.parametrize("dialect", list(DIALECTS))
class TestEachFormat:
    def test_is_found_in_a_list_of_messages(self, dialect: DialectName, tmp_path: Path) -> None:
        found = read_one(tmp_path, json.dumps(BY_DIALECT[dialect]))

        assert (found.dialect, list(found.messages), found.id) == (dialect, BY_DIALECT[dialect], "run")

    def test_is_found_in_a_message_on_each_line(self, dialect: DialectName, tmp_path: Path) -> None:
        found = read_one(tmp_path, lines(BY_DIALECT[dialect]), "run.jsonl")

        assert (found.dialect, list(found.messages), found.id) == (dialect, BY_DIALECT[dialect], "run")

    def test_is_found_in_a_request_body(self, dialect: DialectName, tmp_path: Path) -> None:
        body = {"model": "m", BODY_KEY[dialect]: BY_DIALECT[dialect], "system": "be brief", "tools": [{"name": "read"}]}

        found = read_one(tmp_path, json.dumps(body, indent=2))

        assert (found.dialect, list(found.messages)) == (dialect, BY_DIALECT[dialect])
        assert (found.model, found.system, found.tools) == ("m", "be brief", [{"name": "read"}])

    def test_is_found_in_a_conversation_on_each_line(self, dialect: DialectName, tmp_path: Path) -> None:
        body = {"id": "one", BODY_KEY[dialect]: BY_DIALECT[dialect]}
        path = write(tmp_path, lines([body, body | {"id": "two"}]))

        found = read_transcripts(path)

        assert [(one.id, one.dialect, one.source) for one in found] == [
            ("one", dialect, f"{path}:1"),
            ("two", dialect, f"{path}:2"),
        ]

    def test_survives_gzip_and_a_byte_order_mark(self, dialect: DialectName, tmp_path: Path) -> None:
        text = "\ufeff" + lines(BY_DIALECT[dialect])

        found = read_one(tmp_path, gzip.compress(text.encode()), "run.jsonl.gz")

        assert (found.dialect, found.id) == (dialect, "run")


@pytest.mark.parametrize("dialect", list(DIALECTS))
def test_a_named_format_is_taken_as_it_is_named(dialect: DialectName, tmp_path: Path) -> None:
    path = write(tmp_path, json.dumps(BY_DIALECT[dialect]))

    assert read_transcripts(path, dialect=dialect)[0].dialect == dialect


@pytest.mark.parametrize(
    ("value", "dialect"),
    [
        ({"messages": [{"role": "user", "content": "hi"}]}, "openai_chat"),
        ({"messages": [{"role": "user", "content": "hi"}], "system": "be brief"}, "anthropic"),
        ({"input": [{"role": "user", "content": "hi"}]}, "openai_responses"),
        ({"input": "hi"}, "openai_responses"),
        ({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}, "gemini"),
        ({"role": "user", "content": "hi"}, "openai_chat"),
        ([{"role": "user", "content": "hi"}], "openai_chat"),
    ],
    ids=json.dumps,
)
def test_one_message_is_a_transcript(value: object, dialect: DialectName, tmp_path: Path) -> None:
    found = read_one(tmp_path, json.dumps(value))

    assert (found.dialect, len(found.messages)) == (dialect, 1)


def test_utf_16_is_read(tmp_path: Path) -> None:
    assert len(read_one(tmp_path, json.dumps(CHAT).encode("utf-16")).messages) == 3


@pytest.mark.parametrize(
    "text", ['[{"role": "user", "content": "a\\ud800b"}]', '[{"role": "user", "content": "a\ud800b"}]']
)
def test_lone_surrogates_are_kept(text: str, tmp_path: Path) -> None:
    assert read_one(tmp_path, text).messages[0]["content"] == "a\ud800b"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        (" \n\n", "is empty"),
        ("[]", "holds no messages"),
        ('{"messages": []}', "holds no messages"),
        ('{"contents": []}', "holds no messages"),
        ("null", "holds null where a message belongs"),
        ("42", "holds a number where a message belongs"),
        ('"hello"', "holds a text where a message belongs"),
        ('["hello"]', r"\[0\] holds a text where a message belongs"),
        ('{"messages": [1]}', "message 0 is a number"),
        ('[{"foo": 1}]', "in no known format: message 0 has the keys foo"),
        ('[{"role": "alien"}]', "in no known format: message 0 has the role 'alien'"),
        ('{"messages": "x"}', "messages is a text, not a list of messages"),
        ('{"contents": {"role": "user"}}', "contents is an object, not a list of messages"),
        ("[{}]", "in no known format: message 0 has the keys"),
        ('[{"role": "robot", "content": "hi"}]', "in no known format: message 0"),
        ('[{"role": "user", "content": "hi"}, {"foo": 1}]', "in no known format: message 1: role is NoneType"),
        ("not json", "neither JSON nor JSONL"),
        ('[{"role": "user", "content": "hi"', "neither JSON nor JSONL.*The file seems half written"),
        ('{\n  "messages": [\n    {"role": "us', "neither JSON nor JSONL.*The file seems half written"),
        ("[" * 100_000, "nested too deeply|neither JSON nor JSONL"),
        (b"\x00\x01\x02\xff", "is not text in UTF-8"),
        (b"\xff\xd8\xff\xe0JFIF", "is not text in UTF-8"),
        (gzip.compress(b"", mtime=0), "is empty"),
        (gzip.compress(lines(CHAT).encode(), mtime=0)[:-12], "half-written gzip"),
        (b"\x1f\x8bnonsense", "half-written gzip"),
        (lines([CHAT[0]]) + '{"role": "assistant", "cont', r":2 is no JSON .* half written.*--lenient"),
        (lines([CHAT[0]]) + "{]\n" + lines([CHAT[0]]), r":2 is no JSON .*--lenient"),
        (lines([CHAT[0], 7]), r":2 holds a number"),
        (json.dumps([CHAT[1], GEMINI[1]]), "in no known format: .*a conversation is in one format"),
    ],
    ids=lambda part: repr(part)[:50],
)
def test_what_is_no_transcript_is_one_clear_error(content: str | bytes, message: str, tmp_path: Path) -> None:
    path = write(tmp_path, content)

    with pytest.raises(TranscriptError, match=message) as refused:
        read_transcripts(path)

    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_lenient_reading_leaves_out_a_half_written_line_and_says_so(tmp_path: Path) -> None:
    path = write(tmp_path, lines(CHAT) + '{"role": "assistant", "cont')

    (found,) = read_transcripts(path, is_lenient=True)

    assert list(found.messages) == CHAT
    assert len(found.skipped) == 1
    assert f"{path}:4 is no JSON" in found.skipped[0]


def test_a_missing_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(TranscriptError, match=r"none\.json cannot be read: No such file"):
        read_transcripts(tmp_path / "none.json")


def test_no_name_is_a_clear_error() -> None:
    with pytest.raises(TranscriptError, match="'' cannot be read: name a file"):
        read_transcripts("")


def test_content_is_read_under_a_name_of_its_own() -> None:
    (found,) = parse_transcripts(lines(CHAT).encode(), "standard input")

    assert (found.id, found.source, list(found.messages)) == ("standard input", "standard input", CHAT)


def test_a_directory_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(TranscriptError, match="cannot be read"):
        read_transcripts(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_an_unreadable_file_is_a_clear_error(tmp_path: Path) -> None:
    path = write(tmp_path, json.dumps(CHAT))
    path.chmod(0)

    with pytest.raises(TranscriptError, match="cannot be read"):
        read_transcripts(path)


def test_a_path_with_a_nul_is_a_clear_error() -> None:
    with pytest.raises(TranscriptError, match="cannot be read"):
        read_transcripts("a\0b")


def test_an_unknown_format_name_is_a_clear_error(tmp_path: Path) -> None:
    path = write(tmp_path, json.dumps(CHAT))

    with pytest.raises(ConfigError, match="unknown dialect 'cohere'"):
        read_transcripts(path, dialect="cohere")  # type: ignore[arg-type]  # the claim


def test_a_message_that_the_named_format_cannot_read_is_a_clear_error(tmp_path: Path) -> None:
    path = write(tmp_path, json.dumps(CHAT))

    with pytest.raises(TranscriptError, match="cannot be read as gemini: message 0"):
        read_transcripts(path, dialect="gemini")


def test_every_file_of_the_corpus_is_read_and_its_formats_are_found_without_its_header(
    corpus_dir: Path, tmp_path: Path
) -> None:
    assert find_corpus() == corpus_dir
    read = [one for path in sorted(corpus_dir.glob("*/*.jsonl.gz")) for one in read_transcripts(path)]
    assert [(one.id, one.dialect) for one in read] == [(one.id, one.dialect) for one in transcripts()]

    for one in transcripts()[::7]:
        path = write(tmp_path, lines(one.messages))
        assert read_transcripts(path)[0].dialect == one.dialect
