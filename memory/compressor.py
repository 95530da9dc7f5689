"""WorkingMemoryCompressor: runs a plan. Archive, summarise, check, and only then hand back a new window.

The manager owns the window and splices the result in; until then nothing has changed, so whatever fails here,
fails without harm.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, takewhile
from operator import itemgetter
from typing import Self

from .archive import Archive, InMemoryArchive, Record
from .asking import Llm
from .config import CompressionStrategy, MemoryConfig, ToolPolicy
from .copies import bound_units, callers_of, clamped, cut, entry_of, masked, without_reasoning
from .dialects import DIALECTS, detect
from .errors import SummaryError
from .events import Degraded
from .extract import Source
from .live_prefix import LiveContext, PrefixSummarizer, fresh_tokens
from .llm import Steps, adrive, drive
from .messages import Dialect, Reading, ToolCall
from .native import like, to_wire, unwrap
from .patterns import Pattern
from .strategies import (
    Action,
    Decision,
    Deletion,
    Masking,
    Plan,
    Selective,
    Situation,
    SlidingWindow,
    Strategy,
    Tiered,
)
from .summarize import ExtractiveSummarizer, ModelSummarizer, Summarizer, Summary, SummaryRequest, heading, joined
from .tokens import TiktokenCounter, TokenCounter
from .units import Unit, units
from .window import OPEN_CALL, PINNED, PROTECTED_TOOL, SYSTEM_PROMPT, Coverage, Entry, Kind, reference


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressedMemory:
    """What a compression made of the messages it was given or, inside the manager, of those it changed."""

    summary: str
    """The text that stands for the summarised messages; empty if nothing was summarised."""
    messages: tuple[object, ...] = field(repr=False)
    """What stands in their place, in order: kept originals, masked copies, the summary message."""
    original_message_count: int
    original_tokens: int
    """What they measured when they were added; for those in an older summary, then too."""
    compressed_tokens: int
    strategy: str
    method: str
    """Who wrote the summary: `model`, `extractive`, the name of a summariser of your own, or `none`."""
    degraded: tuple[str, ...] = ()
    """Each step of the ladder that failed before, in one sentence."""
    stripped_count: int = 0
    """How many messages lost signed reasoning that is not valid behind what changed."""

    @property
    def compression_ratio(self) -> float:
        """Compressed size as a share of the original (0-1); 1.0 if nothing could be won."""
        return self.compressed_tokens / self.original_tokens if self.original_tokens else 1.0

    @property
    def token_savings(self) -> int:
        return self.original_tokens - self.compressed_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Compaction:
    """A checked replacement for a window that has not been put in place yet."""

    plan: Plan
    entries: tuple[Entry, ...]
    """The new window."""
    replaced_count: int
    """How many entries of the old window it replaces, from the front."""
    first_edit: int
    """Index of the first entry that differs; everything before it is the same object."""
    memory: CompressedMemory
    degradations: tuple[Degraded, ...]
    summary: Summary | None
    summary_seq: int | None
    """Sequence number of the entry that holds the summary."""
    strips_reasoning: bool = False
    """Signed reasoning is not valid behind the first edit, in messages that were added since neither."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The window that a compression works on, and what it must respect."""

    entries: Sequence[Entry]
    dialect: Dialect
    protected: Mapping[int, str]
    """Sequence number -> why its unit is never taken out."""
    summaries: Mapping[int, Summary]
    """Sequence number of a summary entry -> what was behind it."""
    threshold_tokens: int
    limit_tokens: int
    share: float = 1.0
    """Of the usual sizes: what a compression may leave behind."""
    asks_model: bool = True
    """Whether a model may write the summary, where there is one."""
    task: str = ""
    is_forced: bool = False
    all_is_old: bool = False
    """The entries are a part of a conversation; its newest messages are elsewhere."""
    strips_reasoning: bool = False
    """The model takes signed reasoning only behind the messages that it was made behind (`binds_reasoning`)."""
    live: LiveContext | None = None
    """What the loop sends, where a summary request may extend it."""


class WorkingMemoryCompressor:
    """Makes old messages smaller, by the strategy that the configuration names.

    Use it alone, `await compressor.compress(old_messages)`, or pass it to `MemoryManager`. Override
    `_should_preserve` to say what `selective` must keep verbatim.
    """

    def __init__(
        self,
        llm: object | None = None,
        config: MemoryConfig | None = None,
        *,
        strategy: Strategy | None = None,
        summarizer: Summarizer | None = None,
        counter: TokenCounter | None = None,
        archive: Archive | None = None,
    ) -> None:
        """Take what is given; build the rest from the configuration.

        Args:
            llm: The model that writes summaries; None: the extractive summariser does, and no model is ever called.
            config: Settings; None for the defaults.
            strategy: A strategy of your own instead of the one that `config` names.
            summarizer: A summariser of your own, tried first. The extractive one stays behind it.
            counter: How tokens are counted; None: tiktoken for the model of `llm`.
            archive: Where messages go before they are taken out; None: in memory.
        """
        self.config = config if config is not None else MemoryConfig()
        self.llm = None if llm is None else Llm(llm, model=self.config.compression_model)
        self.counter: TokenCounter = counter or TiktokenCounter(self.llm.model if self.llm else None)
        self.archive: Archive = archive if archive is not None else InMemoryArchive()
        self.strategy = strategy or self._configured_strategy()
        self._summarizers = self._ladder(summarizer)
        self._has_own_summarizer = summarizer is not None
        self._standalone_count = 0

    def plan(self, view: View) -> Plan:
        """Return what a compression would do. No I/O, nothing changes."""
        plan = self._planned(self.strategy, view)
        return self._with_strips(plan if view.asks_model else replace(plan, asks_model=False), view)

    def over(self, archive: Archive) -> Self:
        """Return the same compressor with another archive, for another conversation."""
        other = copy.copy(self)
        other.archive = archive
        return other

    @property
    def asks_model(self) -> bool:
        """Whether a model writes the summaries, and is paid for it."""
        return isinstance(self._summarizers[0], ModelSummarizer)

    def run(self, plan: Plan, view: View) -> Steps[Compaction]:
        """Carry out a plan: archive, summarise, check. One model call for each 100,000 tokens, none without a model.

        Raises:
            SummaryError: No step of the ladder gave a valid and smaller window. Nothing has changed.
        """
        found = units(view.entries, splits_responses=view.dialect.splits_responses)
        _refuse_unlawful(plan, self._situation(view, found))
        plan = self._with_strips(plan, view)
        self._archive_all(plan)
        degradations: list[Degraded] = []
        summary: Summary | None = None
        if plan.with_action(Action.SUMMARISE):
            request = self._request(plan, view)
            ladder = self._rungs(plan, view, request)
            for summarizer, following in zip(ladder, [*(s.method for s in ladder[1:]), "masking"], strict=True):
                try:
                    summary = yield from summarizer.summarize(request)
                    return self._checked(plan, view, summary, degradations)
                except Exception as error:  # noqa: BLE001 - a summariser of the user's own may raise anything
                    degradations.append(Degraded(failed=summarizer.method, next=following, reason=_reason(error)))
            masking = self._planned(Masking(), replace(view, is_forced=False))
            plan = self._with_strips(replace(masking, strategy=plan.strategy), view)
            self._archive_all(plan)
        try:
            return self._checked(plan, view, None, degradations)
        except SummaryError as error:
            raise SummaryError(str(error), failed_steps=degradations) from error

    def admitted(self, entry: Entry, dialect: Dialect, open_calls: Sequence[ToolCall]) -> Entry:
        """Return what stands in the window for a message that was just added: the entry itself, nearly always.

        Tool results beyond `max_result_tokens` are archived and shown in part, but for those of protected tools.

        Args:
            entry: The message as it was added.
            dialect: Its format.
            open_calls: The calls that the message may answer; they know the tools' names.
        """
        limit = self.config.max_result_tokens
        if limit is None or not self.config.enable_compression or entry.tokens <= limit:
            return entry
        callers = callers_of(entry, open_calls)
        keep = {
            (entry.seq, index): limit
            for index, result in enumerate(entry.reading.results)
            if self.counter.count_text(result.text) > limit and not self._stays_whole(entry, index, callers)
        }
        shorter = cut(entry, keep, callers, dialect, self.counter)
        if shorter is not entry:
            self.keep(entry)
        return shorter

    def keep(self, entry: Entry) -> None:
        """Put a message into the archive before it leaves the context; of a copy or a summary it is there already."""
        if entry.kind is Kind.ORIGINAL:
            first = entry.original or entry
            self.archive.put(Record(seq=first.seq, message=first.message, reading=first.reading, tokens=first.tokens))

    def stripped(self, entries: Sequence[Entry], dialect: Dialect) -> tuple[Entry, ...]:
        """Return the entries without any signed reasoning, archived first; messages that said nothing else are gone.

        For reasoning that its provider refused. The very same entries where there was nothing to take out.
        """
        return tuple(self._without_reasoning(entries, dialect))

    def late(self, compaction: Compaction, entries: Sequence[Entry], dialect: Dialect) -> tuple[Entry, ...]:
        """Return what becomes of entries that were appended while the compaction ran.

        Their reasoning was made behind the messages that the compaction has now changed.
        """
        return self.stripped(entries, dialect) if compaction.strips_reasoning else tuple(entries)

    def _stays_whole(self, entry: Entry, index: int, callers: Mapping[tuple[int, int], ToolCall]) -> bool:
        call = callers.get((entry.seq, index))
        name = call.name if call is not None else entry.reading.results[index].name
        return name is not None and self.config.policy_for(name) is ToolPolicy.KEEP

    async def compress(self, messages: Sequence[object]) -> CompressedMemory:
        """Compress a list of old messages in any of the providers' formats; the list itself is not changed.

        All of it counts as old: only system messages, open calls and what the strategy preserves stay.

        Raises:
            SummaryError: No step of the ladder made it smaller.
            MessageError: A message is in no known shape.
        """
        return await adrive(self._compress(messages), self.llm)

    def compress_sync(self, messages: Sequence[object]) -> CompressedMemory:
        """Compress like `compress`, without an event loop."""
        return drive(self._compress(messages), self.llm)

    def _should_preserve(self, message: object) -> bool:
        """Say whether `selective` must keep this message verbatim; override it to add reasons of your own.

        The built-in reasons: it is an error, or user or agent call it important, critical, a must or a never.
        """
        dialect = detect([message]) or DIALECTS["openai_chat"]
        return matters(dialect.read(to_wire(message)))

    def _compress(self, messages: Sequence[object]) -> Steps[CompressedMemory]:
        natives = [native for message in messages for native in unwrap(message)]
        dialect = detect(natives) or DIALECTS["openai_chat"]
        # Numbered on from the last call: one archive must never know two messages by one reference.
        first, self._standalone_count = self._standalone_count + 1, self._standalone_count + len(natives)
        entries = [entry_of(m, seq, dialect, self.counter) for seq, m in enumerate(natives, start=first)]
        total = sum(entry.tokens for entry in entries)
        leading = list(takewhile(lambda entry: entry.reading.role == "system", entries))
        systems = [e for e in entries if e.reading.role == "system"] if self.config.preserve_system_prompts else leading
        view = View(
            entries=entries,
            dialect=dialect,
            protected={entry.seq: SYSTEM_PROMPT for entry in systems},
            summaries={},
            threshold_tokens=total,
            limit_tokens=total,
            all_is_old=True,
        )
        plan = self.plan(view)
        if not plan.changes:
            return _unchanged(entries, plan)
        compaction = yield from self.run(plan, view)
        return replace(
            compaction.memory,
            messages=tuple(entry.message for entry in compaction.entries),
            original_message_count=len(entries),
            original_tokens=total,
            compressed_tokens=sum(entry.tokens for entry in compaction.entries),
        )

    def _planned(self, strategy: Strategy, view: View) -> Plan:
        """Have a strategy plan. It never sees what was only recalled: that goes first, whatever else does."""
        found = units(view.entries, splits_responses=view.dialect.splits_responses)
        if not any(unit.is_recalled for unit in found):
            return strategy.plan(self._situation(view, found))
        plan = strategy.plan(self._situation(view, [unit for unit in found if not unit.is_recalled]))
        return replace(plan, decisions=tuple(_with_recalled(plan.decisions, found)))

    def _situation(self, view: View, found: Sequence[Unit]) -> Situation:
        return Situation(
            units=tuple(found),
            protected=self._protected(found, view.protected),
            threshold_tokens=view.threshold_tokens,
            limit_tokens=view.limit_tokens,
            compression_ratio=self.config.compression_ratio * view.share,
            short_term_size=self.config.short_term_size,
            is_forced=view.is_forced,
            all_is_old=view.all_is_old,
            tool_policies=self.config.tool_policies,
            summary_limit_tokens=self._summary_limit(view),
            max_summaries=self.config.max_summaries,
            bound=frozenset(bound_units(found, view.dialect)) if view.strips_reasoning else frozenset(),
        )

    def _summary_limit(self, view: View) -> int | None:
        """Return the most that a model's summary may have: its words are paid for, at several times the price of input.

        Of a list that is compressed by itself `compression_ratio` alone decides.
        """
        is_paid = view.asks_model and self.asks_model and not view.all_is_old
        return max(_LEAST_PAID_TOKENS, int(view.threshold_tokens * _PAID_SHARE)) if is_paid else None

    def _protected(self, found: Sequence[Unit], by_seq: Mapping[int, str]) -> dict[int, str]:
        protected: dict[int, str] = {}
        for index, unit in enumerate(found):
            reasons = [by_seq[e.seq] for e in unit.entries if e.seq in by_seq and e.kind is not Kind.SUMMARY]
            if unit.is_open:
                protected[index] = OPEN_CALL
            elif any(self.config.policy_for(call.name) is ToolPolicy.KEEP for call in unit.calls()):
                protected[index] = PROTECTED_TOOL
            elif reasons:
                protected[index] = PINNED if PINNED in reasons else reasons[0]
        return protected

    def _configured_strategy(self) -> Strategy:
        match self.config.compression_strategy:
            case CompressionStrategy.SLIDING_WINDOW:
                return SlidingWindow()
            case CompressionStrategy.DELETION:
                return Deletion()
            case CompressionStrategy.MASKING:
                return Masking()
            case CompressionStrategy.TIERED:
                return Tiered()
            case CompressionStrategy.SELECTIVE:
                return Selective(
                    should_preserve=lambda entry: self._should_preserve(entry.message),
                    preserve_tool_calls=self.config.preserve_tool_calls,
                )

    def _ladder(self, first: Summarizer | None) -> tuple[Summarizer, ...]:
        """The summarisers to try, in order; masking and then an error come behind them."""
        ladder: list[Summarizer] = [] if first is None else [first]
        if first is None and self.llm is not None:
            ladder.append(
                ModelSummarizer(
                    input_tokens=self.config.summary_input_tokens,
                    timeout_seconds=self.config.summary_timeout_seconds,
                )
            )
        return (*ladder, ExtractiveSummarizer())

    def _rungs(self, plan: Plan, view: View, request: SummaryRequest) -> list[Summarizer]:
        """Return the summarisers to try, in order; where no model is to be asked, those that ask none."""
        if not plan.asks_model and self.asks_model:
            return [*self._summarizers[1:]]
        return [*self._on_prefix(plan, view, request), *self._summarizers]

    def _on_prefix(self, plan: Plan, view: View, request: SummaryRequest) -> list[Summarizer]:
        """Return the summariser that extends the loop's own context, where that is possible and the cheaper way."""
        if view.live is None or self._has_own_summarizer:
            return []
        quoted = fresh_tokens(request, piece_tokens=self.config.summary_input_tokens)
        if not view.live.is_chosen(output_tokens=request.target_tokens, fresh_tokens=quoted):
            return []
        summarizer = PrefixSummarizer(
            context=view.live,
            entries=view.entries,
            gone=_summarised(plan),
            dialect=view.dialect,
            timeout_seconds=self.config.summary_timeout_seconds,
        )
        return [summarizer] if summarizer.can_ask(request) else []

    def _archive_all(self, plan: Plan) -> None:
        # Archive first: if the splice never happens, a message exists twice; the other order could lose it.
        for decision in plan.changes:
            for entry in decision.unit.entries:
                self.keep(entry)

    def _request(self, plan: Plan, view: View) -> SummaryRequest:
        gone = _summarised(plan)
        seqs = {entry.seq for entry in gone if entry.covers is not None}
        absorbed = [view.summaries[seq] for seq in sorted(seqs & view.summaries.keys())]
        head = heading(*_span(_covered(gone)))
        return SummaryRequest(
            sources=list(self._sources(gone, view.summaries.keys())),
            previous=joined(absorbed),
            standing=joined([summary for seq, summary in sorted(view.summaries.items()) if seq not in seqs]),
            target_tokens=max(1, plan.summary_target_tokens - self.counter.count_text(head) - _MESSAGE_OVERHEAD),
            count=self.counter.count_text,
            task=view.task,
            kept=_kept_text(plan),
        )

    def _sources(self, gone: Sequence[Entry], known: Collection[int]) -> Iterator[Source]:
        """Yield what is to be read, in order. Summaries are carried on; what unknown ones stood for is read again."""
        unknown = [entry.covers.seqs for entry in gone if entry.covers is not None and entry.seq not in known]
        again = ((seq, self.archive.get(reference(seq))) for seqs in unknown for seq in seqs)
        sources = [(seq, Source(ref=record.ref, reading=record.reading, tokens=record.tokens)) for seq, record in again]
        sources += [(entry.seq, self._source(entry)) for entry in gone if not entry.is_written]
        yield from (source for _, source in sorted(sources, key=itemgetter(0)))

    def _source(self, entry: Entry) -> Source:
        """Return what the summariser reads: the original, also where a copy stood in for it."""
        added = entry.as_added
        return Source(ref=added.ref, reading=added.reading, tokens=added.tokens)

    def _checked(self, plan: Plan, view: View, summary: Summary | None, degradations: Sequence[Degraded]) -> Compaction:
        """Build the new window; refuse it unless it is smaller and as valid as the old one.

        Raises:
            SummaryError: It is not.
        """
        if not plan.changes:
            raise SummaryError("there is nothing to mask")
        rebuilt = list(self._rebuilt(plan, view, summary))
        first_edit = _first_difference(view.entries, rebuilt)
        behind = rebuilt[first_edit:]
        if view.strips_reasoning:
            behind = list(self._without_reasoning(behind, view.dialect))
        entries = [*rebuilt[:first_edit], *behind]
        before = sum(decision.tokens_before for decision in plan.decisions)
        after = sum(entry.tokens for entry in entries)
        if after >= before:
            raise SummaryError(f"the result would have {after:,} tokens in place of {before:,}")
        if entries or not view.all_is_old:
            refuse_worse(view.dialect, view.entries, entries)
        memory = self._memory(plan, view, entries, summary, degradations)
        return Compaction(
            plan=plan,
            entries=tuple(entries),
            replaced_count=len(view.entries),
            first_edit=first_edit,
            memory=replace(memory, stripped_count=_stripped_count(rebuilt[first_edit:], behind)),
            degradations=tuple(degradations),
            summary=summary,
            summary_seq=_covered(_summarised(plan))[0] if summary is not None else None,
            strips_reasoning=view.strips_reasoning,
        )

    def _rebuilt(self, plan: Plan, view: View, summary: Summary | None) -> Iterator[Entry]:
        """Yield the new window: the summary stands where the first summarised unit stood."""
        pending = self._summary_entry(plan, view, summary) if summary is not None else None
        for decision in plan.decisions:
            match decision.action:
                case Action.KEEP | Action.STRIP:
                    yield from decision.unit.entries
                case Action.MASK:
                    yield from masked(decision, view.dialect, self.counter)
                case Action.CLAMP:
                    yield from clamped(decision, view.dialect, self.counter)
                case Action.SUMMARISE if pending is not None:
                    yield pending
                    pending = None
                case Action.SUMMARISE | Action.DROP:
                    pass

    def _summary_entry(self, plan: Plan, view: View, summary: Summary) -> Entry:
        gone = _summarised(plan)
        seqs = _covered(gone)
        wire = view.dialect.write_user(f"{heading(*_span(seqs))}\n{summary.text}")
        message = like(next((e.message for e in gone if not e.is_written), gone[0].message), wire)
        entry = entry_of(message, seqs[0], view.dialect, self.counter)
        covers = Coverage(seqs=seqs, tokens=sum(e.added_tokens for e in gone))
        return replace(entry, kind=Kind.SUMMARY, covers=covers)

    def _with_strips(self, plan: Plan, view: View) -> Plan:
        """Say of each unit behind the first change what it loses: it stood behind other messages when it was made."""
        if not (view.strips_reasoning and plan.changes):
            return plan
        first = plan.changes[0].unit.start
        decisions = [self._stripping(d, view.dialect) if d.unit.start > first else d for d in plan.decisions]
        return replace(plan, decisions=tuple(decisions))

    def _stripping(self, decision: Decision, dialect: Dialect) -> Decision:
        if decision.action in (Action.SUMMARISE, Action.DROP):
            return decision
        entries = decision.unit.entries
        left = [without_reasoning(entry, dialect, self.counter) for entry in entries]
        if all(one is other for one, other in zip(entries, left, strict=True)):
            return decision
        tokens = decision.unit.tokens - sum(entry.tokens for entry in left if entry is not None)
        after = max(0, decision.tokens_after + decision.stripped_tokens - tokens)
        if decision.action is Action.KEEP:
            decision = replace(decision, action=Action.STRIP, reason=f"{decision.reason}; its reasoning is bound")
        return replace(decision, tokens_after=after, stripped_tokens=tokens)

    def _without_reasoning(self, entries: Iterable[Entry], dialect: Dialect) -> Iterator[Entry]:
        """Yield what is left of the entries; those that lose something are archived first."""
        for entry in entries:
            left = without_reasoning(entry, dialect, self.counter)
            if left is not entry:
                self.keep(entry)
            if left is not None:
                yield left

    def _memory(
        self, plan: Plan, view: View, entries: Sequence[Entry], summary: Summary | None, failed: Sequence[Degraded]
    ) -> CompressedMemory:
        changed = [entry for decision in plan.changes for entry in decision.unit.entries]
        kept = {id(e) for d in plan.decisions if d.action is Action.KEEP for e in d.unit.entries}
        standing = [entry for entry in entries if id(entry) not in kept]
        return CompressedMemory(
            summary=summary.text if summary is not None else "",
            messages=tuple(entry.message for entry in standing),
            original_message_count=len(_covered(changed)),
            original_tokens=sum(entry.added_tokens for entry in changed),
            compressed_tokens=sum(entry.tokens for entry in standing),
            strategy=plan.strategy,
            method=summary.method if summary is not None else "none",
            degraded=tuple(f"{step.failed}: {step.reason}" for step in failed),
        )


def matters(reading: Reading) -> bool:
    """Return whether a message is an error, or says of itself that it must not be forgotten."""
    if any(result.is_error for result in reading.results):
        return True
    return reading.role in ("user", "assistant") and _IMPORTANT.compiled.search(reading.text) is not None


_IMPORTANT = Pattern(
    r"\b(?:important|critical|crucial|essential|remember|must(?: not)?|never|always|do not forget|don't forget"
    r"|note that|warning|required|wichtig|niemals|importante|nunca|critique|jamais)\b",
    re.IGNORECASE,
)

_LEAST_PAID_TOKENS = 500
_PAID_SHARE = 0.05
"""Of the threshold: the most that a model's summary may have, 2,000 tokens at the default. A model writes half a dozen
tokens of input's price with each of them; what is longer costs more to write than it saves to send."""

_MESSAGE_OVERHEAD = 8
"""What a message costs beside its text; a little more than the providers' formats need."""


def _reason(error: Exception) -> str:
    """Return why a step failed, without anything that could be message text."""
    return str(error) if isinstance(error, SummaryError) else f"it raised {type(error).__name__}"


def _unchanged(entries: Sequence[Entry], plan: Plan) -> CompressedMemory:
    total = sum(entry.tokens for entry in entries)
    return CompressedMemory(
        summary="",
        messages=tuple(entry.message for entry in entries),
        original_message_count=len(entries),
        original_tokens=total,
        compressed_tokens=total,
        strategy=plan.strategy,
        method="none",
    )


def _with_recalled(decisions: Sequence[Decision], found: Sequence[Unit]) -> Iterator[Decision]:
    """Yield decisions on all units: a strategy's on those that it saw, and to drop the recalled ones."""
    planned = iter(decisions)
    for unit in found:
        if unit.is_recalled:
            yield Decision(unit=unit, action=Action.DROP, reason=_RECALLED, tokens_after=0)
        else:
            yield from islice(planned, 1)
    yield from planned


_RECALLED = "recalled copy; the archive has its original"


def _refuse_unlawful(plan: Plan, situation: Situation) -> None:
    """Hold a strategy of the user's own to what ours keep: every entry once and in order, and the protected stay.

    Raises:
        SummaryError: The plan does not.
    """
    planned = [entry for decision in plan.decisions for entry in decision.unit.entries]
    standing = [entry for unit in situation.units for entry in unit.entries]
    if len(planned) != len(standing) or any(one is not other for one, other in zip(planned, standing, strict=True)):
        raise SummaryError(f"the plan of {plan.strategy!r} must have one decision for each unit, in order")
    protected = {e.seq: why for index, why in situation.protected.items() for e in situation.units[index].entries}
    for decision in plan.changes:
        for entry in decision.unit.entries:
            if entry.seq in protected and decision.action not in (Action.CLAMP, Action.STRIP):
                raise SummaryError(f"the plan of {plan.strategy!r} takes out {entry.ref} ({protected[entry.seq]})")


def _kept_text(plan: Plan) -> str:
    """Return what the messages say that stay as they are."""
    kept = [*plan.with_action(Action.KEEP), *plan.with_action(Action.STRIP)]
    readings = (entry.reading for decision in kept if not decision.unit.is_summary for entry in decision.unit.entries)
    return "\n".join(
        text
        for reading in readings
        for text in (reading.text, *(c.arguments for c in reading.calls), *(r.text for r in reading.results))
    )


def _summarised(plan: Plan) -> list[Entry]:
    return [entry for decision in plan.with_action(Action.SUMMARISE) for entry in decision.unit.entries]


def _covered(entries: Sequence[Entry]) -> tuple[int, ...]:
    """Return the numbers of all messages that these entries stand for, ascending; a recalled copy is none."""
    added = [entry for entry in entries if entry.kind is not Kind.RECALLED]
    return tuple(sorted(seq for e in added for seq in ((e.seq,) if e.covers is None else e.covers.seqs)))


def _span(seqs: Sequence[int]) -> tuple[list[str], int]:
    return [f"r{seqs[0]}"] if len(seqs) == 1 else [f"r{seqs[0]}", f"r{seqs[-1]}"], len(seqs)


def refuse_worse(dialect: Dialect, before: Sequence[Entry], after: Sequence[Entry]) -> None:
    """Refuse a list with errors that the old one had not.

    A history that arrived broken stays as broken as it was; it must not get worse.
    """
    found = [issue for issue in dialect.validate([to_wire(e.message) for e in after]) if issue.severity == "error"]
    if not found:
        return
    known = [issue for issue in dialect.validate([to_wire(e.message) for e in before]) if issue.severity == "error"]
    if len(found) > len(known) or {i.code for i in found} - {i.code for i in known}:
        raise SummaryError(f"the result would break {found[0].code} at {found[0].path}: {found[0].message}")


def _first_difference(before: Sequence[Entry], after: Sequence[Entry]) -> int:
    same = takewhile(lambda pair: pair[0] is pair[1], zip(before, after, strict=False))
    return sum(1 for _ in same)


def _stripped_count(before: Sequence[Entry], after: Sequence[Entry]) -> int:
    """Return how many of the entries are gone or were replaced: taking out reasoning is all that was done."""
    standing = {id(entry) for entry in after}
    return sum(id(entry) not in standing for entry in before)
