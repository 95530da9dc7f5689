"""A recorded conversation through the memory: what would have stayed, what would have gone, and what it would cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from memory import Archive, MemoryConfig, MemoryManager, validate
from memory.errors import BudgetExceededError, ContextOverflowError
from memory.events import Compressed, Event
from memory.messages import DialectName, Issue
from memory.repair import repair
from memory.strategies import Plan
from memory.window import Entry, Kind, reference

from .transcripts import Transcript


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What became of the added messages, counted at the end; the four add up to all of them."""

    verbatim: int
    """In the context, the very objects that were added."""
    masked: int
    """In the context, with placeholders for their tool results."""
    summarised: int
    """A summary in the context stands for them."""
    dropped: int
    """Only the archive has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What the memory made of one transcript."""

    transcript: Transcript
    model: str | None
    """Counted and priced as this one; None: unknown, at the default price."""
    message_count: int
    """Messages that were added, after repairs."""
    tokens_before: int
    """The whole history at the end, tool schemas and a separate system prompt aside."""
    tokens_after: int
    """The context at the end, likewise."""
    kept: Kept
    events: tuple[Event, ...]
    stats: dict[str, Any]
    """As from `MemoryManager.get_stats`."""
    repairs: tuple[str, ...]
    """What was mended before the replay, a sentence each."""
    new_issues: tuple[Issue, ...]
    """Errors of the context that the history did not have; must be empty."""
    lost: tuple[str, ...]
    """References that neither context nor archive knows; must be empty."""
    stopped: str | None
    """Why the replay ended early; None if it did not."""

    @property
    def compressions(self) -> tuple[Compressed, ...]:
        """The compressions, in order."""
        return tuple(event for event in self.events if isinstance(event, Compressed))

    @property
    def is_clean(self) -> bool:
        """Whether nothing was lost, nothing became invalid, and nothing stopped it."""
        return not (self.new_issues or self.lost or self.stopped)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values, without any message text."""
        return {
            "id": self.transcript.id,
            "source": self.transcript.source,
            "dialect": self.transcript.dialect,
            "model": self.model,
            "message_count": self.message_count,
            "tokens_before": self.tokens_before,
            "tokens_after": self.tokens_after,
            "kept": asdict(self.kept),
            "compressions": [asdict(event) for event in self.compressions],
            "events": dict(Counter(type(event).__name__ for event in self.events)),
            "statistics": self.stats,
            "skipped": list(self.transcript.skipped),
            "repairs": list(self.repairs),
            "new_issues": [asdict(issue) for issue in self.new_issues],
            "lost": list(self.lost),
            "stopped": self.stopped,
        }


def replay(
    transcript: Transcript,
    config: MemoryConfig,
    *,
    model: str | None = None,
    on_message: Callable[[], None] | None = None,
) -> Replay:
    """Hand every message of a transcript to a memory, as the loop once did. No model is called.

    A history that its provider would reject is repaired first; what was repaired is told. Where the loop itself
    would have been stopped (a context that cannot be made small enough, a cost limit), the replay ends.

    Args:
        transcript: The recording.
        config: The memory's settings.
        model: The model to count and price as; None: the one that the recording names.
        on_message: Called after each message, for a progress bar.
    """
    messages, repairs = _repaired(transcript)
    events: list[Event] = []
    memory = _memory(transcript, config, model, events.append)
    stopped = _add_all(memory, messages, on_message)
    stats = memory.get_stats()
    entries = [entry for decision in memory.preview().decisions for entry in decision.unit.entries]
    outcome = _outcome(entries, memory.archive, stats["message_count"])
    return Replay(
        transcript=transcript,
        model=model or transcript.model,
        message_count=stats["message_count"],
        tokens_before=outcome.tokens_before,
        tokens_after=outcome.tokens_after,
        kept=outcome.kept,
        events=tuple(events),
        stats=stats,
        repairs=repairs,
        new_issues=_new_issues(messages, [entry.message for entry in entries], transcript.dialect),
        lost=outcome.lost,
        stopped=stopped,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What one compression of a whole transcript would do."""

    transcript: Transcript
    plan: Plan
    repairs: tuple[str, ...]
    """What was mended before, a sentence each."""
    is_price_known: bool
    """False: nobody knows the model's price, and the plan's dollars are by the default one."""
    tokens_beside: int
    """System prompt and tool schemas that travel beside the messages; in none of the plan's figures."""
    max_context_tokens: int
    is_enabled: bool
    """False: compression is switched off, and the plan is what asking for it would do."""

    @property
    def is_over_limit(self) -> bool:
        """Whether what the plan leaves is more than the model accepts, so that the loop would be stopped."""
        return self.is_enabled and self.plan.tokens_after + self.tokens_beside > self.max_context_tokens


def preview(transcript: Transcript, config: MemoryConfig, *, model: str | None = None) -> Preview:
    """Return what one compression of the whole transcript would do. Nothing is compressed."""
    messages, repairs = _repaired(transcript)
    memory = _memory(transcript, replace(config, enable_compression=False, max_cost_dollars=None), model)
    _add_all(memory, messages, None)
    plan = memory.preview()
    return Preview(
        transcript=transcript,
        plan=plan,
        repairs=repairs,
        is_price_known=not memory.tracker.rates(model or transcript.model).is_default,
        tokens_beside=memory.current_tokens - plan.tokens_before,
        max_context_tokens=config.max_context_tokens,
        is_enabled=config.enable_compression,
    )


def _repaired(transcript: Transcript) -> tuple[Sequence[object], tuple[str, ...]]:
    mended = repair(transcript.messages, transcript.dialect)
    return mended.messages, tuple(f"{one.code} at {one.path}: {one.message}" for one in mended.changes)


def _memory(
    transcript: Transcript,
    config: MemoryConfig,
    model: str | None,
    on_event: Callable[[Event], None] | None = None,
) -> MemoryManager:
    return MemoryManager(
        config,
        dialect=transcript.dialect,
        model=model or transcript.model,
        system=transcript.system,
        tools=transcript.tools,
        on_event=on_event,
    )


def _add_all(memory: MemoryManager, messages: Sequence[object], on_message: Callable[[], None] | None) -> str | None:
    """Add the messages; return why that ended early, None if it did not."""
    for number, message in enumerate(messages, start=1):
        try:
            memory.add_message_sync(message)
            # Where the loop would have asked for the context, and been told that money has run out.
            memory.get_context_for_llm()
        except (ContextOverflowError, BudgetExceededError) as error:
            return f"after message {number} of {len(messages)}: {error}"
        if on_message is not None:
            on_message()
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    tokens_before: int
    tokens_after: int
    kept: Kept
    lost: tuple[str, ...]


def _outcome(entries: Sequence[Entry], archive: Archive, message_count: int) -> _Outcome:
    """Count what stands in the window, and check that the archive has the rest."""
    here = {entry.seq: entry.tokens for entry in entries if entry.kind is Kind.ORIGINAL}
    known = {record.seq: record.tokens for record in archive} | here
    masked = [entry for entry in entries if entry.original is not None]
    summarised = {seq for entry in entries if entry.covers for seq in entry.covers.seqs}
    return _Outcome(
        tokens_before=sum(known.values()),
        tokens_after=sum(entry.tokens for entry in entries),
        kept=Kept(
            verbatim=len(here),
            masked=len(masked),
            summarised=len(summarised),
            dropped=message_count - len(here) - len(masked) - len(summarised),
        ),
        lost=tuple(reference(seq) for seq in range(1, message_count + 1) if seq not in known),
    )


def _new_issues(history: Sequence[object], context: Sequence[object], dialect: DialectName) -> tuple[Issue, ...]:
    """Return the errors of the context that the history did not have: by rule, those beyond its number of them."""
    allowed = Counter(issue.code for issue in _errors(history, dialect))
    found = Counter[str]()
    new = []
    for issue in _errors(context, dialect):
        found[issue.code] += 1
        if found[issue.code] > allowed[issue.code]:
            new.append(issue)
    return tuple(new)


def _errors(messages: Sequence[object], dialect: DialectName) -> list[Issue]:
    return [issue for issue in validate(messages, dialect) if issue.severity == "error"]
