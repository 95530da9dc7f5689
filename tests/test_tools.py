"""Tools: from a function to a schema, from a call to a result."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import FolderTools, Tool, Toolbox, ToolError
from memory.errors import ConfigError
from memory.messages import ToolCall, ToolResult


def weather_in(town: str, unit: Literal["C", "F"] = "C", days: int | None = None, tags: list[str] | None = None) -> str:
    """Tell the weather in a town.

    Longer explanation.

    Args:
        town: Name of the town, for example
            `Bergen`.
        unit (str): Unit of the temperature.
        days: How many days ahead.

    Returns:
        A sentence.
    """
    return f"{town} {unit} {days} {tags}"


def call(name: str, arguments: object = "{}") -> ToolCall:
    return ToolCall(id="c1", name=name, arguments=arguments if isinstance(arguments, str) else json.dumps(arguments))


def run(function: Callable[..., Any], arguments: object = "{}", **options: Any) -> ToolResult:
    tool = Tool.from_function(function, name="tool", **options)
    return asyncio.run(Toolbox([tool]).call(call("tool", arguments)))


# --- Schemas


def test_the_schema_says_what_signature_and_docstring_say() -> None:
    assert Tool.from_function(weather_in).schema == {
        "type": "function",
        "function": {
            "name": "weather_in",
            "description": "Tell the weather in a town.\n\nLonger explanation.",
            "parameters": {
                "type": "object",
                "properties": {
                    "town": {"type": "string", "description": "Name of the town, for example `Bergen`."},
                    "unit": {
                        "type": "string",
                        "enum": ["C", "F"],
                        "default": "C",
                        "description": "Unit of the temperature.",
                    },
                    "days": {
                        "anyOf": [{"type": "integer"}, {"type": "null"}],
                        "default": None,
                        "description": "How many days ahead.",
                    },
                    "tags": {
                        "anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}],
                        "default": None,
                    },
                },
                "required": ["town"],
                "additionalProperties": False,
            },
        },
    }


def test_a_function_without_parameters_has_an_empty_object_as_schema() -> None:
    def now() -> str:
        return "noon"

    assert Tool.from_function(now).parameters == {"type": "object", "properties": {}, "additionalProperties": False}


def test_parameters_may_have_names_that_pydantic_reserves() -> None:
    def odd(json: str, _hidden: int, model_config: str, title: str) -> str:
        return f"{json} {_hidden} {model_config} {title}"

    assert set(Tool.from_function(odd).parameters["properties"]) == {"json", "_hidden", "model_config", "title"}
    assert run(odd, {"json": "a", "_hidden": 1, "model_config": "b", "title": "c"}).text == "a 1 b c"


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (lambda x: x, "cannot name a tool"),
        (print, "cannot be passed by name"),
        (len, "cannot be passed by name"),
    ],
    ids=["lambda", "star", "positional"],
)
def test_a_function_that_cannot_be_a_tool_is_an_error_that_says_why(function: Callable[..., Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        Tool.from_function(function)


def test_an_annotation_without_a_schema_is_an_error_that_names_the_tool() -> None:
    def connect(socket: Callable[[], asyncio.AbstractEventLoop]) -> None: ...

    with pytest.raises(ConfigError, match="'connect'"):
        Tool.from_function(connect)


def test_two_tools_of_one_name_are_an_error() -> None:
    with pytest.raises(ConfigError, match="weather_in"):
        Toolbox([weather_in, weather_in])


# --- Arguments


def test_arguments_arrive_as_the_annotated_types() -> None:
    def days_until(day: date, scale: float = 1.0) -> str:
        return f"{type(day).__name__} {scale}"

    assert run(days_until, {"day": "2026-11-21", "scale": "2"}).text == "date 2.0"


def test_an_absent_argument_takes_the_default_of_the_function() -> None:
    assert run(weather_in, {"town": "Bergen"}).text == "Bergen C None None"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("{town: Bergen", "not valid JSON"),
        ("[1]", "are a JSON list"),
        ("null", "are a JSON NoneType"),
        ("", "town is required"),
        ({"town": "a", "country": "b"}, "country is not one of its arguments"),
        ({"town": "a", "unit": "K"}, "unit: Input should be 'C' or 'F', got 'K'"),
        ({"town": "a", "days": "soon"}, "days"),
        ({"town": ["a"]}, "town: Input should be a valid string"),
        ("[" * 100_000, "not valid JSON"),
    ],
)
def test_bad_arguments_become_a_result_that_says_what_to_correct(arguments: object, said: str) -> None:
    result = run(weather_in, arguments)

    assert result.is_error
    assert said in result.text
    assert len(result.text) < 600


def test_an_unknown_tool_becomes_a_result_that_names_the_nearest_one() -> None:
    result = asyncio.run(Toolbox([weather_in]).call(call("wether_in")))

    assert result.is_error
    assert "'weather_in'" in result.text


# --- Results


@dataclass
class Point:
    x: int
    y: int


def _circular() -> list[Any]:
    ring: list[Any] = []
    ring.append(ring)
    return ring


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        (None, "(no output)"),
        (3, "3"),
        ({"a": [1, None]}, '{"a":[1,null]}'),
        (Point(1, 2), '{"x":1,"y":2}'),
        (Path("a/b"), '"a/b"'),
        (b"\x00\xff", "(2 bytes of binary data)"),
        (float("nan"), '"NaN"'),
        ("half \ud83d a pair", "half ? a pair"),
        (_circular(), "[[...]]"),
    ],
)
def test_whatever_a_tool_returns_becomes_text(value: object, text: str) -> None:
    def give() -> object:
        return value

    assert run(give).text == text


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ToolError("try b.py"), "Error: try b.py"),
        (ValueError("bad day"), "Error: ValueError: bad day"),
        (KeyError("k"), "Error: KeyError: 'k'"),
        (StopIteration(), "Error: RuntimeError"),
        (SystemExit(3), "Error: SystemExit: 3"),
        (RecursionError(), "Error: RecursionError"),
        (TimeoutError("the host is slow"), "Error: TimeoutError: the host is slow"),
        (asyncio.CancelledError(), "Error: tool was cancelled before it had a result"),
        (UnspeakableError(), "Error: UnspeakableError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_whatever_a_tool_raises_becomes_a_result(error: BaseException, text: str, is_async: bool) -> None:
    def fail() -> None:
        raise error

    async def fail_async() -> None:
        raise error

    result = run(fail_async if is_async else fail)

    assert result.is_error
    assert result.text.startswith(text)


def test_a_huge_result_is_cut_and_says_so() -> None:
    def shout() -> str:
        return "a" * 1_000_000

    result = asyncio.run(Toolbox([shout], max_result_characters=1_000).call(call("shout")))

    assert len(result.text) < 1_100
    assert "the first 1,000 of 1,000,000 characters" in result.text


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_tool_that_never_returns_ends_at_its_time_limit(is_async: bool) -> None:
    release = asyncio.Event()

    def hang() -> None:
        threading.Event().wait()

    async def hang_async() -> None:
        await release.wait()

    began = time.perf_counter()
    result = run(hang_async if is_async else hang, timeout_seconds=0.02)

    assert result.text == "Error: tool had no result after 0.02 seconds"
    assert time.perf_counter() - began < 1


def test_parallel_calls_run_side_by_side_and_their_results_keep_the_order_of_the_calls() -> None:
    async def play() -> list[ToolResult]:
        met = asyncio.Barrier(3)

        async def meet(who: str) -> str:
            await met.wait()  # passes only when all three are here
            return who

        calls = [ToolCall(id=f"c{who}", name="meet", arguments=json.dumps({"who": who})) for who in "321"]
        return await Toolbox([meet]).call_all(calls)

    results = asyncio.run(play())

    assert [result.text for result in results] == ["3", "2", "1"]
    assert [result.call_id for result in results] == ["c3", "c2", "c1"]


def test_bound_methods_partials_callable_objects_and_decorated_coroutines_are_tools_too() -> None:
    class Greeter:
        def greet(self, name: str) -> str:
            return f"hi {name}"

        async def __call__(self, name: str) -> str:
            return f"hello {name}"

    def greet(greeting: str, name: str) -> str:
        return f"{greeting} {name}"

    async def greet_async(name: str) -> str:
        return f"hey {name}"

    @functools.wraps(greet_async)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return greet_async(*args, **kwargs)

    functions: list[Callable[..., Any]] = [Greeter().greet, Greeter(), functools.partial(greet, "moin"), wrapped]
    assert [run(function, {"name": "Ada"}).text for function in functions] == [
        "hi Ada",
        "hello Ada",
        "moin Ada",
        "hey Ada",
    ]


@given(st.text(max_size=40), st.text(max_size=60))
def test_no_name_and_no_arguments_that_a_model_could_write_raise(name: str, arguments: str) -> None:
    result = asyncio.run(Toolbox([weather_in]).call(call(name, arguments)))

    assert result.is_error
    result.text.encode()


# --- Files


@pytest.fixture
def folder(tmp_path: Path) -> FolderTools:
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
    return FolderTools(root)


def use(folder: FolderTools, name: str, **arguments: object) -> str:
    return asyncio.run(Toolbox(folder.tools()).call(call(name, arguments))).text


def test_listing_shows_sizes_and_leaves_out_hidden_folders_and_links(folder: FolderTools) -> None:
    listing = use(folder, "list_files")

    assert [line.split()[1] for line in listing.splitlines()] == ["-l", "a.py", "blob.bin", "latin.txt", "sub/b.txt"]
    assert "blob.bin (binary)" in listing
    assert "21 sub/b.txt" in listing


def test_reading_numbers_the_lines_and_says_where_to_go_on(folder: FolderTools) -> None:
    text = use(folder, "read_file", path="a.py", first_line=10, line_count=2)

    assert text == "10: line_10 = 10\n11: line_11 = 11\n[more lines follow from 12 on]"
    assert use(folder, "read_file", path="a.py", first_line=300).endswith("300: line_300 = 300")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("../secret.txt", "outside the folder"),
        ("link.txt", "outside the folder"),
        ("/etc/passwd", "outside the folder"),
        ("sub/../../secret.txt", "outside the folder"),
        ("missing.txt", "there is no 'missing.txt'"),
        ("sub", "is not a file"),
        ("blob.bin", "is binary, 12 bytes"),
        ("nul\0byte", "no usable path"),
        ("x" * 5_000, "there is no"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_answer_that_says_why(folder: FolderTools, path: str, said: str) -> None:
    assert said in use(folder, "read_file", path=path)


def test_a_pipe_is_not_read(folder: FolderTools) -> None:

    os.mkfifo(folder.root / "pipe")

    assert "is not a file" in use(folder, "read_file", path="pipe")
    assert "pipe" not in use(folder, "list_files")


def test_text_in_another_encoding_is_read_with_replacements(folder: FolderTools) -> None:
    assert use(folder, "read_file", path="latin.txt") == "1: caf\ufffd"


def test_a_huge_line_is_cut(folder: FolderTools) -> None:
    (folder.root / "wide.json").write_text("x" * 3_000_000)

    assert len(use(folder, "read_file", path="wide.json")) < 700


def test_searching_finds_text_as_written_in_text_files_only(folder: FolderTools) -> None:
    assert use(folder, "search_files", text="needle") == "sub/b.txt:2: two needle"
    assert use(folder, "search_files", text="n.edle") == "no line contains 'n.edle'"
    assert "search a folder or a longer text" in use(folder, "search_files", text="line_")


def test_an_empty_folder_is_said_to_be_empty(tmp_path: Path) -> None:
    assert use(FolderTools(tmp_path), "list_files") == "no files in ."


def test_harmless_commands_run_without_a_shell(folder: FolderTools) -> None:
    assert "exit code 0\nPython 3" in use(folder, "run_command", command="python --version")
    assert "300 ./a.py" in use(folder, "run_command", command="wc -l a.py")


@pytest.mark.parametrize(
    "command",
    [
        "rm -rf .",
        "python a.py",
        "python",
        "python -c 'print(1)'",
        "wc",
        "wc --files0-from=a.py",
        "wc -l ../secret.txt",
        "wc -l a.py; ls",
        "wc -l 'a.py",
        "",
    ],
)
def test_a_command_that_could_do_more_than_look_is_refused(folder: FolderTools, command: str) -> None:
    text = use(folder, "run_command", command=command)

    assert text.startswith("Error:")
    assert "exit code" not in text


def test_tools_for_a_folder_that_is_not_there_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError, match="gone"):
        FolderTools(tmp_path / "gone")


def test_the_python_that_runs_is_the_one_that_runs_us(folder: FolderTools) -> None:
    version = ".".join(map(str, sys.version_info[:3]))

    assert version in use(folder, "run_command", command="python -V")
