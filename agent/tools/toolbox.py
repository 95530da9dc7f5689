"""The toolbox: runs the calls of a model, and whatever happens becomes a text that it can read."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import difflib
import inspect
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from pydantic import ConfigDict, TypeAdapter

from memory.errors import ConfigError
from memory.messages import ToolCall, ToolResult

from .schemas import ToolFunction, plain_function
from .tool import Tool, ToolError, clip


class Toolbox:
    """Runs calls. Not one of them raises: unknown tools, bad arguments, exceptions and time limits become results."""

    def __init__(self, tools: Iterable[Tool | ToolFunction] = (), *, max_result_characters: int = 200_000) -> None:
        """Take tools, and plain functions that become tools.

        Args:
            tools: In the order in which models see them.
            max_result_characters: A longer result is cut there, and says so.

        Raises:
            ConfigError: Two tools have one name, or a function cannot be a tool.
        """
        self._tools: dict[str, Tool] = {}
        self._max_result_characters = max_result_characters
        for item in tools:
            self._add(item if isinstance(item, Tool) else Tool.from_function(item))

    @property
    def schemas(self) -> list[dict[str, Any]]:
        """All tools in OpenAI chat form."""
        return [tool.schema for tool in self._tools.values()]

    @property
    def tools(self) -> tuple[Tool, ...]:
        """All tools, in the order in which models see them."""
        return tuple(self._tools.values())

    def keeps_newest(self, name: str) -> bool:
        """Whether only the newest result of this tool matters, and must stay in the context."""
        return name in self._tools and self._tools[name].keeps_newest

    def __len__(self) -> int:
        return len(self._tools)

    async def call_all(self, calls: Sequence[ToolCall]) -> list[ToolResult]:
        """Run calls side by side; the results stand in the order of the calls."""
        return list(await asyncio.gather(*map(self.call, calls)))

    async def call(self, call: ToolCall) -> ToolResult:
        """Run one call and return what the model is to read."""
        try:
            tool = self._find(call.name)
            text = await _run(tool, tool.check(call.arguments))
        except ToolError as error:
            return self._result(call, f"Error: {error}", is_error=True)
        return self._result(call, text, is_error=False)

    def _add(self, tool: Tool) -> None:
        if tool.name in self._tools:
            raise ConfigError(f"two tools are called {tool.name!r}; give one of them another name")
        self._tools[tool.name] = tool

    def _find(self, name: str) -> Tool:
        if name in self._tools:
            return self._tools[name]
        close = difflib.get_close_matches(name, self._tools, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ToolError(f"there is no tool {name!r}.{hint} Available: {', '.join(self._tools) or 'none'}.")

    def _result(self, call: ToolCall, text: str, *, is_error: bool) -> ToolResult:
        text = clip(_encodable(text), self._max_result_characters)
        return ToolResult(call_id=call.id, name=call.name, text=text, is_error=is_error)


async def _run(tool: Tool, arguments: Mapping[str, Any]) -> str:
    """Call the function within its time limit and return its result as text.

    Raises:
        ToolError: It raised, or took too long.
        asyncio.CancelledError: The agent itself was cancelled.
    """
    try:
        async with asyncio.timeout(tool.timeout_seconds) as limit:
            return _render(await _call(tool.function, arguments))
    except ToolError:
        raise
    except asyncio.CancelledError as error:
        if _is_cancelled_from_outside():
            raise
        raise ToolError(f"{tool.name} was cancelled before it had a result") from error
    except (Exception, SystemExit) as error:
        if limit.expired():
            raise ToolError(f"{tool.name} had no result after {tool.timeout_seconds:g} seconds") from error
        raise ToolError(_describe(error)) from error


def _is_cancelled_from_outside() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _call(function: ToolFunction, arguments: Mapping[str, Any]) -> object:
    if inspect.iscoroutinefunction(plain_function(function)):
        return await function(**arguments)
    value = await _in_thread(lambda: function(**arguments))
    return await value if isinstance(value, Awaitable) else value


async def _in_thread(work: Callable[[], object]) -> object:
    """Run work in a thread of its own, which a time limit can leave behind.

    A pool's threads are joined when the loop and the interpreter end, so one stuck tool would keep the
    program from ending; a daemon thread does not.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[object] = loop.create_future()
    context = contextvars.copy_context()

    def settle(value: object, error: BaseException | None) -> None:
        if done.cancelled():  # nobody waits any more
            if inspect.iscoroutine(value):
                value.close()
        elif error is None:
            done.set_result(value)
        else:
            done.set_exception(error)

    def body() -> None:
        value: object = None
        failure: BaseException | None = None
        try:
            value = context.run(work)
        except StopIteration as error:  # a future does not take one
            failure = RuntimeError(f"StopIteration: {error}")
        except BaseException as error:  # noqa: BLE001 - raised again where the result is awaited
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: the program has moved on
            loop.call_soon_threadsafe(settle, value, failure)

    threading.Thread(target=body, name="tool", daemon=True).start()
    return await done


def _render(value: object) -> str:
    """Return a result as text: strings as they are, what JSON can say as JSON, everything else as `str` has it."""
    if value is None:
        return "(no output)"
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bytes):
        return f"({len(value):,} bytes of binary data)"
    try:
        return _JSON.dump_json(value).decode()
    except ValueError:  # circular, or of a type that JSON has no word for
        return str(value)


_JSON: TypeAdapter[Any] = TypeAdapter(Any, config=ConfigDict(ser_json_inf_nan="strings", ser_json_bytes="base64"))


def _describe(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - its __str__ is foreign code as well
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _encodable(text: str) -> str:
    """Replace lone surrogates, which no provider's JSON can carry."""
    return text.encode("utf-8", "replace").decode("utf-8")
