"""GeminiModel: google-genai over loopback HTTP, with whichever HTTP library it chooses."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import Callable
from typing import Any

import pytest
from google.genai import _api_client
from google.genai.errors import ClientError

from agent.llm import LLM, Delta, connect
from agent.llm.errors import (
    BrokenAnswerError,
    CredentialsError,
    ModelNotFoundError,
    ProviderUnavailableError,
    RateLimitError,
    RequestRefusedError,
)
from agent.llm.gemini import GeminiModel
from memory import LLMMessage, MemoryManager
from memory.dialects import dialect_named
from memory.errors import MessageError, MissingDependencyError
from memory.messages import ToolResult
from memory.native import to_wire
from memory.testing.simulators import Answer, Call, Fault, FaultKind, ProviderSimulator, Turn

from .served import HASTY, WEATHER, serving, text_of

MODEL = "gemini-3-pro"
TASK = {"role": "user", "parts": [{"text": "How is the weather in Rome and in Oslo?"}]}
THINKING = Turn(
    "I look at both.",
    [Call("weather", {"city": "Rome", "days": None}), Call("weather", {"city": "Oslo"})],
    reasoning="Two cities, so two calls. 思考",
)
USED = {"promptTokenCount": 10, "candidatesTokenCount": 3, "totalTokenCount": 13}
Shown = list[Delta]
both_ways = pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "streamed"])


@pytest.fixture(params=["aiohttp", "httpx"])
def _any_http_library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK takes aiohttp where it is installed, else httpx; both are what users have."""
    if request.param == "httpx":
        monkeypatch.setattr(_api_client, "has_aiohttp", False)


def model(server: Any, **options: Any) -> GeminiModel:
    return GeminiModel(MODEL, **{"base_url": server.url, "api_key": "test", "retries": HASTY, **options})


def shows(is_streamed: bool) -> tuple[Shown, Callable[[Delta], None] | None]:
    shown: Shown = []
    return shown, shown.append if is_streamed else None


def results(calls: Any, *texts: str) -> list[dict[str, Any]]:
    answers = [ToolResult(call_id=call.id, name=call.name, text=text) for call, text in zip(calls, texts, strict=True)]
    return dialect_named("gemini").write_results(calls, answers)


def said(*parts: dict[str, Any], finish: str | None = "STOP", **more: Any) -> dict[str, Any]:
    """One response, or one chunk of a stream."""
    candidate = {"content": {"role": "model", "parts": list(parts)}, "finishReason": finish, "index": 0}
    return {"candidates": [candidate], "usageMetadata": USED, "modelVersion": MODEL, **more}


def decoded(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Parts with their signatures as bytes: base64 has two alphabets, and the API takes both."""
    return [part | {"thoughtSignature": base64.urlsafe_b64decode(_url_safe(part))} for part in parts]


def _url_safe(part: dict[str, Any]) -> str:
    return str(part.get("thoughtSignature", "")).replace("+", "-").replace("/", "_")


def test_it_is_a_model_of_the_protocol_and_connect_finds_it() -> None:
    llm: LLM = connect("gemini", MODEL, api_key="test", base_url="http://127.0.0.1:9", max_retries=0)

    assert (type(llm), llm.model, llm.dialect) == (GeminiModel, MODEL, "gemini")


@both_ways
async def test_parallel_calls_come_in_order_with_their_arguments(is_streamed: bool) -> None:
    shown, on_delta = shows(is_streamed)
    with ProviderSimulator("gemini", [THINKING]) as server:
        async with model(server) as llm:
            answer = await llm.call_async([TASK], [WEATHER], system="Be brief.", on_delta=on_delta)

    assert [(call.name, json.loads(call.arguments)) for call in answer.tool_calls] == [
        ("weather", {"city": "Rome", "days": None}),
        ("weather", {"city": "Oslo"}),
    ]
    assert (answer.content, answer.stop_reason, answer.model) == ("I look at both.", "tool_use", MODEL)
    if is_streamed:
        assert text_of(shown, "text") == "I look at both."
        assert text_of(shown, "reasoning") == THINKING.reasoning
        assert text_of(shown, "tool_call") == "weatherweather"


@pytest.mark.usefixtures("_any_http_library")
@both_ways
async def test_signatures_go_back_byte_for_byte(is_streamed: bool) -> None:
    _, on_delta = shows(is_streamed)
    with ProviderSimulator("gemini", [THINKING, "Sun and snow."], checks_signatures=True) as server:
        async with model(server) as llm:
            first = await llm.call_async([TASK], [WEATHER], on_delta=on_delta)
            listed = [TASK, first.message, *results(first.tool_calls, "sun", "snow")]
            second = await llm.call_async(listed, [WEATHER], on_delta=on_delta)

    sent, had = server.requests[1].body["contents"][1]["parts"], dict(to_wire(first.message))["parts"]
    assert decoded(sent) == decoded(had)
    assert sum("thoughtSignature" in part for part in sent) >= 1
    assert (second.content, server.rejected) == ("Sun and snow.", [])


@pytest.mark.parametrize("signature", ["+/+/AA==", "-_-_AA=="])
async def test_a_signature_of_any_bytes_is_neither_decoded_twice_nor_lost(signature: str) -> None:
    answer = said({"functionCall": {"name": "weather", "args": {}}, "thoughtSignature": signature})
    with serving(answer) as server:
        async with model(server) as llm:
            first = await llm.call_async([TASK], [WEATHER])
            await llm.call_async([TASK, first.message, *results(first.tool_calls, "sun")], [WEATHER])

    sent = server.bodies[1]["contents"][1]["parts"]
    assert decoded(sent)[0]["thoughtSignature"] == b"\xfb\xff\xbf\x00"


async def test_a_stream_joins_plain_text_and_leaves_signed_parts_alone() -> None:
    chunks: list[object] = [
        said({"text": "I th", "thought": True}, finish=None),
        said({"text": "ink.", "thought": True}, finish=None),
        said({"text": "Hel"}, finish=None),
        said({"text": "lo."}, finish=None),
        said({"text": " Signed.", "thoughtSignature": "AAAA"}, finish=None),
        said({"text": " More."}, finish=None),
        said({"text": "", "thoughtSignature": "BBBB"}, finish=None),
        said({"text": ""}),
    ]
    with serving(chunks) as server:
        async with model(server) as llm:
            answer = await llm.call_async([TASK], on_delta=Shown().append)

    assert answer.content == "Hello. Signed. More."
    assert to_wire(answer.message)["parts"] == [
        {"text": "I think.", "thought": True},
        {"text": "Hello."},
        {"text": " Signed.", "thoughtSignature": "AAAA"},
        {"text": " More."},
        {"text": "", "thoughtSignature": "BBBB"},
    ]


async def test_a_streamed_answer_means_the_same_as_a_whole_one() -> None:
    answers = []
    for on_delta in (None, Shown().append):
        with ProviderSimulator("gemini", [THINKING]) as server:
            async with model(server) as llm:
                answers.append(await llm.call_async([TASK], [WEATHER], on_delta=on_delta))

    whole, streamed = answers
    assert (streamed.content, streamed.tool_calls, streamed.usage) == (whole.content, whole.tool_calls, whole.usage)
    assert dialect_named("gemini").read(to_wire(streamed.message)) == dialect_named("gemini").read(
        to_wire(whole.message)
    )


@both_ways
async def test_usage_contains_thoughts_and_what_came_from_the_cache(is_streamed: bool) -> None:
    _, on_delta = shows(is_streamed)
    usage = {**USED, "cachedContentTokenCount": 4, "thoughtsTokenCount": 5, "toolUsePromptTokenCount": 2}
    early = said({"text": "hi"}, finish=None, usageMetadata={**usage, "candidatesTokenCount": 1})
    late = said({"text": " you"}, usageMetadata=usage)
    answers: object = [early, late] if is_streamed else late
    with serving(answers) as server:
        async with model(server) as llm:
            answer = await llm.call_async([TASK], on_delta=on_delta)

    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (10 + 2, 3 + 5)
    assert (answer.usage.cache_read_tokens, answer.usage.reasoning_tokens) == (4, 5)


async def test_the_request_carries_system_prompt_tools_options_and_limit() -> None:
    search: dict[str, Any] = {"google_search": {}}
    with serving(said({"text": "hi"})) as server:
        async with model(server, temperature=0.5, thinking_config={"include_thoughts": True}) as llm:
            await llm.call_async([TASK], [WEATHER, search], 500, system="Be brief.")

    body = server.bodies[0]
    assert body["systemInstruction"]["parts"] == [{"text": "Be brief."}]
    config = body["generationConfig"]
    assert (config["temperature"], config["maxOutputTokens"], list(config["thinkingConfig"].values())) == (
        0.5,
        500,
        [True],
    )
    searching, declaring = sorted(body["tools"], key=lambda tool: "functionDeclarations" in tool)
    [declared] = declaring["functionDeclarations"]
    # The SDK writes some names with underscores, which the API takes too.
    assert WEATHER["function"]["parameters"] in declared.values()  # type: ignore[index]
    assert searching == {"googleSearch": {}}


async def test_plain_messages_are_written_in_the_dialect() -> None:
    plain = [LLMMessage("system", "Summarise."), LLMMessage("user", "Hello."), LLMMessage("assistant", "Hi.")]
    with serving(said({"text": "hi"})) as server:
        async with model(server) as llm:
            await llm.call_async([*plain, TASK])

    body = server.bodies[0]
    assert body["systemInstruction"]["parts"] == [{"text": "Summarise."}]
    assert [content["role"] for content in body["contents"]] == ["user", "model", "user"]


async def test_a_content_that_the_sdk_does_not_know_is_named_without_its_text() -> None:
    with serving(said({"text": "hi"})) as server, pytest.raises(MessageError, match=r"parts\.0\.colour") as caught:
        async with model(server) as llm:
            await llm.call_async([{"role": "user", "parts": [{"text": "secret", "colour": "secret"}]}])

    assert "secret" not in str(caught.value)
    assert server.bodies == []


@pytest.mark.parametrize(
    ("finish", "stop_reason"),
    [
        ("STOP", "end_turn"),
        ("MAX_TOKENS", "max_tokens"),
        ("SAFETY", "refusal"),
        ("RECITATION", "refusal"),
        ("PROHIBITED_CONTENT", "refusal"),
        ("OTHER", "end_turn"),
    ],
)
async def test_every_finish_reason_has_a_meaning(finish: str, stop_reason: str) -> None:
    with serving(said({"text": "hi"}, finish=finish)) as server:
        async with model(server) as llm:
            answer = await llm.call_async([TASK])

    assert (answer.content, answer.stop_reason) == ("hi", stop_reason)


@both_ways
@pytest.mark.parametrize(
    ("response", "stop_reason"),
    [
        ({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": USED}, "refusal"),
        ({"candidates": [{"finishReason": "SAFETY"}], "usageMetadata": USED}, "refusal"),
        ({"candidates": [{"finishReason": "MAX_TOKENS"}], "usageMetadata": USED}, "max_tokens"),
    ],
    ids=["blocked prompt", "blocked answer", "nothing but thoughts"],
)
async def test_an_answer_without_content_can_stay_in_the_conversation(
    response: dict[str, Any], stop_reason: str, is_streamed: bool
) -> None:
    _, on_delta = shows(is_streamed)
    with serving([response] if is_streamed else response) as server:
        async with model(server) as llm:
            answer = await llm.call_async([TASK], on_delta=on_delta)

    assert (answer.content, answer.stop_reason) == ("", stop_reason)
    assert dialect_named("gemini").validate([TASK, to_wire(answer.message), TASK]) == []


@pytest.mark.parametrize("finish", ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL"])
async def test_a_spoilt_answer_is_asked_for_again(finish: str) -> None:
    spoilt = {"candidates": [{"finishReason": finish}], "usageMetadata": USED}
    with serving(spoilt, said({"text": "hi"})) as server:
        async with model(server) as llm:
            answer = await llm.call_async([TASK], [WEATHER])

    assert (answer.content, len(server.bodies), len(answer.wasted)) == ("hi", 2, 1)


async def test_a_missing_signature_is_no_matter_of_luck() -> None:
    refused = {"candidates": [{"finishReason": "MISSING_THOUGHT_SIGNATURE"}], "usageMetadata": USED}
    with serving(refused) as server, pytest.raises(RequestRefusedError, match="GE-8"):
        async with model(server) as llm:
            await llm.call_async([TASK])

    assert len(server.bodies) == 1


@pytest.mark.usefixtures("_any_http_library")
@both_ways
@pytest.mark.parametrize(
    "fault",
    [Fault("rate_limit", retry_after_seconds=0.01), "overloaded", "server_error", "stream_error", "malformed_json"],
)
async def test_what_may_pass_is_asked_again(fault: Fault | FaultKind, is_streamed: bool) -> None:
    _, on_delta = shows(is_streamed)
    with ProviderSimulator("gemini", ["Done."], faults=[fault]) as server:
        async with model(server) as llm:
            answer = await llm.call_async([TASK], on_delta=on_delta)

    assert (answer.content, len(server.requests)) == ("Done.", 2)


@pytest.mark.usefixtures("_any_http_library")
async def test_a_cut_stream_begins_anew_and_says_what_it_wasted() -> None:
    shown, on_delta = shows(is_streamed=True)
    with ProviderSimulator("gemini", ["It is sunny today."], faults=[Fault("cut_stream", after_events=1)]) as server:
        async with model(server) as llm:
            answer = await llm.call_async([TASK], on_delta=on_delta)
        first = server.requests[0].used

    assert first is not None
    assert [delta.kind for delta in shown].count("restart") == 1
    assert text_of(shown[[delta.kind for delta in shown].index("restart") :], "text") == "It is sunny today."
    assert [usage and usage.input_tokens for usage in answer.wasted] == [first.input_tokens]


@pytest.mark.usefixtures("_any_http_library")
async def test_a_stream_that_ends_early_without_a_word_is_asked_again() -> None:
    with serving([said({"text": "hel"}, finish=None)]) as server, pytest.raises(BrokenAnswerError):
        async with model(server) as llm:
            await llm.call_async([TASK], on_delta=Shown().append)

    assert len(server.bodies) == 3


@pytest.mark.usefixtures("_any_http_library")
@both_ways
@pytest.mark.parametrize("after_events", [0, 1])
async def test_a_server_that_hangs_is_given_up_in_time(is_streamed: bool, after_events: int) -> None:
    _, on_delta = shows(is_streamed)
    hang = Fault("hang", after_events=after_events)
    with ProviderSimulator("gemini", ["It is sunny."], faults=[hang]) as server:
        async with model(server, timeout_seconds=0.2) as llm:
            answer = await llm.call_async([TASK], on_delta=on_delta)

    assert (answer.content, len(server.requests)) == ("It is sunny.", 2)


@both_ways
async def test_an_answer_that_stays_empty_is_an_error(is_streamed: bool) -> None:
    _, on_delta = shows(is_streamed)
    faults: list[Fault | FaultKind] = ["empty_answer"] * 3
    with ProviderSimulator("gemini", ["Never said."], faults=faults) as server:
        async with model(server) as llm:
            with pytest.raises(BrokenAnswerError, match="empty") as caught:
                await llm.call_async([TASK], on_delta=on_delta)

    assert len(caught.value.wasted) == len(server.requests) == 3


@both_ways
async def test_a_prompt_that_is_too_long_is_refused_with_the_sdks_error_as_cause(is_streamed: bool) -> None:
    _, on_delta = shows(is_streamed)
    with ProviderSimulator("gemini", ["Never said."], context_window_tokens=5) as server:
        async with model(server) as llm:
            with pytest.raises(RequestRefusedError, match="token count") as caught:
                await llm.call_async([TASK], on_delta=on_delta)

    assert isinstance(caught.value.__cause__, ClientError)
    assert (caught.value.status, len(server.requests)) == (400, 1)


async def test_an_unknown_model_is_said_so() -> None:
    with ProviderSimulator("gemini", ["Never said."], models={"other"}) as server, pytest.raises(ModelNotFoundError):
        async with model(server) as llm:
            await llm.call_async([TASK])


@pytest.mark.usefixtures("_any_http_library")
@pytest.mark.parametrize(("status", "reason"), [(400, "API_KEY_INVALID"), (401, "X"), (403, "PERMISSION_DENIED")])
async def test_a_key_that_is_not_accepted_is_a_matter_of_credentials(status: int, reason: str) -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}]
    refusal = {"error": {"code": status, "message": "not valid", "status": "X", "details": details}}
    with serving(refusal, status=status) as server, pytest.raises(CredentialsError, match="GOOGLE_API_KEY"):
        async with model(server) as llm:
            await llm.call_async([TASK])

    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("rate_limit", RateLimitError),
        ("overloaded", ProviderUnavailableError),
        ("cut_stream", ProviderUnavailableError),
    ],
)
async def test_what_does_not_pass_ends_with_its_error(fault: FaultKind, expected: type[Exception]) -> None:
    with ProviderSimulator("gemini", ["Never said, alas."], faults=[Fault(fault, after_events=1)] * 3) as server:
        async with model(server) as llm:
            with pytest.raises(expected):
                await llm.call_async([TASK], on_delta=Shown().append)

    assert len(server.requests) == 3


@pytest.fixture
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GOOGLE_API_KEY", "GEMINI_API_KEY", "GOOGLE_GEMINI_BASE_URL", "GOOGLE_GENAI_USE_VERTEXAI"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("_no_key")
def test_a_missing_key_is_said_before_any_request() -> None:
    with pytest.raises(CredentialsError, match="GOOGLE_API_KEY or GEMINI_API_KEY"):
        GeminiModel(MODEL)


@pytest.mark.usefixtures("_no_key")
async def test_a_server_of_ones_own_needs_no_key() -> None:
    with serving(said({"text": "hi"})) as server:
        async with GeminiModel(MODEL, base_url=server.url) as llm:
            assert (await llm.call_async([TASK])).content == "hi"


def test_a_missing_sdk_is_said_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.genai", None)
    monkeypatch.delattr("google.genai", raising=False)

    with pytest.raises(MissingDependencyError, match=r"pip install 'aloop-memory\[gemini\]'"):
        GeminiModel(MODEL, api_key="test")


async def test_another_model_is_asked_over_the_same_connections() -> None:
    with ProviderSimulator("gemini", ["One.", "Two."]) as server:
        async with model(server) as llm:
            other = llm.with_model("gemini-3-flash")
            await llm.call_async([TASK])
            await other.call_async([TASK])

    assert [exchange.request.model for exchange in server.requests] == [MODEL, "gemini-3-flash"]


@pytest.mark.usefixtures("_any_http_library")
def test_two_event_loops_one_after_the_other_share_a_model() -> None:
    with ProviderSimulator("gemini", ["One.", "Two."]) as server:
        llm = model(server)
        answers = [asyncio.run(llm.call_async([TASK])).content for _ in range(2)]

    assert answers == ["One.", "Two."]


async def test_half_a_surrogate_pair_is_replaced_on_the_wire() -> None:
    with serving(said({"text": "hi"})) as server:
        async with model(server) as llm:
            await llm.call_async([{"role": "user", "parts": [{"text": "half \ud83d"}]}], system="half \ud83d")

    assert server.bodies[0]["contents"][0]["parts"] == [{"text": "half \ufffd"}]
    assert server.bodies[0]["systemInstruction"]["parts"] == [{"text": "half \ufffd"}]


async def test_a_memory_takes_the_answers_and_gives_back_a_list_that_the_api_accepts() -> None:
    turns: list[Answer] = [THINKING, "Sun and snow."]
    with ProviderSimulator("gemini", turns, checks_signatures=True) as server:
        async with model(server) as llm:
            memory = MemoryManager(None, None, model=MODEL)
            await memory.add_message(TASK)
            for texts in (("sun", "snow"), ()):
                answer = await llm.call_async(memory.get_context_for_llm(), [WEATHER], system="Be brief.")
                await memory.add_message(answer.message, actual_tokens=answer.usage)
                for message in results(answer.tool_calls, *texts):
                    await memory.add_message(message)

    assert (answer.content, server.rejected) == ("Sun and snow.", [])
