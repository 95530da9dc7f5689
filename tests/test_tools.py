"""Tools: from a function to a schema, from a call to a result."""

from __future__ import annotations

import asyncio
import functools
import json
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

from agent import Tool, Toolbox, ToolError
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
