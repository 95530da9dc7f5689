"""`aloop sessions` and `aloop report`: what they print, how they leave, and no traceback for anything a user does."""

from __future__ import annotations

import gzip
import json
import os
import re
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.cli import main
from memory import MemoryConfig, MemoryManager
from memory.sessions.sqlite import SqliteSessionStore
from memory.testing.simulators import ProviderSimulator

from .test_cli import Done, rounds
from .test_cli_run import asked


@dataclass(frozen=True)
class Kept:
    """Two sessions in a file: a run with compressions, and a branch of it."""

    db: Path
    id: str
    branch_id: str


CONFIG = MemoryConfig(max_context_tokens=9_000, compression_threshold=1_500, short_term_size=4)
SUMMARY = "They read files. What they found out is what they were asked for, and they went on from there."


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    db = tmp_path_factory.mktemp("sessions") / "sessions.db"
    store = SqliteSessionStore(db)
    memory = MemoryManager(CONFIG, lambda prompt: SUMMARY, model="gpt-4o", store=store)
    for message in rounds(10):
        is_answer = message["role"] == "assistant"
        memory.add_message_sync(message, {"input": 900, "output": 30} if is_answer else None)
    branch = memory.branch(at="r5", title="Another [bold]way[/bold]")
    branch.add_message_sync({"role": "user", "content": "Look at \x1b[31mgiraffe instead."})
    ids = memory.session_id, branch.session_id
    branch.close()
    memory.close()
    store.close()
    assert ids[0] is not None
    assert ids[1] is not None
    return Kept(db, ids[0], ids[1])


@pytest.fixture
def kept(made: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    """A copy of the two, which is where sessions are kept by default."""
    source, target = SqliteSessionStore(made.db), tmp_path / "kept.db"
    source.close()
    target.write_bytes(made.db.read_bytes())
    monkeypatch.setenv("MEMORY_SESSION_DB", str(target))
    return Kept(target, made.id, made.branch_id)


Aloop = Callable[..., Done]


@pytest.fixture
def aloop(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Aloop:
    """Run the command in an empty folder, with no settings but those of `kept`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TZ", "UTC")
    for key in [key for key in os.environ if key.startswith("MEMORY_") and key != "MEMORY_SESSION_DB"]:
        monkeypatch.delenv(key)

    def run(*arguments: object) -> Done:
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Done(int(left.value.code or 0), captured.out, captured.err)

    return run


# --- Looking ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["sessions"], ["sessions", "list"]])
def test_the_list_has_the_newest_first(kept: Kept, aloop: Aloop, arguments: list[str]) -> None:
    done = aloop(*arguments)

    lines = done.out.splitlines()
    assert (done.code, done.err) == (0, "")
    assert lines[0].split() == ["session", "last", "written", "msgs", "context", "cost", "title"]
    assert {line.split()[0] for line in lines[1:3]} == {kept.id[:8], kept.branch_id[:8]}
    assert "(branch from r5) Another [bold]" in done.out
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("width", [30, 40, 50, 60])
def test_a_narrow_list_keeps_id_count_and_cost_whole(
    kept: Kept, aloop: Aloop, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))

    lines = aloop("sessions").out.splitlines()

    assert max(map(len, lines[:3])) <= width
    assert [line.split()[0] for line in lines[1:3]] == [kept.branch_id[:8], kept.id[:8]]
    assert " 22 " in lines[2]
    assert re.search(r" ~?\$0\.0\d+", lines[2])
    assert "…" not in "".join(lines[:3]) or "title" in lines[0]


def test_a_cost_that_is_an_estimate_is_marked(kept: Kept, aloop: Aloop) -> None:
    shown = aloop("sessions", "show", kept.id)

    assert re.search(r" ~\$0\.0\d+ ", aloop("sessions").out)
    assert re.search(r"^cost: .*, partly estimated$", shown.out, re.MULTILINE)
    assert re.search(r"^summary .* ~\$", shown.out, re.MULTILINE)
    assert re.search(r"^agent .* \$", shown.out, re.MULTILINE)
    assert aloop("sessions", "show", kept.id, "--json").json["cost_is_estimate"] is True


def test_a_session_that_somebody_has_open_is_marked(kept: Kept, aloop: Aloop) -> None:
    store = SqliteSessionStore(kept.db)
    memory = MemoryManager.resume(kept.id, store=store)

    assert "(open) Read every file" in aloop("sessions").out
    assert f"in process {os.getpid()} on " in aloop("sessions", "show", kept.id).out
    assert aloop("sessions", "show", kept.id, "--json").json["is_open"] is True
    memory.close()
    assert "(open)" not in aloop("sessions").out


def test_sessions_can_be_kept_in_postgres(aloop: Aloop, tmp_path: Path, postgres_server: str) -> None:
    (tmp_path / "run.json").write_text(json.dumps(rounds(2)))

    done = aloop("sessions", "import", "run.json", "--db", postgres_server, "--json")
    session_id = done.json["sessions"][0]["id"]

    assert aloop("sessions", "search", "value_1_7", "--db", postgres_server).out.startswith(f"{session_id}:r5 ")
    assert aloop("report", session_id, "--db", postgres_server).code == 0
    assert aloop("sessions", "delete", session_id, "--yes", "--db", postgres_server).code == 0


def test_the_list_can_be_cut_and_be_json(kept: Kept, aloop: Aloop) -> None:
    done = aloop("sessions", "list", "--limit", 1, "--json")

    (one,) = done.json["sessions"]
    assert one["id"] in {kept.id, kept.branch_id}
    assert one["is_open"] is False
    assert aloop("sessions", "--json").json["sessions"][0] == one


def test_a_list_of_nothing_says_where_it_looked_and_makes_no_file(
    aloop: Aloop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMORY_SESSION_DB", str(tmp_path / "none" / "x.db"))

    done = aloop("sessions")

    assert (done.code, done.out) == (0, f"no sessions yet in {tmp_path}/none/x.db\n")
    assert not (tmp_path / "none").exists()


def test_by_default_the_users_own_file_is_meant(aloop: Aloop, tmp_path: Path) -> None:
    assert aloop("sessions").out == f"no sessions yet in {tmp_path}/home/.aloop/sessions.db\n"


def test_a_database_that_may_only_be_read_can_be_listed_and_shown(kept: Kept, aloop: Aloop) -> None:
    kept.db.chmod(stat.S_IRUSR)
    kept.db.parent.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert aloop("sessions").code == 0
        assert aloop("sessions", "show", "latest").code == 0
        assert aloop("report", "latest").code == 0
    finally:
        kept.db.parent.chmod(stat.S_IRWXU)


def test_show_tells_of_context_compressions_and_calls(kept: Kept, aloop: Aloop) -> None:
    done = aloop("sessions", "show", kept.id[:6])

    assert done.code == 0
    assert f"session:             {kept.id}" in done.out
    assert "r1      original user" in done.out
    assert "summary" in done.out
    assert "compression  1: " in done.out
    assert "agent   gpt-4o" in done.out
    assert "value_3_7 = 7" not in done.out


def test_show_prints_messages_where_they_are_wanted_and_harmless(kept: Kept, aloop: Aloop) -> None:
    done = aloop("sessions", "show", kept.branch_id, "--messages")

    assert "r3 tool" in done.out
    assert "value_0_7 = 7" in done.out
    assert "Look at ?[31mgiraffe instead." in done.out
    assert "\x1b" not in done.out


def test_show_as_json_has_everything(kept: Kept, aloop: Aloop) -> None:
    shown = aloop("sessions", "show", kept.id, "--messages", "--json").json

    assert [one["ref"] for one in shown["messages"]] == [f"r{n}" for n in range(1, 23)]
    assert shown["compressions"][0]["event"]["tokens_before"] > 1_500
    assert {one["purpose"] for one in shown["calls"]} == {"agent", "summary"}
    assert [one["kind"] for one in shown["context"]].count("summary") == 2


def test_the_tree_has_branches_below_where_they_come_from(kept: Kept, aloop: Aloop) -> None:
    done = aloop("sessions", "tree")

    lines = done.out.splitlines()
    assert lines[0].startswith(f"{kept.id[:8]}  ")
    assert lines[1].startswith(f"└── {kept.branch_id[:8]} from r5  ")
    assert aloop("sessions", "tree", kept.branch_id).out == done.out


def test_the_tree_as_json_is_nested(kept: Kept, aloop: Aloop) -> None:
    (root,) = aloop("sessions", "tree", "--json").json["sessions"]

    assert (root["id"], [one["id"] for one in root["branches"]]) == (kept.id, [kept.branch_id])


def test_stats_are_by_day_and_model(kept: Kept, aloop: Aloop) -> None:
    done = aloop("sessions", "stats")
    days = aloop("sessions", "stats", "--json").json["days"]

    assert {one["model"] for one in days} == {"gpt-4o", None}
    assert sum(one["calls"] for one in days) == len(aloop("sessions", "show", kept.id, "--json").json["calls"])
    assert "summaries" in done.out.splitlines()[0]
    assert "in all" in done.out
    assert max(map(len, done.out.splitlines())) <= 80


def test_stats_of_no_calls_say_so(aloop: Aloop) -> None:
    assert aloop("sessions", "stats", "--since", "1h").out == "no calls were made yet\n"


def test_search_finds_what_was_said_with_its_reference(kept: Kept, aloop: Aloop) -> None:
    done = aloop("sessions", "search", "giraffe")

    assert done.out.splitlines()[0].startswith(f"{kept.branch_id}:r6 user ")
    assert "giraffe instead" in done.out
    assert aloop("sessions", "search", "walrus").out == "nothing found\n"


def test_search_leaves_out_what_is_far_below_the_best(kept: Kept, aloop: Aloop) -> None:
    hits = aloop("sessions", "search", "value_4_5", "--session", kept.id, "--json").json["hits"]

    assert min(hit["score"] for hit in hits) >= hits[0]["score"] / 3
    assert all("value_4" in hit["excerpt"] for hit in hits)


def test_search_can_be_in_one_session(kept: Kept, aloop: Aloop) -> None:
    found = aloop("sessions", "search", "value_4_5", "--session", kept.id, "--json").json["hits"]

    assert found[0]["ref"] == f"{kept.id}:r11"
    assert aloop("sessions", "search", "giraffe", "--session", kept.id, "--role", "user", "--json").json["hits"] == []


# --- Files ------------------------------------------------------------------------------------------------------------


def test_an_export_is_imported_elsewhere(kept: Kept, aloop: Aloop, tmp_path: Path) -> None:
    assert aloop("sessions", "export", kept.id, "-o", tmp_path / "run.jsonl").out == f"written: {tmp_path}/run.jsonl\n"
    done = aloop("sessions", "import", tmp_path / "run.jsonl", "--db", tmp_path / "other.db")

    assert (done.code, done.out) == (0, f"imported: {kept.id}, 22 messages\n")
    exported = aloop("sessions", "export", kept.id, "--db", tmp_path / "other.db").out
    assert exported == (tmp_path / "run.jsonl").read_text()


def test_what_is_imported_twice_says_that_it_is_a_copy(kept: Kept, aloop: Aloop, tmp_path: Path) -> None:
    aloop("sessions", "export", kept.id, "-o", tmp_path / "run.jsonl")
    packed = tmp_path / "run.jsonl.gz"
    packed.write_bytes(gzip.compress((tmp_path / "run.jsonl").read_bytes()))

    for path in (tmp_path / "run.jsonl", packed):
        assert aloop("sessions", "import", path).out.endswith(f"22 messages, as a copy: the id {kept.id} is taken\n")


@pytest.mark.parametrize("command", ["backtest", "replay"])
def test_a_whole_export_where_messages_are_wanted_is_told_the_way(
    kept: Kept, aloop: Aloop, tmp_path: Path, command: str
) -> None:
    aloop("sessions", "export", kept.id, "-o", tmp_path / "run.jsonl")

    done = aloop(command, tmp_path / "run.jsonl")

    assert done.code == 2
    assert "aloop sessions export SESSION --format openai" in done.err


def test_a_providers_format_can_be_replayed(kept: Kept, aloop: Aloop, tmp_path: Path) -> None:
    aloop("sessions", "export", kept.id, "--format", "openai", "-o", tmp_path / "run.json")

    done = aloop("replay", tmp_path / "run.json", "--json")

    assert (done.code, done.json["transcripts"][0]["message_count"]) == (0, 22)


def test_a_recorded_conversation_can_be_imported_from_standard_input(
    aloop: Aloop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(rounds(2)))
    with path.open() as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        done = aloop("sessions", "import", "-", "--db", "new.db", "--json")

    assert [one["last_seq"] for one in done.json["sessions"]] == [6]


def test_an_export_that_cannot_be_written_leaves_what_was_there(kept: Kept, aloop: Aloop, tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text("old")

    done = aloop("sessions", "export", kept.id, "--format", "gemini", "-o", tmp_path / "old.json")

    assert done.code == 2
    assert "in the format openai, not gemini" in done.err
    assert (tmp_path / "old.json").read_text() == "old"
    assert not list(tmp_path.glob(".old*"))


def test_an_export_to_a_device_writes_to_the_device(kept: Kept, aloop: Aloop) -> None:
    assert aloop("sessions", "export", kept.id, "-o", os.devnull).code == 0
    assert not Path(os.devnull).is_file()


# --- Keeping house ----------------------------------------------------------------------------------------------------


def test_a_session_is_found_by_its_new_title(kept: Kept, aloop: Aloop) -> None:
    assert aloop("sessions", "rename", kept.id, "the long one").out == f"renamed: {kept.id}, the long one\n"

    assert aloop("sessions", "show", "the long one", "--json").json["id"] == kept.id


def test_deleting_asks_and_refuses_where_nobody_can_answer(kept: Kept, aloop: Aloop) -> None:
    done = aloop("sessions", "delete", kept.id)

    assert (done.code, done.out) == (2, "")
    assert "--yes" in done.err
    assert aloop("sessions", "delete", kept.id, "--yes").out == f"deleted: {kept.id}\n"
    assert [one["id"] for one in aloop("sessions", "--json").json["sessions"]] == [kept.branch_id]
    assert aloop("sessions", "show", kept.branch_id, "--messages").out.count("value_0_70 ") == 1


@pytest.mark.parametrize("command", [["delete", "latest"], ["forget", "latest", "r1"]])
def test_a_session_that_is_open_is_left_alone(kept: Kept, aloop: Aloop, command: list[str]) -> None:
    store = SqliteSessionStore(kept.db)
    memory = MemoryManager.resume("latest", store=store)

    done = aloop("sessions", *command, "--yes")

    assert done.code == 2
    assert f"is open in process {os.getpid()} on " in done.err
    assert "MemoryManager" not in done.err
    memory.close()


def test_forgotten_words_are_gone_from_everywhere(kept: Kept, aloop: Aloop) -> None:
    done = aloop("sessions", "forget", kept.branch_id, "r6", "--yes")

    assert done.out == "forgotten: 1 message\n"
    assert aloop("sessions", "search", "giraffe").out == "nothing found\n"
    assert "giraffe" not in aloop("sessions", "show", kept.branch_id, "--messages").out
    assert b"giraffe" not in kept.db.read_bytes()


def test_nothing_is_forgotten_where_one_reference_names_nothing(kept: Kept, aloop: Aloop) -> None:
    assert aloop("sessions", "forget", kept.branch_id, "r6", "r999", "--yes").code == 2

    assert "giraffe" in aloop("sessions", "show", kept.branch_id, "--messages").out


def test_what_keeps_house_can_be_told_as_json(kept: Kept, aloop: Aloop) -> None:
    named = (kept.branch_id, "--json")

    assert aloop("sessions", "rename", *named, "other").json == {"renamed": kept.branch_id, "title": "other"}
    assert aloop("sessions", "forget", *named, "r6", "--yes").json == {"forgotten": 1}
    assert aloop("sessions", "delete", *named, "--yes").json == {"deleted": [kept.branch_id]}


def test_limits_delete_the_oldest(kept: Kept, aloop: Aloop) -> None:
    assert aloop("sessions", "limit", "--max-age", "30d", "--yes").out == "nothing to delete\n"

    deleted = aloop("sessions", "limit", "--max-bytes", "0", "--yes", "--json").json["deleted"]

    assert set(deleted) == {kept.id, kept.branch_id}


# --- Going on ---------------------------------------------------------------------------------------------------------


def test_resume_is_a_run_in_that_session(kept: Kept, aloop: Aloop, tmp_path: Path) -> None:
    with ProviderSimulator("openai_chat", ["It is done."]) as server:
        run = asked(server, "--json", "--db", kept.db, task="Go on.")
        done = aloop("sessions", "resume", kept.id[:7], *run[1:])

    assert (done.code, done.json["session_id"], done.json["answer"]) == (0, kept.id, "It is done.")
    assert "Read every file and report." in json.dumps(server.requests[-1].body["messages"])
    assert aloop("sessions", "show", kept.id, "--json").json["last_seq"] > 22


def test_resume_without_a_task_says_what_is_missing(kept: Kept, aloop: Aloop) -> None:
    done = aloop("sessions", "resume", kept.id)

    assert (done.code, done.out) == (2, "")
    assert "no task is given" in done.err


# --- Mistakes ---------------------------------------------------------------------------------------------------------

MISTAKES: list[tuple[list[str], str]] = [
    (["sessions", "show", "nobody"], "nobody"),
    (["sessions", "export", "nobody"], "nobody"),
    (["sessions", "export", "latest", "--format", "xml"], "--format must be one of jsonl, openai"),
    (["sessions", "export", "latest", "-o", "no/such/folder.json"], "cannot be written"),
    (["sessions", "import", "nothing.json"], "nothing.json cannot be read"),
    (["sessions", "rename", "latest", " "], "the title is empty"),
    (["sessions", "forget", "latest", "three", "--yes"], "named like r17"),
    (["sessions", "forget", "latest", "r999", "--yes"], "'r999' names no message of "),
    (["sessions", "forget", "latest", "r9-r3", "--yes"], "'r9-r3' names no message of "),
    (["sessions", "forget", "latest", "r0", "--yes"], "'r0' names no message of "),
    (["sessions", "limit"], "--max-bytes, --max-age"),
    (["sessions", "limit", "--max-bytes", "much"], "a size such as 500MB"),
    (["sessions", "limit", "--max-age", "5 moons"], "an age such as 30d"),
    (["sessions", "list", "--limit", "0"], "--limit must be a whole number above 0"),
    (["sessions", "stats", "--since", "yesterday"], "an age such as 30d"),
    (["sessions", "search", "x", "--role", "boss"], "--role must be one of"),
    (["sessions", "search", "x", "--session", "nobody"], "nobody"),
    (["sessions", "list", "--db", "mysql://x/y"], "a file or a postgresql:// address, and mysql:// is neither"),
    (["sessions", "list", "--db", ""], "--db must name a file"),
    (["sessions", "list", "--db", "none.db"], "there is no file 'none.db'"),
    (["sessions", "show", "latest", "--db", "none.db"], "there is no file 'none.db'"),
    (["sessions", "search", "x", "--db", "none.db"], "there is no file 'none.db'"),
    (["sessions", "--db", "x.db", "list"], "aloop sessions list --db"),
    (["sessions", "--json", "tree"], "aloop sessions tree --json\n"),
    (["report", "nobody"], "nobody"),
    (["report", "latest", "--html", "no/such/folder.html"], "cannot be written"),
]


@pytest.mark.parametrize(("arguments", "said"), MISTAKES, ids=[" ".join(one[0]) for one in MISTAKES])
def test_a_mistake_is_one_sentence(kept: Kept, aloop: Aloop, arguments: list[str], said: str) -> None:
    done = aloop(*arguments)

    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("command", [["list"], ["show", "latest"], ["stats"], ["import", "run.json"]])
def test_a_file_that_is_no_database_is_told(aloop: Aloop, tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "x.db").write_bytes(b"This is a letter. " * 1_000)
    (tmp_path / "run.json").write_text(json.dumps(rounds(1)))

    done = aloop("sessions", *command, "--db", "x.db")

    assert done.code == 2
    assert done.err.startswith("error: ")
    assert (tmp_path / "x.db").read_bytes().startswith(b"This is a letter.")


# --- The report -------------------------------------------------------------------------------------------------------


def test_the_report_stands_in_the_terminal(kept: Kept, aloop: Aloop) -> None:
    done = aloop("report", kept.id)

    assert done.code == 0
    assert "without memory:" in done.out
    assert "| They read files." in done.out
    assert max(len(line) for line in done.out.splitlines() if line.startswith("  | ")) <= 80
    assert "older than the short-term window" in done.out
    lines = [line for line in done.out.splitlines() if line.startswith("r")]
    assert any(" tool " in line for line in lines)


def test_the_report_adds_up(kept: Kept, aloop: Aloop) -> None:
    told = aloop("report", kept.id, "--json").json
    heading = aloop("sessions", "show", kept.id, "--json").json

    assert told["cost_usd"] == pytest.approx(heading["cost_usd"])
    assert told["message_count"] == heading["last_seq"]
    assert told["cost_without_memory_usd"] > 0
    assert [one["at"] for one in told["compressions"]] == [one["at"] for one in heading["compressions"]]
    assert told["requests"][0]["at"] == heading["calls"][0]["at"]
    assert told["requests"][-1]["usd_so_far"] == pytest.approx(told["cost_usd"])
    assert len(told["compressions"]) == heading["compression_count"]


def test_the_report_as_a_page(kept: Kept, aloop: Aloop, tmp_path: Path) -> None:
    done = aloop("report", kept.id, "--html", tmp_path / "run.html")

    html = (tmp_path / "run.html").read_text(encoding="utf-8")
    assert (done.code, done.out) == (0, "")
    assert html.startswith("<!doctype html>")
    assert "They read files." in html
    assert aloop("report", kept.id, "--html", "-").out.startswith("<!doctype html>")


def test_a_branch_that_made_no_call_has_a_report_too(kept: Kept, aloop: Aloop, tmp_path: Path) -> None:
    assert aloop("report", kept.branch_id).code == 0
    assert aloop("report", kept.branch_id, "--html", tmp_path / "run.html").code == 0


def test_every_command_explains_itself(aloop: Aloop) -> None:
    names = "list show tree stats search export import rename delete forget limit resume".split()  # noqa: SIM905 - shorter

    for name in names:
        done = aloop("sessions", name, "--help")
        assert (done.code, done.err) == (0, "")
        assert name == "resume" or "--db" in done.out
    assert all(f"  {name}" in aloop("sessions", "--help").out for name in names)
