"""What Gemini's generateContent refuses. Written without a look at the rules of `memory.dialects`, to check them.

Keys may be in camelCase or snake_case, as in protobuf's JSON. Paths in messages are in snake_case, as the API has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .formats import Refusal, revealed

_ROLES: Final = ("user", "model", "function")
_FLAGS: Final = frozenset(
    {"thought", "thoughtSignature", "thought_signature", "videoMetadata", "video_metadata", "partMetadata"}
)
_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,127}")
_PLACEHOLDERS: Final = frozenset({"skip_thought_signature_validator", "context_engineering_is_the_way_to_go"})
SEAL: Final = "simulated-signature"

Turn = tuple[str, list[tuple[str, Mapping[str, Any]]]]
"""Who speaks (`model` or `user`), and the parts of all contents in a row, each with its path."""


def judge(body: Mapping[str, Any], *, checks_signatures: bool) -> Refusal | None:
    """Return the first thing that the API would refuse, None if it would answer."""
    return next(_problems(body, checks_signatures), None)


def _problems(body: Mapping[str, Any], checks_signatures: bool) -> Iterator[Refusal]:
    contents = body.get("contents")
    if not contents:
        yield _no("* GenerateContentRequest.contents: contents is not specified\n", "C-1")
        return
    if not isinstance(contents, list):
        yield _no("Invalid value at 'contents' (type.googleapis.com/google.ai.generativelanguage.v1beta.Content)")
        return
    for index, content in enumerate(contents):
        yield from _content_problems(f"contents[{index}]", content)
    turns = _turns(contents)
    yield from _order_problems(turns)
    yield from _pair_problems(turns)
    if checks_signatures:
        yield from _signature_problems(contents)
    yield from _tools_problems(body.get("tools"))


def _no(message: str, rule: str = "") -> Refusal:
    return Refusal(message=message, kind="INVALID_ARGUMENT", rule=rule)


# --- One content ------------------------------------------------------------------------------------------------------


def _content_problems(at: str, content: Any) -> Iterator[Refusal]:
    if not isinstance(content, Mapping):
        yield _no(f"Invalid value at '{at}' (type.googleapis.com/google.ai.generativelanguage.v1beta.Content)", "GE-0")
        return
    role, parts = content.get("role") or "user", content.get("parts")
    if role not in _ROLES:
        # https://github.com/songquanpeng/one-api/issues/1385
        yield _no("Please use a valid role: user, model.", "GE-10" if role == "system" else "GE-0")
    if parts is not None and not isinstance(parts, list):
        yield _no(
            f"Invalid value at '{at}.parts' (type.googleapis.com/google.ai.generativelanguage.v1beta.Part)", "GE-0"
        )
    elif not parts:
        # https://github.com/vercel/ai/issues/3775
        yield _no(f"* GenerateContentRequest.{at}.parts: contents.parts must not be empty.\n", "GE-7")
    for number, part in enumerate(parts if isinstance(parts, list) else ()):
        yield from _part_problems(f"{at}.parts[{number}]", part)


def _part_problems(at: str, part: Any) -> Iterator[Refusal]:
    if not isinstance(part, Mapping) or not part.keys() - _FLAGS:
        # https://github.com/router-for-me/CLIProxyAPI/issues/1292
        text = "required oneof field 'data' must have one initialized field"
        yield _no(f"* GenerateContentRequest.{at}.data: {text}\n", "GE-7")
        return
    for name, field in (("function_call", "args"), ("function_response", "response")):
        body = field_of(part, name)
        if body is not None:
            yield from _function_problems(f"{at}.{name}", body, field)


def _function_problems(at: str, body: Any, field: str) -> Iterator[Refusal]:
    if not isinstance(body, Mapping) or not body.get("name"):
        yield _no(f"* GenerateContentRequest.{at}.name: Name cannot be empty.\n", "GE-0")
    elif body.get(field) is not None and not isinstance(body[field], Mapping):
        yield _no(f"Invalid value at '{at}.{field}' (type.googleapis.com/google.protobuf.Struct)", "GE-11")
    elif field == "response" and field not in body:
        yield _no(f"* GenerateContentRequest.{at}.{field}: response is required\n", "GE-11")


def field_of(part: Mapping[str, Any], name: str) -> Any:
    """Return a field by its snake_case name, however it is written; None if it is absent."""
    first, *rest = name.split("_")
    camel = first + "".join(word.capitalize() for word in rest)
    return part[camel] if part.get(camel) is not None else part.get(name)


# --- The list ---------------------------------------------------------------------------------------------------------


def _turns(contents: Sequence[Mapping[str, Any]]) -> list[Turn]:
    turns: list[Turn] = []
    for index, content in enumerate(contents):
        role = "model" if content.get("role") == "model" else "user"
        if not turns or turns[-1][0] != role:
            turns.append((role, []))
        turns[-1][1].extend((f"contents[{index}].parts[{n}]", part) for n, part in enumerate(content["parts"]))
    return turns


def _order_problems(turns: Sequence[Turn]) -> Iterator[Refusal]:
    if turns[0][0] == "model" and _calls(turns[0]):
        # https://github.com/google-gemini/gemini-cli/issues/11814
        text = (
            "Please ensure that function call turn comes immediately after a user turn or after a function response "
            "turn."
        )
        yield _no(text, "GE-1")
    if len(turns) == 1 and turns[0][0] == "model":
        # https://github.com/microsoft/semantic-kernel/pull/13288
        yield _no("Please ensure that single turn requests end with a user role or the role field is empty.", "GE-6")
    elif turns[-1][0] == "model":
        # https://github.com/songquanpeng/one-api/issues/836
        yield _no("Please ensure that multiturn requests ends with a user role or a function response.", "GE-6")
    if turns[0][0] == "model":
        yield _no("Please ensure that multiturn requests alternate between user and model.", "GE-1")


def _pair_problems(turns: Sequence[Turn]) -> Iterator[Refusal]:
    """A turn of calls is answered by the turn behind it, by as many responses, name by name."""
    for number, turn in enumerate(turns):
        responses = _responses(turn)
        calls = _calls(turns[number - 1]) if number else []
        if turn[0] == "model":
            continue
        if responses and not calls:
            # https://github.com/langchain-ai/langchain/issues/27799
            text = "Please ensure that function response turn comes immediately after a function call turn."
            yield _no(text, "GE-3")
        elif len(responses) != len(calls):
            # https://github.com/google-gemini/gemini-cli/issues/5443
            text = (
                "Please ensure that the number of function response parts is equal to the number of function call "
                "parts of the function call turn."
            )
            yield _no(text, "GE-3")
        elif calls:
            yield from _name_problems(calls, responses)
            yield from _place_problems(turn)


def _place_problems(turn: Turn) -> Iterator[Refusal]:
    """The responses come first (GE-14); text behind them is let pass, on which reports differ (GE-5)."""
    first = next(iter(turn[1]))
    if field_of(first[1], "function_response") is None:
        text = "Please ensure that function response turn comes immediately after a function call turn."
        yield _no(text, "GE-14")


def _name_problems(calls: Sequence[Mapping[str, Any]], responses: Sequence[Mapping[str, Any]]) -> Iterator[Refusal]:
    """google-genai: types.FunctionResponse ("Matches [FunctionDeclaration.name] and [FunctionCall.name]")."""
    names = sorted(str(call["name"]) for call in calls)
    ids = {str(call["id"]): call["name"] for call in calls if call.get("id")}
    if names != sorted(str(response["name"]) for response in responses):
        yield _no("Please ensure that function response names match the names of the function calls.", "GE-4")
    for response in responses:
        id_ = response.get("id")
        if id_ and ids and ids.get(str(id_)) != response["name"]:
            yield _no(f"Function response id {id_} does not match any function call of that name.", "GE-4")


def _calls(turn: Turn) -> list[Mapping[str, Any]]:
    return [call for _, part in turn[1] if (call := field_of(part, "function_call")) is not None]


def _responses(turn: Turn) -> list[Mapping[str, Any]]:
    return [one for _, part in turn[1] if (one := field_of(part, "function_response")) is not None]


# --- Signatures -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Step:
    position: int
    """From 1, in the contents."""
    parts: Sequence[Mapping[str, Any]]


def _signature_problems(contents: Sequence[Mapping[str, Any]]) -> Iterator[Refusal]:
    """The first call of each step of the current turn has its signature; parallel siblings have none.

    https://ai.google.dev/gemini-api/docs/thought-signatures; https://github.com/askimo-ai/askimo/issues/543
    """
    for step in _current_steps(contents):
        first = next((part for part in step.parts if field_of(part, "function_call") is not None), None)
        if first is None:
            continue
        signature = field_of(first, "thought_signature")
        if not signature:
            name = field_of(first, "function_call")["name"]
            text = (
                "Function call is missing a thought_signature in functionCall parts. This is required for tools to "
                "work correctly, and missing thought_signature may lead to degraded model performance. Additional "
                f"data, function call `default_api:{name}` , position {step.position}. Please refer to "
                "https://ai.google.dev/gemini-api/docs/thought-signatures for more details."
            )
            yield _no(text, "GE-8")
        elif not _is_known(str(signature)):
            # https://github.com/earendil-works/pi/issues/471
            yield _no("Corrupted thought signature.", "GE-8")


def _current_steps(contents: Sequence[Mapping[str, Any]]) -> list[_Step]:
    """Return the model's contents since the user last said something."""
    steps: list[_Step] = []
    for position in range(len(contents), 0, -1):
        content = contents[position - 1]
        if content.get("role") == "model":
            steps.append(_Step(position, content["parts"]))
        elif any(field_of(part, "function_response") is None for part in content["parts"]):
            break
    return steps[::-1]


def _is_known(signature: str) -> bool:
    # google-genai sends bytes in the URL-safe alphabet.
    found = revealed(signature.replace("-", "+").replace("_", "/"))
    return signature in _PLACEHOLDERS or (found is not None and (found[0] == SEAL or found[0] in _PLACEHOLDERS))


def _tools_problems(tools: Any) -> Iterator[Refusal]:
    if tools is not None and not isinstance(tools, list):
        yield _no("Invalid value at 'tools' (type.googleapis.com/google.ai.generativelanguage.v1beta.Tool)")
        return
    for index, tool in enumerate(tools or ()):
        declarations = field_of(tool, "function_declarations") if isinstance(tool, Mapping) else None
        for number, declaration in enumerate(declarations or ()):
            name = declaration.get("name") if isinstance(declaration, Mapping) else None
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                # google-genai: types.FunctionDeclaration.name
                at = f"GenerateContentRequest.tools[{index}].function_declarations[{number}].name"
                text = (
                    "Invalid function name. Must start with a letter or an underscore. Must be alphanumeric (a-z, A-Z, "
                    "0-9), underscores (_), dots (.), colons (:), or dashes (-), with a maximum length of 128."
                )
                yield _no(f"* {at}: {text}\n")
