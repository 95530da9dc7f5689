"""Tools: a plain function becomes something a model can call, and whatever happens becomes a text it can read.

The name, the signature and a Google-style docstring are all there is to write:

    toolbox = Toolbox([weather_in])
    result = await toolbox.call(ToolCall(id="c1", name="weather_in", arguments='{"town": "Bergen"}'))
    result.text, result.is_error
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import difflib
import functools
import inspect
import json
import re
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, TypeAdapter, ValidationError, create_model

from memory.errors import ConfigError
from memory.messages import ToolCall, ToolResult

ToolFunction: TypeAlias = Callable[..., Any]
"""Any function with named parameters, synchronous or not; what it returns is shown to the model as text or JSON."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SECTION = re.compile(r"(Args|Arguments|Parameters|Returns|Raises|Yields|Examples?|Notes?):\s*")
_ARGUMENT = re.compile(r"(\w+)(?:\s*\([^)]*\))?:\s*(.*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One function that a model may call. Make it with `Tool.from_function`."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    """JSON schema of the arguments."""
    function: ToolFunction
    arguments: type[BaseModel]
    """Checks the arguments; its aliases are the parameter names."""
    timeout_seconds: float | None = 30.0
    """None waits for ever."""

    @classmethod
    def from_function(
        cls,
        function: ToolFunction,
        *,
        name: str | None = None,
        description: str | None = None,
        timeout_seconds: float | None = 30.0,
    ) -> Tool:
        """Describe a function to models: schema from the signature, descriptions from a Google-style docstring.

        Raises:
            ConfigError: The name is none that providers accept, a parameter cannot be passed by name, or an
                annotation has no JSON schema.
        """
        own_name: str = getattr(function, "__name__", type(function).__name__)
        name = _checked_name(name or own_name)
        summary, notes = _parse_docstring(inspect.getdoc(function) or "")
        arguments, parameters = _describe_parameters(name, function, notes)
        return cls(
            name=name,
            description=summary if description is None else description,
            parameters=parameters,
            function=function,
            arguments=arguments,
            timeout_seconds=timeout_seconds,
        )

    @property
    def schema(self) -> dict[str, Any]:
        """The tool as OpenAI chat wants to see it; the other providers' forms are made from this one."""
        function = {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}
        return {"type": "function", "function": function}

    def check(self, arguments: str) -> dict[str, Any]:
        """Return the arguments that a model wrote as JSON, checked and converted to the annotated types.

        Raises:
            ToolError: They are no JSON object, or do not fit the signature; says which and what was expected.
        """
        try:
            checked = self.arguments.model_validate(_parse_object(arguments))
        except ValidationError as error:
            problems = "; ".join(_problem(detail) for detail in error.errors(include_url=False))
            raise ToolError(f"bad arguments for {self.name}: {problems}") from error
        # Only what the model set: an absent argument takes the default of the function itself.
        fields = type(checked).model_fields
        return {str(fields[field].alias): getattr(checked, field) for field in checked.model_fields_set}


class ToolError(Exception):
    """A call cannot be done; the text is for the model, which can read it and try again.

    Tools may raise it. Any other exception becomes a result too, with its type in front.
    """


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
        text = _clip(_encodable(text), self._max_result_characters)
        return ToolResult(call_id=call.id, name=call.name, text=text, is_error=is_error)


# --- From a function to a schema


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        # OpenAI: FunctionDefinition.name in openai-python, types/shared_params/function_definition.py.
        raise ConfigError(f"{name!r} cannot name a tool: 1 to 64 letters, digits, '_' or '-'. Pass name=...")
    return name


def _describe_parameters(
    tool: str, function: ToolFunction, notes: Mapping[str, str]
) -> tuple[type[BaseModel], dict[str, Any]]:
    """Return the model that checks the arguments, and its JSON schema."""
    try:
        hints = get_type_hints(_plain_function(function), include_extras=True)
        fields: dict[str, Any] = {
            # Our own field names: a parameter may be called `json` or `_x`, which a model's field may not.
            f"field_{index}": _field(tool, parameter, hints.get(name, Any), notes.get(name))
            for index, (name, parameter) in enumerate(inspect.signature(function).parameters.items())
        }
        model = create_model(tool, __config__=_CHECKS, **fields)
        schema = model.model_json_schema(by_alias=True)
    except (NameError, TypeError, PydanticUserError) as error:
        raise ConfigError(f"{tool!r} cannot become a tool: {error}") from error
    return model, _without_titles(schema)


_CHECKS = ConfigDict(extra="forbid", coerce_numbers_to_str=True, arbitrary_types_allowed=False)


def _plain_function(function: ToolFunction) -> ToolFunction:
    """Return what carries the annotations: an object that can be called keeps them on its method."""
    function = function.func if isinstance(function, functools.partial) else function
    return function if inspect.isroutine(function) else type(function).__call__


def _field(tool: str, parameter: inspect.Parameter, hint: Any, note: str | None) -> tuple[Any, Any]:
    if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
        raise TypeError(f"parameter {str(parameter)!r} cannot be passed by name, and models pass by name only")
    default = ... if parameter.default is parameter.empty else parameter.default
    described = Annotated[hint, Field(description=note)] if note else hint
    return described, Field(default, alias=parameter.name)


def _without_titles(schema: dict[str, Any]) -> dict[str, Any]:
    """Drop the titles that pydantic derives from names: they cost tokens with every request and say nothing."""
    schema.pop("title", None)
    for part in schema.get("properties", {}).values():
        part.pop("title", None)
    return schema


def _parse_docstring(text: str) -> tuple[str, dict[str, str]]:
    """Return the part before the first section, and the description of each argument."""
    sections: dict[str, list[str]] = {"": []}
    lines = sections[""]
    for line in text.splitlines():
        if heading := _SECTION.fullmatch(line):
            lines = sections.setdefault(heading[1], [])
        else:
            lines.append(line)
    arguments = [line for name in ("Args", "Arguments", "Parameters") for line in sections.get(name, ())]
    return "\n".join(sections[""]).strip(), _parse_arguments(arguments)


def _parse_arguments(lines: Sequence[str]) -> dict[str, str]:
    notes: dict[str, str] = {}
    indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    name = None
    for line in lines:
        match = _ARGUMENT.fullmatch(line[indent:]) if not line[indent : indent + 1].isspace() else None
        if match:
            name = match[1]
            notes[name] = match[2]
        elif name and line.strip():
            notes[name] = f"{notes[name]} {line.strip()}".strip()
    return notes


# --- From a call to a text


def _parse_object(arguments: str) -> dict[str, Any]:
    # Providers send "" for a call without arguments (openai-python issue threads show it for several servers).
    try:
        parsed = json.loads(arguments or "{}")
    except (ValueError, RecursionError) as error:
        raise ToolError(f"the arguments are not valid JSON ({error}); send one JSON object") from error
    if not isinstance(parsed, dict):
        raise ToolError(f"the arguments are a JSON {type(parsed).__name__}; send one JSON object")
    return parsed


def _problem(detail: Any) -> str:
    where = ".".join(map(str, detail["loc"])) or "arguments"
    if detail["type"] == "missing":
        return f"{where} is required"
    if detail["type"] == "extra_forbidden":
        return f"{where} is not one of its arguments"
    return f"{where}: {detail['msg']}, got {_clip(repr(detail['input']), 200)}"


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
    if inspect.iscoroutinefunction(_plain_function(function)):
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


def _clip(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    return f"{text[:limit]}\n[cut: the first {limit:,} of {len(text):,} characters]"


def _encodable(text: str) -> str:
    """Replace lone surrogates, which no provider's JSON can carry."""
    return text.encode("utf-8", "replace").decode("utf-8")
