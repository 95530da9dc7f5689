"""Recorded conversations played back: every assistant turn served, every result found, over the real SDKs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.dialects import dialect_named
from memory.errors import MessageError
from memory.messages import DialectName, ToolCall
from memory.testing.simulators import FaultKind, Playback, ProviderSimulator, RandomFaults, Request

from .conversations import DIALECT_NAMES, Call, builder_for, conversations
from .corpus import Recorded, transcripts
from .simulated import SDK_ERRORS, Client, Message

REQUEST = Request(number=1, path="", headers={}, body={}, model="", api_key="", is_streamed=False)
SMALL = [
    one
    for wire in DIALECT_NAMES
    for one in sorted(transcripts(dialect=wire, max_tokens=100_000), key=lambda one: one.header["tokens_est"])[:4]
]


def weather(wire: DialectName) -> list[Message]:
    """A task, two parallel calls of one tool with their results, an answer, two user messages, an answer."""
    builder = builder_for(wire)
    calls = [("call_1", "look_up", {"city": "Paris"}), ("call_2", "look_up", {"city": "Rome"})]
    return [
        *builder.system("Be brief."),
        *builder.user("Compare the weather."),
        *builder.assistant("Let me see.", calls),
        *builder.results([("call_1", "look_up", "rain"), ("call_2", "look_up", "sun")]),
        *builder.assistant("Rome is sunny."),
        *builder.user("Thanks."),
        *builder.user("And Oslo?"),
        *builder.assistant("Cold."),
    ]


@pytest.mark.parametrize("wire", DIALECT_NAMES)
def test_a_recording_is_divided_into_turns_and_what_stands_between_them(wire: DialectName) -> None:
    playback = Playback(weather(wire), wire)
    between = []
    while not playback.is_over:
        playback.take(REQUEST)
        between.append(len(playback.replies()))

    assert playback.turn_count == playback.served == 3
    assert between == [1 if wire in ("anthropic", "gemini") else 2, 2, 0]
    assert len(playback.opening) == len(weather(wire)) - len([*between_messages(wire)])
    assert playback.tool_names == ("look_up",)
    assert len(playback.user_messages) == 3


def between_messages(wire: DialectName) -> Iterator[Message]:
    read = dialect_named(wire).read
    found = weather(wire)
    first = next(n for n, message in enumerate(found) if read(message).role == "assistant")
    yield from found[first:]


@pytest.mark.parametrize("wire", DIALECT_NAMES)
def test_a_result_is_found_by_id_and_by_name_and_arguments(wire: DialectName) -> None:
    playback = Playback(weather(wire), wire)
    playback.take(REQUEST)
    rome = ToolCall(id=None, name="look_up", arguments='{ "city" : "Rome" }')
    paris = ToolCall(id="call_1", name="look_up", arguments="{}")

    assert [playback.result_of(call).text for call in (rome, paris)] == ["sun", "rain"]
    with pytest.raises(LookupError, match="look_up"):
        playback.result_of(rome)
    with pytest.raises(LookupError, match="fly"):
        playback.result_of(ToolCall(id=None, name="fly", arguments="{}"))


def test_an_id_that_comes_again_in_a_later_turn_means_that_turns_result() -> None:
    builder = builder_for("openai_chat")
    log = builder.user("go")
    for text in ("first", "second"):
        log += builder.assistant(calls=[("c1", "f", {})]) + builder.results([("c1", "f", text)])
    playback = Playback(log, "openai_chat")
    found = []
    for _ in range(2):
        playback.take(REQUEST)
        found.append(playback.result_of(ToolCall(id="c1", name="f", arguments="{}")).text)

    assert found == ["first", "second"]


def test_equal_calls_of_one_turn_are_given_their_results_in_order() -> None:
    builder = builder_for("openai_chat")
    calls: list[Call] = [("a", "f", {}), ("b", "f", {})]
    log = builder.user("go") + builder.assistant(calls=calls) + builder.results([("a", "f", "1"), ("b", "f", "2")])
    playback = Playback(log)
    playback.take(REQUEST)

    assert [playback.result_of(ToolCall(id=None, name="f", arguments="{}")).text for _ in calls] == ["1", "2"]


def test_a_loop_that_runs_tools_itself_is_told_what_the_user_says() -> None:
    builder = builder_for("anthropic")
    results = builder.results([("c1", "f", "done")])
    results[0]["content"].append({"type": "text", "text": "And hurry."})
    playback = Playback([*builder.user("go"), *builder.assistant(calls=[("c1", "f", {})]), *results], "anthropic")
    playback.take(REQUEST)

    assert playback.replies() == results
    assert playback.says() == [{"role": "user", "content": [{"type": "text", "text": "And hurry."}]}]


def test_assistant_messages_in_a_row_are_one_turn() -> None:
    log = [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": "First this."},
        {"role": "assistant", "content": None, "tool_calls": builder_for("openai_chat").assistant(
            calls=[("c1", "f", {})]
        )[0]["tool_calls"]},
        {"role": "tool", "tool_call_id": "c1", "content": "done"},
        {"role": "assistant", "content": "Done."},
    ]  # fmt: skip
    playback = Playback(log)
    with ProviderSimulator("openai_chat", playback) as server:
        client = Client(server, "openai_chat")
        first = client.ask(playback.opening)  # type: ignore[arg-type] # plain dicts
        second = client.ask([*playback.opening, *first.messages, *playback.replies()])  # type: ignore[list-item]

    assert (first.text, first.calls) == ("First this.", [("f", {})])
    assert second.text == "Done."


def test_a_recording_that_is_over_ends_the_loop_politely() -> None:
    playback = Playback(weather("openai_chat"), closing="That was all.")
    with ProviderSimulator("openai_chat", playback) as server:
        client = Client(server, "openai_chat")
        texts = [client.ask([{"role": "user", "content": "go on"}]).text for _ in range(5)]

    assert texts == ["Let me see.", "Rome is sunny.", "Cold.", "That was all.", "That was all."]


def test_a_recording_without_an_answer_or_of_no_format_is_an_error() -> None:
    with pytest.raises(MessageError, match="no assistant message"):
        Playback([{"role": "user", "content": "hi"}])
    with pytest.raises(MessageError):
        Playback([])


@pytest.mark.parametrize("wire", DIALECT_NAMES)
@given(data=st.data())
def test_turns_and_replies_make_up_the_whole_recording(wire: DialectName, data: st.DataObject) -> None:
    log = data.draw(conversations(wire)) + builder_for(wire).assistant("Done.")
    playback = Playback(log, wire)
    again = list(playback.opening)
    while not playback.is_over:
        answer = playback.take(REQUEST)
        assert isinstance(answer, tuple)
        again += [*answer, *playback.replies()]

    assert all(new is old for new, old in zip(again, log, strict=True))


def play(recorded: Recorded, server: ProviderSimulator, playback: Playback, *, stream: bool = False) -> list[Message]:
    """The loop of a caller who keeps the full list, and asks again after a failure."""
    client = Client(server, recorded.dialect)
    log: list[Message] = [dict(one) for one in playback.opening]
    while not playback.is_over:
        served = playback.served
        try:
            said = client.ask(log, stream=stream)
        except SDK_ERRORS:
            continue
        if playback.served == served:
            continue  # an empty answer
        log += said.messages
        log += [dict(one) for one in playback.replies()]
    return log


@pytest.mark.parametrize("recorded", SMALL, ids=lambda one: one.id)
def test_a_recorded_run_is_driven_through_the_sdk_without_a_refusal(recorded: Recorded, corpus_dir: Path) -> None:
    playback = Playback(recorded.messages, recorded.dialect)
    with ProviderSimulator(recorded.dialect, playback, binds_thinking=True, checks_signatures=True) as server:
        log = play(recorded, server, playback)

    assert server.rejected == []
    assert len(server.requests) == playback.turn_count
    assert said_in(log, recorded.dialect) == said_in(recorded.messages, recorded.dialect)


def said_in(messages: list[Message], wire: DialectName) -> tuple[str, list[tuple[str, object]], list[str]]:
    """Everything that was said, called and answered, whatever messages it is divided into."""
    readings = [dialect_named(wire).read(message) for message in messages]
    return (
        "".join("".join(reading.text.split()) for reading in readings),
        [(call.name, json.loads(call.arguments or "{}")) for reading in readings for call in reading.calls],
        [result.text for reading in readings for result in reading.results],
    )


@pytest.mark.parametrize("wire", DIALECT_NAMES)
def test_a_run_with_faults_loses_and_doubles_nothing(wire: DialectName, corpus_dir: Path) -> None:
    recorded = min(transcripts(dialect=wire), key=lambda one: abs(len(one.messages) - 60))
    playback = Playback(recorded.messages, recorded.dialect)
    kinds: tuple[FaultKind, ...] = ("rate_limit", "server_error", "overloaded", "empty_answer", "context_length")
    with ProviderSimulator(wire, playback, faults=RandomFaults(7, share=0.4, faults=kinds)) as server:
        log = play(recorded, server, playback)

    assert {one.fault.kind for one in server.requests if one.fault} == set(kinds)
    assert said_in(log, wire) == said_in(recorded.messages, wire)


def test_recorded_runs_share_one_simulator_by_their_keys() -> None:
    playbacks = {f"key-{n}": Playback(weather("anthropic"), "anthropic") for n in range(3)}
    with ProviderSimulator("anthropic", playbacks) as server:
        for key, playback in playbacks.items():
            client = Client(server, "anthropic", api_key=key)
            assert client.ask([dict(one) for one in playback.opening]).text == "Let me see."

    assert [playback.served for playback in playbacks.values()] == [1, 1, 1]
