"""`aloop backtest`: what it prints, how it leaves, and that a mistake is a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.backtest.outcome import Outcome

from . import test_cli
from .test_backtest import a_loop

Aloop = Callable[..., test_cli.Done]
aloop = test_cli.aloop


@pytest.fixture
def loop(tmp_path: Path) -> Path:
    path = tmp_path / "loop.json"
    path.write_text(json.dumps({"messages": a_loop(40).messages, "model": "gpt-5.1"}), encoding="utf-8")
    return path


def alone(*arguments: object) -> tuple[object, ...]:
    return ("backtest", *arguments, "--processes", 1)


def test_a_table_names_every_policy_and_the_cheapest(aloop: Aloop, loop: Path) -> None:
    done = aloop(*alone(loop, "--policy", "sliding_window", "--policy", "window@8", "--threshold", 2000))

    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("gpt-5.1: 1 run, 19 requests")
    assert [name in done.out for name in ("\nnone ", "\nwindow@8 ", "\nsliding_window@2000 ")] == [True] * 3
    assert "\ncheapest at 100.0% kept: " in done.out
    assert max(map(len, done.out.split("\n\n")[0].splitlines())) <= 80


def test_json_has_all_values_and_no_message_text(aloop: Aloop, loop: Path) -> None:
    done = aloop(
        *alone(loop, "--policy", "masking@2000", "--model", "gpt-4o", "--model", "claude-sonnet-4-5", "--json")
    )

    outcomes = [Outcome.from_dict(one) for one in done.json["outcomes"]]
    assert [(one.model, one.policy) for one in outcomes] == [
        *(("gpt-4o", name) for name in ("none", "masking@2000")),
        *(("claude-sonnet-4-5", name) for name in ("none", "masking@2000")),
    ]
    assert all(one.steps for one in outcomes)
    assert {row["relative_usd"] for row in done.json["totals"] if row["policy"] == "none"} == {1.0}
    assert done.json["cheapest"][0]["retained_share"] == 1.0
    assert "coding agent" not in done.out


def test_runs_of_different_models_are_added_up_unless_models_are_named(
    aloop: Aloop, loop: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.json"
    other.write_text(loop.read_text(encoding="utf-8").replace("gpt-5.1", "gpt-4o"), encoding="utf-8")

    own, named = (aloop(*alone(loop, other, "--policy", "none", *more)) for more in ([], ["--model", "gpt-4o"]))

    assert "\nall models: 2 runs" in own.out
    assert "all models" not in named.out


def test_a_page_is_written(aloop: Aloop, loop: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"

    assert aloop(*alone(loop, "--policy", "none", "--html", page)).code == 0
    assert page.read_text(encoding="utf-8").startswith("<!")


def test_the_users_own_settings_are_a_policy(aloop: Aloop, loop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_COMPRESSION_THRESHOLD", "2000")

    done = aloop(*alone(loop, "--policy", "own", "--json"))

    own = next(row for row in done.json["totals"] if row["policy"] == "own")
    assert own["prefix_changes"] > 0


def rollout(home: Path) -> Path:
    """Write a session log of Codex that holds one answer, and return its folder."""
    folder = home / ".codex" / "sessions" / "2026"
    folder.mkdir(parents=True)
    item = {"type": "response_item", "timestamp": "2026-01-02T03:04:05Z"}
    says = [("user", "input_text", "Go on."), ("assistant", "output_text", "Done.")]
    lines = [{"type": "session_meta", "timestamp": item["timestamp"], "payload": {"id": "s", "cwd": "/"}}]
    for role, kind, text in says:
        payload = {"type": "message", "role": role, "content": [{"type": kind, "text": text}]}
        lines.append({**item, "payload": payload})
    (folder / "rollout-1.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return folder


def test_session_logs_are_found_and_told(aloop: Aloop, tmp_path: Path) -> None:
    rollout(tmp_path / "home")

    done = aloop(*alone("--policy", "none"))

    assert done.code == 0
    assert "Codex: 1 session log, the newest" in done.err
    assert "nothing is sent anywhere" in done.err
    assert ": 1 run, 1 request, " in done.out


def test_found_logs_that_cannot_be_read_are_passed_over_with_a_note(aloop: Aloop, tmp_path: Path) -> None:
    folder = rollout(tmp_path / "home")
    for number in range(12):
        (folder / f"rollout-half-{number}.jsonl").write_text('{"type": "sess', encoding="utf-8")
    claude = tmp_path / "home" / ".claude" / "projects" / "p"
    claude.mkdir(parents=True)
    (claude / "summary.jsonl").write_text('{"type": "summary", "summary": "Fixed.", "leafUuid": "1"}', encoding="utf-8")

    done, named = aloop(*alone("--policy", "none")), aloop(*alone(claude / "summary.jsonl"))

    assert done.code == 0
    assert "passed over, of the session logs: 13\n" in done.err
    assert "and 3 more; --json has all of them" in done.err
    assert "error" not in done.err
    assert (named.code, "in which nothing was said yet" in named.err) == (2, True)


def test_without_files_and_logs_there_is_a_sentence(aloop: Aloop) -> None:
    done = aloop("backtest")

    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: no session logs of Claude Code, Codex or Gemini CLI are found")


def test_an_unreadable_file_is_told_and_the_others_go_on(aloop: Aloop, loop: Path, tmp_path: Path) -> None:
    done = aloop(*alone(tmp_path / "absent.json", loop, "--policy", "none"))

    assert done.code == 2
    assert "absent.json cannot be read" in done.err
    assert "gpt-5.1: 1 run" in done.out


def test_what_a_lenient_reading_leaves_out_is_told(aloop: Aloop, tmp_path: Path) -> None:
    path = tmp_path / "half.jsonl"
    lines = [json.dumps(message) for message in a_loop(10).messages]
    path.write_text("\n".join([*lines, '{"role": "ass']), encoding="utf-8")

    strict, lenient = (aloop(*alone(path, "--policy", "none", *more)) for more in ([], ["--lenient"]))

    assert (strict.code, lenient.code) == (2, 0)
    assert "half.jsonl:11 is no JSON" in lenient.out


def test_a_transcript_without_an_answer_leaves_nothing_to_compare(aloop: Aloop, tmp_path: Path) -> None:
    path = tmp_path / "asked.json"
    path.write_text(json.dumps([{"role": "user", "content": "Anybody?"}]), encoding="utf-8")

    done = aloop(*alone(path))

    assert (done.code, done.out) == (2, "")
    assert "no transcript holds an answer of a model" in done.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--policy", "slidingwindow"], "policy must be one of none, window, sliding_window"),
        (["--policy", "masking@much"], "policy must end in @ and a whole number"),
        (["--policy", "masking@10"], "compression_threshold must be a whole number, 50 or more"),
        (["--threshold", "0"], "--threshold must be a whole number above 0, got '0'"),
        (["--seconds-per-step", "-1"], "--seconds-per-step must be a number above 0"),
        (["--processes", "two"], "--processes must be a whole number above 0"),
        (["--summariser", "human"], "--summariser must be extractive or model"),
        (["--dialect", "latin"], "latin"),
        (["--html", "absent/page.html"], "--html must name a file in a folder that exists"),
    ],
)
def test_a_mistake_is_a_sentence(aloop: Aloop, loop: Path, options: list[str], said: str) -> None:
    done = aloop("backtest", loop, *options)

    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert said in done.err


def test_a_model_that_nobody_can_price_is_named_with_those_in_its_place(aloop: Aloop, tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "Count."}, {"role": "assistant", "content": "One."}]
    path = tmp_path / "run.jsonl"
    path.write_text(json.dumps({"messages": messages, "model": "my-finetune-7b"}) + "\n")

    done = aloop(*alone(path, "--policy", "none"))

    assert done.code == 0
    assert "'my-finetune-7b', whose price nobody knows: each is shown at" in done.out
    assert "all models" not in done.out  # three ways to price one run are no three runs
