"""Session logs of coding agents: where they are found, and what their conversations, times and usage are."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.backtest.logs import find_logs, read_log
from agent.transcripts import Transcript, parse_transcripts
from memory import validate
from memory.errors import TranscriptError
from memory.usage import Usage

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC).timestamp()


def stamp(second: int) -> str:
    return f"2026-03-04T12:00:{second:02}.000Z"


def jsonl(values: Sequence[object]) -> bytes:
    return "".join(json.dumps(value) + "\n" for value in values).encode()


def read(*values: object, ending: bytes = b"") -> list[Transcript]:
    return parse_transcripts(jsonl(values) + ending, "run.jsonl")


def read_one(*values: object, ending: bytes = b"") -> Transcript:
    (found,) = read(*values, ending=ending)
    return found


def is_valid(one: Transcript) -> bool:
    return not [issue for issue in validate(one.messages, one.dialect) if issue.severity == "error"]


# --- Claude Code ------------------------------------------------------------------------------------------------------


class ClaudeLog:
    """Writes lines as Claude Code does: each names its parent, all of a response share an id."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.parent: str | None = None
        self.second = 0

    def line(self, kind: str, **fields: Any) -> str:
        uuid = f"uuid-{len(self.lines)}"
        self.second += 1
        line = {
            "type": kind,
            "uuid": uuid,
            "parentUuid": self.parent,
            "sessionId": "s",
            "timestamp": stamp(self.second),
        }
        self.lines.append(line | fields)
        self.parent = uuid
        return uuid

    def user(self, content: object, **fields: Any) -> str:
        return self.line("user", message={"role": "user", "content": content}, **fields)

    def says(self, id: str, block: Mapping[str, Any], output: int = 1, **fields: Any) -> str:
        usage = {"input_tokens": 10, "cache_read_input_tokens": 90, "output_tokens": output}
        message = {"id": id, "role": "assistant", "model": "claude-x", "content": [block], "usage": usage}
        return self.line("assistant", message=message, **fields)

    def read(self) -> list[Transcript]:
        return read(*self.lines)


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


def call(id: str) -> dict[str, Any]:
    return {"type": "tool_use", "id": id, "name": "look", "input": {"at": id}}


def result(id: str) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": id, "content": f"seen {id}"}


def test_a_streamed_response_with_parallel_calls_becomes_one_message_and_their_results_another() -> None:
    log = ClaudeLog()
    log.user("look at both")
    log.says("m1", text("I look"))
    first = log.says("m1", call("t1"))
    log.says("m1", call("t2"), output=40)
    log.user([result("t2")])
    log.parent = first  # results hang at their own call's line: the log is a tree
    log.user([result("t1")])
    log.says("m2", text("done"))

    (found,) = log.read()

    assert (found.dialect, found.model, found.tool) == ("anthropic", "claude-x", "Claude Code")
    assert [message["role"] for message in found.messages] == ["user", "assistant", "user", "assistant"]
    assert found.messages[1]["content"] == [text("I look"), call("t1"), call("t2")]
    assert found.messages[2]["content"] == [result("t2"), result("t1")]
    assert is_valid(found)


def test_the_usage_of_a_streamed_response_is_its_last_lines_and_times_are_when_a_message_was_complete() -> None:
    log = ClaudeLog()
    log.user("look")
    log.says("m1", text("I look"), output=1)
    log.says("m1", call("t1"), output=40)
    log.user([result("t1")])

    (found,) = log.read()

    assert found.usages == ((1, Usage(input_tokens=100, output_tokens=40, cache_read_tokens=90)),)
    assert found.times == (NOON + 1, NOON + 3, NOON + 4)


def test_results_stand_before_what_the_user_typed_meanwhile() -> None:
    log = ClaudeLog()
    log.user("look")
    log.says("m1", call("t1"))
    log.line("attachment", attachment={"type": "queued_command", "prompt": "and hurry"})
    log.user([result("t1")])

    (found,) = log.read()

    assert found.messages[2]["content"] == [result("t1"), text("and hurry")]


def test_a_compaction_begins_a_new_conversation_with_the_summary() -> None:
    log = ClaudeLog()
    log.user("a task")
    log.says("m1", text("working"))
    log.parent = None
    log.line("system", subtype="compact_boundary", compactMetadata={"trigger": "auto", "preTokens": 9})
    log.user("what was done so far", isCompactSummary=True, isVisibleInTranscriptOnly=True)
    log.says("m2", text("going on"))

    before, after = log.read()

    assert [before.messages[0]["content"], after.messages[0]["content"]] == ["a task", "what was done so far"]
    assert (before.id, before.source, after.id, after.source) == ("run#1", "run.jsonl:1", "run#2", "run.jsonl:4")


@pytest.mark.parametrize("agent", [{"agentId": "a7"}, {}], ids=["by its id", "by its parents"])
def test_a_subagent_is_a_conversation_of_its_own(agent: dict[str, Any]) -> None:
    log = ClaudeLog()
    main = log.user("a task")
    log.parent = None
    log.user("a smaller task", isSidechain=True, **agent)
    side = log.says("m5", text("sub-answer"), isSidechain=True, **agent)
    log.parent = main
    log.says("m1", text("answer"))
    log.parent = side
    log.user("one thing more", isSidechain=True, **agent)

    whole, part = log.read()

    assert [len(whole.messages), len(part.messages)] == [2, 3]
    assert part.messages[0]["content"] == "a smaller task"


def test_a_branch_that_was_left_by_a_rewind_is_gone_and_counted() -> None:
    log = ClaudeLog()
    log.user("a task")
    kept = log.says("m1", text("first"))
    log.user("a wrong turn")
    log.says("m2", text("second"))
    log.parent = kept
    log.line("system", subtype="informational")
    log.user("a right turn")
    log.says("m3", text("third"))

    (found,) = log.read()

    assert [message["content"] for message in found.messages[2:]] == ["a right turn", [text("third")]]
    assert found.skipped == ("a message on a branch that was left by a rewind left out, 2 times",)


def test_what_no_model_was_sent_is_left_out_and_unknown_lines_are_counted() -> None:
    log = ClaudeLog()
    log.lines.append({"type": "file-history-snapshot", "snapshot": {}})
    log.user("hello")
    log.line("system", subtype="turn_duration", durationMs=5)
    log.line("assistant", message={"role": "assistant", "model": "<synthetic>", "content": [text("API Error")]})
    log.user("only shown", isVisibleInTranscriptOnly=True)
    log.line("telepathy", thought=1)
    log.line("telepathy", thought=2)
    log.says("m1", text("hi"))

    (found,) = log.read()

    assert [message["content"] for message in found.messages] == ["hello", [text("hi")]]
    assert found.skipped == ("a line of the unknown type 'telepathy' left out, 2 times",)


def test_lines_written_twice_count_once() -> None:
    log = ClaudeLog()
    log.user("hello")
    log.says("m1", text("hi"))
    log.lines += log.lines[:]

    (found,) = log.read()

    assert len(found.messages) == 2


def test_a_stream_of_json_output_is_read_too() -> None:
    found = read_one(
        {"type": "system", "subtype": "init", "session_id": "s", "model": "claude-x"},
        {"type": "assistant", "session_id": "s", "message": {"id": "m1", "role": "assistant", "content": [call("t1")]}},
        {"type": "user", "session_id": "s", "message": {"role": "user", "content": [result("t1")]}},
        {"type": "result", "session_id": "s", "result": "done"},
    )

    assert (found.tool, len(found.messages), found.times) == ("Claude Code", 2, ())


# --- Codex ------------------------------------------------------------------------------------------------------------


def rollout_line(second: int, kind: str, **payload: Any) -> dict[str, Any]:
    return {"timestamp": stamp(second), "type": kind, "payload": payload}


def said(role: str, words: str) -> dict[str, Any]:
    kind = "output_text" if role == "assistant" else "input_text"
    return {"type": "message", "role": role, "content": [{"type": kind, "text": words}]}


def item(second: int, value: Mapping[str, Any]) -> dict[str, Any]:
    return {"timestamp": stamp(second), "type": "response_item", "payload": value}


def calls(id: str) -> dict[str, Any]:
    return {"type": "function_call", "call_id": id, "name": "shell", "arguments": "{}"}


def output(id: str) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": id, "output": f"ran {id}"}


def tokens(second: int, so_far: int, *, last: int, cached: int = 0) -> dict[str, Any]:
    usage = {"input_tokens": last, "cached_input_tokens": cached, "output_tokens": 7, "reasoning_output_tokens": 3}
    info = {"total_token_usage": {"input_tokens": so_far}, "last_token_usage": usage, "model_context_window": 9}
    return rollout_line(second, "event_msg", type="token_count", info=info)


META = rollout_line(0, "session_meta", id="r1", cwd="/x", base_instructions={"text": "be brief"})
TURN = rollout_line(0, "turn_context", cwd="/x", model="gpt-x")


def test_a_rollout_is_read_with_its_instructions_model_times_and_usage() -> None:
    found = read_one(
        META,
        TURN,
        item(1, said("user", "list both")),
        rollout_line(1, "event_msg", type="user_message", message="list both"),
        item(2, {"type": "reasoning", "summary": [], "encrypted_content": "x"}),
        item(2, calls("c1")),
        item(2, calls("c2")),
        item(3, output("c1")),
        item(4, output("c2")),
        tokens(4, 100, last=100, cached=64),
        tokens(5, 100, last=100, cached=64),
        item(6, said("assistant", "done")),
        tokens(6, 230, last=130, cached=100),
    )

    assert (found.dialect, found.system, found.model, found.tool) == ("openai_responses", "be brief", "gpt-x", "Codex")
    assert [message["type"] for message in found.messages] == [
        "message", "reasoning", "function_call", "function_call", "function_call_output", "function_call_output",
        "message",
    ]  # fmt: skip
    assert found.usages == (
        (1, Usage(input_tokens=100, output_tokens=7, cache_read_tokens=64, reasoning_tokens=3)),
        (6, Usage(input_tokens=130, output_tokens=7, cache_read_tokens=100, reasoning_tokens=3)),
    )
    assert found.times == tuple(NOON + second for second in (1, 2, 2, 2, 3, 4, 6))
    assert is_valid(found)


@pytest.mark.parametrize(
    ("compacted", "begins_with"),
    [
        (
            {"message": "", "replacement_history": [said("user", "a task"), said("user", "so far")]},
            ["a task", "so far"],
        ),
        ({"message": "so far"}, ["so far"]),
    ],
    ids=["with its new history", "with a summary alone"],
)
def test_a_compacted_rollout_is_two_conversations(compacted: dict[str, Any], begins_with: list[str]) -> None:
    before, after = read(
        META,
        TURN,
        item(1, said("user", "a task")),
        item(2, said("assistant", "working")),
        rollout_line(3, "compacted", **compacted),
        tokens(3, 50, last=50),  # of the summary's request, which left no item
        item(4, said("assistant", "going on")),
        tokens(4, 80, last=30),
    )

    assert len(before.messages) == 2
    assert [message["content"][0]["text"] for message in after.messages] == [*begins_with, "going on"]
    assert (after.system, after.model) == ("be brief", "gpt-x")
    assert [index for index, _ in after.usages] == [len(begins_with)]


def test_turns_that_were_taken_back_are_gone_and_counted() -> None:
    found = read_one(
        META,
        item(1, said("user", "<environment>")),
        rollout_line(2, "event_msg", type="task_started"),
        item(2, said("user", "one")),
        rollout_line(2, "event_msg", type="user_message", message="one"),
        item(3, said("assistant", "first")),
        rollout_line(4, "event_msg", type="task_started"),
        item(4, said("user", "two")),
        rollout_line(4, "event_msg", type="user_message", message="two"),
        item(5, said("assistant", "second")),
        rollout_line(6, "event_msg", type="thread_rolled_back", num_turns=1),
        item(7, said("user", "three")),
    )

    assert [message["content"][0]["text"] for message in found.messages] == ["<environment>", "one", "first", "three"]
    assert found.skipped == ("an item of a turn that was taken back left out, 2 times",)


def test_older_rollouts_are_read() -> None:
    header = {"id": "r0", "timestamp": stamp(0), "instructions": "be brief"}
    bare = read_one(header, said("user", "hi"), {"record_type": "state"}, calls("c1"), output("c1"))
    oldest = read_one({"session": header, "items": [said("user", "hi"), calls("c1"), output("c1")]})

    for found in (bare, oldest):
        assert (found.tool, found.system, len(found.messages), found.times) == ("Codex", "be brief", 3, ())


def test_unknown_lines_of_a_rollout_are_counted() -> None:
    found = read_one(
        META,
        item(1, said("user", "hi")),
        item(1, {"type": "ghost_snapshot"}),
        rollout_line(1, "world_state", y=2),
        rollout_line(2, "aura", x=1),
    )

    assert (len(found.messages), found.skipped) == (1, ("a line of the unknown type 'aura' left out",))


# --- Gemini CLI -------------------------------------------------------------------------------------------------------


def record(id: str, kind: str, content: object = "", second: int = 1, **fields: Any) -> dict[str, Any]:
    return {"id": id, "timestamp": stamp(second), "type": kind, "content": content} | fields


def tool_call(id: str, second: int = 1) -> dict[str, Any]:
    answer = [{"functionResponse": {"id": id, "name": "read", "response": {"output": f"read {id}"}}}]
    shown = {"displayName": "Read", "resultDisplay": "...", "status": "success", "timestamp": stamp(second)}
    return {"id": id, "name": "read", "args": {"file": id}, "result": answer} | shown


TOKENS = {"input": 100, "output": 5, "cached": 60, "thoughts": 2, "tool": 0, "total": 107}
SESSION = {"sessionId": "g1", "projectHash": "ab12", "startTime": stamp(0), "lastUpdated": stamp(0)}
RECORDS = [
    record("1", "user", "read both"),
    record("2", "info", "a banner"),
    record(
        "3", "gemini", "I read", 2, toolCalls=[tool_call("a", 3), tool_call("b", 4)], model="gemini-x", tokens=TOKENS
    ),
    record("4", "gemini", "done", 5, thoughts=[{"subject": "x", "description": "y"}], tokens=TOKENS),
]


@pytest.mark.parametrize(
    "lines",
    [
        [SESSION | {"messages": RECORDS}],
        [SESSION, RECORDS[0], {"$set": {"lastUpdated": stamp(1)}}, RECORDS[2] | {"toolCalls": []}, *RECORDS[1:]],
    ],
    ids=["one object", "a line for each record"],
)
def test_calls_and_results_of_a_gemini_record_become_contents(lines: list[object]) -> None:
    found = read_one(*lines)

    assert (found.dialect, found.model, found.tool) == ("gemini", "gemini-x", "Gemini CLI")
    assert [content["role"] for content in found.messages] == ["user", "model", "user", "model"]
    assert [next(iter(part)) for part in found.messages[1]["parts"]] == ["text", "functionCall", "functionCall"]
    assert [part["functionResponse"]["id"] for part in found.messages[2]["parts"]] == ["a", "b"]
    usage = Usage(input_tokens=100, output_tokens=7, cache_read_tokens=60, reasoning_tokens=2)
    assert found.usages == ((1, usage), (3, usage))
    assert found.times == tuple(NOON + second for second in (1, 2, 4, 5))
    assert is_valid(found)


def test_a_text_and_the_calls_that_were_recorded_behind_it_are_one_content() -> None:
    found = read_one(
        SESSION,
        record("1", "user", "go"),
        record("2", "gemini", "I read"),
        record("3", "gemini", toolCalls=[tool_call("a")]),
    )

    assert [len(content["parts"]) for content in found.messages] == [1, 2, 1]


def test_a_rewind_forgets_the_records_behind_it() -> None:
    found = read_one(SESSION, *RECORDS, {"$rewindTo": "3"}, record("5", "user", "else"))

    assert [part["text"] for content in found.messages for part in content["parts"]] == ["read both", "else"]


def test_a_history_that_lost_records_begins_a_new_conversation() -> None:
    summary = [record("9", "user", [{"text": "so far"}]), RECORDS[3]]

    before, after = read(SESSION, *RECORDS, {"$set": {"messages": summary}}, record("5", "user", "go on"))

    assert [len(before.messages), len(after.messages)] == [4, 3]


def test_a_history_whose_results_were_masked_keeps_the_results() -> None:
    masked = [RECORDS[0], RECORDS[1], RECORDS[2] | {"toolCalls": []}, RECORDS[3]]

    found = read_one(SESSION, *RECORDS, {"$set": {"messages": masked}})

    assert len(found.messages[2]["parts"]) == 2


def test_parts_that_already_hold_calls_and_results_are_not_doubled() -> None:
    asks = [{"functionCall": {"id": "a", "name": "read", "args": {}}}]
    answers = tool_call("a")["result"]

    found = read_one(
        SESSION
        | {
            "messages": [
                RECORDS[0],
                record("2", "gemini", asks, toolCalls=[tool_call("a")]),
                record("3", "user", answers),
            ]
        }
    )

    assert [content["parts"] for content in found.messages[1:]] == [asks, answers]


# --- All of them ------------------------------------------------------------------------------------------------------

LOGS: Mapping[str, Sequence[object]] = {
    "Claude Code": [{"type": "user", "uuid": "u", "sessionId": "s", "message": {"role": "user", "content": "hello"}}],
    "Codex": [META, item(1, said("user", "hello"))],
    "Gemini CLI": [SESSION, record("1", "user", "hello")],
}


@pytest.mark.parametrize("tool", LOGS)
class TestEveryLog:
    def test_may_end_in_the_middle_of_a_line(self, tool: str) -> None:
        found = read_one(*LOGS[tool], ending=b'{"type": "user", "mess')

        assert (found.tool, len(found.messages)) == (tool, 1)
        assert [text.split(" (")[0] for text in found.skipped] == [f"run.jsonl:{len(LOGS[tool]) + 1} is no JSON"]

    def test_survives_lines_that_are_no_objects(self, tool: str) -> None:
        assert len(read_one(*LOGS[tool], 7, None, [], "x", {}, {"payload": 1, "message": 2, "type": 3}).messages) == 1

    def test_is_refused_as_another_format(self, tool: str) -> None:
        with pytest.raises(TranscriptError, match=f"is a log of {tool}"):
            parse_transcripts(jsonl(LOGS[tool]), "run.jsonl", dialect="openai_chat")

    def test_is_a_log_whatever_its_name(self, tool: str, tmp_path: Path) -> None:
        path = tmp_path / "anything.txt"
        path.write_bytes(jsonl(LOGS[tool]))

        assert [one.tool for one in read_log(path)] == [tool]


def places(value: object) -> list[tuple[str | int, ...]]:
    """Return the path to every value inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [(key, *rest) for key, inner in items for rest in [(), *places(inner)]]


def with_junk(lines: Sequence[object], place: Sequence[str | int], junk: object) -> list[object]:
    copy: Any = json.loads(json.dumps(lines))
    target = copy
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = junk
    return list(copy)


def full_logs() -> dict[str, Sequence[object]]:
    claude = ClaudeLog()
    claude.user("look")
    claude.says("m1", call("t1"))
    claude.user([result("t1")])
    claude.line("attachment", attachment={"type": "queued_command", "prompt": "x"})
    claude.line("system", subtype="compact_boundary", isSidechain=True, agentId="a")
    codex = [META, TURN, item(1, said("user", "go")), item(2, calls("c")), item(3, output("c")), tokens(4, 9, last=9)]
    codex.append(rollout_line(5, "compacted", message="", replacement_history=[said("user", "go")]))
    gemini = [SESSION, *RECORDS, {"$set": {"messages": RECORDS[:2]}}, {"$rewindTo": "1"}]
    return {"Claude Code": claude.lines, "Codex": codex, "Gemini CLI": gemini}


@pytest.mark.parametrize("tool", LOGS)
@pytest.mark.parametrize("junk", [None, True, -7, 1e300, "x", [], [None, 3], {}, {"type": []}], ids=repr)
def test_junk_anywhere_in_a_log_is_survived_or_refused(tool: str, junk: object) -> None:
    lines = list(full_logs()[tool])
    assert read(*lines)

    for place in places(lines):
        try:
            found = read(*with_junk(lines, place, junk))
        except TranscriptError:
            continue
        assert all(len(one.times) in {0, len(one.messages)} for one in found)


@pytest.mark.parametrize("lines", [[{"type": "summary", "summary": "x", "leafUuid": "u"}], [META], [SESSION]])
def test_a_log_in_which_nothing_was_said_is_refused_with_its_tool(lines: list[object]) -> None:
    with pytest.raises(TranscriptError, match=r"is a log of .* in which nothing was said yet"):
        read(*lines)


def test_an_empty_file_and_one_that_is_no_log_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "chat.json").write_text('[{"role": "user", "content": "hi"}]')

    with pytest.raises(TranscriptError, match="is empty"):
        read_log(tmp_path / "empty.jsonl")
    with pytest.raises(
        TranscriptError, match="is a transcript, but no session log of Claude Code, Codex or Gemini CLI"
    ):
        read_log(tmp_path / "chat.json")


def test_a_file_that_is_nothing_is_refused_with_what_is_accepted() -> None:
    with pytest.raises(TranscriptError, match="session logs of Claude Code, Codex and Gemini CLI"):
        read({"sky": "blue"})


# --- Where they lie ---------------------------------------------------------------------------------------------------

KEPT = {
    ".claude/projects/-home-x/s1.jsonl": "Claude Code",
    ".claude/projects/-home-x/s1/subagents/agent-a7.jsonl": "Claude Code",
    ".codex/sessions/2026/03/04/rollout-2026-03-04T12-00-00-r1.jsonl": "Codex",
    ".codex/archived_sessions/rollout-2025-01-01T00-00-00-r0.jsonl": "Codex",
    ".gemini/tmp/ab12/chats/session-2026-03-04T12-00-g1.json": "Gemini CLI",
    ".gemini/tmp/project/chats/g1/sub.jsonl": "Gemini CLI",
}
BESIDE = [
    ".claude/history.jsonl",
    ".claude/projects/-home-x/s1/subagents/journal.jsonl",
    ".claude/projects/-home-x/memory/notes.md",
    ".codex/history.jsonl",
    ".gemini/tmp/ab12/logs.json",
]


def fill(home: Path, names: Sequence[str]) -> None:
    for age, name in enumerate(names):
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}\n")
        os.utime(path, (NOON - age, NOON - age))


def test_session_logs_are_found_newest_first_and_nothing_beside_them(tmp_path: Path) -> None:
    fill(tmp_path, [*KEPT, *BESIDE])

    found = find_logs(tmp_path)

    assert {log.path.relative_to(tmp_path).as_posix(): log.tool for log in found} == KEPT
    assert [log.path for log in found] == [tmp_path / name for name in KEPT]
    assert (found[0].modified_at, found[0].size_bytes) == (datetime.fromtimestamp(NOON, UTC), 3)


def test_a_home_without_logs_has_none_and_a_broken_link_is_passed_over(tmp_path: Path) -> None:
    assert find_logs(tmp_path / "nobody") == []

    fill(tmp_path, [next(iter(KEPT))])
    (tmp_path / ".claude/projects/-home-x/gone.jsonl").symlink_to(tmp_path / "nowhere")

    assert len(find_logs(tmp_path)) == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in the file system")
def test_a_pipe_or_a_device_is_no_log(tmp_path: Path) -> None:
    fill(tmp_path, [next(iter(KEPT))])
    folder = tmp_path / ".claude/projects/-home-x"
    os.mkfifo(folder / "pipe.jsonl")  # whoever opened it would wait for ever
    (folder / "device.jsonl").symlink_to("/dev/zero")

    assert len(find_logs(tmp_path)) == 1


def test_the_tools_own_variables_name_other_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "c", ["projects/-x/s.jsonl"])
    fill(tmp_path / "o", ["sessions/2026/03/04/rollout-x.jsonl"])
    fill(tmp_path / "g", [".gemini/tmp/p/chats/s.jsonl"])
    monkeypatch.setenv("HOME", str(tmp_path / "empty"))
    for name, folder in (("CLAUDE_CONFIG_DIR", "c"), ("CODEX_HOME", "o"), ("GEMINI_CLI_HOME", "g")):
        monkeypatch.setenv(name, str(tmp_path / folder))

    assert {log.tool for log in find_logs()} == {"Claude Code", "Codex", "Gemini CLI"}
    assert find_logs(tmp_path / "empty") == []
