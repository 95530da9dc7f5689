"""From a function to what a model is told of it: a JSON schema from the signature, words from the docstring."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypeAlias, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, create_model

from memory.errors import ConfigError

ToolFunction: TypeAlias = Callable[..., Any]
"""Any function with named parameters, synchronous or not; what it returns is shown to the model as text or JSON."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SECTION = re.compile(r"(Args|Arguments|Parameters|Returns|Raises|Yields|Examples?|Notes?):\s*")
_ARGUMENT = re.compile(r"(\w+)(?:\s*\([^)]*\))?:\s*(.*)")


def checked_name(name: str) -> str:
    """Return the name if providers accept it.

    Raises:
        ConfigError: They do not.
    """
    if not _NAME.fullmatch(name):
        # OpenAI: FunctionDefinition.name in openai-python, types/shared_params/function_definition.py.
        raise ConfigError(f"{name!r} cannot name a tool: 1 to 64 letters, digits, '_' or '-'. Pass name=...")
    return name


def describe_parameters(
    tool: str, function: ToolFunction, notes: Mapping[str, str]
) -> tuple[type[BaseModel], dict[str, Any]]:
    """Return the model that checks the arguments, and its JSON schema.

    Raises:
        ConfigError: A parameter cannot be passed by name, or an annotation has no JSON schema.
    """
    try:
        hints = get_type_hints(plain_function(function), include_extras=True)
        fields: dict[str, Any] = {
            # Our own field names: a parameter may be called `json` or `_x`, which a model's field may not.
            f"field_{index}": _field(tool, parameter, hints.get(name, Any), notes.get(name))
            for index, (name, parameter) in enumerate(inspect.signature(function).parameters.items())
        }
        model = create_model(tool, __config__=_CHECKS, **fields)
        schema = model.model_json_schema(by_alias=True)
    except (NameError, TypeError, PydanticUserError) as error:
        raise ConfigError(f"{tool!r} cannot become a tool: {error}") from error
    return model, _slim(schema)


_CHECKS = ConfigDict(extra="forbid", coerce_numbers_to_str=True, arbitrary_types_allowed=False)


def plain_function(function: ToolFunction) -> ToolFunction:
    """Return what carries the annotations: an object that can be called keeps them on its method."""
    function = function.func if isinstance(function, functools.partial) else function
    return function if inspect.isroutine(function) else type(function).__call__


def parse_docstring(text: str) -> tuple[str, dict[str, str]]:
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


def _field(tool: str, parameter: inspect.Parameter, hint: Any, note: str | None) -> tuple[Any, Any]:
    if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
        raise TypeError(f"parameter {str(parameter)!r} cannot be passed by name, and models pass by name only")
    default = ... if parameter.default is parameter.empty else parameter.default
    described = Annotated[hint, Field(description=note)] if note else hint
    return described, Field(default, alias=parameter.name)


def _slim(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema without titles, and with each definition where it is used.

    Titles, which pydantic derives from names, cost tokens with every request and say nothing. `$ref` is unknown to
    Gemini's `Schema` (https://ai.google.dev/api/caching#Schema); a definition that contains itself keeps it.
    """
    definitions = schema.pop("$defs", {})
    slim: dict[str, Any] = _rewritten(schema, definitions, ())
    if "#/$defs/" in str(slim):
        slim["$defs"] = {name: _rewritten(definition, {}, ()) for name, definition in definitions.items()}
    return slim


_VALUES = frozenset({"default", "const", "enum", "examples"})
"""What stands under these keys is data, whatever it looks like."""


def _rewritten(schema: Any, definitions: Mapping[str, Any], inside: tuple[str, ...]) -> Any:
    if isinstance(schema, list):
        return [_rewritten(part, definitions, inside) for part in schema]
    if not isinstance(schema, dict):
        return schema
    name = str(schema.get("$ref", "")).removeprefix("#/$defs/")
    if name in definitions and name not in inside:
        beside = {key: part for key, part in schema.items() if key != "$ref"}
        return _rewritten({**definitions[name], **beside}, definitions, (*inside, name))
    return {key: _rewritten_part(key, part, definitions, inside) for key, part in schema.items() if key != "title"}


def _rewritten_part(key: str, part: Any, definitions: Mapping[str, Any], inside: tuple[str, ...]) -> Any:
    if key in _VALUES:
        return part
    if key == "properties":  # its keys are names of parameters, and one may be called "title" or "default"
        return {name: _rewritten(inner, definitions, inside) for name, inner in part.items()}
    return _rewritten(part, definitions, inside)


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
