"""What the memory tells whoever asked to hear it: decisions with their reasons, sizes and dollars.

Events carry no message text and no keys, so they can be logged, charted and shipped. Pass `on_event` to
`MemoryManager`; it is called in the turn in which the event happens, after the new state is in place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from .economics import Appraisal

Trigger: TypeAlias = Literal["threshold", "economic", "limit", "refusal", "manual"]
"""Why a compression began: past `compression_threshold`, because it pays, past `max_context_tokens`, because the
provider refused the context as too long, or asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compressed:
    """A compression took place. Token figures are the whole context's, by the manager's calibrated count."""

    trigger: Trigger
    strategy: str
    method: str
    """Who wrote the summary: `model`, `extractive`, or `none` when no summary was needed."""
    tokens_before: int
    tokens_after: int
    summarised_count: int
    masked_count: int
    dropped_count: int
    first_ref: str
    """First message of the window that was edited; everything before it is byte-identical."""
    last_ref: str
    summary_tokens: int
    cost_usd: float
    """What the summary calls of this compression cost; 0 without a model."""
    saved_usd_per_request: float
    """Price of the tokens taken out, at the uncached input price: what each following request is smaller by."""
    appraisal: Appraisal | None = None
    """Of an economic compression: what it costs and saves, and from which estimates."""
    stripped_count: int = 0
    """Messages that lost signed reasoning, because it is bound to messages that this compression changed."""
    in_background: bool = False
    """The summary was written while the loop went on."""
    summary_from: Literal["prefix", "fresh"] | None = None
    """What the model that wrote the summary read: the loop's own context, or messages quoted to it, whichever was
    cheaper. None: no model wrote one."""
    late_count: int = 0
    """Messages that came while it was written; they stand behind it as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Degraded:
    """A step of the ladder failed and the next one was taken."""

    failed: str
    next: str
    reason: str
    """The kind of failure in one sentence; no message text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FloorReached:
    """The context is above the threshold and nothing more can be taken out. Told once, not fought."""

    tokens: int
    threshold_tokens: int
    irreducible_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OverBudget:
    """A model call was not made because it would pass `max_cost_dollars`."""

    purpose: Literal["agent", "summary"]
    spent_usd: float
    next_call_usd: float
    limit_usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Undone:
    """The last compression was taken back. What it cost stays spent."""

    tokens_before: int
    tokens_after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalled:
    """Messages that had left the context were brought back, because the newest ones name something in them."""

    refs: tuple[str, ...]
    """The references of the originals."""
    tokens: int
    """What the copy that was appended measures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveFailed:
    """A turn could not be written to the session's store; the loop goes on in memory, and the next turn tries again."""

    error: str
    """The kind of failure, for example `StorageFullError`."""
    unsaved_count: int
    """How many messages are in memory only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveRecovered:
    """After a failure, everything is in the store again."""

    saved_count: int
    """How many messages had been in memory only."""


Event: TypeAlias = Compressed | Degraded | FloorReached | OverBudget | Undone | Recalled | SaveFailed | SaveRecovered
