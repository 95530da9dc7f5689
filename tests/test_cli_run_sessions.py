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


def test_a_place_that_cannot_work_is_told_before_the_first_step(
    aloop: Aloop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMORY_SESSION_DB", str(tmp_path))
    with ProviderSimulator("openai_chat", READS_A_FILE) as server:
        done = aloop(*asked(server))

    assert done.code == 0
    assert done.out.index("warning: the session cannot be saved") < done.out.index("read_file path=")


def test_the_demo_does_not_begin_where_it_could_not_be_kept(
    aloop: Aloop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMORY_SESSION_DB", str(tmp_path))

    done = aloop("demo", "--save")

    assert (done.code, done.out) == (2, "")
    assert str(tmp_path) in done.err


# --- Going on ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def session_id(aloop: Aloop) -> str:
    """A session of a model of OpenAI's, kept in the user's own file."""
    with ProviderSimulator("openai_chat", READS_A_FILE) as server:
        return str(aloop(*asked(server, "--json")).json["session_id"])


def test_a_session_knows_its_model(aloop: Aloop, session_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    with ProviderSimulator("openai_chat", ["Nothing more."]) as server:
        done = aloop("sessions", "resume", session_id, "--task", "And then?", "--base-url", server.base_url)

    assert done.code == 0
    assert done.out.startswith("openai gpt-4o-mini, at ")
    assert f"Session: {session_id} goes on, 5 messages: At what pressure?" in done.out
    assert server.requests[-1].body["model"] == "gpt-4o-mini"


def test_settings_name_the_model_before_the_session_does(
    aloop: Aloop, session_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    monkeypatch.setenv("ALOOP_MODEL", "gpt-4.1")
    with ProviderSimulator("openai_chat", ["Nothing more."]) as server:
        aloop("sessions", "resume", session_id, "--task", "And then?", "--base-url", server.base_url)

    assert server.requests[-1].body["model"] == "gpt-4.1"


@pytest.mark.parametrize("model", ["llama3.3", "gpt-oss:20b", "anthropic/claude-sonnet-4-5"])
def test_a_provider_in_doubt_is_asked_for(aloop: Aloop, model: str) -> None:
    with ProviderSimulator("openai_chat", READS_A_FILE) as server:
        aloop(*asked(server), "--model", model)

    done = aloop("sessions", "resume", "latest", "--task", "And then?")

    assert done.code == 2
    assert "no provider is named" in done.err


def test_a_wrong_name_of_a_session_is_told_before_anything_else(aloop: Aloop) -> None:
    done = aloop("sessions", "resume", "nope", "--task", "Go on.")

    assert done.code == 2
    assert "'nope'" in done.err
    assert "provider" not in done.err


def test_a_session_that_is_open_is_taken_over_only_where_that_is_said(aloop: Aloop, session_id: str) -> None:
    memory = MemoryManager.resume(session_id)
    with ProviderSimulator("openai_chat", ["Nothing more."]) as server:
        refused = aloop(*asked(server, "--session", session_id))
        taken = aloop(*asked(server, "--session", session_id, "--take-over", "--json"))
    memory.close()

    assert refused.code == 2
    assert f"is open in process {os.getpid()} on " in refused.err
    assert "--take-over" in refused.err
    assert "MemoryManager" not in refused.err
    assert (taken.code, taken.json["session_id"]) == (0, session_id)


def test_taking_over_is_about_a_session(aloop: Aloop) -> None:
    done = aloop("run", "--task", "Go on.", "--take-over")

    assert done.code == 2
    assert "--session" in done.err


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
