"""`aloop run` keeps its conversation, and goes on in one that was kept."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from agent import ReActAgent
from agent.cli import main
from agent.scripted import ScriptedModel
from memory import MemoryManager
from memory.native import to_wire
from memory.sessions import SqliteSessionStore
from memory.testing.simulators import ProviderSimulator

from .test_cli_run import READS_A_FILE, Done, asked

Aloop = Callable[..., Done]


@pytest.fixture
def aloop(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Aloop:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for key in [key for key in os.environ if key.startswith(("MEMORY_", "ALOOP_", "OTEL_"))]:
        monkeypatch.delenv(key)
    (tmp_path / "notes.txt").write_text("Valve V-21 opens at 63 bar.\n")

    def run(*arguments: object) -> Done:
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Done(int(left.value.code or 0), captured.out, captured.err)

    return run


def texts(body: Mapping[str, Any]) -> str:
    return json.dumps(body["messages"])


def test_a_run_is_kept_in_the_users_own_file(aloop: Aloop, tmp_path: Path) -> None:
    with ProviderSimulator("openai_chat", READS_A_FILE) as server:
        done = aloop(*asked(server, "--json"))
    [session] = SqliteSessionStore(tmp_path / "home" / ".aloop" / "sessions.db").sessions()

    assert done.json["session_id"] == session.id
    assert session.heading.title == "At what pressure?"
    assert session.heading.cost_usd == pytest.approx(done.json["statistics"]["total_cost"])


def test_a_run_goes_on_in_the_latest_session(aloop: Aloop) -> None:
    with ProviderSimulator("openai_chat", [*READS_A_FILE, *READS_A_FILE[-1:]]) as server:
        first = aloop(*asked(server, "--json"))
        second = aloop(*asked(server, "--json", "--session", "latest", task="And then?"))

    assert second.json["session_id"] == first.json["session_id"]
    assert "At what pressure?" in texts(server.requests[-1].body)
    assert second.json["statistics"]["total_cost"] > first.json["statistics"]["total_cost"]


def test_no_session_writes_nothing(aloop: Aloop, tmp_path: Path) -> None:
    with ProviderSimulator("openai_chat", READS_A_FILE) as server:
        done = aloop(*asked(server, "--json", "--no-session"))

    assert (done.code, done.json["session_id"]) == (0, None)
    assert not (tmp_path / "home" / ".aloop").exists()


def test_an_unknown_session_is_a_sentence(aloop: Aloop) -> None:
    with ProviderSimulator("openai_chat", READS_A_FILE) as server:
        done = aloop(*asked(server, "--session", "nope"))

    assert done.code == 2
    assert "'nope'" in done.err
    assert server.requests == []


def test_session_and_no_session_exclude_each_other(aloop: Aloop) -> None:
    with ProviderSimulator("openai_chat", READS_A_FILE) as server:
        done = aloop(*asked(server, "--session", "latest", "--no-session"))

    assert (done.code, server.requests) == (2, [])


def test_a_run_whose_session_cannot_be_saved_answers_all_the_same_and_says_so(
    aloop: Aloop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(b"this is no database, and long enough to be taken for one" * 40)
    monkeypatch.setenv("MEMORY_SESSION_DB", str(damaged))
    with ProviderSimulator("openai_chat", READS_A_FILE) as server:
        done = aloop(*asked(server))

    assert done.code == 0
    assert "V-21 opens at 63 bar." in done.out
    assert "cannot save the session (CorruptStorageError)" in done.out
    assert "warning: the session could not be saved" in done.err


def test_an_agent_answers_the_calls_that_a_crash_left_open(tmp_path: Path) -> None:
    store = SqliteSessionStore(tmp_path / "sessions.db")
    crashed = MemoryManager(store=store, dialect="openai_chat")
    crashed.add_message_sync({"role": "user", "content": "Read both."})
    call = {"id": "c1", "type": "function", "function": {"name": "read", "arguments": "{}"}}
    crashed.add_message_sync({"role": "assistant", "content": None, "tool_calls": [call]})
    crashed.close()
    resumed = MemoryManager.resume(store=store)
    agent = ReActAgent(ScriptedModel(["Both are read."]), memory=resumed)

    result = asyncio.run(agent.run("Go on."))

    assert result.answer == "Both are read."
    messages = [to_wire(message) for message in resumed.messages]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "user", "assistant"]
    assert "Interrupted" in messages[2]["content"]


def test_what_is_tried_out_on_a_recording_is_no_session(
    aloop: Aloop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMORY_SESSION_DB", str(tmp_path / "sessions.db"))
    said = [{"role": role, "content": f"{role} says {n}"} for n in range(4) for role in ("user", "assistant")]
    (tmp_path / "run.json").write_text(json.dumps({"messages": said}))

    for command in ("replay", "preview", "backtest"):
        assert aloop(command, "run.json", "--json").code == 0

    assert not (tmp_path / "sessions.db").exists()
