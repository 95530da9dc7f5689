"""What Gemini's generateContent accepts, as far as a list of contents alone shows it.

Not judged, because the list does not show it: whose signature a part carries and for which part (GE-9), and what is
cached under a name (GE-13).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..messages import Issue, Wire
from ._wire import Findings, Rule, shown

_TYPES = "https://github.com/googleapis/python-genai/blob/main/google/genai/types.py"

RULES = (
    Rule(
        code="GE-0",
        severity="error",
        title="A content is an object with parts, and every field has the type that Google documents.",
        source=_TYPES,
    ),
    Rule(
        code="C-1",
        severity="error",
        title="The list holds at least one content.",
        source="https://github.com/danny-avila/LibreChat/issues/10408",
    ),
    Rule(
        code="GE-1",
        severity="error",
        title="The first content is the user's.",
        source="https://github.com/google-gemini/gemini-cli/issues/11814",
    ),
    Rule(
        code="GE-2",
        severity="warning",
        title="A turn of function calls comes right after a user turn or a function-response turn.",
        source="https://github.com/google-gemini/gemini-cli/issues/26486",
    ),
    Rule(
        code="GE-3",
        severity="error",
        title="There are as many functionResponse parts as functionCall parts in the turn before.",
        source="https://github.com/google-gemini/gemini-cli/issues/3814",
    ),
    Rule(
        code="GE-4",
        severity="error",
        title="A functionResponse has the name, and where given the id, of its functionCall.",
        source=f"{_TYPES} (FunctionResponse)",
    ),
    Rule(
        code="GE-5",
        severity="warning",
        title="A content with functionResponse parts holds nothing else.",
        source="https://github.com/vellum-ai/vellum-assistant/pull/39495, "
        "https://github.com/anomalyco/opencode/pull/43479",
    ),
    Rule(
        code="GE-6",
        severity="warning",
        title="The last content is the user's.",
        source="https://github.com/crewAIInc/crewAI/pull/6973",
    ),
    Rule(
        code="GE-7",
        severity="error",
        title="No content is without parts, and no part is without data (an empty text: a warning).",
        source="https://github.com/router-for-me/CLIProxyAPI/issues/1292, "
        "https://github.com/google-gemini/deprecated-generative-ai-python/issues/727",
    ),
    Rule(
        code="GE-8",
        severity="warning",
        title="The first functionCall of each step of the current turn keeps its thought signature.",
        source="https://github.com/google-gemini/gemini-cli (ensureActiveLoopHasThoughtSignatures)",
    ),
    Rule(
        code="GE-10",
        severity="error",
        title="The system prompt stands in system_instruction, not among the contents.",
        source="https://github.com/pydantic/pydantic-ai (models/google.py)",
    ),
    Rule(
        code="GE-11",
        severity="error",
        title="`args` of a call and `response` of a response are objects.",
        source=f"{_TYPES} (FunctionCall, FunctionResponse)",
    ),
    Rule(
        code="GE-14",
        severity="error",
        title="A function-response turn comes right after its function-call turn (split in two contents: a warning).",
        source="https://github.com/GoogleCloudPlatform/generative-ai/pull/368",
    ),
)

_USERS = ("user", "function", None)


@dataclass(slots=True)
class _OpenCall:
    index: int
    number: int
    id: object
    name: object


def check(messages: Sequence[Wire]) -> list[Issue]:
    """List the rules that these contents break, in their order."""
    return _Check(messages).run()


class _Check:
    """Walks the contents once, turn by turn: consecutive contents of one role are one turn."""

    def __init__(self, contents: Sequence[Wire]) -> None:
        self._contents = contents
        self._found = Findings(RULES, "contents")
        self._is_model: bool | None = None
        self._open: list[_OpenCall] = []
        self._has_other_parts = False
        self._responses_from: int | None = None
        # For signatures: the first calls of each step since the user last spoke, and whether this model signs.
        self._signs = False
        self._unsigned_steps: list[tuple[int, int]] = []

    def run(self) -> list[Issue]:
        if not self._contents:
            self._found.add_empty("C-1")
        for index, content in enumerate(self._contents):
            self._content(index, content)
        self._close_calls()
        if self._is_model:
            self._found.add("GE-6", len(self._contents) - 1, "the list ends with the model's turn")
        if self._signs:
            for index, number in self._unsigned_steps:
                text = "the first call of this step has no thought signature, though this model signs its calls"
                self._found.add("GE-8", index, text, at=f".parts[{number}]")
        return self._found.in_order()

    def _content(self, index: int, content: Wire) -> None:
        role = content.get("role")
        if role == "system":
            self._found.add("GE-10", index, "a content of role system; use system_instruction", at=".role")
        elif role not in ("model", *_USERS):
            self._found.add("GE-0", index, f"the role is {shown(role)}", at=".role")
        is_model = role == "model"
        if is_model and index == 0:
            self._found.add("GE-1", index, "the first content is the model's")
        if is_model and not self._is_model:
            self._close_calls()
        parts = content.get("parts")
        if isinstance(parts, list | tuple) and parts:
            self._parts(index, parts, is_model=is_model)
        elif parts is None or parts == []:
            self._found.add("GE-7", index, "the content has no parts", at=".parts")
        else:
            self._found.add("GE-0", index, f"parts is {type(parts).__name__}", at=".parts")
        self._is_model = is_model

    def _close_calls(self) -> None:
        for call in self._open:
            text = f"functionCall {shown(call.name)} has no functionResponse in the next turn"
            self._found.add("GE-3", call.index, text, at=f".parts[{call.number}]")
        self._open.clear()
        self._has_other_parts = False
        self._responses_from = None

    def _parts(self, index: int, parts: Sequence[Any], *, is_model: bool) -> None:
        calls: list[_OpenCall] = []
        responses = others = 0
        for number, part in enumerate(parts):
            if not isinstance(part, Mapping):
                self._found.add("GE-0", index, "the part is no object", at=f".parts[{number}]")
            elif (call := _either(part, "functionCall", "function_call")) is not None:
                calls.append(self._call(index, number, call))
                self._sign(part, index, number, is_first=len(calls) == 1)
            elif (response := _either(part, "functionResponse", "function_response")) is not None:
                responses += 1
                self._response(index, number, response)
            else:
                others += 1
                self._plain_part(index, number, part)
        if is_model:
            self._open_calls(index, calls)
        else:
            self._user_turn(index, responses, others)

    def _open_calls(self, index: int, calls: list[_OpenCall]) -> None:
        if calls and self._open:
            text = "a second content of function calls before the first one's are answered"
            self._found.add("GE-2", index, text)
        self._open += calls

    def _user_turn(self, index: int, responses: int, others: int) -> None:
        if responses and others:
            self._found.add("GE-5", index, "functionResponse parts stand beside other parts")
        if others:
            self._has_other_parts = True
            if not responses:
                self._unsigned_steps.clear()  # the user speaks: a new turn begins

    def _call(self, index: int, number: int, call: object) -> _OpenCall:
        at = f".parts[{number}].functionCall"
        if not isinstance(call, Mapping) or not isinstance(call.get("name"), str):
            self._found.add("GE-0", index, "the call names no function", at=at)
            return _OpenCall(index, number, None, None)
        if not isinstance(call.get("args"), Mapping | None):
            self._found.add("GE-11", index, f"args is {type(call['args']).__name__}, not an object", at=at)
        return _OpenCall(index, number, call.get("id") or None, call["name"])

    def _sign(self, part: Mapping[str, Any], index: int, number: int, *, is_first: bool) -> None:
        if _either(part, "thoughtSignature", "thought_signature"):
            self._signs = True
        elif is_first:
            self._unsigned_steps.append((index, number))

    def _response(self, index: int, number: int, response: object) -> None:
        at = f".parts[{number}].functionResponse"
        if not isinstance(response, Mapping) or not isinstance(response.get("name"), str):
            self._found.add("GE-4", index, "the response names no function", at=at)
            return
        if not isinstance(response.get("response"), Mapping):
            self._found.add("GE-11", index, f"response is {type(response.get('response')).__name__}", at=at)
        call = self._take(response.get("id") or None, response["name"])
        if call is None:
            text = f"no open functionCall {shown(response['name'])} in the turn before"
            self._found.add("GE-3", index, text, at=at)
            return
        if call.name is not None and call.name != response["name"]:
            text = f"the response is named {shown(response['name'])}, its call {shown(call.name)}"
            self._found.add("GE-4", index, text, at=at)
        self._place_response(index, at)

    def _take(self, id_: object, name: object) -> _OpenCall | None:
        """Find the open call that a response answers: by id where both have one, else by name and order."""
        for call in self._open:
            if (call.id == id_) if id_ is not None and call.id is not None else call.name == name:
                self._open.remove(call)
                return call
        return None

    def _place_response(self, index: int, at: str) -> None:
        if self._has_other_parts:
            self._found.add("GE-14", index, "the user speaks between the call and this response", at=at)
        elif self._responses_from not in (None, index):
            text = f"responses to the same turn stand in contents[{self._responses_from}] too"
            self._found.add("GE-14", index, text, at=at, severity="warning")
        if self._responses_from is None:
            self._responses_from = index

    def _plain_part(self, index: int, number: int, part: Mapping[str, Any]) -> None:
        at = f".parts[{number}]"
        text = part.get("text")
        if text is not None and not isinstance(text, str):
            self._found.add("GE-0", index, f"text is {type(text).__name__}", at=at)
        elif all(value is None for value in part.values()):
            self._found.add("GE-7", index, "an empty part", at=at)
        elif text == "" and not _either(part, "thoughtSignature", "thought_signature"):
            # Vertex AI rejects it, the Gemini API does not; a signature may ride on an empty text.
            self._found.add("GE-7", index, "a part with an empty text", at=at, severity="warning")


def _either(part: Mapping[str, Any], camel: str, snake: str) -> Any:
    value = part.get(camel)
    return part.get(snake) if value is None else value
