"""What compressions make: put in place, remembered for the next one, and told to whoever asked to hear it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from .accounts import Accounts
from .compressor import Compaction, CompressedMemory, WorkingMemoryCompressor
from .config import MemoryConfig
from .errors import SummaryError
from .events import Compressed, Degraded, Event
from .execution import Order
from .history import Change, History, Standing
from .messages import Dialect
from .placing import placed
from .request_size import RequestSize
from .strategies import Action, Plan
from .summarize import Summary
from .window import Kind, Window

logger = logging.getLogger(__name__)


class Results:
    """Puts results of compressions into one window. When to compress is not its business."""

    def __init__(
        self,
        config: MemoryConfig,
        window: Window,
        compressor: WorkingMemoryCompressor,
        size: RequestSize,
        accounts: Accounts,
        *,
        dialect: Dialect,
        emit: Callable[[Event], None],
    ) -> None:
        self.dialect = dialect
        """The format of the messages."""
        self.memory: CompressedMemory | None = None
        """What the last compression made."""
        self.compressed_this_turn = False
        self.saved_tokens = 0
        """What the last compression took out of the context."""
        self.summaries: dict[int, Summary] = {}
        """What is behind the summaries that stand in the window, by their number."""
        self._preserves_system_prompts = config.preserve_system_prompts
        self._window = window
        self._compressor = compressor
        self._size = size
        self._accounts = accounts
        self._emit = emit
        self.history = History()
        """The compressions that could be taken back."""
        self._count = 0
        self._undone_count = 0
        self._degraded_count = 0
        self._summary_count = 0
        self._masked_seqs: set[int] = set()

    def counts(self) -> dict[str, Any]:
        """Return how often something was compressed, summarised, masked, or had to be done a lesser way."""
        return {
            "compression_count": self._count,
            "summary_count": self._summary_count,
            "masked_count": len(self._masked_seqs),
            "degraded_count": self._degraded_count,
            "undone_count": self._undone_count,
        }

    @property
    def standing(self) -> Standing:
        """What is known of the compressed part of the window."""
        return Standing(
            summaries=dict(self.summaries),
            memory=self.memory,
            masked_seqs=frozenset(self._masked_seqs),
            saved_tokens=self.saved_tokens,
        )

    def stand(self, standing: Standing) -> None:
        """Know of the compressed part of the window what was known at another time."""
        self.summaries, self.memory = dict(standing.summaries), standing.memory
        self._masked_seqs, self.saved_tokens = set(standing.masked_seqs), standing.saved_tokens

    def note_undone(self, change: Change) -> None:
        """The window is again as it was before a compression."""
        self.stand(change.standing_before)
        self.compressed_this_turn = False
        self._undone_count += 1

    def state(self) -> dict[str, Any]:
        """Return what was counted, as JSON values."""
        return self.counts() | {"compressed_this_turn": self.compressed_this_turn}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what was counted when `state` was taken."""
        self._count, self._summary_count = state["compression_count"], state["summary_count"]
        self._degraded_count, self._undone_count = state["degraded_count"], state["undone_count"]
        self.compressed_this_turn = state["compressed_this_turn"]

    def begin_turn(self) -> None:
        """A message comes: what was compressed before was compressed in an earlier turn."""
        self.compressed_this_turn = False

    def forget(self) -> None:
        """The window was emptied: no summary stands in it any more."""
        self.summaries.clear()
        self.history.clear()
        self.compressed_this_turn = False

    def put(self, order: Order, compaction: Compaction, *, in_background: bool = False) -> bool:
        """Put a result in the place of what it was made from. Return whether that was possible."""
        before, late_count = self._tokens, len(self._window.entries) - len(order.view.entries)
        try:
            entries = placed(
                compaction,
                order.view,
                self._window,
                dialect=self.dialect,
                preserves_system_prompts=self._preserves_system_prompts,
                compressor=self._compressor,
            )
        except SummaryError as error:
            self.give_up(order, error)
            return False
        was, standing = tuple(self._window.entries), self.standing
        self._window.splice(entries, replaced_count=len(was))
        self._note(compaction, before)
        event = replace(
            self._event(compaction, order, before), in_background=in_background, late_count=max(0, late_count)
        )
        self.history.add(
            Change(
                last_seq=self._window.last_seq,
                before=was,
                after=tuple(entries),
                standing_before=standing,
                standing_after=self.standing,
                plan=compaction.plan,
                event=event,
            )
        )
        self._emit(event)
        return True

    def give_up(self, order: Order, error: SummaryError) -> None:
        """Say why nothing came of an order. The context stands as it did."""
        last = error.failed_steps[-1].next if error.failed_steps else order.plan.strategy
        for step in (*error.failed_steps, Degraded(failed=last, next="nothing", reason=str(error))):
            self._degraded(step)

    def _note(self, compaction: Compaction, tokens_before: int) -> None:
        unchanged = sum(entry.tokens for entry in compaction.entries[: compaction.first_edit])
        self._accounts.note_edit(unchanged)
        self._keep_summary(compaction)
        self._masked_seqs |= {entry.seq for entry in compaction.entries if entry.kind in _SHORTENED}
        self._count += 1
        self.compressed_this_turn = True
        self.memory = compaction.memory
        self.saved_tokens = tokens_before - self._tokens
        for step in compaction.degradations:
            self._degraded(step)

    def _keep_summary(self, compaction: Compaction) -> None:
        standing = {entry.seq for entry in compaction.entries if entry.kind is Kind.SUMMARY}
        self.summaries = {seq: summary for seq, summary in self.summaries.items() if seq in standing}
        if compaction.summary is not None and compaction.summary_seq is not None:
            self._summary_count += 1
            self.summaries[compaction.summary_seq] = compaction.summary

    def _event(self, compaction: Compaction, order: Order, before: int) -> Compressed:
        plan = compaction.plan
        changed = [entry for decision in plan.changes for entry in decision.unit.entries]
        written = [e.tokens for e in compaction.entries if e.kind is Kind.SUMMARY and e.seq == compaction.summary_seq]
        return Compressed(
            trigger=order.trigger,
            strategy=plan.strategy,
            method=compaction.memory.method,
            tokens_before=before,
            tokens_after=self._tokens,
            summarised_count=_count(plan, Action.SUMMARISE),
            masked_count=_count(plan, Action.MASK) + _count(plan, Action.CLAMP),
            dropped_count=_count(plan, Action.DROP),
            first_ref=changed[0].ref,
            last_ref=changed[-1].ref,
            summary_tokens=sum(written),
            cost_usd=self._accounts.tracker.compression_cost - order.spent_usd,
            saved_usd_per_request=(before - self._tokens) * self._accounts.usd_per_token(self._window),
            stripped_count=compaction.memory.stripped_count,
            appraisal=order.appraisal,
            summary_from=compaction.summary.made_from if compaction.summary is not None else None,
        )

    def _degraded(self, event: Degraded) -> None:
        self._degraded_count += 1
        logger.warning("failed=%s next=%s reason=%s | summary degraded", event.failed, event.next, event.reason)
        self._emit(event)

    @property
    def _tokens(self) -> int:
        return self._size.whole(self._window.tokens)


_SHORTENED = (Kind.MASKED, Kind.CLAMPED)


def _count(plan: Plan, action: Action) -> int:
    return sum(len(decision.unit.entries) for decision in plan.with_action(action))
