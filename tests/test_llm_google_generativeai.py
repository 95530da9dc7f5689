"""GoogleGenerativeAIModel: the retired SDK over loopback HTTP, where it is installed."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest

from agent.llm import LLM, Delta, connect
from agent.llm.errors import (
    BrokenAnswerError,
    CredentialsError,
    ModelNotFoundError,
    ProviderUnavailableError,
    RateLimitError,
    RequestRefusedError,
)
from agent.llm.google_generativeai import GoogleGenerativeAIModel
from memory import LLMMessage
from memory.dialects import dialect_named
from memory.errors import ConfigError, MessageError, MissingDependencyError
from memory.messages import ToolResult
from memory.native import to_wire
from memory.testing.simulators import Call, Fault, FaultKind, ProviderSimulator, Turn

from .served import HASTY, WEATHER, serving, text_of

pytestmark = pytest.mark.filterwarnings("ignore:.*google.generativeai:FutureWarning")
exceptions = pytest.importorskip("google.api_core.exceptions")
if find_spec("google.generativeai") is None:
    pytest.skip("google-generativeai is not installed", allow_module_level=True)

MODEL = "gemini-2.0-flash"
TASK = {"role": "user", "parts": [{"text": "How is the weather in Rome and in Oslo?"}]}
CALLS = Turn("I look at both.", [Call("weather", {"city": "Rome", "days": 3}), Call("weather", {"city": "Oslo"})])
USED = {"promptTokenCount": 10, "candidatesTokenCount": 3, "totalTokenCount": 13}
Shown = list[Delta]
both_ways = pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "streamed"])


def model(server: Any, **options: Any) -> GoogleGenerativeAIModel:
    return GoogleGenerativeAIModel(MODEL, **{"base_url": server.url, "api_key": "test", "retries": HASTY, **options})


def shows(is_streamed: bool) -> tuple[Shown, Callable[[Delta], None] | None]:
    shown: Shown = []
    return shown, shown.append if is_streamed else None


def results(calls: Any, *texts: str) -> list[dict[str, Any]]:
    answers = [ToolResult(call_id=call.id, name=call.name, text=text) for call, text in zip(calls, texts, strict=True)]
    return dialect_named("gemini").write_results(calls, answers)


def said(*parts: dict[str, Any], finish: str = "STOP", usage: dict[str, int] = USED) -> dict[str, Any]:
    candidate = {"content": {"role": "model", "parts": list(parts)}, "finishReason": finish, "index": 0}
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": MODEL}


def test_it_is_a_model_of_the_protocol_and_connect_finds_it() -> None:
    llm: LLM = connect("google-generativeai", MODEL, api_key="test", base_url="http://127.0.0.1:9")

    assert (type(llm), llm.model, llm.dialect) == (GoogleGenerativeAIModel, MODEL, "gemini")


@both_ways
async def test_parallel_calls_and_their_results_make_two_turns(is_streamed: bool) -> None:
    shown, on_delta = shows(is_streamed)
    with ProviderSimulator("gemini", [CALLS, "Sun and snow."]) as server:
        llm = model(server)
        first = await llm.call_async([TASK], [WEATHER], system="Be brief.", on_delta=on_delta)
        listed = [TASK, first.message, *results(first.tool_calls, "sun", "snow")]
        second = await llm.call_async(listed, [WEATHER], system="Be brief.", on_delta=on_delta)

    assert [(call.name, json.loads(call.arguments)) for call in first.tool_calls] == [
        ("weather", {"city": "Rome", "days": 3}),
        ("weather", {"city": "Oslo"}),
    ]
    assert (first.content, first.stop_reason) == ("I look at both.", "tool_use")
    assert (second.content, second.stop_reason, server.rejected) == ("Sun and snow.", "end_turn", [])
    assert [call["functionCall"]["name"] for call in server.requests[1].body["contents"][1]["parts"][1:]] == [
        "weather",
        "weather",
    ]
    if is_streamed:
        assert text_of(shown, "text") == "I look at both.Sun and snow."


async def test_the_request_carries_system_prompt_tools_options_and_limit() -> None:
    with serving(said({"text": "hi"})) as server:
        llm = model(server, temperature=0.5, generation_config={"top_k": 3})
        await llm.call_async([TASK], [WEATHER], 500, system="Be brief.")

    body = server.bodies[0]
    assert body["systemInstruction"]["parts"] == [{"text": "Be brief."}]
    assert body["generationConfig"] == {"temperature": 0.5, "topK": 3, "maxOutputTokens": 500}
    assert body["tools"][0]["functionDeclarations"][0]["name"] == "weather"


async def test_tool_schemas_are_written_in_the_older_form() -> None:
    schema = {
        "type": "object",
        "title": "Where",
        "$defs": {"Place": {"type": "object", "properties": {"name": {"type": "string"}}}},
        "properties": {
            "place": {"$ref": "#/$defs/Place"},
            "days": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None, "description": "How many."},
            "unit": {"enum": ["C", "F"]},
            "hours": {"type": ["array", "null"], "items": {"type": "number"}},
        },
        "required": ["place"],
    }
    tool = {"type": "function", "function": {"name": "weather", "description": "Tell.", "parameters": schema}}
    nothing = {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}
    with serving(said({"text": "hi"})) as server:
        await model(server).call_async([TASK], [tool, nothing])

    declared = server.bodies[0]["tools"][0]["functionDeclarations"]
    kinds = {"STRING": 1, "NUMBER": 2, "INTEGER": 3, "ARRAY": 5, "OBJECT": 6}  # enums travel as numbers
    properties = declared[0]["parameters"]["properties"]
    assert properties["place"]["properties"]["name"]["type"] == kinds["STRING"]
    assert properties["days"] == {"type": kinds["INTEGER"], "nullable": True, "description": "How many."}
    assert properties["unit"] == {"type": kinds["STRING"], "enum": ["C", "F"], "format": "enum"}
    assert properties["hours"] == {"type": kinds["ARRAY"], "nullable": True, "items": {"type": kinds["NUMBER"]}}
    assert declared[0]["parameters"]["required"] == ["place"]
    assert "parameters" not in declared[1]


async def test_a_schema_that_contains_itself_has_an_end() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}
    schema = {"type": "object", "$defs": {"Node": node}, "properties": {"first": {"$ref": "#/$defs/Node"}}}
    tool = {"type": "function", "function": {"name": "walk", "parameters": schema}}
    with serving(said({"text": "hi"})) as server:
        answer = await model(server).call_async([TASK], [tool])

    assert answer.content == "hi"


async def test_thoughts_of_another_sdk_are_not_sent_as_if_they_had_been_said() -> None:
    thought = {
        "role": "model",
        "parts": [
            {"text": "secret thought", "thought": True},
            {"text": "Hello.", "thoughtSignature": "AAAA"},
            {"text": "", "thoughtSignature": "BBBB"},
        ],
    }
    with serving(said({"text": "hi"})) as server:
        await model(server).call_async([TASK, thought, TASK])

    assert server.bodies[0]["contents"][1]["parts"] == [{"text": "Hello."}]


async def test_thinking_is_counted_though_the_sdk_does_not_name_it() -> None:
    usage = {**USED, "cachedContentTokenCount": 4, "thoughtsTokenCount": 7, "totalTokenCount": 20}
    with serving(said({"text": "hi"}, usage=usage)) as server:
        answer = await model(server).call_async([TASK])

    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (10, 3 + 7)
    assert (answer.usage.cache_read_tokens, answer.usage.reasoning_tokens) == (4, 7)


async def test_two_models_with_different_keys_do_not_mix_them() -> None:
    with ProviderSimulator("gemini", {"one": ["I am one."] * 3, "two": ["I am two."] * 3}) as server:
        one, two = model(server, api_key="one"), model(server, api_key="two")
        answers = await asyncio.gather(*(llm.call_async([TASK]) for llm in (one, two, one, two, two, one)))

    assert [answer.content for answer in answers] == [
        f"I am {name}." for name in ("one", "two", "one", "two", "two", "one")
    ]


async def test_plain_messages_are_written_in_the_dialect() -> None:
    plain = [LLMMessage("system", "Summarise."), LLMMessage("user", "Hello."), LLMMessage("assistant", "Hi.")]
    with serving(said({"text": "hi"})) as server:
        await model(server).call_async([*plain, TASK])

    assert [content["role"] for content in server.bodies[0]["contents"]] == ["user", "model", "user"]


@pytest.mark.parametrize(
    ("response", "content", "stop_reason"),
    [
        (said({"text": "hi"}, finish="MAX_TOKENS"), "hi", "max_tokens"),
        (said({"text": "hi"}, finish="SAFETY"), "hi", "refusal"),
        ({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": USED}, "", "refusal"),
    ],
)
async def test_every_finish_has_a_meaning_and_a_message(response: object, content: str, stop_reason: str) -> None:
    with serving(response) as server:
        answer = await model(server).call_async([TASK])

    assert (answer.content, answer.stop_reason) == (content, stop_reason)
    assert dialect_named("gemini").validate([TASK, to_wire(answer.message), TASK]) == []


@both_ways
@pytest.mark.parametrize("fault", [Fault("rate_limit", retry_after_seconds=0.01), "overloaded", "server_error"])
async def test_what_may_pass_is_asked_again(fault: Fault | FaultKind, is_streamed: bool) -> None:
    _, on_delta = shows(is_streamed)
    with ProviderSimulator("gemini", ["Done."], faults=[fault]) as server:
        answer = await model(server).call_async([TASK], on_delta=on_delta)

    assert (answer.content, len(server.requests)) == ("Done.", 2)


@pytest.mark.parametrize("kind", ["cut_stream", "malformed_json"])
async def test_a_spoilt_stream_begins_anew(kind: FaultKind) -> None:
    shown, on_delta = shows(is_streamed=True)
    with ProviderSimulator("gemini", ["It is sunny today."], faults=[Fault(kind, after_events=2)]) as server:
        answer = await model(server).call_async([TASK], on_delta=on_delta)

    assert (answer.content, len(server.requests)) == ("It is sunny today.", 2)
    assert len(answer.wasted) == [delta.kind for delta in shown].count("restart") == (kind == "cut_stream")


@both_ways
async def test_a_server_that_hangs_is_given_up_in_time(is_streamed: bool) -> None:
    _, on_delta = shows(is_streamed)
    with ProviderSimulator("gemini", ["It is sunny."], faults=[Fault("hang", after_events=1)]) as server:
        answer = await model(server, timeout_seconds=0.2).call_async([TASK], on_delta=on_delta)

    assert (answer.content, len(server.requests)) == ("It is sunny.", 2)


async def test_a_call_that_is_cancelled_leaves_no_thread_that_anyone_waits_for() -> None:
    with ProviderSimulator("gemini", ["Never said."], faults=["hang"]) as server:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(model(server).call_async([TASK]), 0.1)
        left = [thread for thread in threading.enumerate() if thread.name == "google-generativeai"]

    assert all(thread.daemon for thread in left)


@both_ways
async def test_an_answer_that_stays_empty_is_an_error(is_streamed: bool) -> None:
    _, on_delta = shows(is_streamed)
    faults: list[Fault | FaultKind] = ["empty_answer"] * 3
    with (
        ProviderSimulator("gemini", ["Never said."], faults=faults) as server,
        pytest.raises(BrokenAnswerError, match="empty"),
    ):
        await model(server).call_async([TASK], on_delta=on_delta)

    assert len(server.requests) == 3


@both_ways
async def test_a_prompt_that_is_too_long_is_refused_with_the_sdks_error_as_cause(is_streamed: bool) -> None:
    _, on_delta = shows(is_streamed)
    with (
        ProviderSimulator("gemini", ["Never said."], context_window_tokens=5) as server,
        pytest.raises(RequestRefusedError, match="token count") as caught,
    ):
        await model(server).call_async([TASK], on_delta=on_delta)

    assert isinstance(caught.value.__cause__, exceptions.BadRequest)
    assert (caught.value.status, len(server.requests)) == (400, 1)


async def test_an_unknown_model_is_said_so() -> None:
    with ProviderSimulator("gemini", ["Never said."], models={"other"}) as server, pytest.raises(ModelNotFoundError):
        await model(server).call_async([TASK])


@pytest.mark.parametrize(("status", "reason"), [(400, "API_KEY_INVALID"), (401, "X"), (403, "PERMISSION_DENIED")])
async def test_a_key_that_is_not_accepted_is_a_matter_of_credentials(status: int, reason: str) -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}]
    refusal = {"error": {"code": status, "message": "not valid", "status": "X", "details": details}}
    with serving(refusal, status=status) as server, pytest.raises(CredentialsError, match="GEMINI_API_KEY"):
        await model(server).call_async([TASK])


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("rate_limit", RateLimitError),
        ("overloaded", ProviderUnavailableError),
        ("cut_stream", ProviderUnavailableError),
    ],
)
async def test_what_does_not_pass_ends_with_its_error(fault: FaultKind, expected: type[Exception]) -> None:
    with ProviderSimulator("gemini", ["Never said."], faults=[fault] * 3) as server, pytest.raises(expected):
        await model(server).call_async([TASK])

    assert len(server.requests) == 3


async def test_a_value_that_the_sdk_cannot_write_is_refused_without_its_text() -> None:
    with serving(said({"text": "hi"})) as server, pytest.raises(MessageError) as caught:
        await model(server).call_async([{"role": "user", "parts": [{"text": ["secret"]}]}])

    assert "secret" not in f"{caught.value}{caught.value.__cause__}"
    assert server.bodies == []


async def test_half_a_surrogate_pair_is_replaced_on_the_wire() -> None:
    with serving(said({"text": "hi"})) as server:
        await model(server).call_async([{"role": "user", "parts": [{"text": "half \ud83d"}]}], system="half \ud83d")

    assert server.bodies[0]["contents"][0]["parts"] == [{"text": "half \ufffd"}]
    assert server.bodies[0]["systemInstruction"]["parts"] == [{"text": "half \ufffd"}]


def test_an_option_that_the_sdk_does_not_have_is_named() -> None:
    with pytest.raises(ConfigError, match="thinking_config"):
        GoogleGenerativeAIModel(MODEL, api_key="test", thinking_config={})


def test_a_missing_key_is_said_before_any_request(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GOOGLE_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.delenv(name, raising=False)

    with pytest.raises(CredentialsError, match="GEMINI_API_KEY or GOOGLE_API_KEY"):
        GoogleGenerativeAIModel(MODEL)


def test_a_missing_sdk_is_said_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.generativeai", None)

    with pytest.raises(MissingDependencyError, match=r"pip install 'aloop-memory\[google-generativeai\]'"):
        GoogleGenerativeAIModel(MODEL, api_key="test")


async def test_another_model_is_asked_over_the_same_connections() -> None:
    with ProviderSimulator("gemini", ["One.", "Two."]) as server:
        async with model(server) as llm:
            other = llm.with_model("models/gemini-2.5-flash")
            await llm.call_async([TASK])
            await other.call_async([TASK])

    assert [exchange.request.model for exchange in server.requests] == [MODEL, "gemini-2.5-flash"]
