"""The demo: it compresses, the memory carries what it must, and any folder will do."""

from __future__ import annotations

import io
import json
import os
import random
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import agent.demo
from agent import ScriptedModel
from agent.demo import run_demo
from agent.explorer import explorer, findings_in
from memory import CompressionStrategy, LLMMessage, MemoryConfig, SqliteSessionStore


def play(path: Path | None = None, **options: Any) -> tuple[int, str]:
    """Run the demo without a terminal; return its exit code and what it printed."""
    out = io.StringIO()
    code = run_demo(path, console=Console(file=out, width=100), **options)
    return code, out.getvalue()


def report(path: Path | None = None, **options: Any) -> dict[str, Any]:
    code, printed = play(path, as_json=True, **options)
    assert code == 0
    parsed: dict[str, Any] = json.loads(printed)
    return parsed


def too_long(lines: list[str]) -> list[str]:
    """Lines over 80 columns, but for the folder's path, which has no words to wrap at."""
    return [line for line in lines if len(line) > 80 and str(agent.demo.OWN_SOURCE) not in line]


def written(root: Path, **files: str | bytes) -> Path:
    """Make a folder with these files; a double underscore stands for the dot."""
    for name, content in files.items():
        data = content.encode() if isinstance(content, str) else content
        (root / name.replace("__", ".")).write_bytes(data)
    return root


@pytest.fixture(scope="module")
def own_source() -> dict[str, Any]:
    return report()


# --- The project's own source, which is what a newcomer sees


def test_it_compresses_several_times(own_source: dict[str, Any]) -> None:
    assert own_source["statistics"]["compression_count"] >= 3
    assert own_source["statistics"]["degraded_count"] == 0
    assert own_source["statistics"]["net_savings"] > 0


def test_the_answer_names_what_only_the_memory_still_held(own_source: dict[str, Any]) -> None:
    survivor = own_source["survivor"]

    assert survivor["name"] in own_source["answer"]
    assert survivor["path"] in own_source["answer"]
    assert survivor["recalled"][0] == survivor["ref"]


def test_the_excerpt_is_where_the_name_is_defined(own_source: dict[str, Any]) -> None:
    survivor = own_source["survivor"]
    number, line = survivor["excerpt"].splitlines()[0].split(": ", 1)

    assert survivor["name"] in line
    assert line == (Path(own_source["folder"]) / survivor["path"]).read_text().splitlines()[int(number) - 1]


def test_every_name_in_the_answer_is_defined_in_the_file_it_is_said_to_belong_to(own_source: dict[str, Any]) -> None:
    findings = findings_in(own_source["answer"])

    assert len(findings) > 5
    for finding in findings:
        text = (Path(own_source["folder"]) / finding.path).read_text()
        defined = set(re.findall(r"^\s*(?:async )?(?:def|class) (\w+)|^(\w+)(?:: [^=]+)? = ", text, re.MULTILINE))
        assert set(finding.names) <= {name for pair in defined for name in pair}


def test_the_savings_are_the_difference_to_sending_everything_every_time(own_source: dict[str, Any]) -> None:
    generous = MemoryConfig(max_context_tokens=2_000_000, compression_threshold=1_000_000)
    whole = report(config=generous, rounds=12)
    stats = own_source["statistics"]

    # The script may search for other names when it sees more, so the two runs are close, not equal.
    without = stats["total_input_tokens"] + stats["total_savings"]
    assert without == pytest.approx(whole["statistics"]["total_input_tokens"], rel=0.1)
    assert stats["cost_without_memory"] == pytest.approx(whole["statistics"]["total_cost"], rel=0.15)


def test_two_runs_say_the_same(own_source: dict[str, Any]) -> None:
    again = report()

    assert {**again, "seconds": 0} == {**own_source, "seconds": 0}


def test_what_is_printed_says_that_a_script_plays_and_ends_with_the_statistics() -> None:
    code, printed = play()

    assert code == 0
    assert "A script plays the model" in printed
    assert printed.count("compressed ") >= 3
    assert "--- Memory Statistics ---" in printed
    assert "\nDone in " in printed
    assert printed.splitlines()[-2].startswith("aloop demo --save keeps the run")


def test_what_is_printed_begins_with_the_task_and_fits_80_columns() -> None:
    lines = play()[1].splitlines()

    assert any(line.startswith("Task: Explore this folder.") for line in lines[:3])
    assert too_long(lines) == []
    assert [line for line in lines if line != line.rstrip()] == []


@pytest.mark.parametrize("strategy", ["selective", "deletion", "masking"])
def test_other_strategies_tell_how_many_messages_they_took(strategy: str) -> None:
    config = MemoryConfig(
        max_context_tokens=16_000,
        compression_threshold=6_000,
        short_term_size=6,
        compression_strategy=CompressionStrategy(strategy),
    )
    lines = play(config=config)[1].splitlines()
    compressions = [line for line in lines if " compressed " in line]

    assert compressions
    assert all(re.search(r"messages \d+-\d+ now \d+ ", line) for line in compressions)
    assert too_long(lines) == []


def test_the_statistics_stand_apart(tmp_path: Path) -> None:
    for path in (None, tmp_path):
        lines = play(path)[1].splitlines()
        assert lines[lines.index("--- Memory Statistics ---") - 1] == ""


def test_without_a_terminal_there_are_only_plain_lines() -> None:
    assert "\x1b" not in play()[1]


def test_on_a_terminal_the_size_of_the_context_is_shown_live() -> None:
    out = io.StringIO()
    run_demo(None, console=Console(file=out, width=100, force_terminal=True), rounds=3)

    assert "of 6,000 tokens" in out.getvalue()


# --- Any folder


def test_a_missing_folder_is_an_error_that_names_it(tmp_path: Path) -> None:
    assert play(tmp_path / "gone") == (2, f"error: there is no folder '{tmp_path / 'gone'}'\n")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    code, printed = play(written(tmp_path, a__txt="text") / "a.txt")

    assert code == 2
    assert "there is no folder" in printed


def test_an_empty_folder_is_explored_and_found_empty(tmp_path: Path) -> None:
    code, printed = play(tmp_path)

    assert code == 0
    assert "nothing here that can be read" in printed
    assert "too little text" in printed


def test_a_small_folder_needs_no_compression_and_says_so(tmp_path: Path) -> None:
    code, printed = play(written(tmp_path, a__py="def remember_me(): ...\n"))

    assert code == 0
    assert "- a.py: remember_me" in printed
    assert "the memory never had to compress" in printed


def test_binary_files_are_left_alone(tmp_path: Path) -> None:
    code, printed = play(written(tmp_path, a__dat=b"\x00\x01" * 5_000, b__txt="plain_words stand here"))

    assert code == 0
    assert "read_file a.dat" not in printed
    assert "plain_words" in printed


@pytest.mark.parametrize(
    "text",
    [
        "one_long_line " * 200_000,
        "short\n" * 300_000,
        "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789+/", k=400_000)),
        "\n".join("".join(map(chr, random.Random(n).choices(range(0x4E00, 0x9FFF), k=90))) for n in range(1_000)),
        "".join(random.Random(3).choices("\U0001f600\U0001f9ff\u0e01\u0f00\n ", k=200_000)),
        "\r\n\x0b\x0c\x1b[31mred\x07 [bold]markup[/] {braces} \u2028\n" * 3_000,
    ],
    ids=["one line", "many lines", "base64", "chinese", "emoji", "control"],
)
def test_huge_and_odd_files_do_no_harm(tmp_path: Path, text: str) -> None:
    code, printed = play(written(tmp_path, **{f"odd{n}__txt": text for n in range(4)}), rounds=6)

    assert code == 0, printed
    assert "\x1b" not in printed
    assert "\x07" not in printed


@pytest.mark.parametrize("name", ["a b.py", "[bold]x.py", "-l", "ünï.py", "it's.py", "line\nbreak.py", "x" * 200])
def test_any_file_name_will_do(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("def something_here(): ...\n" * 40)

    code, printed = play(tmp_path)

    assert code == 0, printed
    assert "something_here" in printed or "\n" in name


def test_a_terminal_that_knows_no_umlauts_is_spared_them(tmp_path: Path) -> None:
    written(tmp_path, ünï__py="def remember_me(): ...")
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")

    assert run_demo(tmp_path, console=Console(file=out, width=100)) == 0


def test_pipes_and_links_that_lead_nowhere_are_passed_over(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "gone").symlink_to(tmp_path / "nothing")

    assert play(tmp_path)[0] == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_a_failed_call_and_not_the_end(tmp_path: Path) -> None:
    (written(tmp_path, a__txt="secret") / "a.txt").chmod(0)

    code, printed = play(tmp_path)

    assert code == 0
    assert "(1 failed)" in printed


def test_an_interruption_is_no_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Interrupted(ScriptedModel):
        async def call_async(self, *args: Any, **kwargs: Any) -> Any:
            raise KeyboardInterrupt

    monkeypatch.setattr(agent.demo, "ScriptedModel", Interrupted)

    assert play(tmp_path)[0] == 130


# --- The script itself


async def test_the_explorer_knows_only_what_it_is_sent() -> None:
    model = ScriptedModel(explorer(rounds=1))
    start = LLMMessage("user", "Explore.")
    listing = await model.call_async([start])
    listed = LLMMessage("tool", "100 a.py", tool_call_id=listing.tool_calls[0].id)
    reading = await model.call_async([start, listing.message, listed])
    read = LLMMessage("tool", "1: class Wanted:", tool_call_id=reading.tool_calls[0].id)
    counting = await model.call_async([start, listing.message, listed, reading.message, read])
    counted = LLMMessage("tool", "ok", tool_call_id=counting.tool_calls[0].id)

    assert "Note: a.py:1 has `Wanted`." in counting.content
    assert "Wanted" in (await model.call_async([start, counting.message, counted])).content  # from its own note


async def test_the_explorer_does_not_name_what_it_is_no_longer_sent() -> None:
    model = ScriptedModel(explorer(rounds=1))
    start = LLMMessage("user", "Explore.")
    listing = await model.call_async([start])
    listed = LLMMessage("tool", "100 a.py", tool_call_id=listing.tool_calls[0].id)
    reading = await model.call_async([start, listing.message, listed])
    read = LLMMessage("tool", "1: import Foreign\n2: class Wanted:", tool_call_id=reading.tool_calls[0].id)
    counting = await model.call_async([start, listing.message, listed, reading.message, read])
    counted = LLMMessage("tool", "ok", tool_call_id=counting.tool_calls[0].id)
    summary = LLMMessage("user", "- a.py: Foreign, Other")

    answer = await model.call_async([start, summary, LLMMessage("assistant", "I count."), counted])

    assert "no name worth telling" in answer.content


def test_a_run_can_be_kept_and_looked_at_later(tmp_path: Path) -> None:
    store = SqliteSessionStore(tmp_path / "sessions.db")

    code, shown = play(rounds=3, store=store)

    [session] = store.sessions()
    assert code == 0
    assert f"Kept as session {session.id}" in shown
    assert (session.heading.title, session.owner) == ("Demo: explore memory", None)
    assert session.heading.compression_count > 0
