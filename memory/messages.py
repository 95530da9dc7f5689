"""What the core knows of a message, and the protocol through which it learns it.

The caller's object *is* the message: it is never converted and never changed. A dialect looks at it once, when
it is added, and answers with a `Reading`; from then on the core works with readings and hands the caller's
object back untouched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal, Protocol, TypeAlias

Wire: TypeAlias = Mapping[str, Any]
"""One message as the provider's JSON, decoded. The only place of the core where `Any` is at home."""

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]
"""Who speaks, whatever the provider calls it. `tool`: the message carries results and nothing else."""

DialectName: TypeAlias = Literal["openai_chat", "openai_responses", "anthropic", "gemini"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A request of the model to run a tool."""

    id: str | None
    """None where the provider pairs by name and order (Gemini without ids)."""
    name: str
    arguments: str
    """JSON text, as the model wrote it where the wire carries text."""
    kind: str | None = None
    """The wire's type of call where a format has several (`custom_tool_call`); None for a plain function."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """An image, sound, film or document: counted by the provider's rule, never by its base64."""

    kind: Literal["image", "audio", "video", "document"]
    media_type: str | None = None
    size_bytes: int | None = None
    """Decoded size where the data travels in the message; None for a URL or a file id."""
    width_pixels: int | None = None
    height_pixels: int | None = None
    detail: str | None = None
    """OpenAI's `detail` of an image."""
    page_count: int | None = None
    duration_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """The answer to one tool call."""

    call_id: str | None
    name: str | None
    """The tool's name where the wire carries it (Gemini); else None."""
    text: str
    is_error: bool = False
    attachments: tuple[Attachment, ...] = ()
    """What it shows, where the message has more than this result; the reading lists it too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Everything the core knows of one message, taken from it once."""

    role: Role
    text: str = ""
    """What was said: the text parts, joined by newlines. No tool calls, results or reasoning."""
    reasoning: str = ""
    """Thinking in clear text, billed but not said."""
    calls: tuple[ToolCall, ...] = ()
    results: tuple[ToolResult, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    opaque_characters: int = 0
    """Length of signed, encrypted or unknown payload that is sent but is no text of ours to read."""
    is_signed: bool = False
    """Carries a signature or an encrypted payload: kept as it is or taken out whole, never altered."""
    binds_next: bool = False
    """The next assistant item belongs to this one (a Responses `reasoning` item and what it produced)."""
    has_cache_breakpoint: bool = False
    """Carries an explicit prompt-cache breakpoint (`cache_control`)."""


class Fit(IntEnum):
    """How well a message fits a dialect; for detection."""

    NO = 0
    """This dialect would reject it."""
    MAYBE = 1
    """It reads the same in several dialects (`{"role": "user", "content": "hi"}`)."""
    SURE = 2
    """No other dialect writes this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """One finding of `validate`: where, what, how bad, and who says so."""

    code: str
    """The rule, for example `OC-1`; all of them stand in docs/validity.md."""
    severity: Literal["error", "warning"]
    """`error`: the provider rejects the request. `warning`: accepted, but degraded, billed or altered."""
    path: str
    """Where, for example `messages[3].tool_calls[0]`."""
    message: str
    source: str
    """URL or public thread that shows the rule."""


class Dialect(Protocol):
    """One wire format: how to read it, what it accepts, and the few things that the core writes in it.

    All methods are pure and take and return plain wire mappings. They cost time in proportion to the message.
    """

    @property
    def name(self) -> DialectName: ...

    @property
    def splits_responses(self) -> bool:
        """Whether one response of the model arrives as several messages (Responses items)."""
        ...

    def recognise(self, message: Wire) -> Fit:
        """Say how well a message fits this format, by its shape alone."""
        ...

    def read(self, message: Wire) -> Reading:
        """Take from a message what the core needs to know.

        Raises:
            MessageError: The shape is none of this format's; the message names the field and its value's type.
        """
        ...

    def validate(self, messages: Sequence[Wire]) -> list[Issue]:
        """List every rule of the provider that this list breaks, in the order of the messages."""
        ...

    @property
    def system_is_beside(self) -> bool:
        """Whether a system prompt travels beside the messages (Anthropic, Gemini) and not among them."""
        ...

    def write_user(self, text: str) -> dict[str, Any]:
        """Build a message of the user role that says this: a task, or what stands for summarised messages."""
        ...

    def replace_results(self, message: Wire, texts: Mapping[int, str]) -> dict[str, Any]:
        """Return a copy whose i-th result (index into `Reading.results`) says `texts[i]` instead.

        Ids, names, error marks, cache breakpoints and every other part stay; attachments inside a replaced
        result go.
        """
        ...

    def write_results(self, calls: Sequence[ToolCall], results: Sequence[ToolResult]) -> list[dict[str, Any]]:
        """Build the messages that answer the calls of one response: one for all of them, or one each.

        `results[i]` answers `calls[i]`; its text and `is_error` are taken, ids and names are the call's.
        """
        ...

    def binds_reasoning(self, model: str | None) -> bool:
        """Whether this model's signed reasoning is valid only behind the very messages that it was made behind.

        Then a compression takes out, whole, what of it stands behind the first edit. None: not known, so False.
        """
        ...

    def without_reasoning(self, message: Wire) -> Wire | None:
        """Return a copy without its reasoning where that may be sent without; None if nothing would be left.

        The message itself where there is nothing to take out.
        """
        ...

    def without(self, message: Wire, *, calls: frozenset[int], results: frozenset[int]) -> dict[str, Any] | None:
        """Return a copy without these calls and results (indices into the reading), None if nothing would be left."""
        ...


@dataclass(frozen=True, slots=True)
class LLMMessage:
    """A message for callers who have no provider format of their own; on the wire it is OpenAI chat's.

    `content` may also be a list of content parts in any provider's format.
    """

    role: str
    content: str | Sequence[Wire] | None = None
    tool_calls: Sequence[Wire] | None = None
    """OpenAI chat form: `{"id", "type": "function", "function": {"name", "arguments"}}`."""
    tool_call_id: str | None = None
    name: str | None = None

    def to_wire(self) -> dict[str, Any]:
        """Return the message as a plain dict; absent fields are left out, `content` is kept even when None."""
        wire: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.tool_calls:
            wire["tool_calls"] = list(self.tool_calls)
        if self.tool_call_id is not None:
            wire["tool_call_id"] = self.tool_call_id
        if self.name is not None:
            wire["name"] = self.name
        return wire

    @classmethod
    def from_wire(cls, wire: Wire) -> LLMMessage:
        """Build a message from the dict that `to_wire` returns; other keys are an error of the caller."""
        return cls(**wire)
