"""What a store keeps of a session: rows, in the shape in which they are written and read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from ..messages import DialectName, Role
from ..tracker import Purpose

Form: TypeAlias = Literal["dict", "llm_message", "object"]
"""What the caller's message was: a plain dict, an `LLMMessage`, or an SDK's object, of which its JSON is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Who has a session open: one memory in one process."""

    token: str
    """Random; every write of this owner names it."""
    host: str
    process_id: int
    process_started: str
    """Tells this process from an earlier one with the same number; empty where the system does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMessage:
    """One message as it came."""

    seq: int
    """Number in the log of its session, from 1; a branch goes on with the numbers of its parent."""
    role: Role
    tools: tuple[str, ...] = ()
    """Names of the tools that it calls or that it answers."""
    form: Form = "dict"
    body: str = field(repr=False)
    """The message as JSON text; strings that stand in a blob are references to it (see `encoding`)."""
    blobs: tuple[str, ...] = ()
    """The blobs that `body` and `shown` refer to."""
    tokens: int
    at: float
    """When it came, in seconds since 1970."""
    is_written: bool = False
    """The memory wrote it itself: something that it recalled."""
    shown: str | None = field(default=None, repr=False)
    """Where a shortened copy was sent from the start: that copy, as JSON text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCall:
    """One model call."""

    number: int
    """From 1, in the order in which they were made."""
    seq: int
    """The newest message when it was booked."""
    at: float
    """Seconds since 1970."""
    model: str | None
    purpose: Purpose
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cache_write_1h_tokens: int
    reasoning_tokens: int
    cost_usd: float
    is_estimate: bool
    price_is_default: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCompression:
    """One compression, as a fact: it is never changed, also not when it is undone."""

    number: int
    """From 1."""
    seq: int
    """The newest message when it took place."""
    at: float
    """Seconds since 1970."""
    first_ref: str
    last_ref: str
    summary: str = field(repr=False)
    """What stands for the messages that were summarised; empty where none were."""
    event: str = field(repr=False)
    """The `Compressed` event as a JSON object: trigger, strategy, sizes, dollars, appraisal."""
    plan: str = field(repr=False)
    """JSON list: of each unit that was changed `refs`, `action`, `reason`, `tokens_before`, `tokens_after`."""
    digest: str
    """SHA-256 of the context that it left, as JSON: what a resumed memory sends again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLayout:
    """What stood in the context at some moment; what was added since stands behind it."""

    number: int
    """From 1. A layout of the number of an earlier one takes its place."""
    after_seq: int
    """The newest message at that moment."""
    reason: Literal["compression", "undo", "branch", "edit"]
    body: str = field(repr=False)
    """JSON object, written and read by `layouts`."""
    blobs: tuple[str, ...] = ()
    """The blobs that `body` refers to: keep them for as long as it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSession:
    """What is known of a session when its first message comes."""

    created_at: float
    """Seconds since 1970."""
    config: str = field(repr=False)
    """The settings as a JSON object."""
    parent_id: str | None = None
    """The session that this one is a branch of; it shares that one's messages up to `parent_seq`."""
    parent_seq: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """What a list of sessions shows of one, as of its newest turn."""

    title: str
    dialect: DialectName | None
    model: str | None
    last_seq: int
    """Number of the newest message."""
    context_tokens: int
    total_tokens: int
    """Input and output of all calls so far."""
    cost_usd: float
    compression_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """All that is new in a session, to be written whole or not at all."""

    session_id: str
    owner: Owner
    at: float
    """Seconds since 1970."""
    begins: NewSession | None = None
    """Set until the session is there."""
    heading: Heading
    messages: tuple[StoredMessage, ...] = ()
    blobs: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """By SHA-256 in hexadecimal; those that the store has already may be among them."""
    calls: tuple[StoredCall, ...] = ()
    """A call of a known number takes its place: an estimate became a report."""
    compressions: tuple[StoredCompression, ...] = ()
    layouts: tuple[StoredLayout, ...] = ()
    """By ascending number; one of a known number takes its place."""
    state: str = field(repr=False)
    """JSON object: everything small that a memory needs to go on."""
    is_durable: bool = True
    """Wait until the disk has it. Without, it survives the end of the process, but not of the machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionInfo:
    """One session of a store."""

    id: str
    created_at: float
    updated_at: float
    """Of the newest turn; seconds since 1970."""
    heading: Heading
    parent_id: str | None = None
    parent_seq: int = 0
    config: str = field(default="{}", repr=False)
    owner: Owner | None = None
    """Who has it open, as far as the store knows; whoever it was may be gone."""
    lease_until: float = 0.0
    """Until when that holds, should the owner be on a machine that cannot be asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A session as its newest turn left it."""

    info: SessionInfo
    state: str = field(repr=False)
    layout: StoredLayout | None
    """The newest one; None: nothing but messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DailyUsage:
    """What the calls of one day to one model came to, over all sessions."""

    day: str
    """`2026-11-21`, in UTC."""
    model: str | None
    calls: int
    sessions: int
    input_tokens: int
    cache_read_tokens: int
    output_tokens: int
    cost_usd: float
    summary_cost_usd: float
    """Of that, the memory's own summaries."""
    has_estimates: bool
    """Some of it was counted, or priced by the default."""
