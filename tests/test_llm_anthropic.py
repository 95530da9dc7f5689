"""AnthropicModel: the real SDK over loopback HTTP."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from anthropic import BadRequestError
from anthropic.types import Message
from hypothesis import given
from hypothesis import strategies as st

from agent.llm import LLM, Delta, connect
from agent.llm.anthropic import AnthropicModel
from agent.llm.anthropic_cache import mark
from agent.llm.errors import (
    BrokenAnswerError,
    CredentialsError,
    ModelNotFoundError,
    ProviderUnavailableError,
    RateLimitError,
    RequestRefusedError,
)
from memory import LLMMessage, MemoryManager
from memory.dialects import dialect_named
from memory.errors import MessageError, MissingDependencyError
from memory.messages import ToolResult
from memory.native import to_wire, unwrap
from memory.testing.simulators import Answer, Call, Fault, FaultKind, ProviderSimulator, Turn

from .served import HASTY, WEATHER, serving, text_of

MODEL = "claude-sonnet-5"
TASK = {"role": "user", "content": [{"type": "text", "text": "How is the weather in Rome and in Oslo?"}]}
THINKING = Turn(
    "I look at both.",
    [Call("weather", {"city": "Rome", "days": None}), Call("weather", {"city": "Oslo"})],
    reasoning="Two cities, so two calls. 思考",
)
CLAUDE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": MODEL,
    "content": [{"type": "text", "text": "hello"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 3, "output_tokens": 2},
}
Shown = list[Delta]
OnDelta = Callable[[Delta], None]
both_ways = pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "streamed"])


def model(server: Any, **options: Any) -> AnthropicModel:
    return AnthropicModel(MODEL, **{"base_url": server.url, "api_key": "test", "retries": HASTY, **options})


def shows(is_streamed: bool) -> tuple[Shown, OnDelta | None]:
    shown: Shown = []
    return shown, shown.append if is_streamed else None


def results(calls: Any, *texts: str) -> list[dict[str, Any]]:
    answers = [ToolResult(call_id=call.id, name=call.name, text=text) for call, text in zip(calls, texts, strict=True)]
    return dialect_named("anthropic").write_results(calls, answers)


def test_it_is_a_model_of_the_protocol_and_connect_finds_it() -> None:
    llm: LLM = connect("anthropic", MODEL, api_key="test", base_url="http://127.0.0.1:9", max_retries=0)

    assert (type(llm), llm.model, llm.dialect) == (AnthropicModel, MODEL, "anthropic")


@both_ways
async def test_parallel_calls_come_in_order_with_their_arguments(is_streamed: bool) -> None:
    shown, on_delta = shows(is_streamed)
    with ProviderSimulator("anthropic", [THINKING]) as server:
        answer = await model(server).call_async([TASK], [WEATHER], system="Be brief.", on_delta=on_delta)

    assert [(call.name, json.loads(call.arguments)) for call in answer.tool_calls] == [
        ("weather", {"city": "Rome", "days": None}),
        ("weather", {"city": "Oslo"}),
    ]
    assert (answer.content, answer.stop_reason, answer.model) == ("I look at both.", "tool_use", MODEL)
    if is_streamed:
        assert text_of(shown, "text") == "I look at both."
        assert text_of(shown, "reasoning") == THINKING.reasoning
        assert text_of(shown, "tool_call") == "weatherweather"


@both_ways
async def test_thinking_goes_back_byte_for_byte(is_streamed: bool) -> None:
    _, on_delta = shows(is_streamed)
    with ProviderSimulator("anthropic", [THINKING, "Sun and snow."], binds_thinking=True) as server:
        llm = model(server, thinking={"type": "enabled", "budget_tokens": 1024})
        first = await llm.call_async([TASK], [WEATHER], system="Be brief.", on_delta=on_delta)
        listed = [TASK, first.message, *results(first.tool_calls, "sun", "snow")]
        second = await llm.call_async(listed, [WEATHER], system="Be brief.", on_delta=on_delta)

    sent = server.requests[1].body["messages"][1]
    assert isinstance(first.message, Message)
    assert sent == to_wire(unwrap(first.message)[0])
    assert sent["content"][0]["thinking"] == THINKING.reasoning
    assert sent["content"][0]["signature"]
    assert (second.content, server.rejected) == ("Sun and snow.", [])


async def test_a_streamed_answer_is_the_same_message_as_a_whole_one() -> None:
    answers = []
    for on_delta in (None, Shown().append):
        with ProviderSimulator("anthropic", [THINKING]) as server:
            answers.append(await model(server).call_async([TASK], [WEATHER], on_delta=on_delta))

    whole, streamed = (to_wire(answer.message) for answer in answers)
    assert streamed == whole
    assert type(answers[0].message) is type(answers[1].message) is Message
    assert answers[0].usage == answers[1].usage


@both_ways
async def test_usage_contains_cache_reads_writes_and_thinking(is_streamed: bool) -> None:
    _, on_delta = shows(is_streamed)
    system = "Rules. " * 2000
    with ProviderSimulator("anthropic", [THINKING, "Done."]) as server:
        llm = model(server)
        first = await llm.call_async([TASK], [WEATHER], system=system, on_delta=on_delta)
        listed = [TASK, first.message, *results(first.tool_calls, "sun", "snow")]
        second = await llm.call_async(listed, [WEATHER], system=system, on_delta=on_delta)
        used = [exchange.used for exchange in server.requests]

    assert used[0] is not None
    assert used[1] is not None
    assert first.usage is not None
    assert second.usage is not None
    assert first.usage.input_tokens == used[0].input_tokens
    assert first.usage.cache_write_tokens == used[0].cache_write_5m_tokens > 0
    assert first.usage.reasoning_tokens == used[0].reasoning_tokens > 0
    assert second.usage.cache_read_tokens == used[1].cache_read_tokens == first.usage.cache_write_tokens


async def test_cache_breakpoints_end_the_constant_part_this_request_and_the_one_before() -> None:
    with ProviderSimulator("anthropic", [THINKING, "Done."]) as server:
        llm = model(server)
        first = await llm.call_async([TASK], [WEATHER], system="Be brief.")
        await llm.call_async([TASK, first.message, *results(first.tool_calls, "a", "b")], [WEATHER], system="Be brief.")

    body = server.requests[1].body
    marked = [
        (i, j) for i, m in enumerate(body["messages"]) for j, b in enumerate(m["content"]) if "cache_control" in b
    ]
    assert marked == [(0, 0), (2, 1)]
    assert body["system"] == [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]


async def test_a_breakpoint_never_changes_the_callers_messages() -> None:
    task = copy.deepcopy(TASK)
    with ProviderSimulator("anthropic", ["Done."]) as server:
        await model(server).call_async([task], system="Be brief.")

    assert task == TASK


async def test_the_callers_breakpoints_stay_and_ours_only_follow_them() -> None:
    theirs = {"type": "ephemeral", "ttl": "1h"}
    listed = [
        {"role": "user", "content": [{"type": "text", "text": "A long document.", "cache_control": theirs}]},
        {"role": "assistant", "content": "Read."},
        {"role": "user", "content": "Summarise it."},
    ]
    with ProviderSimulator("anthropic", ["Done."]) as server:
        await model(server).call_async(listed, [WEATHER], system="Be brief.")

    body = server.requests[0].body
    assert body["system"] == "Be brief."
    assert "cache_control" not in body["tools"][0]
    assert [json.dumps(message).count("cache_control") for message in body["messages"]] == [1, 0, 1]
    assert body["messages"][0]["content"][0]["cache_control"] == theirs


BLOCKS = st.sampled_from(
    [
        {"type": "text", "text": "hi"},
        {"type": "text", "text": ""},
        {"type": "thinking", "thinking": "hm", "signature": "x"},
        {"type": "tool_result", "tool_use_id": "t", "content": "ok"},
        {"type": "text", "text": "theirs", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
        {"type": "server_tool_use", "id": "s", "name": "code_execution", "input": {}},
    ]
)
BODIES = st.fixed_dictionaries(
    {
        "messages": st.lists(
            st.fixed_dictionaries(
                {
                    "role": st.sampled_from(["user", "assistant"]),
                    "content": st.one_of(st.text(max_size=3), st.lists(BLOCKS, max_size=4)),
                }
            ),
            max_size=8,
        )
    },
    optional={"system": st.text(min_size=1, max_size=3), "tools": st.lists(st.just({"name": "weather"}), max_size=3)},
)


@given(body=BODIES, ttl=st.sampled_from(["5m", "1h"]))
def test_breakpoints_are_at_most_four_on_blocks_that_may_carry_one_the_longest_life_first(
    body: dict[str, Any], ttl: Any
) -> None:
    marked = dict(body, messages=list(body["messages"]))
    before = copy.deepcopy(body)
    theirs = json.dumps(before).count("cache_control")
    mark(marked, ttl)

    blocks = [
        block for message in marked["messages"] if isinstance(message["content"], list) for block in message["content"]
    ]
    system = marked["system"] if isinstance(marked.get("system"), list) else []
    carriers = [block for block in [*marked.get("tools", ()), *system, *blocks] if "cache_control" in block]
    lives = [block["cache_control"].get("ttl", "5m") for block in carriers]
    assert body == before
    assert len(carriers) <= max(4, theirs)
    assert all(
        block.get("type") not in ("thinking", "server_tool_use") and block.get("text") != "" for block in carriers
    )
    assert lives == sorted(lives)  # "1h" before "5m"
    assert without_marks(marked) == without_marks(before)


def without_marks(value: Any) -> Any:
    """The body as the model sees it: without breakpoints, texts as the blocks that they stand for."""
    if isinstance(value, dict):
        named = {name: without_marks(inner) for name, inner in value.items() if name != "cache_control"}
        texts = [name for name in ("content", "system") if isinstance(named.get(name), str)]
        blocks = {name: [{"type": "text", "text": named[name]}] for name in texts}
        return named if named.get("type") == "tool_result" else {**named, **blocks}
    return [without_marks(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("options", "messages"),
    [
        ({"cache_ttl": None}, [TASK]),
        ({}, [LLMMessage("system", "Summarise."), LLMMessage("user", "A conversation.")]),
    ],
    ids=["switched off", "a summary, asked once"],
)
async def test_nothing_is_written_to_the_cache(options: dict[str, Any], messages: list[object]) -> None:
    with ProviderSimulator("anthropic", ["Done."]) as server:
        await model(server, **options).call_async(messages)

    assert "cache_control" not in json.dumps(server.requests[0].body)


async def test_plain_messages_are_written_in_the_dialect() -> None:
    plain = [LLMMessage("system", "Summarise."), LLMMessage("user", "Hello."), LLMMessage("assistant", "Hi.")]
    with ProviderSimulator("anthropic", ["Done."]) as server:
        await model(server).call_async([*plain, TASK], max_tokens=500, system="First.")

    body = server.requests[0].body
    assert (body["system"][0]["text"], body["max_tokens"]) == ("First.\n\nSummarise.", 500)
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]


async def test_a_plain_tool_message_is_refused_before_any_request() -> None:
    with serving(CLAUDE) as server, pytest.raises(MessageError, match="form of anthropic"):
        await model(server).call_async([TASK, LLMMessage("tool", "sun", tool_call_id="toolu_1")])

    assert server.bodies == []


@pytest.mark.parametrize(
    ("options", "max_tokens", "sent"),
    [
        ({}, None, 8192),
        ({}, 100, 100),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, 100, 2148),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, None, 10240),
        ({"max_tokens": 16_000}, None, 16_000),
    ],
)
async def test_max_tokens_leave_room_for_the_thinking(
    options: dict[str, Any], max_tokens: int | None, sent: int
) -> None:
    with serving(CLAUDE) as server:
        await model(server, **options).call_async([TASK], max_tokens=max_tokens)

    assert server.bodies[0]["max_tokens"] == sent


async def test_options_and_the_providers_own_tools_are_passed_through() -> None:
    search = {"type": "web_search_20250305", "name": "web_search"}
    with serving(CLAUDE) as server:
        await model(server, temperature=0.5, tools=[search]).call_async([TASK], [WEATHER])

    body = server.bodies[0]
    assert body["temperature"] == 0.5
    assert [tool["name"] for tool in body["tools"]] == ["web_search", "weather"]
    assert body["tools"][1]["input_schema"] == WEATHER["function"]["parameters"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("end_turn", "end_turn"),
        ("stop_sequence", "end_turn"),
        ("max_tokens", "max_tokens"),
        ("pause_turn", "max_tokens"),
        ("model_context_window_exceeded", "max_tokens"),
        ("refusal", "refusal"),
        ("a_reason_of_the_future", "end_turn"),
    ],
)
async def test_every_stop_reason_has_a_meaning(theirs: str, ours: str) -> None:
    with serving({**CLAUDE, "stop_reason": theirs}) as server:
        answer = await model(server).call_async([TASK])

    assert (answer.content, answer.stop_reason) == ("hello", ours)


async def test_a_refusal_without_content_can_stay_in_the_conversation() -> None:
    with serving({**CLAUDE, "content": [], "stop_reason": "refusal"}) as server:
        answer = await model(server).call_async([TASK])

    assert (answer.content, answer.stop_reason) == ("", "refusal")
    assert dialect_named("anthropic").validate([TASK, to_wire(answer.message), TASK]) == []


async def test_cumulative_usage_of_a_stream_replaces_what_came_before() -> None:
    start = {
        **CLAUDE,
        "content": [],
        "stop_reason": None,
        "usage": {
            "input_tokens": 10,
            "output_tokens": 1,
            "cache_read_input_tokens": 100,
            "cache_creation_input_tokens": 7,
        },
    }
    events = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {"input_tokens": 12, "output_tokens": 9, "cache_read_input_tokens": 200},
        },
        {"type": "message_stop"},
    ]
    with serving(events) as server:
        answer = await model(server).call_async([TASK], on_delta=Shown().append)

    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (12 + 200 + 7, 9)
    assert (answer.usage.cache_read_tokens, answer.usage.cache_write_tokens) == (200, 7)


@both_ways
@pytest.mark.parametrize(
    "fault", [Fault("rate_limit", retry_after_seconds=0.01), "overloaded", "server_error", "stream_error"]
)
async def test_what_may_pass_is_asked_again(fault: Fault | FaultKind, is_streamed: bool) -> None:
    _, on_delta = shows(is_streamed)
    with ProviderSimulator("anthropic", ["Done."], faults=[fault]) as server:
        answer = await model(server).call_async([TASK], on_delta=on_delta)

    assert (answer.content, len(server.requests)) == ("Done.", 2)


async def test_a_cut_stream_begins_anew_and_says_what_it_wasted() -> None:
    shown, on_delta = shows(is_streamed=True)
    with ProviderSimulator("anthropic", ["It is sunny."], faults=[Fault("cut_stream", after_events=4)]) as server:
        answer = await model(server).call_async([TASK], on_delta=on_delta)
        first = server.requests[0].used

    assert first is not None
    assert [delta.kind for delta in shown].count("restart") == 1
    assert text_of(shown[[delta.kind for delta in shown].index("restart") :], "text") == "It is sunny."
    assert [usage and usage.input_tokens for usage in answer.wasted] == [first.input_tokens]


async def test_a_stream_that_ends_early_without_a_word_is_asked_again() -> None:
    begun = [{"type": "message_start", "message": {**CLAUDE, "content": []}}]
    with serving(begun) as server, pytest.raises(BrokenAnswerError) as caught:
        await model(server).call_async([TASK], on_delta=Shown().append)

    assert (len(server.bodies), len(caught.value.wasted)) == (3, 3)


@both_ways
async def test_a_server_that_hangs_is_given_up_in_time(is_streamed: bool) -> None:
    _, on_delta = shows(is_streamed)
    with ProviderSimulator("anthropic", ["Done."], faults=["hang"]) as server:
        answer = await model(server, timeout_seconds=0.1).call_async([TASK], on_delta=on_delta)

    assert (answer.content, len(server.requests)) == ("Done.", 2)


@both_ways
async def test_an_answer_that_stays_empty_is_an_error(is_streamed: bool) -> None:
    _, on_delta = shows(is_streamed)
    faults: list[Fault | FaultKind] = ["empty_answer"] * 3
    with (
        ProviderSimulator("anthropic", ["Never said."], faults=faults) as server,
        pytest.raises(BrokenAnswerError, match="empty") as caught,
    ):
        await model(server).call_async([TASK], on_delta=on_delta)

    assert len(caught.value.wasted) == len(server.requests) == 3


async def test_a_web_page_in_place_of_an_answer_points_to_base_url() -> None:
    with serving("<html>hello</html>") as server, pytest.raises(BrokenAnswerError, match="base_url"):
        await model(server).call_async([TASK])


@both_ways
async def test_a_prompt_that_is_too_long_is_refused_with_the_sdks_error_as_cause(is_streamed: bool) -> None:
    _, on_delta = shows(is_streamed)
    with (
        ProviderSimulator("anthropic", ["Never said."], context_window_tokens=5) as server,
        pytest.raises(RequestRefusedError, match="too long") as caught,
    ):
        await model(server).call_async([TASK], on_delta=on_delta)

    assert isinstance(caught.value.__cause__, BadRequestError)
    assert (caught.value.status, len(server.requests)) == (400, 1)


@pytest.mark.parametrize(
    ("account", "expected"),
    [({"api_keys": {"other"}}, CredentialsError), ({"models": {"other"}}, ModelNotFoundError)],
)
async def test_what_will_not_pass_is_not_asked_again(account: dict[str, Any], expected: type[Exception]) -> None:
    with ProviderSimulator("anthropic", ["Never said."], **account) as server, pytest.raises(expected):
        await model(server).call_async([TASK])

    assert len(server.requests) == 1


async def test_no_right_to_a_model_is_a_matter_of_credentials() -> None:
    refusal = {"type": "error", "error": {"type": "permission_error", "message": "not allowed"}}
    with serving(refusal, status=403) as server, pytest.raises(CredentialsError):
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
    with ProviderSimulator("anthropic", ["Never said."], faults=[fault] * 3) as server, pytest.raises(expected):
        await model(server).call_async([TASK], on_delta=Shown().append)

    assert len(server.requests) == 3


@pytest.fixture
def _no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("ANTHROPIC_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


@pytest.mark.usefixtures("_no_credentials")
def test_a_missing_key_is_said_before_any_request() -> None:
    with pytest.raises(CredentialsError, match="ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN"):
        AnthropicModel(MODEL)


@pytest.mark.usefixtures("_no_credentials")
def test_a_profile_that_is_not_there_is_a_matter_of_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_PROFILE", "elsewhere")

    with pytest.raises(CredentialsError, match="elsewhere"):
        AnthropicModel(MODEL)


@pytest.mark.usefixtures("_no_credentials")
async def test_a_server_of_ones_own_needs_no_key() -> None:
    with serving(CLAUDE) as server:
        answer = await AnthropicModel(MODEL, base_url=server.url).call_async([TASK])

    assert answer.content == "hello"


async def test_the_key_goes_to_the_server_and_nowhere_else(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="agent")
    with (
        ProviderSimulator("anthropic", ["Never said."], api_keys={"other"}) as server,
        pytest.raises(CredentialsError) as caught,
    ):
        await model(server, api_key="sk-ant-secret-4711").call_async([TASK])

    assert server.requests[0].request.api_key == "sk-ant-secret-4711"
    assert "4711" not in f"{caught.value}{caplog.text}"


def test_a_missing_sdk_is_said_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anthropic", None)

    with pytest.raises(MissingDependencyError, match=r"pip install 'aloop-memory\[anthropic\]'"):
        AnthropicModel(MODEL, api_key="test")


async def test_another_model_is_asked_over_the_same_connections() -> None:
    with ProviderSimulator("anthropic", ["One.", "Two."]) as server:
        async with model(server) as llm:
            other = llm.with_model("claude-haiku-4-5")
            await llm.call_async([TASK])
            await other.call_async([TASK])

    assert [exchange.body["model"] for exchange in server.requests] == [MODEL, "claude-haiku-4-5"]
    assert (llm.model, other.model) == (MODEL, "claude-haiku-4-5")


def test_two_event_loops_one_after_the_other_share_a_model() -> None:
    with ProviderSimulator("anthropic", ["One.", "Two."]) as server:
        llm = model(server)
        answers = [asyncio.run(llm.call_async([TASK])).content for _ in range(2)]

    assert answers == ["One.", "Two."]


@both_ways
async def test_half_a_surrogate_pair_is_replaced_on_the_wire_alone(is_streamed: bool) -> None:
    _, on_delta = shows(is_streamed)
    task = {"role": "user", "content": "half \ud83d, whole 🌍"}
    with ProviderSimulator("anthropic", ["Done."]) as server:
        await model(server, cache_ttl=None).call_async([task], on_delta=on_delta)

    assert server.requests[0].body["messages"] == [{"role": "user", "content": "half \ufffd, whole 🌍"}]
    assert task["content"] == "half \ud83d, whole 🌍"


async def test_a_memory_takes_the_answers_and_gives_back_a_list_that_the_api_accepts() -> None:
    turns: list[Answer] = [THINKING, "Sun and snow."]
    with ProviderSimulator("anthropic", turns, binds_thinking=True) as server:
        llm = model(server)
        memory = MemoryManager(None, None, model=MODEL)
        await memory.add_message(TASK)
        for texts in (("sun", "snow"), ()):
            answer = await llm.call_async(memory.get_context_for_llm(), [WEATHER], system="Be brief.")
            await memory.add_message(answer.message, actual_tokens=answer.usage)
            for message in results(answer.tool_calls, *texts):
                await memory.add_message(message)

    assert (answer.content, server.rejected) == ("Sun and snow.", [])
    assert memory.get_stats()["total_output_tokens"] > 0
