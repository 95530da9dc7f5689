"""The tools for files: what they show, what they change, and that nothing leads out of their folder."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import threading
from pathlib import Path

import pytest

from agent import FolderTools, Toolbox, ToolError
from agent.tools.folder import Folder
from memory.messages import ToolCall, ToolResult


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "b.txt").write_text("one\ntwo needle\nthree\n")
    (root / "a.py").write_text("".join(f"line_{number} = {number}\n" for number in range(1, 301)))
    (root / "blob.bin").write_bytes(b"\x7fELF\0\0needle")
    (root / "latin.txt").write_bytes("caf\u00e9".encode("latin-1"))
    (root / ".git").mkdir()
    (root / ".git" / "config").write_text("needle")
    (root / "-l").write_text("dash\n")
    (tmp_path / "secret.txt").write_text("needle outside")
    (root / "link.txt").symlink_to(tmp_path / "secret.txt")
    (root / "inner").symlink_to(root / "sub")
    (root / "out").symlink_to(tmp_path)
    return root


def call(root: Path, name: str, **arguments: object) -> ToolResult:
    toolbox = Toolbox(FolderTools(root, allow_writes=True).tools())
    return asyncio.run(toolbox.call(ToolCall(id="c1", name=name, arguments=json.dumps(arguments))))


def use(root: Path, name: str, **arguments: object) -> str:
    return call(root, name, **arguments).text


# --- Looking


def test_listing_shows_sizes_and_leaves_out_hidden_folders_and_links(root: Path) -> None:
    listing = use(root, "list_files")

    assert [line.split()[1] for line in listing.splitlines()] == ["-l", "a.py", "blob.bin", "latin.txt", "sub/b.txt"]
    assert "blob.bin (binary)" in listing
    assert "21 sub/b.txt" in listing


@pytest.mark.parametrize(
    ("pattern", "found"),
    [("*.txt", ["latin.txt", "sub/b.txt"]), ("**/*.py", ["a.py"]), ("sub/*", ["sub/b.txt"]), ("*.md", [])],
)
def test_listing_can_be_narrowed_by_a_pattern(root: Path, pattern: str, found: list[str]) -> None:
    lines = use(root, "list_files", pattern=pattern).splitlines()

    assert [line.split()[1] for line in lines if not line.startswith("no files")] == found


def test_a_long_listing_says_how_many_files_it_leaves_out(tmp_path: Path) -> None:
    for number in range(205):
        (tmp_path / f"{number:03}.txt").touch()

    assert use(tmp_path, "list_files").endswith("[5 more files; list a folder]")


def test_reading_numbers_the_lines_and_says_where_to_go_on(root: Path) -> None:
    text = use(root, "read_file", path="a.py", first_line=10, line_count=2)

    assert text == "10: line_10 = 10\n11: line_11 = 11\n[more lines follow from 12 on]"
    assert use(root, "read_file", path="a.py", first_line=300).endswith("300: line_300 = 300")
    assert use(root, "read_file", path="a.py", first_line=301) == "a.py has no line 301"


def test_every_line_of_a_long_file_can_be_reached_by_reading_on(root: Path) -> None:
    lines = [f"{number} {'x' * 90}" for number in range(1, 30_001)]
    (root / "long.txt").write_text("\n".join(lines))

    seen: list[str] = []
    while len(seen) < len(lines):
        page = use(root, "read_file", path="long.txt", first_line=len(seen) + 1, line_count=100_000).splitlines()
        seen += [line.split(": ", 1)[1] for line in page if not line.startswith("[")]

    assert seen == lines


def test_lines_are_counted_as_editors_count_them(root: Path) -> None:
    (root / "mixed.txt").write_bytes("one\r\ntwo\x0c\u2028still two\nthree\rfour".encode())

    assert use(root, "read_file", path="mixed.txt") == "1: one\n2: two\x0c\u2028still two\n3: three\n4: four"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("../secret.txt", "outside the folder"),
        ("link.txt", "outside the folder"),
        ("out/secret.txt", "outside the folder"),
        ("/etc/passwd", "outside the folder"),
        ("/dev/zero", "outside the folder"),
        ("sub/../../secret.txt", "outside the folder"),
        ("missing.txt", "there is no 'missing.txt'"),
        ("sub", "is not a file"),
        ("blob.bin", "is binary, 12 bytes"),
        ("nul\0byte", "no usable path"),
        ("x" * 5_000, "there is no"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_answer_that_says_why(root: Path, path: str, said: str) -> None:
    result = call(root, "read_file", path=path)

    assert result.is_error
    assert said in result.text


def test_a_link_that_stays_inside_is_followed(root: Path) -> None:
    assert use(root, "read_file", path="inner/b.txt", line_count=1).startswith("1: one")


def test_a_loop_of_links_is_an_answer(root: Path) -> None:
    (root / "loop").symlink_to(root / "loop")

    assert call(root, "read_file", path="loop").is_error


def test_a_pipe_is_neither_read_nor_listed(root: Path) -> None:
    os.mkfifo(root / "pipe")

    assert "is not a file" in use(root, "read_file", path="pipe")
    assert "pipe" not in use(root, "list_files")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_an_answer(root: Path) -> None:
    (root / "a.py").chmod(0)

    assert "a.py cannot be read: Permission denied" in use(root, "read_file", path="a.py")


def test_text_in_another_encoding_is_read_with_replacements(root: Path) -> None:
    assert use(root, "read_file", path="latin.txt") == "1: caf\ufffd"


def test_a_huge_line_is_cut_and_says_by_how_much(root: Path) -> None:
    (root / "wide.json").write_text("x" * 3_000_000)

    assert use(root, "read_file", path="wide.json") == f"1: {'x' * 2_000} [+2,998,000]"


def test_searching_finds_text_as_written_in_text_files_only(root: Path) -> None:
    assert use(root, "search_files", text="needle") == "sub/b.txt:2: two needle"
    assert use(root, "search_files", text="n.edle") == "no line contains 'n.edle'"
    assert "search a folder or a longer text" in use(root, "search_files", text="line_")


def test_searching_can_be_narrowed_and_can_ignore_case(root: Path) -> None:
    assert use(root, "search_files", text="NEEDLE", ignore_case=True, pattern="*.txt") == "sub/b.txt:2: two needle"
    assert use(root, "search_files", text="needle", pattern="*.py") == "no line contains 'needle'"


def test_a_hit_in_a_long_line_shows_where_it_is(root: Path) -> None:
    (root / "wide.txt").write_text("x" * 5_000 + "gold" + "y" * 5_000)

    hit = use(root, "search_files", text="gold")

    assert "gold" in hit
    assert len(hit) < 500


def test_an_empty_folder_is_said_to_be_empty(tmp_path: Path) -> None:
    assert use(tmp_path, "list_files") == "no files in ."


def test_tools_for_a_folder_that_is_not_there_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError, match="gone"):
        FolderTools(tmp_path / "gone")


# --- Changing


def test_without_permission_there_are_no_tools_that_change_files(root: Path) -> None:
    assert [tool.name for tool in FolderTools(root).tools()] == ["list_files", "read_file", "search_files"]


def test_a_new_file_is_written_with_the_folders_above_it(root: Path) -> None:
    assert use(root, "write_file", path="deep/er/new.txt", text="a\nb\n") == "made deep/er/new.txt: 2 lines"
    assert (root / "deep" / "er" / "new.txt").read_text() == "a\nb\n"


def test_a_file_that_is_replaced_keeps_its_permissions_and_leaves_nothing_beside(root: Path) -> None:
    (root / "a.py").chmod(0o754)
    before = sorted(os.listdir(root))

    assert use(root, "write_file", path="a.py", text="x = 1\n") == "replaced a.py: 1 lines"
    assert (root / "a.py").read_text() == "x = 1\n"
    assert (root / "a.py").stat().st_mode & 0o777 == 0o754
    assert sorted(os.listdir(root)) == before


@pytest.mark.parametrize(
    "path", ["../new.txt", "/tmp/new.txt", "out/new.txt", "link.txt", "sub", ".", "a.py/new.txt", "nul\0byte"]
)
def test_nothing_is_written_where_it_must_not_be(root: Path, path: str) -> None:
    result = call(root, "write_file", path=path, text="x")

    assert result.is_error
    assert (root.parent / "secret.txt").read_text() == "needle outside"
    assert not (root.parent / "new.txt").exists()


@pytest.mark.parametrize("path", [".aloop/config", "sub/.ALOOP/config", "keys/config", ".aloop"])
def test_the_settings_of_the_agent_are_neither_shown_nor_written(root: Path, path: str) -> None:
    (root / ".aloop").mkdir()
    (root / ".aloop" / "config").write_text("OPENAI_API_KEY=sk-1")
    (root / "keys").symlink_to(root / ".aloop")

    for tool, arguments in {
        "read_file": {},
        "list_files": {},
        "search_files": {"text": "sk"},
        "write_file": {"text": "x"},
    }.items():
        result = call(root, tool, path=path, **arguments)
        assert result.is_error
        assert "settings of this agent" in result.text
    assert (root / ".aloop" / "config").read_text() == "OPENAI_API_KEY=sk-1"


def test_half_of_a_surrogate_pair_is_refused_and_the_file_stays(root: Path) -> None:
    assert "surrogate" in use(root, "write_file", path="a.py", text="\ud83d")
    assert (root / "a.py").read_text().startswith("line_1")


def test_a_text_that_occurs_once_is_replaced(root: Path) -> None:
    assert use(root, "edit_file", path="sub/b.txt", old="two needle", new="2") == "edited sub/b.txt in 1 place"
    assert (root / "sub" / "b.txt").read_text() == "one\n2\nthree\n"


@pytest.mark.parametrize(
    ("old", "said"),
    [("four", "does not contain that text"), ("", "does not contain that text"), ("e", "contains that text 6 times")],
)
def test_an_edit_that_is_not_clear_changes_nothing(root: Path, old: str, said: str) -> None:
    result = call(root, "edit_file", path="sub/b.txt", old=old, new="x")

    assert result.is_error
    assert said in result.text
    assert (root / "sub" / "b.txt").read_text() == "one\ntwo needle\nthree\n"


def test_every_occurrence_is_replaced_when_asked(root: Path) -> None:
    assert "in 6 places" in use(root, "edit_file", path="sub/b.txt", old="e", new="E", replace_all=True)


def test_line_ends_of_windows_are_kept_by_an_edit(root: Path) -> None:
    (root / "dos.txt").write_bytes(b"one\r\ntwo\r\nthree\r\n")

    use(root, "edit_file", path="dos.txt", old="one\ntwo", new="1\n2")

    assert (root / "dos.txt").read_bytes() == b"1\r\n2\r\nthree\r\n"


def test_a_file_that_is_no_utf8_is_not_damaged_by_an_edit(root: Path) -> None:
    before = (root / "latin.txt").read_bytes()

    assert "not UTF-8" in use(root, "edit_file", path="latin.txt", old="caf", new="tea")
    assert (root / "latin.txt").read_bytes() == before


# --- Between check and use


@pytest.mark.parametrize("is_writing", [False, True], ids=["read", "write"])
def test_a_folder_that_is_swapped_for_a_link_all_the_time_never_leads_out(tmp_path: Path, is_writing: bool) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "real").mkdir(parents=True)
    outside.mkdir()
    (root / "real" / "f.txt").write_text("inside")
    (outside / "f.txt").write_text("outside")
    (root / "door").symlink_to(outside)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            shutil.rmtree(root / "kept", ignore_errors=True)
            for name, other in (("real", "kept"), ("door", "real"), ("real", "door"), ("kept", "real")):
                with contextlib.suppress(OSError):  # a write makes the folder that is missing just now
                    os.rename(root / name, root / other)

    folder = Folder(root)
    swapping = threading.Thread(target=swap)
    swapping.start()
    seen = set()
    try:
        for _ in range(400):
            with contextlib.suppress(ToolError):
                if is_writing:
                    folder.write("real/f.txt", b"inside")
                else:
                    with folder.open("real/f.txt") as stream:
                        seen.add(stream.read())
    finally:
        stop.set()
        swapping.join(5)

    assert seen <= {b"inside"}
    assert (outside / "f.txt").read_text() == "outside"
