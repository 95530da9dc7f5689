"""Each rule by an example that breaks it and one that does not; laws over drawn and recorded conversations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.dialects import DIALECTS, RULES, validate
from memory.errors import MessageError
from memory.messages import DialectName, Issue, LLMMessage

from .conversations import DIALECT_NAMES, Message, conversations
from .corpus import malformed, transcripts

CACHE = {"type": "ephemeral"}
HOUR = {"type": "ephemeral", "ttl": "1h"}


def user(text: str = "hi", **fields: Any) -> Message:
    return {"role": "user", "content": text, **fields}


def said(text: str = "ho", **fields: Any) -> Message:
    return {"role": "assistant", "content": text, **fields}


# --- OpenAI chat


def function(id_: str = "c1", **fields: Any) -> Message:
    return {"id": id_, "type": "function", "function": {"name": "f", "arguments": "{}", **fields}}


def calls(*ids: str) -> Message:
    return {"role": "assistant", "content": None, "tool_calls": [function(id_) for id_ in ids]}


def tool(id_: str = "c1", content: Any = "done") -> Message:
    return {"role": "tool", "tool_call_id": id_, "content": content}


def parts(role: str, *kinds: str) -> Message:
    return {"role": role, "content": [{"type": kind, kind: "x"} for kind in kinds]}


BROKEN_CHAT: list[tuple[str, list[Message], str]] = [
    ("OC-0", [{"role": "model", "content": "x"}], ".role"),
    ("OC-0", [user(), {"role": "user", "content": 3}], "[1].content"),
    ("OC-0", [{"role": "user", "content": ["x"]}], ".content[0]"),
    ("OC-0", [user(), said(tool_calls=[{"type": "function"}])], "[1].tool_calls[0]"),
    ("OC-0", [user(), said(tool_calls=[{"id": "c1", "type": "function"}]), tool()], "[1].tool_calls[0]"),
    ("C-1", [], "messages"),
    ("C-2", [calls("c1"), tool(), tool()], "[2]"),
    ("C-2", [calls("c1", "c1"), tool()], "[0].tool_calls[1]"),
    ("C-6", [user(metadata={"seq": 1})], "[0]"),
    ("OC-1", [user(), calls("c1")], "[1].tool_calls[0]"),
    ("OC-1", [user(), calls("c1", "c2"), tool("c1"), user()], "[1].tool_calls[1]"),
    ("OC-1", [user(), said(function_call={"name": "f", "arguments": "{}"}), user()], "[1]"),
    ("OC-2", [user(), tool()], "[1]"),
    ("OC-2", [calls("c1"), tool("c1"), user(), tool("c1")], "[3]"),
    ("OC-3", [{"role": "assistant", "content": None}], ".content"),
    ("OC-3", [{"role": "user"}], ".content"),
    ("OC-4", [calls("c1"), tool(content=None)], "[1].content"),
    ("OC-4", [calls("c1"), tool(content=[{"type": "image_url", "image_url": {}}])], "[1].content[0]"),
    ("OC-5", [parts("system", "image_url")], "[0].content[0]"),
    ("OC-5", [parts("assistant", "text", "input_audio")], "[0].content[1]"),
    ("OC-6", [said(tool_calls=[])], "[0].tool_calls"),
    ("OC-6", [calls("c" * 41), tool("c" * 41)], "[0].tool_calls[0].id"),
    ("OC-8", [said(tool_calls=[function(arguments={})]), tool()], "[0].tool_calls[0]"),
    (
        "OC-11",
        [{"role": "user", "content": [{"type": "text", "text": "x", "prompt_cache_breakpoint": {}}]}] * 81,
        "[80]",
    ),
]
SOUND_CHAT: list[list[Message]] = [
    [user()],
    [user(), calls("c1", "c2"), tool("c2"), tool("c1"), said()],
    [user(), calls("c1"), tool("c1"), calls("c1"), tool("c1")],
    [user(), calls("c" * 40), tool("c" * 40)],
    [user(), said(""), user()],
    [user(), {"role": "assistant", "content": None, "refusal": "No."}, user()],
    [user(), {"role": "assistant", "tool_calls": [function()]}, tool(content="")],
    [
        user(),
        said(function_call={"name": "f", "arguments": "{}"}),
        {"role": "function", "name": "f", "content": "x"},
    ],
    [user(), {"role": "developer", "content": "x"}, user(), {"role": "system", "content": "y"}],
    [user(), said(tool_calls=[{"id": "c1", "type": "custom", "custom": {"name": "f", "input": "x"}}]), tool()],
    [parts("user", "text", "image_url", "input_audio", "file")],
    [parts("assistant", "text", "refusal")],
]


# --- OpenAI Responses


def item(kind: str, **fields: Any) -> Message:
    return {"type": kind, **fields}


def fcall(call_id: Any = "c1", **fields: Any) -> Message:
    return {"type": "function_call", "call_id": call_id, "name": "f", "arguments": "{}", **fields}


def output(id_: str = "c1") -> Message:
    return item("function_call_output", call_id=id_, output="done")


REASONING = item("reasoning", id="rs", summary=[])
APPROVAL = item("mcp_approval_request", id="a1", name="f", server_label="s", arguments="{}")
BROKEN_RESPONSES: list[tuple[str, list[Message], str]] = [
    ("OR-0", [{"content": "x"}], "input[0]"),
    ("OR-0", [item("message", role="tool", content="x")], ".role"),
    ("OR-0", [user(), {"role": "user", "content": None}], "[1].content"),
    ("OR-0", [fcall(call_id=7)], ".call_id"),
    ("OR-0", [fcall(arguments={}), output()], ".arguments"),
    ("OR-0", [item("computer_call_output", output={})], "[0]"),
    ("C-2", [fcall(), output(), output()], "[2]"),
    ("C-2", [fcall(), fcall(), output()], "[1]"),
    ("OR-1", [user(), output()], "[1]"),
    ("OR-1", [output(), fcall()], "[0]"),
    ("OR-2", [user(), fcall()], "[1]"),
    ("OR-2", [item("computer_call", call_id="c1", action={})], "[0]"),
    ("OR-3", [user(), REASONING], "[1]"),
    ("OR-3", [user(), REASONING, user()], "[1]"),
    ("OR-3", [fcall(), REASONING, output()], "[1]"),
    ("OR-5", [item("reasoning", id="rs"), said()], ".summary"),
    ("OR-7", [user(), item("compaction", encrypted_content="x")], "[1]"),
    ("OR-8", [user(), APPROVAL], "[1]"),
    ("OR-8", [item("mcp_approval_response", approval_request_id="a1", approve=True)], "[0]"),
    ("OR-9", [], "input"),
    ("OR-13", [user(), parts("assistant", "input_text")], "[1].content[0]"),
    ("OR-13", [parts("user", "output_text")], "[0].content[0]"),
]
SOUND_RESPONSES: list[list[Message]] = [
    [user(), fcall("c1"), fcall("c2"), output("c2"), output("c1"), said()],
    [user(), REASONING, fcall(), output(), REASONING, REASONING, said()],
    [user(), fcall(), said(), output()],
    [user(), APPROVAL, item("mcp_approval_response", approval_request_id="a1", approve=True)],
    [user(), item("web_search_call", id="w", status="completed"), said()],
    [user(), item("tool_search_call", arguments={}, execution="server"), item("tool_search_output", tools=[])],
    [item("item_reference", id="fc_1"), output()],
    [user(), item("program", id="p", call_id="p1", code="x", fingerprint="y"), fcall(), output()],
    [user(), {**fcall(), "async": True}, said()],
    [item("function_call_output", name="heartbeat", output="tick")],
    [user(), item("brand_new"), REASONING, item("brand_new")],
]


# --- Anthropic


def blocks(role: str, *content: Message) -> Message:
    return {"role": role, "content": list(content)}


def text(value: str = "x", **fields: Any) -> Message:
    return {"type": "text", "text": value, **fields}


def use(id_: str = "c1", **fields: Any) -> Message:
    return {"type": "tool_use", "id": id_, "name": "f", "input": {}, **fields}


def result(id_: str = "c1", **fields: Any) -> Message:
    return {"type": "tool_result", "tool_use_id": id_, "content": "done", **fields}


SEARCH = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "s1", "content": []}
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "c2lnbmVk"}
COMPACTION = {"type": "compaction", "content": "what was"}


def asks(*ids: str) -> Message:
    return blocks("assistant", *(use(id_) for id_ in ids))


def answers(*ids: str) -> Message:
    return blocks("user", *(result(id_) for id_ in ids))


BROKEN_ANTHROPIC: list[tuple[str, list[Message], str]] = [
    ("AN-0", [{"role": "tool", "content": "x"}], ".role"),
    ("AN-0", [{"role": "user", "content": None}], ".content"),
    ("AN-0", [user(), blocks("assistant", use(input="{}")), answers("c1")], "[1].content[0]"),
    ("C-1", [], "messages"),
    ("C-2", [user(), asks("c1", "c1"), answers("c1")], "[1].content[1]"),
    ("C-2", [user(), asks("c1"), answers("c1", "c1")], "[2].content[1]"),
    ("C-2", [user(), asks("c1"), answers("c1"), asks("c1"), answers("c1")], "[3].content[0]"),
    ("C-6", [user(id="msg_1")], "[0]"),
    ("C-6", [blocks("user", text(index=0))], "[0].content[0]"),
    ("AN-1", [user(), asks("c1", "c2"), answers("c1")], "[1].content[1]"),
    ("AN-1", [user(), asks("c1"), user()], "[1].content[0]"),
    ("AN-1", [user(), said(), answers("c1")], "[2].content[0]"),
    ("AN-1", [user(), asks("c1"), answers("c1"), said(), answers("c1")], "[4].content[0]"),
    ("AN-2", [user(), asks("c1"), blocks("user", text(), result())], "[2].content[1]"),
    ("AN-2", [user(), asks("c1"), user("summary"), answers("c1")], "[3].content[0]"),
    ("AN-3", [user(), asks("c1", "c2"), answers("c1"), answers("c2")], "[3].content[0]"),
    ("AN-3", [user(), asks("c1"), said(), answers("c1")], "[2]"),
    ("AN-4", [said(), user()], "[0]"),
    ("AN-5", [user(), asks("a.b"), answers("a.b")], "[1].content[0]"),
    ("AN-6", [user("")], ".content"),
    ("AN-6", [user(" \n")], ".content"),
    ("AN-6", [blocks("user")], ".content"),
    ("AN-6", [blocks("user", text(""), text())], ".content[0]"),
    ("AN-6", [blocks("user", text(" "))], ".content"),
    ("AN-7", [user(), said("I think ")], "[1].content"),
    ("AN-8", [user(), blocks("assistant", {"type": "thinking", "thinking": "hm"}, text())], "[1].content[0]"),
    ("AN-8", [user(), blocks("assistant", {"type": "redacted_thinking"}, text())], "[1].content[0]"),
    ("AN-9", [user(), blocks("assistant", text(), THOUGHT, text())], "[1].content[0]"),
    ("AN-9", [user(), blocks("assistant", THOUGHT), user()], "[1].content[0]"),
    ("AN-16", [blocks("user", {"type": "redacted_thinking", "data": "x"}, text())], "[0].content[0]"),
    ("AN-11", [blocks("user", *[text(cache_control=CACHE)] * 5)], ".content[4]"),
    ("AN-11", [blocks("user", text(cache_control=CACHE), text(cache_control=HOUR))], ".content[1]"),
    (
        "AN-11",
        [
            user(),
            blocks("assistant", {"type": "thinking", "thinking": "", "signature": "s", "cache_control": CACHE}, text()),
        ],
        "[1].content[0]",
    ),
    (
        "AN-11",
        [user(), asks("c1"), blocks("user", result(content=[text(cache_control=CACHE)]))],
        "[2].content[0].content[0]",
    ),
    ("AN-12", [{"role": "system", "content": "x"}, user()], "[0]"),
    ("AN-12", [user(), said(), {"role": "system", "content": "x"}, user()], "[2]"),
    ("AN-13", [user(), blocks("assistant", COMPACTION, text()), user()], "[1].content[0]"),
    ("AN-13", [blocks("user", COMPACTION, COMPACTION)], "[0].content[1]"),
    ("AN-14", [user(), blocks("assistant", FOUND)], "[1].content[0]"),
    ("AN-14", [user(), blocks("assistant", SEARCH, text()), user()], "[1].content[0]"),
]
SOUND_ANTHROPIC: list[list[Message]] = [
    [user(), asks("c1", "c2"), answers("c2", "c1"), said()],
    [user(), asks("c1"), blocks("user", result(), text()), said()],
    [user(), user(), said(), user()],
    [user(), blocks("assistant")],
    [user(), {"role": "system", "content": "x"}, said()],
    [user(), blocks("assistant", SEARCH, FOUND), {"role": "system", "content": "x"}, user()],
    [user(), blocks("assistant", SEARCH)],
    [user(), blocks("assistant", SEARCH), blocks("assistant", FOUND, text()), user()],
    [user(), blocks("assistant", SEARCH, use()), answers("c1"), blocks("assistant", FOUND, text()), user()],
    [blocks("user", text(" "), text())],
    [blocks("user", text(cache_control=HOUR), *[text(cache_control=CACHE)] * 3)],
    [user(), asks("c1"), blocks("user", result(content=[]), {"type": "image", "source": {}})],
    [blocks("user", COMPACTION), said()],
    [user(), blocks("assistant", {"type": "brand_new"}), user()],
]


# --- Gemini


def content(role: str, *content_parts: Message) -> Message:
    return {"role": role, "parts": list(content_parts)}


def gcall(id_: str | None = "c1", name: str = "f", **fields: Any) -> Message:
    return {"functionCall": {"name": name, "args": {}, **({"id": id_} if id_ else {}), **fields}}


def gresponse(id_: str | None = "c1", name: str = "f", **fields: Any) -> Message:
    return {"functionResponse": {"name": name, "response": {}, **({"id": id_} if id_ else {}), **fields}}


def signed(part: Message) -> Message:
    return {**part, "thoughtSignature": "s"}


T = {"text": "x"}
ASK, ANSWER = content("model", gcall()), content("user", gresponse())
BROKEN_GEMINI: list[tuple[str, list[Message], str]] = [
    ("GE-0", [content("assistant", T)], ".role"),
    ("GE-0", [{"role": "user", "parts": "x"}], ".parts"),
    ("GE-0", [content("user", T), content("model", {"functionCall": {}}), ANSWER], "[1].parts[0].functionCall"),
    ("C-1", [], "contents"),
    ("GE-1", [content("model", T), content("user", T)], "[0]"),
    (
        "GE-2",
        [content("user", T), ASK, content("model", gcall("c2")), content("user", gresponse(), gresponse("c2"))],
        "[2]",
    ),
    ("GE-3", [content("user", T), content("model", gcall(), gcall("c2")), ANSWER], "[1].parts[1]"),
    ("GE-3", [content("user", T), ASK, content("user", T)], "[1].parts[0]"),
    ("GE-3", [content("user", T), ANSWER], "[1].parts[0].functionResponse"),
    ("GE-3", [content("user", T), ASK, ANSWER, ANSWER], "[3].parts[0].functionResponse"),
    ("GE-3", [content("user", T), content("model", gcall(None)), content("user", gresponse(None, "g"))], "[2]"),
    ("GE-4", [content("user", T), ASK, content("user", gresponse("c1", "g"))], "[2].parts[0].functionResponse"),
    ("GE-5", [content("user", T), ASK, content("user", gresponse(), T)], "[2]"),
    ("GE-6", [content("user", T), content("model", T)], "[1]"),
    ("GE-7", [content("user")], ".parts"),
    ("GE-7", [content("user", T, {})], ".parts[1]"),
    ("GE-7", [content("user", {"text": ""})], ".parts[0]"),
    (
        "GE-8",
        [content("user", T), content("model", signed(gcall())), ANSWER, ASK, ANSWER],
        "[3].parts[0]",
    ),
    ("GE-10", [content("system", T), content("user", T)], "[0].role"),
    ("GE-11", [content("user", T), content("model", gcall(args="{}")), ANSWER], "[1].parts[0].functionCall"),
    ("GE-11", [content("user", T), ASK, content("user", gresponse(response="done"))], "[2].parts[0]"),
    ("GE-14", [content("user", T), ASK, content("user", T), ANSWER], "[3].parts[0].functionResponse"),
    (
        "GE-14",
        [content("user", T), content("model", gcall(), gcall("c2")), ANSWER, content("user", gresponse("c2"))],
        "[3].parts[0].functionResponse",
    ),
]
SOUND_GEMINI: list[list[Message]] = [
    [content("user", T), content("user", T)],
    [content("user", T), content("model", gcall(), gcall("c2")), content("user", gresponse("c2"), gresponse())],
    [content("user", T), content("model", gcall(None), gcall(None)), content("user", *[gresponse(None)] * 2)],
    [content("user", T), content("model", gcall()), content("user", gresponse(None)), content("user", T)],
    [content("user", T), content("model", T), ASK, content("function", gresponse())],
    [{"parts": [T]}],
    [content("user", T), content("model", signed(gcall()), gcall("c2")), content("user", gresponse(), gresponse("c2"))],
    [content("user", T), content("model", signed({"text": ""})), content("user", T)],
    [content("user", T), ASK, ANSWER, content("user", T), content("model", signed(gcall())), ANSWER],
    [
        content("user", T),
        content("model", {"function_call": {"name": "f", "args": {}}}),
        content("user", {"function_response": {"name": "f", "response": {}}}),
    ],
]

BROKEN: dict[DialectName, list[tuple[str, list[Message], str]]] = {
    "openai_chat": BROKEN_CHAT,
    "openai_responses": BROKEN_RESPONSES,
    "anthropic": BROKEN_ANTHROPIC,
    "gemini": BROKEN_GEMINI,
}
SOUND: dict[DialectName, list[list[Message]]] = {
    "openai_chat": SOUND_CHAT,
    "openai_responses": SOUND_RESPONSES,
    "anthropic": SOUND_ANTHROPIC,
    "gemini": SOUND_GEMINI,
}


@pytest.mark.parametrize(
    ("dialect", "code", "messages", "where"),
    [(name, *row) for name, rows in BROKEN.items() for row in rows],
)
def test_a_broken_rule_is_found_where_it_is_broken(
    dialect: DialectName, code: str, messages: list[Message], where: str
) -> None:
    found = [issue for issue in validate(messages, dialect) if issue.code == code]

    assert [issue.path for issue in found if where in issue.path], validate(messages, dialect)


@pytest.mark.parametrize(("dialect", "messages"), [(name, row) for name, rows in SOUND.items() for row in rows])
def test_what_the_provider_accepts_has_no_issue(dialect: DialectName, messages: list[Message]) -> None:
    trailing = {"GE-6"}  # a list that ends with the model's turn is fine to keep, if not to send

    assert [issue for issue in validate(messages, dialect) if issue.code not in trailing] == []


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
def test_every_rule_has_an_example_and_names_its_source(dialect: DialectName) -> None:
    codes = [rule.code for rule in RULES[dialect]]

    assert len(codes) == len(set(codes))
    assert set(codes) == {code for code, _, _ in BROKEN[dialect]}
    assert all(rule.source.startswith("https://") and rule.title.endswith(".") for rule in RULES[dialect])


def errors(messages: Sequence[object], dialect: DialectName) -> list[Issue]:
    return [issue for issue in validate(messages, dialect) if issue.severity == "error"]


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
@given(data=st.data())
def test_drawn_conversations_are_valid(dialect: DialectName, data: st.DataObject) -> None:
    assert errors(data.draw(conversations(dialect, surrogates=True)), dialect) == []


@pytest.mark.parametrize(
    ("dialect", "code"),
    [("openai_chat", "OC-1"), ("openai_responses", "OR-2"), ("anthropic", "AN-1"), ("gemini", "GE-3")],
)
@given(data=st.data())
def test_an_open_call_at_the_end_is_the_only_error(dialect: DialectName, code: str, data: st.DataObject) -> None:
    messages = data.draw(conversations(dialect, ends_open=True))

    assert {issue.code for issue in errors(messages, dialect)} == {code}


FIELDS = (
    "role content parts type id call_id tool_call_id tool_use_id tool_calls function name arguments input text "
    "functionCall functionResponse output summary cache_control response args"
)
KEYS = st.sampled_from(FIELDS.split())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["", "text", "user", "assistant", "c1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=12,
)


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
@given(messages=st.lists(st.dictionaries(KEYS, JSON, max_size=5), max_size=4))
def test_no_shape_is_too_broken_to_be_judged(dialect: DialectName, messages: list[Message]) -> None:
    for issue in DIALECTS[dialect].validate(messages):
        assert issue.code in {rule.code for rule in RULES[dialect]}


def test_issues_come_in_the_order_of_the_messages() -> None:
    messages = [user(), calls("c1"), tool("zz"), user(), calls("c2"), user(extra=1)]

    assert [issue.path for issue in validate(messages)] == [
        "messages[1].tool_calls[0]",
        "messages[2]",
        "messages[4].tool_calls[0]",
        "messages[5]",
    ]


def test_the_dialect_is_found_and_chat_is_the_default() -> None:
    assert [issue.code for issue in validate([ASK])] == ["GE-1", "GE-3", "GE-6"]
    assert [issue.code for issue in validate([{"role": "user", "content": None}])] == ["OC-3"]


def test_messages_of_our_own_are_judged_as_chat() -> None:
    messages = [LLMMessage("user", "hi"), LLMMessage("assistant", tool_calls=[function()])]

    assert [issue.code for issue in validate(messages)] == ["OC-1"]


def test_what_is_no_message_is_an_error_of_the_caller() -> None:
    with pytest.raises(MessageError, match="str"):
        validate(["hi"], "openai_chat")


def test_a_finding_quotes_a_hostile_id_in_part() -> None:
    (issue,) = validate([calls("x" * 100_000), tool("x" * 100_000)])

    assert len(issue.message) < 200
    (orphan,) = validate([user(), tool("y" * 100_000)])
    assert len(orphan.message) < 200


@pytest.mark.usefixtures("corpus_dir")
def test_every_recorded_transcript_is_valid() -> None:
    assert [
        (one.id, errors(one.messages, one.dialect)) for one in transcripts() if errors(one.messages, one.dialect)
    ] == []


@pytest.mark.usefixtures("corpus_dir")
def test_every_broken_recording_is_found_out() -> None:
    assert all(errors(one.messages, one.dialect) for one in malformed())
