"""`aloop run`: a real SDK, a simulated provider, real tools; what is printed, how it ends, and how it leaves."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.cli import main
from memory.messages import DialectName
from memory.testing.simulators import Answer, Call, Fault, FaultKind, ProviderSimulator, Request, Turn

ROOT = Path(__file__).resolve().parents[1]
READS_A_FILE: list[Answer] = [
    Turn("Let me look.", [Call("read_file", {"path": "notes.txt"})]),
    "V-21 opens at 63 bar.",
]


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Aloop = Callable[..., Done]


@pytest.fixture
def aloop(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Aloop:
    """Run the command in a folder with one file, with no settings but those given."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "80")
    for key in [key for key in os.environ if key.startswith(("MEMORY_", "ALOOP_", "OTEL_"))]:
        monkeypatch.delenv(key)
    (tmp_path / "notes.txt").write_text("Valve V-21 opens at 63 bar.\n")

    def run(*arguments: object) -> Done:
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Done(int(left.value.code or 0), captured.out, captured.err)

    return run


def settings(server: ProviderSimulator, provider: str = "openai", model: str = "gpt-4o-mini") -> list[str]:
    return ["--provider", provider, "--model", model, "--base-url", server.base_url]


def asked(server: ProviderSimulator, *options: object, task: str = "At what pressure?") -> list[object]:
    return ["run", "--task", task, *settings(server), *options]


# --- every provider ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", ["--stream", "--no-stream"])
@pytest.mark.parametrize(
    ("wire", "provider", "model"),
    [
        ("openai_chat", "openai", "gpt-4o-mini"),
        ("openai_responses", "openai-responses", "gpt-4o-mini"),
        ("anthropic", "anthropic", "claude-haiku-4-5"),
        ("gemini", "gemini", "gemini-2.5-flash"),
        ("gemini", "google-generativeai", "gemini-2.5-flash"),
        ("openai_chat", "litellm", "openai/gpt-4o-mini"),
    ],
)
def test_a_task_is_done_with_every_provider(
    aloop: Aloop, monkeypatch: pytest.MonkeyPatch, wire: DialectName, provider: str, model: str, stream: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "test")  # LiteLLM asks for one, also where the server does not
    with ProviderSimulator(wire, READS_A_FILE) as server:
        done = aloop("run", "--task", "At what pressure?", *settings(server, provider, model), stream)

    assert (done.code, done.err, server.rejected) == (0, "", [])
    assert "read_file path=notes.txt -> 30 characters" in done.out
    assert "The answer:\nV-21 opens at 63 bar.\n\n--- Memory Statistics ---" in done.out
    assert [one.is_streamed for one in server.requests] == [stream == "--stream"] * 2


# --- what is shown ----------------------------------------------------------------------------------------------------


def test_without_a_terminal_each_step_is_plain_lines(aloop: Aloop, tmp_path: Path) -> None:
    with ProviderSimulator("openai_chat", READS_A_FILE) as server:
        done = aloop(*asked(server, "--no-session"))

    shown = done.out.replace(server.base_url, "http://server").replace(str(tmp_path.resolve()), "/work")
    assert shown == (
        "openai gpt-4o-mini, at http://server\n"
        "Task: At what pressure?\n"
        "Folder: /work\n"
        "Tools: list_files, read_file, search_files, calculator, todo, recall\n"
        "Memory: sliding_window, compressing when it pays\n"
        "\n"
        "step  tokens       cost  what the model does\n"
        "   1     655    $0.0001  Let me look.\n"
        "                         read_file path=notes.txt -> 30 characters\n"
        "   2     647    $0.0002  answers\n"
        "\n"
        "The answer:\n"
        "V-21 opens at 63 bar.\n"
        "\n"
        "--- Memory Statistics ---\n"
        "Total tokens: 1,267\n"
        "Compressions: 0\n"
        "Net savings: 0 tokens (0.0%)\n"
        "Total cost: $0.0002\n"
        "Without memory: $0.0002, prompt cache counted\n"
    )


def test_json_is_one_object_and_nothing_else(aloop: Aloop) -> None:
    with ProviderSimulator("openai_chat", READS_A_FILE) as server:
        done = aloop(*asked(server, "--json"))
    first, last = done.json["steps"]

    assert (done.code, done.err) == (0, "")
    assert (done.json["answer"], done.json["end_reason"]) == ("V-21 opens at 63 bar.", "answered")
    assert first["calls"] == [
        {"name": "read_file", "arguments": {"path": "notes.txt"}, "result_characters": 30, "is_error": False}
    ]
    assert (first["text"], last["calls"], done.json["problem"]) == ("Let me look.", [], None)
    assert done.json["statistics"]["total_cost"] == pytest.approx(last["cost_usd"])


def test_a_task_without_a_command_is_run(aloop: Aloop) -> None:
    with ProviderSimulator("openai_chat", READS_A_FILE) as server:
        done = aloop("--mode", "react", "--task=At what pressure?", *settings(server), "--json")

    assert done.json["answer"] == "V-21 opens at 63 bar."


def test_a_task_is_read_from_standard_input(aloop: Aloop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("Wie groß?".encode())))
    with ProviderSimulator("openai_chat", ["So groß."]) as server:
        done = aloop(*asked(server, task="-"))

    assert done.code == 0
    assert server.requests[0].body["messages"][-1]["content"] == "Wie groß?"


def test_what_models_and_tools_say_can_do_nothing_to_a_terminal(aloop: Aloop, tmp_path: Path) -> None:
    evil = "\x1b]0;title\x07\x1b[2J\x9b31m\u202etxt.exe\r"
    script: list[Answer] = [
        Turn(f"Look: {evil}", [Call("read_file", {"path": evil}), Call(evil)]),
        f"The end {evil}",
    ]
    with ProviderSimulator("openai_chat", script) as server:
        done = aloop(*asked(server, task=f"What? {evil}"))

    assert done.code == 0
    assert [character for character in done.out if not character.isprintable() and character != "\n"] == []
    assert "The end ?]0;title??[2J?31m?txt.exe?" in done.out


def test_long_lines_are_cut_and_the_answer_is_not(aloop: Aloop) -> None:
    words = "word " * 100
    script: list[Answer] = [
        Turn(words * 2, [Call("search_files", {"text": words}), Call("read_file", {"path": words})]),
        words.strip(),
    ]
    with ProviderSimulator("openai_chat", script) as server:
        done = aloop(*asked(server, task=words))
    before, _, after = done.out.partition("The answer:\n")

    lines = [line for line in before.splitlines() if not line.startswith("Folder: ") and "-> Error: " not in line]
    assert max(map(len, lines)) <= 80
    assert after.startswith(words.strip() + "\n\n")


def test_what_went_wrong_in_a_tool_is_never_cut(aloop: Aloop) -> None:
    path = "folder/" * 8 + "nowhere.txt"
    script: list[Answer] = [Turn("", [Call("read_file", {"path": path})]), "Gone."]
    outputs = []
    for options in ((), ("--json",)):
        with ProviderSimulator("openai_chat", script) as server:
            outputs.append(aloop(*asked(server, *options)))
    (failed,) = outputs[1].json["steps"][0]["calls"]

    assert failed["is_error"]
    assert path in failed["error"]
    assert f"-> {failed['error']}\n" in outputs[0].out


def test_an_error_is_bounded(aloop: Aloop) -> None:
    script: list[Answer] = [Turn("", [Call("tool_" + "x" * 3_000)]), "Gone."]
    with ProviderSimulator("openai_chat", script) as server:
        done = aloop(*asked(server, "--json"))

    assert len(done.json["steps"][0]["calls"][0]["error"]) == 500


def test_compressions_are_shown_where_they_happen(aloop: Aloop, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("\n".join(f"valve_{n} opens at {n} bar" for n in range(200)))
    script = [Turn("", [Call("read_file", {"path": "long.txt"})]) for _ in range(6)]
    with ProviderSimulator("openai_chat", [*script, "Done."]) as server:
        done = aloop(*asked(server, "--strategy", "deletion", "--threshold", 4000))
    with ProviderSimulator("openai_chat", [*script, "Done."]) as server:
        told = aloop(*asked(server, "--strategy", "deletion", "--threshold", 4000, "--json")).json

    assert "\n      compressed " in done.out
    events = [event for step in told["steps"] for event in step["events"]]
    assert len(events) == told["statistics"]["compression_count"] > 0
    assert {event["event"] for event in events} == {"Compressed"}


# --- settings ---------------------------------------------------------------------------------------------------------


def test_everything_can_stand_in_the_users_file(aloop: Aloop, tmp_path: Path) -> None:
    with ProviderSimulator("openai_chat", READS_A_FILE, api_keys={"sk-from-the-file"}) as server:
        lines = [
            "ALOOP_PROVIDER=openai",
            "aloop_model=gpt-4o-mini",
            f"ALOOP_BASE_URL={server.base_url}",
            "ALOOP_STREAM=no",
            "ALOOP_ALLOW_WRITES=yes",
            "OPENAI_API_KEY=sk-from-the-file",
        ]
        write_config(tmp_path / "home", *lines)
        done = aloop("run", "--task", "At what pressure?")
        shown = aloop("config").out + aloop("config", "--json").out
        names = [tool["function"]["name"] for tool in server.requests[0].body["tools"]]

    assert (done.code, done.err) == (0, "")
    assert (server.requests[0].is_streamed, "write_file" in names) == (False, True)
    assert "sk-from" not in done.out + shown
    assert "OPENAI_API_KEY" in shown
    assert "OPENAI_API_KEY" not in os.environ


def write_config(folder: Path, *lines: str) -> Path:
    path = folder / ".aloop" / "config"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(
    "line", ["ALOOP_ALLOW_COMMANDS=true", "ALOOP_ALLOW_WRITES=1", "ALOOP_BASE_URL=https://models.example/v1"]
)
def test_a_projects_file_cannot_take_what_its_user_has_not_given(aloop: Aloop, tmp_path: Path, line: str) -> None:
    path = write_config(tmp_path, "ALOOP_PROVIDER=openai", "ALOOP_MODEL=gpt-4o", line)

    done = aloop("run", "--task", "Go.")

    assert (done.code, done.out) == (2, "")
    assert f"{line.partition('=')[0]} from {path.resolve()}:3: " in done.err
    assert "~/.aloop/config" in done.err


def test_the_task_is_worked_on_in_the_folder_that_is_named(aloop: Aloop, tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "notes.txt").write_text("Another one.\n")
    with ProviderSimulator("openai_chat", READS_A_FILE) as server:
        done = aloop(*asked(server, "--root", "inner", "--system", "You read notes."))
    system, _, _, result = server.requests[1].body["messages"]

    assert done.code == 0
    assert (system["content"], result["content"]) == ("You read notes.", "1: Another one.")


def test_commands_run_only_if_they_are_allowed(aloop: Aloop) -> None:
    script: list[Answer] = [Turn("", [Call("run_command", {"command": "echo it ran"})]), "Done."]
    results = []
    for options in ((), ("--allow-commands",)):
        with ProviderSimulator("openai_chat", script) as server:
            assert aloop(*asked(server, *options)).code == 0
            results.append(server.requests[1].body["messages"][-1]["content"])

    assert "there is no tool 'run_command'" in results[0]
    assert results[1] == "exit code 0\nit ran"


def test_summaries_are_written_by_the_compression_model(
    aloop: Aloop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "long.txt").write_text("\n".join(f"valve_{n} opens at {n} bar" for n in range(200)))
    monkeypatch.setenv("MEMORY_COMPRESSION_MODEL", "gpt-4.1-nano")
    script = [Turn("", [Call("read_file", {"path": "long.txt"})]) for _ in range(6)]

    def summaries(request: Request) -> Answer | None:
        return "Valves open at their number of bars." if request.model == "gpt-4.1-nano" else None

    with ProviderSimulator("openai_chat", [*script, "Done."], aside=summaries) as server:
        done = aloop(*asked(server, "--threshold", 4000, "--json"))

    assert (done.code, server.rejected) == (0, [])
    assert "gpt-4.1-nano" in {one.request.model for one in server.requests}
    assert done.json["statistics"]["compression_cost"] > 0


def test_a_result_that_is_too_long_is_archived_and_can_be_recalled_page_by_page(aloop: Aloop, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("\n".join(f"valve_{n} opens at {n} bar" for n in range(3_000)))
    pages = [Call("recall", {"reference": "r4"}), Call("recall", {"reference": "r4", "offset": 20_000})]
    script: list[Answer] = [
        Turn("", [Call("read_file", {"path": "long.txt", "line_count": 2_000})]),
        *(Turn("", [page]) for page in pages),
        "Done.",
    ]
    with ProviderSimulator("openai_chat", script) as server:
        told = aloop(*asked(server, "--json")).json

    assert told["end_reason"] == "answered"
    sent = [message for message in server.requests[-1].body["messages"] if message["role"] == "tool"]
    assert told["steps"][0]["calls"][0]["result_characters"] > 60_000
    assert len(sent[0]["content"]) < 40_000
    assert "2000: valve_1999" in sent[0]["content"]
    assert [message["content"].partition(":")[0] for message in sent[1:]] == ["[r4", "[r4"]


# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            [],
            ["no provider and no model are named", "--provider", ".aloop/config", "export ALOOP_PROVIDER", "make demo"],
        ),
        (["--provider", "anthropic"], ["no model is named", "--provider anthropic --model MODEL", "make demo"]),
        (["--model", "gpt-4o"], ["no provider is named"]),
        (["--provider", "opnai", "--model", "x"], ["unknown provider 'opnai'", "Did you mean 'openai'?"]),
        (["--provider", "openai", "--model", "gpt-4o"], ["no key for openai", "OPENAI_API_KEY", "~/.aloop/config"]),
        (["--provider", "anthropic", "--model", "x"], ["no key for anthropic", "ANTHROPIC_API_KEY"]),
        (["--provider", "gemini", "--model", "x"], ["no key for gemini", "GOOGLE_API_KEY or GEMINI_API_KEY"]),
        (["--mode", "plan"], ["--mode must be react, got 'plan'"]),
        (["--max-iterations", "0"], ["max_iterations must be a whole number, 1 or more, got '0'"]),
        (["--max-iterations", "many"], ["max_iterations must be a whole number, 1 or more, got 'many'"]),
        (["--max-cost", "cheap"], ["max_cost_dollars must be a number of dollars above 0, or none, got 'cheap'"]),
        (["--max-cost", "0"], ["max_cost_dollars must be a number of dollars above 0"]),
        (["--base-url", "localhost:11434"], ["base_url must be an address that begins with http:// or https://"]),
        (["--threshold", "soon"], ["compression_threshold must be a whole number"]),
    ],
)
def test_a_mistake_is_told_before_anything_is_asked(aloop: Aloop, options: list[str], words: list[str]) -> None:
    done = aloop("run", "--task", "Go.", *options)

    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert [word for word in words if word not in done.err] == []


@pytest.mark.parametrize(
    ("root", "words"), [("nowhere", "there is no folder 'nowhere'"), ("notes.txt", "'notes.txt' is a file")]
)
def test_the_folder_is_looked_at_before_the_key(aloop: Aloop, root: str, words: str) -> None:
    done = aloop("run", "--task", "Go.", "--provider", "openai", "--model", "gpt-4o", "--root", root)

    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"error: --root: {words}")


@pytest.mark.parametrize(
    ("arguments", "suggested"),
    [
        (["do it"], '--task "do it"'),
        (["--model", "x", "do", "it"], '--task "do it"'),
        (["--task", "do", "it"], '--task "do it"'),
        (["find $HOME"], "--task 'find $HOME'"),
        ([], '--task "..."'),
    ],
)
def test_a_task_without_its_option_is_told_how_to_be_given(aloop: Aloop, arguments: list[str], suggested: str) -> None:
    done = aloop("run", *arguments)

    assert (done.code, done.out) == (2, "")
    assert done.err.endswith(f"aloop run {suggested}\n")


@pytest.mark.parametrize(("options", "words"), [(["--root", "nowhere"], "no folder 'nowhere'"), ([], "task is empty")])
def test_a_run_that_cannot_begin_says_why(aloop: Aloop, options: list[str], words: str) -> None:
    with ProviderSimulator("openai_chat", []) as server:
        done = aloop(*asked(server, *options, task="Go." if options else "  "))

    assert (done.code, done.out, server.requests) == (2, "", [])
    assert words in done.err


def test_a_wrong_provider_in_a_file_is_told_with_its_place(aloop: Aloop, tmp_path: Path) -> None:
    path = write_config(tmp_path, "ALOOP_PROVIDER=antropic", "ALOOP_MODEL=x")

    assert f"ALOOP_PROVIDER from {path.resolve()}:1: unknown provider 'antropic'" in aloop("run", "--task", "Go.").err


# --- ends -------------------------------------------------------------------------------------------------------------


def test_the_limit_of_iterations_ends_it_with_the_statistics(aloop: Aloop) -> None:
    script = [Turn("", [Call("calculator", {"expression": "1 + 1"})])] * 3
    with ProviderSimulator("openai_chat", script) as server:
        done = aloop(*asked(server, "--max-iterations", 2))

    assert (done.code, len(server.requests)) == (1, 2)
    assert done.err == (
        "error: the model was asked 2 times and gave no answer; raise --max-iterations to let it go on\n"
    )
    assert "--- Memory Statistics ---" in done.out


def test_the_limit_of_cost_ends_it_before_the_call_that_would_pass_it(aloop: Aloop) -> None:
    script = [Turn("", [Call("calculator", {"expression": "1 + 1"})])] * 9
    with ProviderSimulator("openai_chat", script) as server:
        done = aloop(*asked(server, "--max-cost", "0.0004", "--json"))

    assert done.code == 1
    assert done.json["end_reason"] == "budget_exceeded"
    assert 0 < done.json["statistics"]["total_cost"] <= 0.0004
    assert 1 <= len(server.requests) < 9
    assert "of $0.0004 are spent; raise --max-cost (MEMORY_MAX_COST_DOLLARS)" in done.json["problem"]


def test_a_refused_key_ends_it_in_a_sentence(aloop: Aloop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-one")
    with ProviderSimulator("openai_chat", READS_A_FILE, api_keys={"sk-right-one"}) as server:
        done = aloop(*asked(server))

    assert (done.code, len(server.requests)) == (1, 1)
    assert done.err.startswith("error: ")
    assert "(status 401): set OPENAI_API_KEY in the environment, or write it into ~/.aloop/config as a line" in done.err
    assert "sk-wrong-one" not in done.err + done.out
    assert "Statistics" not in done.out


def test_a_provider_that_fails_for_good_ends_it_after_its_retries(
    aloop: Aloop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALOOP_MAX_RETRIES", "1")
    with ProviderSimulator("openai_chat", READS_A_FILE, faults={2: "server_error", 3: "server_error"}) as server:
        done = aloop(*asked(server))

    assert (done.code, [one.status for one in server.requests]) == (1, [200, 500, 500])
    assert re.search(
        r"^      asking again in \d\.\d s \(attempt 2 of 2\): status 500 \(Internal Server Error\)$", done.out, re.M
    )
    assert done.err.count("error: ") == 1
    assert "--- Memory Statistics ---" in done.out


def test_a_stream_that_broke_is_repeated_and_told(aloop: Aloop) -> None:
    faults = {1: Fault("cut_stream", after_events=3)}
    with ProviderSimulator("openai_chat", READS_A_FILE, faults=faults) as server:
        done = aloop(*asked(server, "--json"))

    assert (done.code, done.err, len(server.requests)) == (0, "", 3)
    assert [one.partition("): ")[2] for one in done.json["remarks"]] == ["no answer, or one that broke off"]


def test_where_nothing_listens_is_told_after_one_repetition(aloop: Aloop) -> None:
    with ProviderSimulator("openai_chat", []) as server:
        arguments = asked(server)
    done = aloop(*arguments)

    assert done.code == 1
    assert "(attempt 2 of 5): connection refused\n" in done.out
    assert done.out.count("asking again") == 1
    assert re.fullmatch(r"error: nothing listens at 127\.0\.0\.1:\d+ \(connection refused\): does .*\?\n", done.err)
    assert "Statistics" not in done.out


def test_a_repetition_for_a_summary_says_so(aloop: Aloop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "long.txt").write_text("\n".join(f"valve_{n} opens at {n} bar" for n in range(200)))
    monkeypatch.setenv("MEMORY_COMPRESSION_MODEL", "gpt-4.1-nano")
    script = [Turn("", [Call("read_file", {"path": "long.txt"})]) for _ in range(6)]

    def summaries(request: Request) -> Answer | None:
        return "Valve 7 opens at 7 bar, valve 8 at 8 bar. " * 20 if request.model == "gpt-4.1-nano" else None

    def run(faults: dict[int, FaultKind]) -> tuple[str, list[str | None]]:
        with ProviderSimulator("openai_chat", [*script, "Done."], aside=summaries, faults=faults) as server:
            shown = aloop(*asked(server, "--threshold", 4000)).out
            return shown, [one.request.model for one in server.requests]

    shown, models = run({})
    repeated, _ = run({models.index("gpt-4.1-nano") + 1: "server_error"})

    assert " now a summary by the model\n" in shown
    assert "asking again" not in shown
    assert repeated.count("asking again for a summary in ") == repeated.count("asking again") == 1


def test_an_answer_is_kept_though_nothing_more_fits(aloop: Aloop) -> None:
    answer = "The answer is long. " * 400
    with ProviderSimulator("openai_chat", [answer]) as server:
        done = aloop(*asked(server, "--max-context", 1500, "--threshold", 1200))

    assert done.code == 0
    assert answer.strip() in done.out
    assert done.err.startswith("note: nothing more can follow this answer: the context needs ")


def test_a_task_that_is_too_long_ends_it_in_a_sentence(aloop: Aloop) -> None:
    with ProviderSimulator("openai_chat", []) as server:
        done = aloop(*asked(server, "--max-context", 1500, "--threshold", 1200, task="word " * 3000))

    assert (done.code, server.requests) == (1, [])
    assert done.err.startswith("error: the context needs ")
    assert done.err.endswith("Raise --max-context or give a shorter task.\n")


# --- as a process: signals, terminals, pipes --------------------------------------------------------------------------


@contextmanager
def process(server: ProviderSimulator, cwd: Path, *options: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    started = subprocess.Popen(
        [sys.executable, "-m", "agent", "run", "--task", "Go.", *settings(server), *options],
        cwd=cwd,
        env=environment(cwd) | environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate(timeout=10)


def environment(cwd: Path) -> dict[str, str]:
    return {"PYTHONPATH": str(ROOT), "HOME": str(cwd / "home"), "PATH": os.environ["PATH"], "COLUMNS": "80"}


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.01)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_closes_the_open_calls_and_accounts_for_the_run(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    calls = [
        Call("calculator", {"expression": "6 * 7"}),
        Call("run_command", {"command": f"{sys.executable} busy.py"}),
    ]
    # The other call has its result long before.
    (tmp_path / "busy.py").write_text("import time; time.sleep(0.3); open('up', 'w'); time.sleep(60)")
    with (
        ProviderSimulator("openai_chat", [Turn("Both.", calls)]) as server,
        process(server, tmp_path, "--allow-commands", "--json") as running,
    ):
        wait_for((tmp_path / "up").exists, "the command")
        running.send_signal(number)
        out, err = running.communicate(timeout=30)
    told = json.loads(out)

    assert (running.returncode, err) == (code, "")
    assert told["end_reason"] == "interrupted"
    assert [call["is_error"] for call in told["steps"][0]["calls"]] == [False, True]
    assert told["statistics"]["message_count"] == 5  # system, task, calls, and a result for each
    assert told["statistics"]["total_cost"] > 0


def test_an_interruption_is_shown_with_the_statistics(tmp_path: Path) -> None:
    with (
        ProviderSimulator("openai_chat", READS_A_FILE, faults={2: Fault("hang", after_events=2)}) as server,
        process(server, tmp_path) as running,
    ):
        wait_for(lambda: len(server.requests) == 2, "the second request")
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=30)

    assert (running.returncode, err) == (130, "error: interrupted\n")
    # More than the first request's 500 or so, if a piece of the second answer was there before the signal.
    assert "--- Memory Statistics ---\nTotal tokens: " in out
    assert "The model was answering when it was interrupted; what that costs is estimated here, or missing.\n" in out
    assert out.endswith('go on with aloop run --session latest --task "..."\n')


def test_a_second_interruption_ends_everything_at_once(tmp_path: Path) -> None:
    # Whoever has left the group keeps the output open, so that closing the step takes a second.
    leaving = "import subprocess, time; subprocess.Popen(['sleep', '3'], start_new_session=True)"
    (tmp_path / "stubborn.py").write_text(f"{leaving}; open('up', 'w'); time.sleep(60)")
    call = Call("run_command", {"command": f"{sys.executable} stubborn.py"})
    with (
        ProviderSimulator("openai_chat", [Turn("", [call])]) as server,
        process(server, tmp_path, "--allow-commands") as running,
    ):
        wait_for((tmp_path / "up").exists, "the command")
        running.send_signal(signal.SIGINT)
        time.sleep(0.1)  # two signals of a kind at once are one
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=30) == 130
        assert "Statistics" not in (running.stdout.read() if running.stdout else "")


@pytest.mark.skipif(sys.platform == "win32", reason="terminals are made with pty")
def test_on_a_terminal_the_answer_is_seen_while_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("Valve V-21 opens at 63 bar.\n")
    script: list[Answer] = [READS_A_FILE[0], "A first part and \x1b]0;evil\x07 a second part of it."]
    with ProviderSimulator("openai_chat", script, faults={2: Fault("hang", after_events=6)}) as server:
        screen, code = on_a_terminal(server, tmp_path, until="A first part")

    assert code == 130
    assert "asking gpt-4o-mini" in screen
    assert "0 of 0 tokens" not in screen
    assert "read_file path=notes.txt -> 30 characters" in screen
    assert "\x1b]0" not in screen
    assert screen.rindex("\x1b[?25h") > screen.rindex("\x1b[?25l")  # the cursor is back
    assert "--- Memory Statistics ---" in screen


def on_a_terminal(server: ProviderSimulator, cwd: Path, *, until: str) -> tuple[str, int]:
    """Run on a terminal, interrupt when a text is seen; return all that was written, and the exit code."""
    import pty

    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "agent", "run", "--task", "Go.", *settings(server)]
    env = {**environment(cwd), "TERM": "xterm-256color"}
    running = subprocess.Popen(command, cwd=cwd, env=env, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    written, deadline = "", time.monotonic() + 30
    os.set_blocking(ours, False)
    is_told = False
    try:
        while running.poll() is None and time.monotonic() < deadline:
            written += read_some(ours)
            if until in written and not is_told:
                is_told = True
                running.send_signal(signal.SIGINT)
            time.sleep(0.01)
        return written + read_some(ours), running.wait(timeout=10)
    finally:
        running.kill()
        os.close(ours)


def read_some(descriptor: int) -> str:
    try:
        return os.read(descriptor, 1_000_000).decode(errors="replace")
    except OSError:  # nothing there, or nobody writes any more
        return ""


def test_a_reader_that_goes_away_ends_it_quietly(tmp_path: Path) -> None:
    with ProviderSimulator("openai_chat", READS_A_FILE) as server:
        arguments = " ".join(settings(server))
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {sys.executable} -m agent run --task Go. {arguments} | :"],
            cwd=tmp_path,
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert (done.returncode, done.stderr) == (141, "")


def test_telemetry_is_on_where_it_is_configured(tmp_path: Path) -> None:
    code = """
import sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from agent.cli import main
exporter, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
try:
    main(sys.argv[1:])
except SystemExit:
    sys.stderr.write(" ".join(span.name for span in exporter.get_finished_spans()))
"""
    spans = []
    for environ in ({}, {"OTEL_SERVICE_NAME": "valves"}):
        with ProviderSimulator("openai_chat", ["63 bar."]) as server:
            done = subprocess.run(
                [sys.executable, "-c", code, "--task", "Go.", *settings(server)],
                env=environment(tmp_path) | environ,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        spans.append(done.stderr)

    assert spans == ["", "chat gpt-4o-mini invoke_agent ReActAgent"]
