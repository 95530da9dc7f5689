"""The few things that are written in each format: summaries, other results, answers, and copies with less in them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.dialects import DIALECTS, validate
from memory.messages import Dialect, DialectName, Reading, ToolCall, ToolResult

from .conversations import DIALECT_NAMES, SIGNATURE, Call, builder_for, conversations

CACHE = {"type": "ephemeral"}


def write_result(dialect: Dialect, call: ToolCall, text: str) -> dict[str, Any]:
    (message,) = dialect.write_results([call], [ToolResult(call_id=call.id, name=call.name, text=text)])
    return message


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
def test_a_summary_is_a_user_message_that_says_it(dialect: DialectName) -> None:
    summary = DIALECTS[dialect].write_user("what went before")

    assert DIALECTS[dialect].read(summary) == Reading(role="user", text="what went before")
    assert validate([summary], dialect) == []


def unit_starts(dialect: DialectName, messages: list[dict[str, Any]]) -> list[int]:
    """Where a cut is safe: no call is open there and no item waits for its reasoning."""
    readings = [DIALECTS[dialect].read(message) for message in messages]
    starts, open_calls = [], 0
    for index, reading in enumerate(readings):
        if open_calls == 0 and not (index and readings[index - 1].binds_next):
            starts.append(index)
        open_calls += len(reading.calls) - len(reading.results)
    return [*starts, len(messages)]


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
@given(data=st.data())
def test_a_summary_between_two_units_leaves_the_list_valid(dialect: DialectName, data: st.DataObject) -> None:
    messages = data.draw(conversations(dialect, long_texts=False))
    at = data.draw(st.sampled_from(unit_starts(dialect, messages)))

    with_summary = [*messages[:at], DIALECTS[dialect].write_user("x"), *messages[at:]]

    assert [issue for issue in validate(with_summary, dialect) if issue.severity == "error"] == []


def shell(stdout: str) -> list[dict[str, Any]]:
    return [{"stdout": stdout, "stderr": "", "outcome": {"type": "exit", "exit_code": 1}}]


@pytest.mark.parametrize(
    ("dialect", "before", "after"),
    [
        (
            "openai_chat",
            {"role": "tool", "tool_call_id": "c", "name": "f", "content": "long"},
            {"role": "tool", "tool_call_id": "c", "name": "f", "content": "short"},
        ),
        (
            "openai_chat",
            {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "a", "cache_control": CACHE}]},
            {
                "role": "tool",
                "tool_call_id": "c",
                "content": [{"type": "text", "text": "short", "cache_control": CACHE}],
            },
        ),
        (
            "openai_responses",
            {"type": "function_call_output", "id": "i", "call_id": "c", "output": "long", "status": "completed"},
            {"type": "function_call_output", "id": "i", "call_id": "c", "output": "short", "status": "completed"},
        ),
        (
            "openai_responses",
            {"type": "shell_call_output", "call_id": "c", "output": shell("long"), "max_output_length": 9},
            {"type": "shell_call_output", "call_id": "c", "output": shell("short"), "max_output_length": 9},
        ),
        (
            "openai_responses",
            {"type": "mcp_approval_response", "approval_request_id": "a", "approve": True},
            {"type": "mcp_approval_response", "approval_request_id": "a", "approve": True, "reason": "short"},
        ),
        (
            "openai_responses",
            {"type": "tool_search_output", "call_id": "c", "tools": [{"type": "function", "name": "f"}]},
            {"type": "tool_search_output", "call_id": "c", "tools": [{"type": "function", "name": "f"}]},
        ),
        (
            "anthropic",
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "c",
                        "content": [],
                        "is_error": True,
                        "cache_control": CACHE,
                    },
                    {"type": "text", "text": "now"},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "c",
                        "content": "short",
                        "is_error": True,
                        "cache_control": CACHE,
                    },
                    {"type": "text", "text": "now"},
                ],
            },
        ),
        (
            "gemini",
            {"role": "user", "parts": [{"functionResponse": {"id": "c", "name": "f", "response": {"error": "long"}}}]},
            {"role": "user", "parts": [{"functionResponse": {"id": "c", "name": "f", "response": {"error": "short"}}}]},
        ),
        (
            "gemini",
            {"role": "user", "parts": [{"function_response": {"name": "f", "response": {"rows": [1]}, "parts": []}}]},
            {"role": "user", "parts": [{"function_response": {"name": "f", "response": {"output": "short"}}}]},
        ),
    ],
)
def test_a_result_says_something_else_and_keeps_the_rest(
    dialect: DialectName, before: dict[str, Any], after: dict[str, Any]
) -> None:
    assert DIALECTS[dialect].replace_results(before, {0: "short"}) == after


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
def test_only_the_results_that_are_named_change(dialect: DialectName) -> None:
    messages = builder_for(dialect).results([("a", "f", "one"), ("b", "f", "two")])

    *_, last = messages
    replaced = DIALECTS[dialect].replace_results(last, {1: "x"} if len(messages) == 1 else {})

    texts = [result.text for result in DIALECTS[dialect].read(replaced).results]
    assert texts == (["one", "x"] if len(messages) == 1 else ["two"])


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
@given(data=st.data())
def test_masking_any_results_keeps_pairs_and_validity(dialect: DialectName, data: st.DataObject) -> None:
    own = DIALECTS[dialect]
    messages = data.draw(conversations(dialect, long_texts=False))
    masked = []
    for message in messages:
        results = own.read(message).results
        chosen = data.draw(st.sets(st.sampled_from(range(len(results))))) if results else set()
        masked.append(own.replace_results(message, dict.fromkeys(chosen, "[masked]")) if chosen else message)
        before, after = results, own.read(masked[-1]).results
        assert [(result.call_id, result.name, result.is_error) for result in after] == [
            (result.call_id, result.name, result.is_error) for result in before
        ]
        assert all(after[index].text == "[masked]" for index in chosen)

    assert [issue for issue in validate(masked, dialect) if issue.severity == "error"] == []


def test_a_screenshots_placeholder_is_a_screenshot() -> None:
    before = {
        "type": "computer_call_output",
        "call_id": "c",
        "output": {"type": "computer_screenshot", "file_id": "large"},
    }

    after = DIALECTS["openai_responses"].replace_results(before, {0: "gone"})

    assert (after["output"]["type"], after["call_id"]) == ("computer_screenshot", "c")
    assert DIALECTS["openai_responses"].read(after).attachments[0].width_pixels == 1


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
def test_an_answer_is_the_result_of_its_call(dialect: DialectName) -> None:
    build, own = builder_for(dialect), DIALECTS[dialect]
    asked = [*build.user("do it"), *build.assistant(calls=[("c1", "f", {"a": 1})])]
    (call,) = [call for message in asked for call in own.read(message).calls]

    answer = write_result(own, call, "none")

    (result,) = own.read(answer).results
    assert (result.call_id, result.text) == (call.id, "none")
    assert validate([*asked, answer], dialect) == []


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
def test_the_answers_of_parallel_calls_stand_together_and_say_which_failed(dialect: DialectName) -> None:
    build, own = builder_for(dialect), DIALECTS[dialect]
    asked = [*build.user("do it"), *build.assistant(calls=[("c1", "f", {"a": 1}), ("c2", "g", {})])]
    calls = [call for message in asked for call in own.read(message).calls]
    results = [ToolResult(call_id=c.id, name=c.name, text=f"of {c.name}", is_error=c.name == "g") for c in calls]

    answers = own.write_results(calls, results)

    read = [result for answer in answers for result in own.read(answer).results]
    assert [(result.call_id, result.text) for result in read] == [(c.id, f"of {c.name}") for c in calls]
    assert validate([*asked, *answers], dialect) == []
    assert own.write_results([], []) == []


@pytest.mark.parametrize(
    "item",
    [
        {"type": "custom_tool_call", "call_id": "c", "name": "f", "input": "x"},
        {"type": "computer_call", "id": "i", "call_id": "c", "action": {}, "status": "completed"},
        {"type": "shell_call", "call_id": "c", "action": {"commands": ["ls"]}},
        {"type": "local_shell_call", "id": "i", "call_id": "c", "action": {}, "status": "completed"},
        {"type": "apply_patch_call", "call_id": "c", "operation": {}, "status": "completed"},
        {"type": "tool_search_call", "call_id": "c", "arguments": {}},
        {"type": "program", "id": "i", "call_id": "c", "code": "x", "fingerprint": "y"},
        {"type": "mcp_approval_request", "id": "c", "name": "f", "server_label": "s", "arguments": "{}"},
    ],
    ids=lambda item: str(item["type"]),
)
def test_every_kind_of_responses_call_gets_an_answer_of_its_own_kind(item: dict[str, Any]) -> None:
    own = DIALECTS["openai_responses"]
    (call,) = own.read(item).calls

    assert validate([item, write_result(own, call, "none")], "openai_responses") == []


TWO_CALLS: list[Call] = [("a", "f", {}), ("b", "g", {})]


@pytest.mark.parametrize("dialect", ["openai_chat", "anthropic", "gemini"])
def test_a_message_without_one_of_its_calls_keeps_the_others(dialect: DialectName) -> None:
    (message,) = builder_for(dialect).assistant("I look.", TWO_CALLS, reasoning="hm")

    less = DIALECTS[dialect].without(message, calls=frozenset({0}), results=frozenset())

    assert less is not None
    reading = DIALECTS[dialect].read(less)
    assert ([call.name for call in reading.calls], reading.text, reading.reasoning) == (["g"], "I look.", "hm")


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
def test_a_message_without_all_that_it_held_is_nothing(dialect: DialectName) -> None:
    build, own = builder_for(dialect), DIALECTS[dialect]
    caller = build.assistant(calls=[("a", "f", {})])[-1]
    (answer,) = build.results([("a", "f", "x")])

    assert own.without(caller, calls=frozenset({0}), results=frozenset()) is None
    assert own.without(answer, calls=frozenset(), results=frozenset({0})) is None


@pytest.mark.parametrize("dialect", ["anthropic", "gemini"])
def test_thinking_goes_with_the_last_call_that_it_led_to(dialect: DialectName) -> None:
    (message,) = builder_for(dialect).assistant(calls=[("a", "f", {})], reasoning="hm")

    assert DIALECTS[dialect].without(message, calls=frozenset({0}), results=frozenset()) is None


def test_signed_parts_are_the_same_objects_after_an_edit() -> None:
    block = {"type": "thinking", "thinking": "hm", "signature": SIGNATURE}
    call = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
    message = {"role": "assistant", "content": [block, {"type": "text", "text": "x"}, call]}

    less = DIALECTS["anthropic"].without(message, calls=frozenset({0}), results=frozenset())

    assert less is not None
    assert less["content"][0] is block


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
@given(data=st.data())
def test_writing_never_changes_the_callers_message(dialect: DialectName, data: st.DataObject) -> None:
    own = DIALECTS[dialect]
    messages = data.draw(conversations(dialect, max_turns=3, long_texts=False))
    copies = [repr(message) for message in messages]
    for message in messages:
        reading = own.read(message)
        own.replace_results(message, dict.fromkeys(range(len(reading.results)), "x"))
        if reading.calls or reading.results:
            own.without(message, calls=frozenset({0}), results=frozenset())
            own.without(message, calls=frozenset(), results=frozenset(range(len(reading.results))))

    assert [repr(message) for message in messages] == copies


def test_a_legacy_function_call_is_answered_by_a_function_message() -> None:
    call = ToolCall(id=None, name="f", arguments="{}", kind="function_call")

    assert write_result(DIALECTS["openai_chat"], call, "x") == {"role": "function", "name": "f", "content": "x"}
