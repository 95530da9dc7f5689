"""What OpenAI's two APIs share: keys, error bodies, failures, headers, and how they word a wrong parameter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from .formats import Account, Json, Refusal
from .turns import Request

_LIMIT: Final = 10_000
_TOOLS: Final = 128


class OpenAIErrors:
    """Errors as https://platform.openai.com/docs/guides/error-codes describes them."""

    @property
    def base_path(self) -> str:
        return "/v1"

    def api_key(self, headers: Mapping[str, str], path: str) -> str:
        return headers.get("authorization", "").removeprefix("Bearer ").strip()

    def account_refusal(self, request: Request, account: Account) -> Refusal | None:
        """Return what is wrong with the key or the model; the key first, as the API does it."""
        if account.api_keys is not None and request.api_key not in account.api_keys:
            # https://platform.openai.com/docs/guides/error-codes; the API quotes the key in part, this does not.
            message = (
                "Incorrect API key provided. You can find your API key at https://platform.openai.com/account/api-keys."
            )
            return Refusal(status=401, message=message, code="invalid_api_key")
        if not request.model:
            return Refusal(message="you must provide a model parameter")
        if account.models is not None and request.model not in account.models:
            message = f"The model `{request.model}` does not exist or you do not have access to it."
            return Refusal(status=404, message=message, code="model_not_found", param="model")
        return None

    def error_body(self, refusal: Refusal, number: int) -> Json:
        error = {"message": refusal.message, "type": refusal.kind, "param": refusal.param, "code": refusal.code}
        return {"error": error}

    def failure(self, kind: str) -> Refusal:
        if kind == "rate_limit":
            message = "Rate limit reached for requests. Please try again later."
            return Refusal(status=429, message=message, kind="requests", code="rate_limit_exceeded")
        if kind == "server_error":
            message = "The server had an error while processing your request. Sorry about that!"
            return Refusal(status=500, message=message, kind="server_error")
        message = "The engine is currently overloaded, please try again later."
        return Refusal(status=503, message=message, kind="server_error")

    def unknown_path(self, path: str) -> Refusal:
        return Refusal(status=404, message=f"Invalid URL (POST {path})")

    def headers(self, number: int) -> Mapping[str, str]:
        return {
            "x-request-id": f"req_{number}",
            "x-ratelimit-limit-requests": str(_LIMIT),
            "x-ratelimit-remaining-requests": str(max(0, _LIMIT - number)),
            "x-ratelimit-reset-requests": "6ms",
        }


# --- Wrong parameters -------------------------------------------------------------------------------------------------


def missing(param: str, rule: str = "") -> Refusal:
    """Return the refusal of an absent field (https://github.com/langchain-ai/langgraphjs/issues/506)."""
    message = f"Missing required parameter: '{param}'."
    return Refusal(message=message, code="missing_required_parameter", param=param, rule=rule)


def wrong_type(param: str, expected: str, value: object, rule: str = "") -> Refusal:
    """Return the refusal of a value of another type (https://github.com/pydantic/pydantic-ai/issues/2653)."""
    message = f"Invalid type for '{param}': expected {expected}, but got {_kind(value)} instead."
    return Refusal(message=message, code="invalid_type", param=param, rule=rule)


def wrong_value(param: str, value: object, supported: Sequence[str], rule: str = "") -> Refusal:
    """Return the refusal of a value outside a list (https://github.com/aallam/openai-kotlin/issues/320)."""
    listed = ", ".join(f"'{one}'" for one in supported[:-1]) + f" and '{supported[-1]}'"
    message = f"Invalid value: '{value}'. Supported values are: {listed if len(supported) > 1 else listed[5:]}."
    return Refusal(message=message, code="invalid_value", param=param, rule=rule)


def empty_array(param: str, rule: str = "") -> Refusal:
    """Return the refusal of an empty list (https://github.com/CopilotKit/CopilotKit/issues/529)."""
    message = (
        f"Invalid '{param}': empty array. Expected an array with minimum length 1, but got an empty array instead."
    )
    return Refusal(message=message, code="empty_array", param=param, rule=rule)


def long_array(param: str, limit: int, length: int, rule: str = "") -> Refusal:
    """Return the refusal of a list beyond its limit (https://github.com/openai/openai-dotnet/issues/317)."""
    message = (
        f"Invalid '{param}': array too long. Expected an array with maximum length {limit}, but got an array with "
        f"length {length} instead."
    )
    return Refusal(message=message, code="array_above_max_length", param=param, rule=rule)


def long_string(param: str, limit: int, length: int, rule: str = "") -> Refusal:
    """Return the refusal of a text beyond its limit (https://github.com/BerriAI/litellm/issues/17343)."""
    message = (
        f"Invalid '{param}': string too long. Expected a string with maximum length {limit}, but got a string with "
        f"length {length} instead."
    )
    return Refusal(message=message, code="string_above_max_length", param=param, rule=rule)


def tools_problems(body: Mapping[str, Any], *, nested: bool) -> Iterator[Refusal]:
    """Yield what is wrong with a request's tools; `nested`: name and parameters stand under `function`.

    https://github.com/microsoft/autogen/issues/6935, https://github.com/bolna-ai/bolna/issues/144
    """
    tools = body.get("tools")
    if tools is None:
        return
    if not isinstance(tools, list):
        yield wrong_type("tools", "an array of objects", tools)
        return
    if not tools and nested:
        yield empty_array("tools")
    if len(tools) > _TOOLS:
        yield long_array("tools", _TOOLS, len(tools))
    for index, tool in enumerate(tools):
        yield from _tool_problems(f"tools[{index}]", tool, nested)


def _tool_problems(path: str, tool: Any, nested: bool) -> Iterator[Refusal]:
    if not isinstance(tool, Mapping):
        yield wrong_type(path, "an object", tool)
    elif "type" not in tool:
        yield missing(f"{path}.type")
    elif tool["type"] == "function" and nested and not isinstance(tool.get("function"), Mapping):
        yield missing(f"{path}.function")
    elif tool["type"] == "function":
        yield from _function_problems(f"{path}.function" if nested else path, tool["function"] if nested else tool)


def _function_problems(path: str, function: Mapping[str, Any]) -> Iterator[Refusal]:
    name = function.get("name")
    if not isinstance(name, str) or not name:
        yield missing(f"{path}.name")
        return
    if not all(letter.isascii() and (letter.isalnum() or letter in "_-") for letter in name):
        message = (
            f"Invalid '{path}.name': string does not match pattern. Expected a string that matches the pattern "
            "'^[a-zA-Z0-9_-]+$'."
        )
        yield Refusal(message=message, code="invalid_value", param=f"{path}.name")
    parameters = function.get("parameters")
    if isinstance(parameters, Mapping) and parameters.get("type", "object" if not parameters else None) != "object":
        message = f"Invalid schema for function '{name}': schema must be a JSON Schema of 'type: \"object\"'."
        yield Refusal(message=message, code="invalid_function_parameters", param=f"{path}.parameters")


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a decimal"
        case str():
            return "a string"
        case list():
            return "an array"
    return "an object"
