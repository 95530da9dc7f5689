"""The command `aloop`: what it prints, how it leaves, and no traceback for anything a user does."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.cli import main

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def aloop(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """Run the command in an empty folder, with no settings but those given."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "80")
    for key in [key for key in os.environ if key.startswith("MEMORY_")]:
        monkeypatch.delenv(key)

    def run(*arguments: object) -> Done:
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Done(int(left.value.code or 0), captured.out, captured.err)

    return run


def rounds(count: int, *, size: int = 240) -> list[dict[str, Any]]:
    """A task, and tool rounds whose results have `size` words each."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Read every file and report."}]
    for number in range(count):
        function = {"name": "read_file", "arguments": json.dumps({"path": f"src/file_{number}.py"})}
        call = {"id": f"call_{number}", "type": "function", "function": function}
        messages.append({"role": "assistant", "content": f"Now file {number}.", "tool_calls": [call]})
        result = " ".join(f"value_{number}_{word} = {word}" for word in range(size // 3))
        messages.append({"role": "tool", "tool_call_id": f"call_{number}", "content": result})
    return [*messages, {"role": "assistant", "content": "Done."}]


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"model": "gpt-4o", "messages": rounds(20)}))
    return path


def broken() -> list[dict[str, Any]]:
    return [message for message in rounds(3) if message.get("tool_call_id") != "call_1"]


# --- replay -----------------------------------------------------------------------------------------------------------


def test_replay_tells_of_one_transcript_in_full(aloop: Callable[..., Done], run_file: Path) -> None:
    done = aloop("replay", run_file, "--threshold", 2000)

    assert (done.code, done.err) == (0, "")
    for words in ("run.json", "gpt-4o", "42", "compression  1:", "--- Memory Statistics ---", "in a summary"):
        assert words in done.out


def test_replay_prints_a_row_for_each_of_several(aloop: Callable[..., Done], run_file: Path) -> None:
    done = aloop("replay", run_file, run_file, "--threshold", 2000, "--strategy", "masking", "--max-context", 20000)

    assert done.code == 0
    assert sum(line.startswith("run ") for line in done.out.splitlines()) == 2
    assert "2 transcripts" in done.out


def test_replay_accounts_for_every_message_in_json(aloop: Callable[..., Done], run_file: Path) -> None:
    done = aloop("replay", run_file, "--threshold", 2000, "--json")
    (one,) = done.json["transcripts"]

    assert done.code == 0
    assert sum(one["kept"].values()) == one["message_count"] == 42
    assert one["tokens_after"] < one["tokens_before"]
    assert len(one["compressions"]) == one["statistics"]["compression_count"] > 0
    assert (one["lost"], one["new_issues"], one["stopped"]) == ([], [], None)


@pytest.mark.parametrize("strategy", ["sliding_window", "selective", "deletion", "masking"])
def test_replay_takes_every_strategy(aloop: Callable[..., Done], run_file: Path, strategy: str) -> None:
    done = aloop("replay", run_file, "--threshold", 2000, "--strategy", strategy, "--json")

    assert done.code == 0
    assert {event["strategy"] for event in done.json["transcripts"][0]["compressions"]} == {strategy}


def test_replay_reads_the_project_settings(aloop: Callable[..., Done], run_file: Path, tmp_path: Path) -> None:
    (tmp_path / ".aloop").mkdir()
    (tmp_path / ".aloop" / "config").write_text("MEMORY_COMPRESSION_THRESHOLD=4000\n")

    assert "compressing above 4,000 tokens" in aloop("replay", run_file).out


def test_replay_takes_model_and_preset(aloop: Callable[..., Done], run_file: Path) -> None:
    done = aloop("replay", run_file, "--model", "gpt-4o-mini", "--preset", "aggressive", "--json")

    assert done.json["transcripts"][0]["model"] == "gpt-4o-mini"


def test_replay_stops_where_the_loop_would_have_stopped(
    aloop: Callable[..., Done], run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMORY_MAX_COST_DOLLARS", "0.01")

    done = aloop("replay", run_file)

    assert done.code == 1
    assert "stopped after message" in done.out
    assert "max_cost_dollars" in done.out


def test_replay_goes_on_after_a_bad_file_and_says_so(
    aloop: Callable[..., Done], run_file: Path, tmp_path: Path
) -> None:
    done = aloop("replay", tmp_path / "none.json", run_file)

    assert done.code == 2
    assert "none.json cannot be read" in done.err
    assert "run.json" in done.out


def test_replay_repairs_a_broken_history_first_and_reports_it(aloop: Callable[..., Done], tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text(json.dumps(broken()))

    done = aloop("replay", "broken.json")
    (one,) = aloop("replay", "broken.json", "--json").json["transcripts"]

    assert done.code == 0
    assert "broken.json: repaired: OC-1 at messages[3]" in done.out
    assert (len(one["repairs"]), one["lost"], one["new_issues"]) == (1, [], [])


def test_replay_repairs_the_real_broken_histories(aloop: Callable[..., Done], corpus_dir: Path) -> None:
    done = aloop("replay", corpus_dir / "malformed.jsonl.gz", "--threshold", 12_000, "--json")

    assert done.code == 0
    # One of them ends with calls that still wait: those are not broken, and stay open.
    assert [bool(one["repairs"]) for one in done.json["transcripts"]] == [True, True, False, True, True]


# --- preview ----------------------------------------------------------------------------------------------------------


def test_preview_shows_actions_reasons_and_sizes(aloop: Callable[..., Done], run_file: Path) -> None:
    done = aloop("preview", run_file, "--threshold", 2000)

    assert (done.code, done.err) == (0, "")
    for words in ("first user message", "summarised", "at most; usually shorter", "a request, uncached"):
        assert words in done.out


def test_preview_gives_each_unit_in_json(aloop: Callable[..., Done], run_file: Path) -> None:
    (plan,) = aloop("preview", run_file, "--threshold", 2000, "--json").json["previews"]

    assert plan["tokens_after"] == sum(one["tokens_after"] for one in plan["units"]) + plan["summary_target_tokens"]
    assert {one["action"] for one in plan["units"]} == {"kept", "summarised"}


def test_preview_says_when_nothing_would_change(aloop: Callable[..., Done], tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text('[{"role": "user", "content": "hi"}]')

    assert aloop("preview", "one.json").out == (
        "one.json: sliding_window\nnothing would change: 5 tokens stay as they are\n"
    )


def test_preview_of_what_cannot_be_made_to_fit_says_so_and_exits_with_1(
    aloop: Callable[..., Done], tmp_path: Path
) -> None:
    (tmp_path / "run.json").write_text(json.dumps([{"role": "user", "content": "x = 1\n" * 5_000}]))

    done = aloop("preview", "run.json", "--max-context", 10_000)
    as_json = aloop("preview", "run.json", "--max-context", 10_000, "--json")

    assert (done.code, as_json.code) == (1, 1)
    assert "over the limit" in done.out
    assert as_json.json["previews"][0]["is_over_limit"]


@pytest.mark.parametrize("command", ["replay", "preview"])
def test_that_compression_is_switched_off_is_told(
    aloop: Callable[..., Done], run_file: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("MEMORY_ENABLED", "no")

    done = aloop(command, run_file, "--max-context", 1_000)

    assert done.code == 0
    assert "compression is switched off (MEMORY_ENABLED)" in done.out


def test_lines_have_no_spaces_at_their_ends(aloop: Callable[..., Done], run_file: Path) -> None:
    for command in (("preview", run_file, "--threshold", 2000), ("replay", run_file, run_file), ("config",)):
        assert [line for line in aloop(*command).out.split("\n")[:-1] if line != line.rstrip()] == []


def test_dollars_in_json_have_no_dust(aloop: Callable[..., Done], run_file: Path) -> None:
    for command in (("replay", run_file), ("preview", run_file), ("demo",)):
        assert re.findall(r"\d\.\d{11,}", aloop(*command, "--json").out) == []


def test_one_is_told_in_the_singular(aloop: Callable[..., Done], tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text(f"[{HI}]")

    assert aloop("validate", "one.json").out == (
        "one.json: openai_chat, 1 message, valid\n1 transcript, 0 errors, 0 warnings\n"
    )


@pytest.mark.parametrize("command", ["replay", "preview", "validate"])
def test_a_file_that_cannot_be_read_stands_in_the_json_too(aloop: Callable[..., Done], command: str) -> None:
    done = aloop(command, "none.json", "--json")

    assert done.code == 2
    assert done.json["unreadable"] == [
        {"source": "none.json", "error": "none.json cannot be read: No such file or directory"}
    ]


def test_a_dash_reads_standard_input(tmp_path: Path) -> None:
    done = in_a_shell(f"validate - <<< '[{HI}]'", tmp_path)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("standard input: openai_chat, 1 message, valid")


# --- validate ---------------------------------------------------------------------------------------------------------


def test_validate_passes_a_sound_transcript(aloop: Callable[..., Done], run_file: Path) -> None:
    done = aloop("validate", run_file)

    assert (done.code, done.err) == (0, "")
    assert "1 transcript, 0 errors, 0 warnings" in done.out


def test_validate_names_rule_place_and_source_and_exits_with_1(aloop: Callable[..., Done], tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text(json.dumps(broken()))

    done = aloop("validate", "broken.json")
    as_json = aloop("validate", "broken.json", "--json")

    assert (done.code, as_json.code) == (1, 1)
    assert "error OC-1 at messages[3]" in done.out
    assert "https://" in done.out
    assert as_json.json["transcripts"][0]["issues"][0]["code"] == "OC-1"


# --- config -----------------------------------------------------------------------------------------------------------


def test_config_shows_values_and_origins(
    aloop: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".aloop").mkdir()
    (tmp_path / ".aloop" / "config").write_text("MEMORY_PROTECTED_TOOLS=plan\n")
    monkeypatch.setenv("MEMORY_COMPRESSION_RATIO", "0.4")

    done = aloop("config", "--preset", "aggressive")
    settings = {one["key"]: one for one in aloop("config", "--preset", "aggressive", "--json").json["settings"]}

    assert done.code == 0
    assert settings["MEMORY_COMPRESSION_RATIO"]["source"] == "environment"
    assert settings["MEMORY_PROTECTED_TOOLS"]["source"].endswith("config:1")
    assert settings["MEMORY_SHORT_TERM_SIZE"] == {
        "key": "MEMORY_SHORT_TERM_SIZE",
        "field": "short_term_size",
        "value": 10,
        "source": "preset 'aggressive'",
    }


# --- bad input --------------------------------------------------------------------------------------------------------

HI = '{"role": "user", "content": "hi"}'


@pytest.mark.parametrize("command", ["replay", "preview", "validate"])
@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"[]", "holds no messages"),
        (b'[{"foo": 1}]', "in no known format"),
        (b"\x89PNG\x00\x00", "is not text"),
        (b"plain words", "neither JSON nor JSONL"),
        (f'{HI}\n{{"role": "assis'.encode(), ":2 is no JSON"),
        (gzip.compress(HI.encode(), mtime=0)[:-9], "half-written gzip"),
        (b"[" * 50_000, "error: "),
        (b'{"messages": {"role": "user"}}', "error: "),
        (b'[{"role": "user", "content": 7}]', "error: "),
        (b'[{"role": ["user"], "content": "hi"}]', "error: "),
        (b'[{"role": "assistant", "tool_calls": [{"id": 7}]}]', "error: "),
        (b'[{"role": "user", "parts": "hi"}]', "error: "),
    ],
    ids=lambda part: repr(part)[:40],
)
def test_a_file_that_is_no_transcript_is_one_sentence_and_code_2(
    aloop: Callable[..., Done], tmp_path: Path, command: str, content: bytes, sentence: str
) -> None:
    (tmp_path / "bad.json").write_bytes(content)

    done = aloop(command, "bad.json")

    assert (done.code, done.out) == (2, "")
    assert sentence in done.err
    assert "Traceback" not in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize("command", ["replay", "preview", "validate"])
@pytest.mark.parametrize("path", ["none.json", ".", "", "no/such/folder/run.json"])
def test_a_file_that_is_not_there_is_one_sentence_and_code_2(
    aloop: Callable[..., Done], command: str, path: str
) -> None:
    done = aloop(command, path)

    assert (done.code, done.out) == (2, "")
    assert "cannot be read" in done.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--threshold", "-1"), "compression_threshold must be a whole number, 50 or more, got -1"),
        (("--threshold", "0"), "got 0"),
        (("--threshold", "nan"), "error: compression_threshold must be a whole number, 50 or more, got 'nan'"),
        (("--threshold", "1e5"), "got '1e5'"),
        (("--max-context", "many"), "error: max_context_tokens must be a whole number, 100 or more, got 'many'"),
        (("--threshold", "200000"), "at most max_context_tokens (100000)"),
        (("--max-context", "5"), "max_context_tokens must be"),
        (("--strategy", "slide"), "one of sliding_window, selective, deletion, masking"),
        (("--preset", "agressive"), "did you mean 'aggressive'"),
        (("--dialect", "cohere"), "unknown dialect 'cohere'"),
        (("--colour", "red"), "--colour"),
    ],
    ids=repr,
)
def test_a_bad_option_is_one_clear_error_and_code_2(
    aloop: Callable[..., Done], run_file: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    done = aloop("replay", run_file, *arguments)

    assert (done.code, done.out) == (2, "")
    assert sentence in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("command", [("replay", "run.json"), ("preview", "run.json"), ("config",)])
def test_a_bad_setting_names_its_place(
    aloop: Callable[..., Done], run_file: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("MEMORY_COMPRESSION_RATIO", "nan")

    done = aloop(*command)

    assert (done.code, done.out) == (2, "")
    assert "MEMORY_COMPRESSION_RATIO from environment" in done.err


def unusual() -> list[Any]:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 5_000_000}}
    return [
        pytest.param([json.loads(HI)], id="one message"),
        pytest.param([{"role": "user", "content": "some words of a line\n" * 14_000}], id="a message of 300 kB"),
        pytest.param([{"role": "user", "content": [image]}, *rounds(2)[1:]], id="an image of 5 MB"),
        pytest.param([{"role": "user", "content": "a\ud800b"}, *rounds(2)[1:]], id="lone surrogates"),
        pytest.param([{"role": "user", "content": ""}, *rounds(2)[1:]], id="an empty message"),
        pytest.param([{"role": "user", "content": "\0\x1b[31m"}, *rounds(2)[1:]], id="control characters"),
    ]


@pytest.mark.parametrize("messages", unusual())
@pytest.mark.parametrize("command", ["replay", "preview", "validate"])
def test_unusual_messages_are_taken_as_they_are(
    aloop: Callable[..., Done], tmp_path: Path, command: str, messages: list[dict[str, Any]]
) -> None:
    (tmp_path / "run.json").write_text(json.dumps(messages))

    done = aloop(command, "run.json", "--json")

    assert (done.code, done.err) == (0, "")
    assert done.json


def test_a_message_longer_than_the_window_is_told_and_nothing_is_lost(
    aloop: Callable[..., Done], tmp_path: Path
) -> None:
    (tmp_path / "run.json").write_text(json.dumps([{"role": "user", "content": "x = 1\n" * 5_000}]))

    done = aloop("replay", "run.json", "--max-context", 10_000)
    (one,) = aloop("replay", "run.json", "--max-context", 10_000, "--json").json["transcripts"]

    assert done.code == 1
    assert "stopped after message 1 of 1: the context needs" in done.out
    assert (one["kept"]["verbatim"], one["lost"]) == (1, [])


def test_a_name_with_brackets_and_surrogates_is_printed(aloop: Callable[..., Done], tmp_path: Path) -> None:
    (tmp_path / "run.jsonl").write_text(json.dumps({"id": "[red]a\ud800b", "messages": rounds(1)}) + "\n" * 2)

    done = aloop("replay", "run.jsonl", "run.jsonl")

    assert done.code == 0
    assert "[red]a" in done.out


# --- demo -------------------------------------------------------------------------------------------------------------


def test_demo_compresses_and_accounts_for_itself(aloop: Callable[..., Done]) -> None:
    done = aloop("demo", "--json")

    assert (done.code, done.err) == (0, "")
    assert done.json["statistics"]["compression_count"] >= 2


@pytest.mark.parametrize("option", [(), ("--json",)])
def test_demo_of_a_folder_that_is_not_there_is_one_sentence_and_code_2(
    aloop: Callable[..., Done], option: tuple[str, ...]
) -> None:
    done = aloop("demo", "--path", "no/such/folder", *option)

    assert (done.code, done.out, done.err) == (2, "", "error: there is no folder 'no/such/folder'\n")


# --- the command itself -----------------------------------------------------------------------------------------------


def test_version_is_told(aloop: Callable[..., Done]) -> None:
    done = aloop("--version")

    assert done.code == 0
    assert done.out.startswith("aloop")


@pytest.mark.parametrize("command", ["demo", "replay", "preview", "validate", "config"])
def test_help_fits_80_columns(aloop: Callable[..., Done], command: str) -> None:
    done = aloop(command, "--help")

    assert done.code == 0
    assert max(map(len, done.out.splitlines())) <= 80


def test_tables_fit_80_columns(aloop: Callable[..., Done], run_file: Path) -> None:
    outs = [
        aloop("replay", run_file, run_file, "--threshold", 2000).out,
        aloop("preview", "run.json", "--threshold", 2000).out,
        aloop("config").out,
    ]

    assert max(len(line) for out in outs for line in out.splitlines()) <= 80


def run_as_process(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agent", *arguments],
        cwd=cwd,
        env={"PYTHONPATH": str(ROOT), "HOME": str(cwd), "PATH": os.environ["PATH"]} | environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_module_runs_as_the_command_does_without_a_terminal_and_in_ascii(run_file: Path, tmp_path: Path) -> None:
    done = run_as_process("replay", "run.json", "--threshold", "2000", cwd=tmp_path, LC_ALL="C", PYTHONUTF8="0")

    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout


def test_a_mistake_in_a_process_is_one_line_and_code_2(tmp_path: Path) -> None:
    done = run_as_process("validate", "none.json", cwd=tmp_path)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: none.json cannot be read: No such file or directory\n"


def test_a_reader_that_goes_away_is_no_error(run_file: Path, tmp_path: Path) -> None:
    done = in_a_shell("preview run.json --json | head -n 1", tmp_path)

    assert (done.stdout, done.stderr) == ("{\n", "")


@pytest.mark.parametrize("command", ["demo", "replay run.json", "config --json"])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_output_that_cannot_be_written_is_one_sentence_and_code_2(run_file: Path, tmp_path: Path, command: str) -> None:
    done = in_a_shell(f"{command} > /dev/full", tmp_path)

    assert (done.returncode, done.stderr) == (2, "error: the output cannot be written: No space left on device\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_errors_that_cannot_be_written_leave_the_code(tmp_path: Path) -> None:
    assert in_a_shell("validate none.json > /dev/full 2>&1", tmp_path).returncode == 2


def test_a_closed_output_is_one_sentence_and_code_2(tmp_path: Path) -> None:
    done = in_a_shell("config >&-", tmp_path)

    assert (done.returncode, done.stderr) == (2, "error: the output cannot be written: Bad file descriptor\n")


@pytest.mark.parametrize("command", ["config", "config --json", "--help"])
def test_a_reader_that_went_away_ends_it_as_other_tools(tmp_path: Path, command: str) -> None:
    done = in_a_shell(f"{command} | :", tmp_path, before="set -o pipefail; ")

    assert (done.returncode, done.stderr) == (141, "")


def in_a_shell(command: str, cwd: Path, *, before: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", f"{before}{sys.executable} -m agent {command}"],
        cwd=cwd,
        env={"PYTHONPATH": str(ROOT), "HOME": str(cwd), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
