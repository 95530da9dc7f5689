"""What the four dialects share: taking a message apart, and collecting findings about a list."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from ..attachments import describe
from ..errors import MessageError
from ..messages import Attachment, DialectName, Issue, Reading, Role, ToolCall, ToolResult

Severity: TypeAlias = Literal["error", "warning"]


class Draft:
    """Collects what one message says, part by part, until it becomes a `Reading`."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.thoughts: list[str] = []
        self.calls: list[ToolCall] = []
        self.results: list[ToolResult] = []
        self.attachments: list[Attachment] = []
        self.opaque_characters = 0
        self.is_signed = False
        self.has_cache_breakpoint = False

    def say(self, text: object, field: str) -> None:
        """Add a text; `field` names it should it be none."""
        if text is not None:
            self.texts.append(text_at(text, field))

    def think(self, text: object, field: str) -> None:
        if text is not None:
            self.thoughts.append(text_at(text, field))

    def sign(self, payload: object) -> None:
        """Count a signature or an encrypted payload, if there is one."""
        if payload:
            self.opaque_characters += payload_length(payload)
            self.is_signed = True

    def attach(
        self, kind: str, data: object = None, *, media_type: object = None, detail: object = None, is_url: bool = False
    ) -> None:
        """Add an attachment. Of a URL only `data:` carries bytes; the rest is known to the provider alone."""
        if is_url and not str(data).startswith("data:"):
            data = None
        self.attachments.append(
            describe(
                kind,
                media_type=media_type if isinstance(media_type, str) else None,
                base64_data=data if isinstance(data, str | bytes) else None,
                detail=detail if isinstance(detail, str) else None,
            )
        )

    def skip(self, part: object) -> None:
        """Count a part that is sent but is not ours to read."""
        self.opaque_characters += payload_length(part)

    def finish(self, role: Role, *, binds_next: bool = False) -> Reading:
        return Reading(
            role=role,
            text="\n".join(self.texts),
            reasoning="\n".join(self.thoughts),
            calls=tuple(self.calls),
            results=tuple(self.results),
            attachments=tuple(self.attachments),
            opaque_characters=self.opaque_characters,
            is_signed=self.is_signed,
            binds_next=binds_next,
            has_cache_breakpoint=self.has_cache_breakpoint,
        )


def compact_json(value: object) -> str:
    """Return JSON text without spaces; text stays as it is. Used where the wire carries an object."""
    return (
        value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    )


def payload_length(value: object) -> int:
    """Return the characters a payload takes on the wire; raw bytes travel as base64."""
    if isinstance(value, bytes):
        return (len(value) + 2) // 3 * 4
    return len(compact_json(value))


def wrong(field: str, value: object, expected: str) -> MessageError:
    """Build the error for a field of the wrong type; the value itself may be private or huge, so it is not shown."""
    return MessageError(f"{field} is {type(value).__name__}, expected {expected}")


def text_at(value: object, field: str) -> str:
    if not isinstance(value, str):
        raise wrong(field, value, "text")
    return value


def mapping_at(value: object, field: str) -> Mapping[str, Any]:
    if not isinstance(value, (dict, Mapping)):
        raise wrong(field, value, "an object")
    return value


def parts_at(value: object, field: str) -> Sequence[Mapping[str, Any]]:
    """Return a list of parts, checked to be objects."""
    if not isinstance(value, (list, tuple)):
        raise wrong(field, value, "a list of parts")
    for index, part in enumerate(value):
        # Most parts are dicts: neither the name of each nor an abstract class is worth asking for before.
        if not isinstance(part, (dict, Mapping)):
            raise wrong(f"{field}[{index}]", part, "an object")
    return value


def has_role(message: Mapping[str, Any], roles: Mapping[str, Role]) -> bool:
    """Return whether a message names one of the roles; what stands there may be any JSON."""
    role = message.get("role")
    return isinstance(role, str) and role in roles


def role_of(message: Mapping[str, Any], roles: Mapping[str, Role], dialect: DialectName) -> Role:
    role = message.get("role")
    if not isinstance(role, str) or role not in roles:
        allowed = ", ".join(roles)
        shown = repr(role) if isinstance(role, str) else type(role).__name__
        raise MessageError(f"role is {shown}, but {dialect} knows: {allowed}")
    return roles[role]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule of a provider, as `validate` knows it."""

    code: str
    severity: Severity
    """The worst that breaking it can mean; a milder case of it may be reported as a warning."""
    title: str
    source: str
    """URL or public thread that shows the rule."""


class Findings:
    """Collects the issues of one list under the rules of one dialect."""

    def __init__(self, rules: Iterable[Rule], root: str) -> None:
        self._rules = {rule.code: rule for rule in rules}
        self._root = root
        self._found: list[tuple[int, Issue]] = []

    def add(self, code: str, index: int, message: str, *, at: str = "", severity: Severity | None = None) -> None:
        """Note a broken rule at message `index`; `at` leads on from there, for example `.content[2]`."""
        rule = self._rules[code]
        issue = Issue(
            code=code,
            severity=severity or rule.severity,
            path=f"{self._root}[{index}]{at}",
            message=message,
            source=rule.source,
        )
        self._found.append((index, issue))

    def add_empty(self, code: str) -> None:
        """Note that there is no message at all."""
        rule = self._rules[code]
        text = "the list is empty; a request needs at least one message"
        issue = Issue(code=code, severity=rule.severity, path=self._root, message=text, source=rule.source)
        self._found.append((-1, issue))

    def in_order(self) -> list[Issue]:
        """Return the issues in the order of the messages; a call left open is found out only later."""
        return [issue for _, issue in sorted(self._found, key=lambda found: found[0])]


def shown(value: object) -> str:
    """Return an id or a name as a finding may quote it; a hostile list can hold anything there."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
