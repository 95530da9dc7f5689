"""The caller's object is read as the provider's JSON, whatever SDK it came from."""

from __future__ import annotations

from typing import Any

import pytest
from anthropic.types import Message, TextBlock, ToolUseBlock
from google.genai import types as genai
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

from memory.dialects import DIALECTS, detect
from memory.errors import MessageError
from memory.messages import LLMMessage
from memory.native import like, to_wire, unwrap

CALL = {"id": "c1", "type": "function", "function": {"name": "search", "arguments": '{"q": null}'}}
CHAT_MESSAGE = {"role": "assistant", "content": None, "refusal": None, "tool_calls": [CALL]}
CHAT = {
    "id": "x",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "tool_calls", "logprobs": None, "message": CHAT_MESSAGE}],
}
REASONING = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "abc"}
FUNCTION_CALL = {"type": "function_call", "call_id": "c1", "id": "fc_1", "name": "search", "arguments": "{}"}
RESPONSE = {
    "id": "r",
    "object": "response",
    "created_at": 1,
    "model": "m",
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "output": [REASONING, FUNCTION_CALL],
}
CLAUDE = {
    "id": "m",
    "type": "message",
    "role": "assistant",
    "model": "x",
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 1},
    "content": [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": "hi", "citations": None},
        {"type": "tool_use", "id": "c1", "name": "search", "input": {"q": None}},
    ],
}
GEMINI = {
    "candidates": [
        {
            "content": {
                "role": "model",
                "parts": [{"functionCall": {"name": "search", "args": {"q": None}}, "thoughtSignature": "AAAA+/8="}],
            }
        }
    ]
}


def sdk_response(name: str) -> Any:
    models: dict[str, tuple[Any, dict[str, Any]]] = {
        "openai_chat": (ChatCompletion, CHAT),
        "openai_responses": (Response, RESPONSE),
        "anthropic": (Message, CLAUDE),
        "gemini": (genai.GenerateContentResponse, GEMINI),
    }
    model, fields = models[name]
    return model.model_validate(fields)


PLAIN: dict[str, dict[str, Any]] = {
    "openai_chat": CHAT,
    "openai_responses": RESPONSE,
    "anthropic": CLAUDE,
    "gemini": GEMINI,
}


@pytest.mark.parametrize("name", DIALECTS)
def test_an_sdk_response_and_its_dict_read_the_same(name: str) -> None:
    dialect = DIALECTS[name]  # type: ignore[index]  # parametrised over its own keys
    from_sdk = [dialect.read(to_wire(part)) for part in unwrap(sdk_response(name))]
    from_dict = [dialect.read(to_wire(part)) for part in unwrap(PLAIN[name])]

    assert from_sdk == from_dict
    assert [call.name for reading in from_sdk for call in reading.calls] == ["search"]
    assert detect([sdk_response(name)]) is dialect


def test_a_chat_completion_carries_its_first_choices_own_message() -> None:
    completion = sdk_response("openai_chat")

    assert unwrap(completion) == [completion.choices[0].message]
    assert unwrap(completion)[0] is completion.choices[0].message


def test_a_responses_response_carries_its_own_output_items() -> None:
    response = sdk_response("openai_responses")

    assert all(part is item for part, item in zip(unwrap(response), response.output, strict=True))


def test_a_claude_response_is_sent_back_with_role_and_its_own_content_alone() -> None:
    message = sdk_response("anthropic")

    (unwrapped,) = unwrap(message)

    assert isinstance(unwrapped, dict)
    assert unwrapped.keys() == {"role", "content"}
    assert unwrapped["content"] is message.content


def test_a_gemini_response_carries_its_first_candidates_own_content() -> None:
    response = sdk_response("gemini")

    assert unwrap(response)[0] is response.candidates[0].content


def test_arguments_that_are_null_survive_the_dump() -> None:
    wire = to_wire(unwrap(sdk_response("anthropic"))[0])

    assert wire["content"][2]["input"] == {"q": None}


def test_a_dict_that_holds_sdk_blocks_is_read() -> None:
    blocks = [TextBlock(type="text", text="hi"), ToolUseBlock(type="tool_use", id="c1", name="f", input={"a": 1})]
    message = {"role": "assistant", "content": blocks}

    reading = DIALECTS["anthropic"].read(to_wire(message))

    assert (reading.text, reading.calls[0].arguments) == ("hi", '{"a":1}')
    assert message["content"] is blocks


def test_a_plain_dict_is_its_own_wire() -> None:
    message = {"role": "user", "content": [{"type": "text", "text": "hi"}]}

    assert to_wire(message) is message
    assert unwrap(message)[0] is message


def test_a_lone_surrogate_in_an_sdk_object_is_kept() -> None:
    completion = ChatCompletion.model_validate(CHAT)
    completion.choices[0].message.content = "half \ud83d"

    assert to_wire(unwrap(completion)[0])["content"] == "half \ud83d"


class _Proto:
    """As the protobuf wrappers of google-generativeai behave: no model_dump, `to_dict` on the class."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self._fields = fields

    def __getattr__(self, name: str) -> Any:
        try:
            return self._fields[name]
        except KeyError:
            raise AttributeError(name) from None

    @classmethod
    def to_dict(cls, proto: _Proto) -> dict[str, Any]:
        return proto._fields


def test_a_protobuf_response_is_read_by_its_classs_to_dict() -> None:
    call = {"function_call": {"name": "search", "args": {"q": "x"}, "id": ""}}
    response = _Proto({"candidates": [_Proto({"content": _Proto({"role": "model", "parts": [call]})})]})

    (reading,) = [DIALECTS["gemini"].read(to_wire(part)) for part in unwrap(response)]

    assert (reading.calls[0].id, reading.calls[0].arguments) == (None, '{"q":"x"}')


@pytest.mark.parametrize(
    ("response", "sentence"),
    [
        ({**CHAT, "choices": []}, "no choices"),
        ({"choices": [{"delta": {"content": "x"}}]}, "of a stream"),
        ({"candidates": []}, "no candidates"),
        ({"promptFeedback": {"blockReason": "SAFETY"}}, "SAFETY"),
        ({"candidates": [{"finishReason": "MAX_TOKENS"}]}, "MAX_TOKENS"),
    ],
)
def test_a_response_without_a_message_says_so(response: dict[str, Any], sentence: str) -> None:
    with pytest.raises(MessageError, match=sentence):
        unwrap(response)


@pytest.mark.parametrize("thing", ["hello", 3, None, ["hi"], object()])
def test_what_is_no_message_is_named_with_what_is_accepted(thing: object) -> None:
    with pytest.raises(MessageError, match=f"{type(thing).__name__}.*LLMMessage.*Gemini"):
        to_wire(thing)


def test_an_edited_message_keeps_the_callers_kind() -> None:
    wire = {"role": "tool", "content": "x", "tool_call_id": "c1"}

    assert like(LLMMessage("tool", "long"), wire) == LLMMessage("tool", "x", tool_call_id="c1")
    assert like({"role": "tool"}, wire) is wire
