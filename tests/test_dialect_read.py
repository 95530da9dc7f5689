"""What each dialect takes from a message, as tables of wire and reading."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.dialects import DIALECTS, detect, dialect_named
from memory.errors import ConfigError, MessageError
from memory.messages import DialectName, LLMMessage, Reading, ToolCall, ToolResult

from .conversations import DIALECT_NAMES, PIXEL, SIGNATURE, conversations
from .corpus import transcripts

DATA_URL = f"data:image/png;base64,{PIXEL}"


def read(dialect: DialectName, message: dict[str, Any]) -> Reading:
    return DIALECTS[dialect].read(message)


def chat_call(**fields: Any) -> dict[str, Any]:
    function = {"name": "f", "arguments": '{"a": 1}'}
    return {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": function}], **fields}


CALL = ToolCall(id="c1", name="f", arguments='{"a": 1}')
COMPACT = ToolCall(id="c1", name="f", arguments='{"a":1}')

OPENAI_CHAT: list[tuple[dict[str, Any], Reading]] = [
    ({"role": "system", "content": "be kind"}, Reading(role="system", text="be kind")),
    ({"role": "developer", "content": "be kind"}, Reading(role="system", text="be kind")),
    ({"role": "user", "content": ""}, Reading(role="user")),
    (
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        Reading(role="user", text="a\nb"),
    ),
    (chat_call(content=None), Reading(role="assistant", calls=(CALL,))),
    (chat_call(content="I look."), Reading(role="assistant", text="I look.", calls=(CALL,))),
    (chat_call(reasoning_content="hm"), Reading(role="assistant", reasoning="hm", calls=(CALL,))),
    ({"role": "assistant", "content": None, "refusal": "No."}, Reading(role="assistant", text="No.")),
    (
        {
            "role": "assistant",
            "tool_calls": [{"id": "c1", "type": "custom", "custom": {"name": "f", "input": "free text"}}],
        },
        Reading(role="assistant", calls=(ToolCall(id="c1", name="f", arguments="free text", kind="custom"),)),
    ),
    (
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        Reading(role="assistant", calls=(ToolCall(id=None, name="f", arguments="{}", kind="function_call"),)),
    ),
    (
        {"role": "tool", "tool_call_id": "c1", "content": "done"},
        Reading(role="tool", results=(ToolResult(call_id="c1", name=None, text="done"),)),
    ),
    (
        {"role": "tool", "tool_call_id": "c1", "name": "f", "content": [{"type": "text", "text": "done"}]},
        Reading(role="tool", results=(ToolResult(call_id="c1", name="f", text="done"),)),
    ),
    (
        {"role": "function", "name": "f", "content": "done"},
        Reading(role="tool", results=(ToolResult(call_id=None, name="f", text="done"),)),
    ),
    (
        {"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]},
        Reading(role="user", text="a", has_cache_breakpoint=True),
    ),
    (
        {
            "role": "assistant",
            "content": "a",
            "thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "12345"}],
        },
        Reading(role="assistant", text="a", reasoning="hm", opaque_characters=5, is_signed=True),
    ),
]

RESPONSES: list[tuple[dict[str, Any], Reading]] = [
    ({"role": "user", "content": "hi"}, Reading(role="user", text="hi")),
    (
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "x"}]},
        Reading(role="system", text="x"),
    ),
    (
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "x", "annotations": []}]},
        Reading(role="assistant", text="x"),
    ),
    (
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a": 1}'},
        Reading(role="assistant", calls=(CALL,)),
    ),
    (
        {"type": "custom_tool_call", "call_id": "c1", "name": "f", "input": "x"},
        Reading(role="assistant", calls=(ToolCall(id="c1", name="f", arguments="x", kind="custom_tool_call"),)),
    ),
    (
        {"type": "local_shell_call", "id": "l", "call_id": "c1", "action": {"command": ["ls"]}, "status": "completed"},
        Reading(
            role="assistant",
            calls=(
                ToolCall(id="c1", name="local_shell_call", arguments='{"command":["ls"]}', kind="local_shell_call"),
            ),
        ),
    ),
    (
        {"type": "mcp_approval_request", "id": "a1", "name": "f", "server_label": "s", "arguments": "{}"},
        Reading(role="assistant", calls=(ToolCall(id="a1", name="f", arguments="{}", kind="mcp_approval_request"),)),
    ),
    (
        {"type": "function_call_output", "call_id": "c1", "output": "done"},
        Reading(role="tool", results=(ToolResult(call_id="c1", name=None, text="done"),)),
    ),
    (
        {"type": "function_call_output", "name": "heartbeat", "output": "tick"},
        Reading(role="user", text="tick"),
    ),
    (
        {"type": "local_shell_call_output", "id": "c1", "output": "done"},
        Reading(role="tool", results=(ToolResult(call_id="c1", name=None, text="done"),)),
    ),
    (
        {
            "type": "shell_call_output",
            "call_id": "c1",
            "output": [{"stdout": "out", "stderr": "err", "outcome": {"type": "exit", "exit_code": 2}}],
        },
        Reading(role="tool", results=(ToolResult(call_id="c1", name=None, text="out\nerr\n[exit code 2]"),)),
    ),
    (
        {"type": "apply_patch_call_output", "call_id": "c1", "status": "failed", "output": "no"},
        Reading(role="tool", results=(ToolResult(call_id="c1", name=None, text="no", is_error=True),)),
    ),
    (
        {"type": "mcp_approval_response", "approval_request_id": "a1", "approve": False, "reason": "never"},
        Reading(role="tool", results=(ToolResult(call_id="a1", name=None, text="denied\nnever"),)),
    ),
    (
        {
            "type": "reasoning",
            "id": "rs",
            "summary": [{"type": "summary_text", "text": "hm"}],
            "encrypted_content": "12345",
        },
        Reading(role="assistant", reasoning="hm", opaque_characters=5, is_signed=True, binds_next=True),
    ),
    ({"type": "reasoning", "id": "rs", "summary": []}, Reading(role="assistant", binds_next=True)),
]

ANTHROPIC: list[tuple[dict[str, Any], Reading]] = [
    ({"role": "user", "content": "hi"}, Reading(role="user", text="hi")),
    ({"role": "system", "content": [{"type": "text", "text": "x"}]}, Reading(role="system", text="x")),
    (
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "12345"},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}},
            ],
        },
        Reading(
            role="assistant", text="I look.", reasoning="hm", calls=(COMPACT,), opaque_characters=5, is_signed=True
        ),
    ),
    (
        {"role": "assistant", "content": [{"type": "redacted_thinking", "data": "12345"}]},
        Reading(role="assistant", opaque_characters=5, is_signed=True),
    ),
    (
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "bad", "is_error": True}]},
        Reading(role="tool", results=(ToolResult(call_id="c1", name=None, text="bad", is_error=True),)),
    ),
    (
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1"}, {"type": "text", "text": "now"}]},
        Reading(role="user", text="now", results=(ToolResult(call_id="c1", name=None, text=""),)),
    ),
    (
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "c1",
                    "content": [{"type": "text", "text": "a"}, {"type": "search_result", "title": "t", "content": []}],
                }
            ],
        },
        Reading(role="tool", results=(ToolResult(call_id="c1", name=None, text="a\nt"),)),
    ),
    (
        {
            "role": "user",
            "content": [{"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "book"}}],
        },
        Reading(role="user", text="book"),
    ),
    (
        {"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]},
        Reading(role="user", text="a", has_cache_breakpoint=True),
    ),
]

GEMINI: list[tuple[dict[str, Any], Reading]] = [
    ({"role": "user", "parts": [{"text": "a"}, {"text": "b"}]}, Reading(role="user", text="a\nb")),
    ({"parts": [{"text": "a"}]}, Reading(role="user", text="a")),
    ({"role": "model"}, Reading(role="assistant")),
    (
        {"role": "model", "parts": [{"text": "hm", "thought": True}, {"text": "a"}]},
        Reading(role="assistant", text="a", reasoning="hm"),
    ),
    (
        {
            "role": "model",
            "parts": [{"functionCall": {"id": "c1", "name": "f", "args": {"a": 1}}, "thoughtSignature": "12345"}],
        },
        Reading(role="assistant", calls=(COMPACT,), opaque_characters=5, is_signed=True),
    ),
    (
        {"role": "model", "parts": [{"function_call": {"name": "f", "args": {}}, "thought_signature": b"123456"}]},
        Reading(
            role="assistant",
            calls=(ToolCall(id=None, name="f", arguments="{}"),),
            opaque_characters=8,
            is_signed=True,
        ),
    ),
    (
        {"role": "user", "parts": [{"functionResponse": {"id": "c1", "name": "f", "response": {"output": "done"}}}]},
        Reading(role="tool", results=(ToolResult(call_id="c1", name="f", text="done"),)),
    ),
    (
        {"role": "function", "parts": [{"function_response": {"name": "f", "response": {"error": "bad"}}}]},
        Reading(role="tool", results=(ToolResult(call_id=None, name="f", text="bad", is_error=True),)),
    ),
    (
        {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"n": 1}}}, {"text": "now"}]},
        Reading(role="user", text="now", results=(ToolResult(call_id=None, name="f", text='{"n":1}'),)),
    ),
]

TABLE = [
    (name, wire, reading)
    for name, rows in (
        ("openai_chat", OPENAI_CHAT),
        ("openai_responses", RESPONSES),
        ("anthropic", ANTHROPIC),
        ("gemini", GEMINI),
    )
    for wire, reading in rows
]


@pytest.mark.parametrize(("dialect", "wire", "reading"), TABLE)
def test_a_message_reads_as(dialect: DialectName, wire: dict[str, Any], reading: Reading) -> None:
    assert read(dialect, wire) == reading


CHAT_IMAGE = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": DATA_URL, "detail": "low"}}]}
CHAT_AUDIO = {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}}]}
INPUT_IMAGE = {"type": "input_image", "image_url": DATA_URL, "detail": "low"}
CLAUDE_IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
CLAUDE_PDF = {"type": "document", "source": {"type": "url", "url": "https://example.org/a.pdf"}}
GEMINI_IMAGE = {"inlineData": {"mimeType": "image/png", "data": PIXEL}}
GEMINI_FILM = {"file_data": {"mime_type": "video/mp4", "file_uri": "gs://a/b"}}
SCREENSHOT = {"type": "computer_screenshot", "image_url": DATA_URL}


@pytest.mark.parametrize(
    ("dialect", "wire", "kind", "media_type", "width"),
    [
        ("openai_chat", CHAT_IMAGE, "image", "image/png", 1),
        ("openai_chat", CHAT_AUDIO, "audio", "audio/mp3", None),
        ("openai_responses", {"role": "user", "content": [INPUT_IMAGE]}, "image", "image/png", 1),
        (
            "openai_responses",
            {"type": "function_call_output", "call_id": "c", "output": [INPUT_IMAGE]},
            "image",
            "image/png",
            1,
        ),
        (
            "openai_responses",
            {"type": "computer_call_output", "call_id": "c", "output": SCREENSHOT},
            "image",
            "image/png",
            1,
        ),
        ("anthropic", {"role": "user", "content": [CLAUDE_IMAGE]}, "image", "image/png", 1),
        ("anthropic", {"role": "user", "content": [CLAUDE_PDF]}, "document", None, None),
        (
            "anthropic",
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": [CLAUDE_IMAGE]}]},
            "image",
            "image/png",
            1,
        ),
        ("gemini", {"role": "user", "parts": [GEMINI_IMAGE]}, "image", "image/png", 1),
        ("gemini", {"role": "user", "parts": [GEMINI_FILM]}, "video", "video/mp4", None),
        (
            "gemini",
            {
                "role": "user",
                "parts": [{"functionResponse": {"name": "f", "response": {"output": "x"}, "parts": [GEMINI_IMAGE]}}],
            },
            "image",
            "image/png",
            1,
        ),
    ],
)
def test_media_are_attachments_and_neither_text_nor_opaque(
    dialect: DialectName, wire: dict[str, Any], kind: str, media_type: str | None, width: int | None
) -> None:
    reading = read(dialect, wire)

    (attachment,) = reading.attachments
    assert (attachment.kind, attachment.media_type, attachment.width_pixels) == (kind, media_type, width)
    assert (reading.text, reading.opaque_characters) == ("", 0)


SERVER_SEARCH = [
    {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "x"}},
    {"type": "web_search_tool_result", "tool_use_id": "s1", "content": []},
]


@pytest.mark.parametrize(
    ("dialect", "wire"),
    [
        ("openai_chat", {"role": "user", "content": [{"type": "brand_new", "x": "12345"}]}),
        ("openai_responses", {"type": "brand_new", "x": "12345"}),
        ("openai_responses", {"type": "mcp_call", "id": "m", "name": "f", "arguments": "{}", "output": "done"}),
        ("openai_responses", {"type": "web_search_call", "id": "w", "status": "completed"}),
        ("openai_responses", {"type": "tool_search_call", "execution": "server", "arguments": {}}),
        ("anthropic", {"role": "assistant", "content": SERVER_SEARCH}),
        ("anthropic", {"role": "user", "content": [{"type": "brand_new", "x": "12345"}]}),
        ("gemini", {"role": "model", "parts": [{"executableCode": {"code": "print(1)", "language": "PYTHON"}}]}),
        ("gemini", {"role": "model", "parts": [{"brandNew": "12345"}]}),
    ],
)
def test_what_is_not_known_is_counted_and_opens_no_call(dialect: DialectName, wire: dict[str, Any]) -> None:
    reading = read(dialect, wire)

    assert reading.opaque_characters > 0
    assert (reading.text, reading.calls, reading.results) == ("", (), ())


@pytest.mark.parametrize(
    ("dialect", "wire", "sentence"),
    [
        ("openai_chat", {"content": "x"}, "role is NoneType"),
        ("openai_chat", {"role": "model", "content": "x"}, "role is 'model', but openai_chat knows: system, .*tool"),
        ("openai_chat", {"role": "user", "content": 3}, "content is int"),
        ("openai_chat", {"role": "user", "content": ["x"]}, r"content\[0\] is str"),
        ("openai_chat", {"role": "assistant", "tool_calls": [{"id": "c"}]}, r"tool_calls\[0\].function is NoneType"),
        ("openai_responses", {"content": "x"}, "type is NoneType"),
        ("openai_responses", {"type": "function_call", "call_id": "c", "arguments": ""}, "name is NoneType"),
        ("anthropic", {"role": "user"}, "content is NoneType"),
        ("anthropic", {"role": "assistant", "content": [{"type": "tool_use", "name": "f"}]}, r"content\[0\].id"),
        ("gemini", {"role": "assistant", "parts": []}, "role is 'assistant'"),
        ("gemini", {"role": "user", "parts": "hi"}, "parts is str"),
    ],
)
def test_a_wrong_shape_is_an_error_that_names_the_field(
    dialect: DialectName, wire: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(MessageError, match=sentence):
        read(dialect, wire)


PLAIN = {"role": "user", "content": "hi"}


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([], None),
        ([PLAIN], None),
        ([PLAIN, {"role": "assistant", "content": "ho"}], None),
        ([{"role": "system", "content": "x"}, PLAIN], None),
        ([LLMMessage("user", "hi")], None),
        ([PLAIN, chat_call(content=None)], "openai_chat"),
        ([PLAIN, {"role": "tool", "tool_call_id": "c", "content": "x"}], "openai_chat"),
        ([CHAT_IMAGE], "openai_chat"),
        ([PLAIN, {"type": "function_call", "call_id": "c", "name": "f", "arguments": ""}], "openai_responses"),
        ([{"role": "user", "content": [INPUT_IMAGE]}], "openai_responses"),
        ([{"type": "message", "role": "user", "content": "hi"}], "openai_responses"),
        ([PLAIN, {"role": "user", "content": [CLAUDE_IMAGE]}], "anthropic"),
        ([PLAIN, {"role": "assistant", "content": SERVER_SEARCH}], "anthropic"),
        ([LLMMessage("user", [CLAUDE_IMAGE])], "anthropic"),
        ([{"role": "user", "parts": [{"text": "hi"}]}], "gemini"),
        ([{"role": "model", "parts": []}], "gemini"),
    ],
)
def test_a_list_is_of_the_dialect_of_its_first_certain_message(messages: list[Any], expected: str | None) -> None:
    found = detect(messages)

    assert (found and found.name) == expected


def test_two_formats_in_one_list_are_an_error_that_names_both() -> None:
    with pytest.raises(MessageError, match=r"messages\[1\].*openai_chat.*messages\[2\].*gemini"):
        detect([PLAIN, chat_call(content=None), {"role": "model", "parts": []}])


def test_an_unknown_dialect_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(ConfigError, match=r"'claude'.*openai_chat, openai_responses, anthropic, gemini"):
        dialect_named("claude")


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
@given(data=st.data())
def test_every_conversation_reads_in_its_own_dialect_and_is_never_taken_for_another(
    dialect: DialectName, data: st.DataObject
) -> None:
    messages = data.draw(conversations(dialect, surrogates=True))

    assert detect(messages) in (None, DIALECTS[dialect])
    for message in messages:
        read(dialect, message)


def test_reasoning_signatures_count_as_they_travel() -> None:
    message = {"role": "assistant", "content": [{"type": "thinking", "thinking": "", "signature": SIGNATURE}]}

    assert read("anthropic", message).opaque_characters == len(SIGNATURE)


@pytest.mark.usefixtures("corpus_dir")
def test_every_recorded_transcript_reads_with_each_result_naming_its_call() -> None:
    for one in transcripts():
        readings = [read(one.dialect, message) for message in one.messages]
        made = {call.id for reading in readings for call in reading.calls}
        assert {result.call_id for reading in readings for result in reading.results} <= made
        assert detect(one.messages) in (None, DIALECTS[one.dialect])
