"""One tool: a function with the words and the schema under which a model may call it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from .schemas import ToolFunction, checked_name, describe_parameters, parse_docstring


class ToolError(Exception):
    """A call cannot be done; the text is for the model, which can read it and try again.

    Tools may raise it. Any other exception becomes a result too, with its type in front.
    """


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
    keeps_newest: bool = False
    """Each result replaces the one before (a todo list): an agent keeps the newest one in the context, pinned through
    every compression, and lets the older ones go."""

    @classmethod
    def from_function(
        cls,
        function: ToolFunction,
        *,
        name: str | None = None,
        description: str | None = None,
        timeout_seconds: float | None = 30.0,
        keeps_newest: bool = False,
    ) -> Tool:
        """Describe a function to models: schema from the signature, descriptions from a Google-style docstring.

        Raises:
            ConfigError: The name is none that providers accept, a parameter cannot be passed by name, or an
                annotation has no JSON schema.
        """
        own_name: str = getattr(function, "__name__", type(function).__name__)
        name = checked_name(name or own_name)
        summary, notes = parse_docstring(inspect.getdoc(function) or "")
        arguments, parameters = describe_parameters(name, function, notes)
        return cls(
            name=name,
            description=summary if description is None else description,
            parameters=parameters,
            function=function,
            arguments=arguments,
            timeout_seconds=timeout_seconds,
            keeps_newest=keeps_newest,
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


def clip(text: str, limit: int) -> str:
    """Return the text, or its beginning and a line that says how much there was."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}\n[cut: the first {limit:,} of {len(text):,} characters]"


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
    return f"{where}: {detail['msg']}, got {clip(repr(detail['input']), 200)}"
