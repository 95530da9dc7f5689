"""What each simulated provider refuses, with its status and words; and that our own validator says the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory.dialects import validate
from memory.messages import DialectName
from memory.testing.simulators import Call, Exchange, ProviderSimulator, Turn

from .conversations import DIALECT_NAMES, SIGNATURE, Message, builder_for, conversations
from .corpus import malformed, transcripts
from .simulated import MODEL, Client
from .test_validate import BROKEN, SOUND

HTTP = httpx.Client(trust_env=False, timeout=20)
"""Made once: a client loads the machine's certificates, which takes longer than a request here."""
KEY: dict[DialectName, str] = {
    "openai_chat": "messages",
    "openai_responses": "input",
    "anthropic": "messages",
    "gemini": "contents",
}
PATH: dict[DialectName, str] = {
    "openai_chat": "/v1/chat/completions",
    "openai_responses": "/v1/responses",
    "anthropic": "/v1/messages",
    "gemini": "/v1beta/models/gemini-2.5-pro:generateContent",
}


def post(server: ProviderSimulator, wire: DialectName, messages: Any, /, **fields: Any) -> httpx.Response:
    """Send a body that no SDK would let through."""
    base = {} if wire == "gemini" else {"model": MODEL[wire]}
    body = {**base, **({"max_tokens": 9} if wire == "anthropic" else {}), KEY[wire]: messages, **fields}
    return HTTP.post(server.url + PATH[wire], json={k: v for k, v in body.items() if v is not ...})


def judged(wire: DialectName, messages: Any, /, **fields: Any) -> Exchange:
    with ProviderSimulator(wire, ["ok"]) as server:
        post(server, wire, messages, **fields)
        return server.requests[0]


def words(wire: DialectName, messages: Any, /, **fields: Any) -> str:
    found = judged(wire, messages, **fields).refusal
    return "" if found is None else found.message


def user(wire: DialectName, text: str = "hi") -> list[Message]:
    return builder_for(wire).user(text)


# --- Words, and the shape of an error


def test_an_openai_error_has_message_type_param_and_code() -> None:
    with ProviderSimulator("openai_chat", []) as server:
        answer = post(server, "openai_chat", [])

    assert answer.status_code == 400
    assert answer.json() == {
        "error": {
            "message": "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty "
            "array instead.",
            "type": "invalid_request_error",
            "param": "messages",
            "code": "empty_array",
        }
    }
    assert answer.headers["x-request-id"]


def test_an_anthropic_error_has_a_type_and_a_request_id() -> None:
    with ProviderSimulator("anthropic", []) as server:
        answer = post(server, "anthropic", user("anthropic"), max_tokens=...)

    assert answer.status_code == 400
    assert answer.json() == {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "max_tokens: Field required"},
        "request_id": "req_1",
    }


def test_a_gemini_error_has_a_code_and_a_status() -> None:
    with ProviderSimulator("gemini", []) as server:
        answer = post(server, "gemini", [{"role": "system", "parts": [{"text": "x"}]}])

    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error == {"code": 400, "message": "Please use a valid role: user, model.", "status": "INVALID_ARGUMENT"}


CALLED: dict[DialectName, list[Message]] = {
    wire: builder_for(wire).user("hi") + builder_for(wire).assistant(calls=[("call_1", "f", {}), ("call_2", "f", {})])
    for wire in DIALECT_NAMES
}
ANSWERED: dict[DialectName, list[Message]] = {
    wire: builder_for(wire).user("hi") + builder_for(wire).results([("call_9", "f", "x")]) for wire in DIALECT_NAMES
}


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        ("openai_chat", "The following tool_call_ids did not have response messages: call_1, call_2"),
        ("openai_responses", "No tool output found for function call call_1."),
        ("anthropic", "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: call_1"),
        ("gemini", "the number of function response parts is equal to the number of function call parts"),
    ],
)
def test_an_unanswered_call_is_refused_in_the_providers_words(wire: DialectName, expected: str) -> None:
    assert expected in words(wire, CALLED[wire] + user(wire))


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        ("openai_chat", "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'"),
        ("openai_responses", "No tool call found for function call output with call_id call_9."),
        ("anthropic", "messages.1.content.0: unexpected `tool_use_id` found in `tool_result` blocks: call_9"),
        ("gemini", "function response turn comes immediately after a function call turn"),
    ],
)
def test_a_result_without_its_call_is_refused_in_the_providers_words(wire: DialectName, expected: str) -> None:
    assert expected in words(wire, ANSWERED[wire])


FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object"}}


@pytest.mark.parametrize(
    ("wire", "fields", "expected"),
    [
        ("openai_chat", {"model": ...}, "you must provide a model parameter"),
        ("openai_chat", {"messages": ...}, "Missing required parameter: 'messages'."),
        ("openai_chat", {"messages": "hi"}, "expected an array of objects, but got a string instead"),
        ("openai_chat", {"tools": []}, "Invalid 'tools': empty array"),
        ("openai_chat", {"tools": [{"name": "f"}]}, "Missing required parameter: 'tools[0].type'."),
        ("openai_chat", {"tools": [FUNCTION]}, "Missing required parameter: 'tools[0].function'."),
        ("openai_chat", {"tools": [{"type": "function", "function": {"name": "a.b"}}]}, "does not match pattern"),
        (
            "openai_chat",
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": {}}}}]},
            "Invalid schema for function 'f'",
        ),
        ("openai_chat", {"stream_options": {"include_usage": True}}, "only allowed when 'stream' is enabled"),
        ("openai_responses", {"tools": [{"type": "function", "function": FUNCTION}]}, "'tools[0].name'"),
        ("openai_responses", {"previous_response_id": "resp_7"}, "Previous response with id 'resp_7' not found."),
        ("openai_responses", {"input": 7}, "expected one of a string or array of objects"),
        ("anthropic", {"model": ...}, "model: Field required"),
        ("anthropic", {"messages": ...}, "messages: Field required"),
        ("anthropic", {"max_tokens": 0}, "max_tokens: Input should be greater than or equal to 1"),
        ("anthropic", {"system": [{"type": "text", "text": ""}]}, "system: text content blocks must be non-empty"),
        ("anthropic", {"tools": [{"name": "f"}]}, "tools.0.custom.input_schema: Field required"),
        ("anthropic", {"tools": [{"name": "a.b", "input_schema": {"type": "object"}}]}, "should match pattern"),
        ("anthropic", {"tools": [{"name": "f", "input_schema": {"type": "object"}}] * 2}, "names must be unique"),
        ("anthropic", {"thinking": {"type": "enabled", "budget_tokens": 9}}, "greater than `thinking.budget_tokens`"),
        ("gemini", {"contents": ...}, "contents is not specified"),
        ("gemini", {"tools": [{"functionDeclarations": [{"name": "1st"}]}]}, "Invalid function name"),
    ],
)
def test_a_request_with_a_wrong_field_is_refused(wire: DialectName, fields: dict[str, Any], expected: str) -> None:
    assert expected in words(wire, user(wire), **fields)


@pytest.mark.parametrize("wire", DIALECT_NAMES)
def test_tools_in_the_right_shape_are_taken(wire: DialectName) -> None:
    schema = {"type": "object", "properties": {}}
    tool: Any = {
        "openai_chat": {"type": "function", "function": {"name": "f", "parameters": schema}},
        "openai_responses": {"type": "function", "name": "f", "parameters": schema},
        "anthropic": {"name": "f", "input_schema": schema},
        "gemini": {"functionDeclarations": [{"name": "f", "parameters": schema}]},
    }[wire]

    assert judged(wire, user(wire), tools=[tool]).refusal is None


def test_models_that_take_no_prefill_want_the_user_last() -> None:
    messages = [*user("anthropic"), {"role": "assistant", "content": "I"}]

    assert "does not support assistant message prefill" in words("anthropic", messages, model="claude-opus-5")
    assert words("anthropic", messages, model="claude-sonnet-4-5") == ""


def test_breakpoints_are_counted_over_tools_system_and_messages() -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    text = {"type": "text", "text": "x", **mark}
    tool = {"name": "f", "input_schema": {"type": "object"}, **mark}
    messages = [{"role": "user", "content": [text, text]}]

    assert words("anthropic", messages, system=[text], tools=[tool]) == ""
    assert "Found 5." in words("anthropic", messages, system=[text, text], tools=[tool])
    assert "Found 5." in words("anthropic", messages, system=[text], tools=[tool], cache_control=mark["cache_control"])


def test_a_long_ttl_may_not_follow_a_short_one_even_across_system_and_messages() -> None:
    short = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}
    long = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}

    assert words("anthropic", [{"role": "user", "content": [short]}], system=[long]) == ""
    assert "must not come after" in words("anthropic", [{"role": "user", "content": [long]}], system=[short])


# --- Reasoning of the Responses API


THOUGHT = Turn("Let me see.", reasoning="hm")


def answered(server: ProviderSimulator, **fields: Any) -> list[Message]:
    """The output of one response, reasoning first."""
    return list(post(server, "openai_responses", user("openai_responses"), **fields).json()["output"])


def test_an_item_needs_the_reasoning_that_it_came_with() -> None:
    with ProviderSimulator("openai_responses", [THOUGHT, "ok", "ok"]) as server:
        thought, message = answered(server)
        lonely = post(server, "openai_responses", [*user("openai_responses"), message, *user("openai_responses")])
        both = post(server, "openai_responses", [thought, message])
        bare = {key: value for key, value in message.items() if key != "id"}
        without_id = post(server, "openai_responses", [*user("openai_responses"), bare])

    expected = (
        f"Item '{message['id']}' of type 'message' was provided without its required 'reasoning' item: "
        f"'{thought['id']}'."
    )
    assert lonely.json()["error"]["message"] == expected
    assert (both.status_code, without_id.status_code) == (200, 200)
    assert [one.refusal.rule for one in server.rejected if one.refusal] == ["OR-4"]


def test_reasoning_needs_what_it_produced() -> None:
    with ProviderSimulator("openai_responses", [THOUGHT]) as server:
        thought, _ = answered(server)
        answer = post(server, "openai_responses", [thought, *user("openai_responses")])

    assert answer.json()["error"]["message"].endswith("was provided without its required following item.")


def test_reasoning_without_its_payload_must_be_stored() -> None:
    with ProviderSimulator("openai_responses", [THOUGHT, THOUGHT, "ok"]) as server:
        thought, message = answered(server, store=False)
        stored, other = answered(server)
        bare = [{**one, "encrypted_content": None} for one in (thought, stored)]
        unknown = post(server, "openai_responses", [bare[0], message], store=False)
        known = post(server, "openai_responses", [bare[1], other], store=False)

    assert unknown.status_code == 404
    assert "Items are not persisted when `store` is set to false" in unknown.json()["error"]["message"]
    assert known.status_code == 200


def test_an_altered_payload_is_found_out() -> None:
    with ProviderSimulator("openai_responses", [THOUGHT]) as server:
        thought, message = answered(server)
        answer = post(server, "openai_responses", [{**thought, "encrypted_content": SIGNATURE}, message])

    assert answer.json()["error"]["code"] == "invalid_encrypted_content"


# --- Signed thinking of Anthropic


STEPS = [Turn(f"Step {n}.", reasoning=f"Thought {n}.") for n in range(4)]
DROP = {"thinking": {"type": "adaptive", "block_binding": {"prefix_mismatch_behavior": "drop_block"}}}


def thought_through(server: ProviderSimulator, count: int = 3, **fields: Any) -> list[Message]:
    """A conversation of some turns, each of which begins with thinking, and a last question."""
    log = user("anthropic", "question 0")
    for step in range(1, count + 1):
        blocks = post(server, "anthropic", log, **fields).json()["content"]
        log = [*log, {"role": "assistant", "content": blocks}, *user("anthropic", f"question {step}")]
    return log


def without_thinking(message: Message) -> Message:
    return {**message, "content": [block for block in message["content"] if block["type"] != "thinking"]}


def edited(log: Sequence[Message], edit: str) -> tuple[list[Message], dict[str, Any]]:
    """The conversation after an edit, and the request's other fields."""
    log, fields = [dict(one) for one in log], {"system": "Be brief."}
    if edit == "another question":
        log[0]["content"] = "another question"
    elif edit == "first turn gone":
        log = log[2:]
    elif edit == "another system prompt":
        fields["system"] = "Be long."
    elif edit == "another tool":
        fields["tools"] = [{"name": "f", "input_schema": {"type": "object"}}]  # type: ignore[assignment] # not a text
    elif edit == "thinking in the middle gone":
        log[3] = without_thinking(log[3])
    elif edit == "oldest thinking gone":
        log[1] = without_thinking(log[1])
    elif edit == "all thinking gone":
        log = [without_thinking(one) if one["role"] == "assistant" else one for one in log]
    elif edit == "marks moved":
        log[0]["content"] = [{"type": "text", "text": "question 0", "cache_control": {"type": "ephemeral"}}]
        fields["system"] = [{"type": "text", "text": "Be brief."}]  # type: ignore[assignment] # the same as a text
    return log, fields


@pytest.mark.parametrize(
    ("edit", "is_valid"),
    [
        ("nothing", True),
        ("marks moved", True),
        ("oldest thinking gone", True),
        ("all thinking gone", True),
        ("thinking in the middle gone", False),
        ("another question", False),
        ("first turn gone", False),
        ("another system prompt", False),
        ("another tool", False),
    ],
)
def test_bound_thinking_is_valid_behind_the_conversation_it_was_made_in(edit: str, is_valid: bool) -> None:
    with ProviderSimulator("anthropic", [*STEPS, "ok"], binds_thinking=True) as server:
        log, fields = edited(thought_through(server, system="Be brief."), edit)
        answer = post(server, "anthropic", log, **fields)

    assert (answer.status_code == 200) is is_valid
    if not is_valid:
        message = answer.json()["error"]["message"]
        assert "Invalid `signature` in `thinking` block. The block is bound to a different conversation." in message
        assert server.rejected[0].refusal
        assert server.rejected[0].refusal.rule == "AN-10"


def test_thinking_made_after_an_edit_is_bound_to_the_edited_conversation() -> None:
    with ProviderSimulator("anthropic", [*STEPS, "ok"], binds_thinking=True) as server:
        log = [without_thinking(one) if one["role"] == "assistant" else one for one in thought_through(server, 2)][2:]
        blocks = post(server, "anthropic", log).json()["content"]
        answer = post(server, "anthropic", [*log, {"role": "assistant", "content": blocks}, *user("anthropic")])

    assert [block["type"] for block in blocks] == ["thinking", "text"]
    assert answer.status_code == 200


def test_stale_thinking_is_left_out_for_a_request_that_asks_for_it() -> None:
    with ProviderSimulator("anthropic", [*STEPS, "ok"], binds_thinking=True) as server:
        log, _ = edited(thought_through(server), "another question")
        body = {"model": "claude", "max_tokens": 9, "messages": log, **DROP}
        header = {"anthropic-beta": "thinking-binding-controls-2026-08-01"}
        with_header = HTTP.post(server.url + "/v1/messages", json=body, headers=header)
        without = HTTP.post(server.url + "/v1/messages", json=body)

    assert [one["path"] for one in with_header.json()["input_transformations"]] == [
        "messages.1.content.0",
        "messages.3.content.0",
        "messages.5.content.0",
    ]
    assert without.status_code == 400


@pytest.mark.parametrize("bound", [True, False])
def test_thinking_of_the_latest_message_cannot_be_altered_nor_what_stands_beside_it(bound: bool) -> None:
    with ProviderSimulator("anthropic", STEPS, binds_thinking=bound) as server:
        log = thought_through(server, 1)
        thinking, text = log[1]["content"]
        altered = [{**thinking, "thinking": "Something else."}, text]
        beside = [thinking, {**text, "text": "Something else."}]
        answers = [
            post(server, "anthropic", [log[0], {"role": "assistant", "content": content}, log[2]])
            for content in (altered, beside)
        ]

    for answer in answers:
        assert answer.status_code == 400
        assert "blocks in the latest assistant message cannot be modified" in answer.json()["error"]["message"]


def test_a_foreign_signature_is_refused_where_thinking_is_bound_and_passes_elsewhere() -> None:
    log = builder_for("anthropic").user("hi") + builder_for("anthropic").assistant("ok", reasoning="hm")
    for bound, status in ((True, 400), (False, 200)):
        with ProviderSimulator("anthropic", ["ok"], binds_thinking=bound) as server:
            assert post(server, "anthropic", log + user("anthropic")).status_code == status


def test_thinking_switched_on_must_begin_a_turn_that_goes_on_with_older_models() -> None:
    log = CALLED["anthropic"] + builder_for("anthropic").results([("call_1", "f", "x"), ("call_2", "f", "y")])
    on = {"thinking": {"type": "enabled", "budget_tokens": 1_024}, "max_tokens": 2_000}

    assert "must start with a thinking block" in words("anthropic", log, model="claude-sonnet-4-5", **on)
    assert words("anthropic", log, model="claude-opus-5", **on) == ""
    assert words("anthropic", log, model="claude-sonnet-4-5") == ""


# --- Signatures of Gemini


def test_calls_of_the_current_turn_need_their_signature() -> None:
    calls = Turn(calls=[Call("f"), Call("f")])
    with ProviderSimulator("gemini", [calls, calls, "ok", "ok", "ok"], checks_signatures=True) as server:
        client = Client(server, "gemini")
        builder = builder_for("gemini")
        log = user("gemini")
        for _ in range(2):
            log = log + client.ask(log).messages
            log = log + builder.results([("", "f", "x"), ("", "f", "y")])
        assert client.ask(log).text == "ok"
        bare = [{**one, "parts": [without_signature(part) for part in one["parts"]]} for one in log]
        refused = post(server, "gemini", bare)
        older = post(server, "gemini", [*bare, {"role": "user", "parts": [{"text": "And now?"}]}])

    assert "Function call is missing a thought_signature in functionCall parts." in refused.json()["error"]["message"]
    assert older.status_code == 200


def without_signature(part: Message) -> Message:
    return {key: value for key, value in part.items() if key not in ("thought_signature", "thoughtSignature")}


def test_the_documented_placeholder_passes_and_another_signature_does_not() -> None:
    call = {"functionCall": {"name": "f", "args": {}}}
    result = {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {}}}]}
    for signature, status in (("skip_thought_signature_validator", 200), (SIGNATURE, 400)):
        model = {"role": "model", "parts": [{**call, "thoughtSignature": signature}]}
        with ProviderSimulator("gemini", ["ok"], checks_signatures=True) as server:
            assert post(server, "gemini", [*user("gemini"), model, result]).status_code == status


# --- Agreement with our own validator


DIFFERENT: dict[tuple[DialectName, str], str] = {
    ("openai_chat", "OC-1"): "the API does not pair the old function_call; our rule does",
    ("openai_chat", "C-6"): "OpenAI takes the fields that compatible servers add",
    ("openai_chat", "OC-11"): "too many breakpoints are not refused, the oldest are not looked at",
    ("openai_responses", "OR-7"): "not refused: what stands before a compaction is read and billed",
    ("openai_responses", "OR-8"): "no wording of the API is known",
    ("openai_responses", "OR-13"): "OpenAI refuses; a warning with us because compatible servers do not",
    ("anthropic", "C-2"): "an id of an earlier turn may come again",
    ("anthropic", "C-6"): "refused on messages; in blocks not judged",
    ("anthropic", "AN-3"): "the server merges what is split",
    ("anthropic", "AN-7"): "refused; a warning with us because it depends on the model",
    ("anthropic", "AN-8"): "refused; a warning with us because compatible servers do not",
    ("anthropic", "AN-9"): "refused; a warning with us because newer models do not",
    ("anthropic", "AN-11"): "the types allow a mark inside a result",
    ("anthropic", "AN-13"): "refused under the newest beta only",
    ("anthropic", "AN-16"): "refused; a warning with us",
    ("gemini", "GE-2"): "contents in a row of one role are merged",
    ("gemini", "GE-5"): "reports differ whether text may stand behind responses",
    ("gemini", "GE-6"): "refused by newer models; a warning with us",
    ("gemini", "GE-7"): "an empty text is a part; a warning with us",
    ("gemini", "GE-8"): "checked on demand",
    ("gemini", "GE-14"): "split responses are merged",
}
"""Rules whose example the judge and `validate` see differently, with the reason."""


@pytest.mark.parametrize(
    ("wire", "rule", "messages"),
    [(wire, rule, messages) for wire, rows in BROKEN.items() for rule, messages, _ in rows],
)
def test_judge_and_validator_agree_on_broken_lists_or_the_difference_has_a_reason(
    wire: DialectName, rule: str, messages: list[Message]
) -> None:
    is_error = any(issue.severity == "error" for issue in validate(messages, wire))
    is_refused = judged(wire, messages).refusal is not None

    assert is_error == is_refused or (wire, rule) in DIFFERENT


JUNK: tuple[Any, ...] = (
    None,
    True,
    1,
    "x",
    [],
    {},
    [None],
    [{}],
    ["x"],
    {"type": "text"},
    {"type": []},
    {"role": "user"},
)


def damaged(value: Any, random: Random) -> Any:
    """A copy with junk in one place, or something missing."""
    if isinstance(value, dict) and value and random.random() < 0.8:
        key = random.choice(list(value))
        rest = {name: one for name, one in value.items() if name != key}
        return rest if random.random() < 0.3 else {**rest, key: damaged(value[key], random)}
    if isinstance(value, list) and value and random.random() < 0.8:
        index = random.randrange(len(value))
        return [*value[:index], damaged(value[index], random), *value[index + 1 :]]
    return random.choice(JUNK)


@pytest.mark.parametrize("wire", DIALECT_NAMES)
def test_no_request_is_too_broken_to_be_judged(wire: DialectName) -> None:
    random = Random(1)
    rows = [messages for _, messages, _ in BROKEN[wire]] + SOUND[wire]
    with ProviderSimulator(wire, lambda request: "ok", binds_thinking=True, checks_signatures=True) as server:
        for _ in range(400):
            body = {"model": "m", "max_tokens": 9, "tools": [{}], "system": [{}], KEY[wire]: random.choice(rows)}
            answer = HTTP.post(server.url + PATH[wire], json=damaged(body, random))
            assert answer.status_code in (200, 400, 404)


LENIENT = {"item_reference": "resolved by the server; the simulator knows only its own items"}


@pytest.mark.parametrize(("wire", "messages"), [(wire, row) for wire, rows in SOUND.items() for row in rows])
def test_sound_lists_are_answered(wire: DialectName, messages: list[Message]) -> None:
    refusal = judged(wire, messages, model="claude-sonnet-4-5").refusal

    assert refusal is None or any(one.get("type") in LENIENT for one in messages)


@pytest.mark.parametrize("wire", DIALECT_NAMES)
def test_drawn_valid_conversations_are_answered(wire: DialectName) -> None:
    with ProviderSimulator(wire, lambda request: "ok") as server:

        @settings(max_examples=30)
        @given(conversations(wire))
        def check(messages: list[Message]) -> None:
            post(server, wire, messages)

        check()

    assert Counter(one.refusal.message for one in server.rejected if one.refusal) == {}


@pytest.mark.parametrize("wire", DIALECT_NAMES)
def test_drawn_conversations_with_an_open_call_are_refused(wire: DialectName) -> None:
    with ProviderSimulator(wire, lambda request: "ok") as server:

        @settings(max_examples=20)
        @given(st.data())
        def check(data: st.DataObject) -> None:
            post(server, wire, data.draw(conversations(wire, ends_open=True)))

        check()

    assert len(server.rejected) == len(server.requests)


def test_every_broken_recording_is_refused_as_our_validator_says(corpus_dir: Path) -> None:
    found = malformed()
    refused = [judged(one.dialect, one.messages) for one in found]

    assert found
    for recorded, exchange in zip(found, refused, strict=True):
        rules = {issue.code for issue in validate(recorded.messages, recorded.dialect) if issue.severity == "error"}
        assert exchange.refusal
        # The broken Gemini recording ends with the model's answer besides, which the API says first.
        assert exchange.refusal.rule in {*rules, "GE-6"}


def test_whole_recordings_are_answered(corpus_dir: Path) -> None:
    refused: Counter[str] = Counter()
    for recorded in transcripts(max_tokens=6_000):
        messages = recorded.messages
        if recorded.dialect == "gemini" or messages[-1].get("role") == "assistant":
            messages = messages + builder_for(recorded.dialect).user("And now?")
        found = judged(recorded.dialect, messages).refusal
        refused.update([] if found is None else [found.message[:120]])

    assert refused == {}
