"""The compression cycle: when the window is compressed, what becomes of it, and what is said about it.

The manager adds messages; after each one the cycle looks whether a compression is due, has it planned and run, and puts
the result in place. Nothing changes before a result is complete, valid and smaller.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any

from .accounts import Accounts
from .compressor import View, WorkingMemoryCompressor, refuse_worse
from .config import MemoryConfig
from .copies import without_stale_marks
from .dialects import validate
from .economics import Appraisal
from .economy import Economy
from .errors import ContextOverflowError, HistoryError, InvalidMessagesError, StalePlanError
from .events import Event, FloorReached, Trigger, Undone
from .execution import Order
from .history import Change, Standing, taken_back
from .limits import Limits
from .live_context import live_context
from .live_prefix import LiveContext
from .llm import Work
from .messages import Dialect
from .orders import Orders
from .refusals import Refusal, read_refusal
from .request_size import RequestSize
from .results import Results
from .strategies import Action, Plan
from .usage import Usage
from .window import Entry, Window

logger = logging.getLogger(__name__)


class CompressionCycle:
    """Compresses one window when that is due, asked for, or forced by a refusal."""

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
        self.limits = Limits(config)
        self.sent: Callable[[], Sequence[object]] = lambda: window.context
        """Returns what is sent for the window; the manager sets it where that is more than the messages."""
        self._config = config
        self._window = window
        self._compressor = compressor
        self._size = size
        self._accounts = accounts
        self._emit = emit
        self._economy = Economy(config, window, size, accounts)
        self._known_model: str | None = None
        self._is_economic = False
        self._reasoning_was_refused = False
        self.results = Results(config, window, compressor, size, accounts, dialect=dialect, emit=emit)
        self.orders = Orders(config, window, compressor, accounts, self.results, note=self._note)

    @property
    def dialect(self) -> Dialect:
        """The format of the messages; the manager sets it when they show it."""
        return self.results.dialect

    @dialect.setter
    def dialect(self, dialect: Dialect) -> None:
        self.results.dialect = dialect

    @property
    def tokens(self) -> int:
        """Size of the next request, system prompt and tools included; calibrated by what responses reported."""
        if not self._window.entries and not self._size.beside_tokens:
            return 0
        return self._size.whole(self._window.tokens)

    @property
    def room_tokens(self) -> int:
        """What the memory itself may append, by the counter; negative where the context is full."""
        return self._size.messages_within(int(self.limits.max_context_tokens * _ROOM_SHARE)) - self._window.tokens

    def settle(self) -> Work[None]:
        """Compress what is due after messages were added, and refuse what cannot be made to fit.

        Raises:
            ContextOverflowError: It cannot.
        """
        self.results.begin_turn()
        self.orders.take_over()
        yield from self._compress_while_due()
        if not self.orders.is_running:
            self.refuse_overflow()

    def note_request(self) -> None:
        """A request was made with the window as it stands."""
        if self._is_economic:
            self._economy.note_request()

    def note_cleared(self) -> None:
        """The window was emptied."""
        self.orders.drop()
        self.results.forget()
        self._note(True)

    def plan(self) -> Plan:
        """Return what a compression would do now."""
        return self._compressor.plan(self._view(is_forced=False))

    def apply(self, plan: Plan) -> Work[bool]:
        """Carry out a plan that was asked for. Return whether it changed the context.

        Raises:
            StalePlanError: The window has changed since it was made.
        """
        if self.orders.is_running:
            raise StalePlanError("a compression is running; ask preview() for a new plan when it is done")
        if self.orders.is_in_background:
            raise StalePlanError("a compression runs in the background; `finish_background()`, then preview() anew")
        units, entries = [decision.unit for decision in plan.decisions], self._window.entries
        is_own = not units or (bool(entries) and units[0].entries[0] is entries[0])
        if plan.version != self._window.version or not is_own:
            raise StalePlanError("the window has changed since this plan was made; ask preview() for a new one")
        if not plan.changes or self.limits.is_compressed(self._window.last_seq):
            return False
        return (yield from self.orders.carry_out(self._order(plan, "manual")))

    def recover(self, error: BaseException) -> Work[bool]:
        """Do what can be done about a refused request. Return whether to send it once more.

        Raises:
            InvalidMessagesError: It was malformed, and `validate` knows by which rules.
        """
        refusal = read_refusal(error)
        if refusal is None:
            return False
        if self.orders.is_running:
            if refusal.kind == "context_overflow":
                self.limits.learn(self._learned(refusal))
            return False
        match refusal.kind:
            case "context_overflow":
                return self._config.enable_compression and (yield from self._shrink(refusal))
            case "stale_reasoning":
                self.orders.drop()
                return self._strip()
            case "malformed":
                issues = validate(self._window.context, self.dialect)
                if errors := [issue for issue in issues if issue.severity == "error"]:
                    raise InvalidMessagesError(errors) from error
                return False

    def undo(self) -> Change:
        """Take the last compression back. What was added since stays behind what it was made of.

        Raises:
            HistoryError: There is none, one is running, or what it was made of was changed since.
        """
        if self.orders.is_running:
            raise HistoryError("a compression is running; wait for it")
        before = tuple(self._window.entries)
        change = self.results.history.newest(before)
        self.orders.drop()
        tokens_before = self.tokens
        restored = list(self._restored(change, before))
        refuse_worse(self.dialect, before, restored)
        self._window.splice(restored, replaced_count=len(before))
        self.results.history.pop()
        self.results.note_undone(change)
        unchanged = takewhile(lambda pair: pair[0] is pair[1], zip(before, restored, strict=False))
        self._accounts.note_edit(sum(entry.tokens for entry, _ in unchanged))
        self.limits.note_undone(tokens=self.tokens, last_seq=self._window.last_seq)
        self._economy.note_failed()
        self._emit(Undone(tokens_before=tokens_before, tokens_after=self.tokens))
        return change

    def _restored(self, change: Change, now: Sequence[Entry]) -> Iterator[Entry]:
        """Yield the window without a compression; reasoning that was made behind its result is not valid there."""
        entries = list(taken_back(change, now))
        stop = len(change.before)
        behind = self._compressor.stripped(entries[stop:], self.dialect) if self._strips_reasoning else entries[stop:]
        for entry in (*entries[:stop], *behind):
            yield without_stale_marks(entry, self.dialect) if self._window.has_cache_breakpoint else entry

    def begin_like(self, other: CompressionCycle, standing: Standing) -> None:
        """Know of the model what another cycle has learnt, and of the window what stands in it."""
        self._reasoning_was_refused = other._reasoning_was_refused
        if other.limits.learned_tokens is not None:
            self.limits.learn(other.limits.learned_tokens)
        self.results.stand(standing)

    def state(self) -> dict[str, Any]:
        """Return what was decided and learnt, as JSON values. What goes on in the background is not kept."""
        return {
            "known_model": self._known_model,
            "is_economic": self._is_economic,
            "reasoning_was_refused": self._reasoning_was_refused,
            "limits": self.limits.state(),
            "economy": self._economy.state(),
            "results": self.results.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what was known when `state` was taken."""
        self._known_model, self._is_economic = state["known_model"], state["is_economic"]
        self._reasoning_was_refused = state["reasoning_was_refused"]
        self.limits.restore(state["limits"])
        self._economy.restore(state["economy"])
        self.results.restore(state["results"])

    def refuse_overflow(self) -> None:
        """Refuse a context that is longer than the limit although everything was tried.

        Raises:
            ContextOverflowError: It is.
        """
        tokens = self.tokens
        if (
            not self._config.enable_compression
            or self._window.has_open_calls
            or tokens <= self.limits.max_context_tokens
        ):
            return
        sizes = [(e.ref, str(e.reading.role), e.tokens) for e in self._window.entries]
        if self._size.beside_tokens:
            sizes.append(("beside the messages", "system prompt and tools", self._size.beside_tokens))
        largest = sorted(sizes, key=lambda size: -size[2])[:3]
        raise ContextOverflowError(
            tokens=tokens,
            limit_tokens=self.limits.max_context_tokens,
            contributors=[(ref, role, self._size.share(size)) for ref, role, size in largest],
        )

    def _compress_while_due(self) -> Work[None]:
        """Compress until it is no longer due: messages may have been added while a model was asked."""
        while (trigger := self._due()) is not None:
            if self.orders.is_in_background:
                yield from self.orders.finish(is_forced=True)
                continue
            self.limits.note_attempt(self._window.last_seq)
            plan, appraisal = self._considered(trigger)
            if appraisal is not None and not (appraisal.pays and self._is_worth_it(plan, trigger)):
                self._economy.note_declined(plan)
            elif not self._is_worth_it(plan, trigger):
                self._note_floor(plan)
            elif not (yield from self.orders.carry_out(self._order(plan, trigger, appraisal))):
                self._note(False)

    def _due(self) -> Trigger | None:
        """Say why a compression may be due now. Never while a call is open, never twice without new input."""
        if not self._config.enable_compression or self.orders.is_running or self._window.has_open_calls:
            return None
        if self.limits.is_attempted(self._window.last_seq):
            return None
        tokens = self.tokens
        self._know_model(tokens)
        due = self.limits.due(tokens=tokens)
        if self.orders.is_in_background:
            return "limit" if due == "limit" else None
        if due == "limit" or not self._is_economic or (due == "threshold" and self._config.gives_threshold):
            return due
        looks = self._economy.is_worth_a_look(tokens, growth_tokens=self.limits.growth_tokens)
        return "economic" if looks else None

    def _know_model(self, tokens: int) -> None:
        """Let the limits follow the model, once its window can matter: looking prices up takes a while."""
        model = self._accounts.model
        if tokens < _SMALLEST_WINDOW or model is None:
            return
        self.limits.growth_tokens = self._accounts.growth_tokens()
        if model != self._known_model:
            prices = self._accounts.tracker.prices
            self._known_model = model
            self.limits.know_window(prices.context_window(model))
            self._economy.edges = prices.tier_edges(model)
            self._is_economic = self._config.is_economic and self._accounts.knows_price

    def _considered(self, trigger: Trigger) -> tuple[Plan, Appraisal | None]:
        """Return what to do and, where money decides, what speaks for and against it.

        From the threshold on, a compression that does not pay is tried in cheaper ways.
        """
        plan = self._compressor.plan(self._view(is_forced=trigger == "limit"))
        if trigger != "economic":
            return plan, None
        appraisal = self._appraise(plan)
        if not appraisal.pays and self.tokens > self.limits.threshold_tokens:
            for cheaper in self._cheaper(appraisal):
                found = self._appraise(cheaper)
                if found.pays:
                    return cheaper, found
        return plan, appraisal

    def _cheaper(self, appraisal: Appraisal) -> Iterator[Plan]:
        """Yield plans that cost less: a summary that no model is paid for, then less that is rewritten."""
        if self._compressor.asks_model:
            yield self._compressor.plan(self._view(is_forced=False, asks_model=False))
        if appraisal.reason == "too_risky":
            yield self._compressor.plan(self._view(is_forced=False, asks_model=False, share=_LEANER))

    def _appraise(self, plan: Plan) -> Appraisal:
        usd = self._summary_usd(plan)
        return self._economy.appraise(plan, summary_usd=usd, growth_tokens=self.limits.growth_tokens)

    def _summary_usd(self, plan: Plan) -> float:
        """Estimate what writing a plan's summary will cost; nothing without a model."""
        llm, gone = self._compressor.llm, plan.with_action(Action.SUMMARISE)
        if llm is None or not gone or not plan.asks_model:
            return 0.0
        usage = Usage(
            input_tokens=self._size.share(sum(decision.tokens_before for decision in gone)),
            output_tokens=self._size.share(plan.summary_target_tokens),
        )
        fresh_usd = self._accounts.tracker.cost_of(usage, model=llm.model)
        live = self._live()
        return fresh_usd if live is None else min(fresh_usd, live.extending_usd(output_tokens=usage.output_tokens))

    def _is_worth_it(self, plan: Plan, trigger: Trigger) -> bool:
        gain = plan.tokens_before - plan.tokens_after
        least = self.limits.smallest_gain_tokens if trigger in ("threshold", "economic") else 0
        return bool(plan.changes) and gain > least

    def _note_floor(self, plan: Plan) -> None:
        """Nothing is worth taking out: wait for growth, and say so once."""
        if self.limits.note_floor(tokens=self.tokens):
            self._emit(
                FloorReached(
                    tokens=self.tokens,
                    threshold_tokens=self.limits.threshold_tokens,
                    irreducible_tokens=self._size.whole(plan.tokens_after),
                )
            )

    def _shrink(self, refusal: Refusal) -> Work[bool]:
        """Learn the model's own limit, and compress to fit it. Return whether the context is smaller now."""
        self.limits.learn(self._learned(refusal))
        has_shrunk = yield from self.orders.finish(is_forced=True)
        if has_shrunk and self.tokens <= self.limits.max_context_tokens:
            return True
        plan = self._compressor.plan(self._view(is_forced=True))
        return bool(plan.changes) and (yield from self.orders.carry_out(self._order(plan, "refusal")))

    def _strip(self) -> bool:
        """Take out all signed reasoning: the provider does not accept it where it stands. Return whether any was."""
        self._reasoning_was_refused = True
        before = self._window.entries
        after = self._compressor.stripped(before, self.dialect)
        if len(before) == len(after) and all(one is other for one, other in zip(before, after, strict=True)):
            return False
        self._window.splice(after, replaced_count=len(before))
        self._accounts.note_edit(0)
        return True

    def _learned(self, refusal: Refusal) -> int:
        """Return the limit in tokens as we count them, below what was just refused."""
        if refusal.requested_tokens is not None:
            self._size.learn(message_tokens=self._window.tokens, reported_tokens=refusal.requested_tokens)
        tokens = self.tokens
        if refusal.limit_tokens is None:
            return int(tokens * _REFUSED_SHARE)
        share = _SURE_SHARE * refusal.limit_tokens / (refusal.requested_tokens or tokens)
        return int(tokens * min(share, _REFUSED_SHARE))

    def _order(self, plan: Plan, trigger: Trigger, appraisal: Appraisal | None = None) -> Order:
        view = self._view(is_forced=trigger in ("limit", "refusal"))
        return Order(
            plan=plan,
            view=replace(view, live=self._live()),
            trigger=trigger,
            appraisal=appraisal,
            spent_usd=self._accounts.tracker.compression_cost,
        )

    def _note(self, has_shrunk: bool) -> None:
        """Wait for the context to grow: after a compression, or a little after one that came to nothing."""
        if has_shrunk:
            self.limits.note_compressed(tokens=self.tokens, last_seq=self._window.last_seq)
            self._economy.note_compressed()
        else:
            self.limits.note_failed(tokens=self.tokens)
            self._economy.note_failed()

    def _view(self, *, is_forced: bool, share: float = 1.0, asks_model: bool = True) -> View:
        """Return the window as a compression sees it, with a share of the usual room to leave things in."""
        return View(
            entries=tuple(self._window.entries),
            dialect=self.dialect,
            protected=self._window.protected(system_prompts=self._config.preserve_system_prompts),
            summaries=dict(self.results.summaries),
            threshold_tokens=self._size.messages_within(int(self.limits.threshold_tokens * share)),
            share=share,
            asks_model=asks_model,
            limit_tokens=self._size.messages_within(self.limits.max_context_tokens),
            task=self._window.task,
            is_forced=is_forced,
            strips_reasoning=self._strips_reasoning,
        )

    def _live(self) -> LiveContext | None:
        return live_context(
            self._config,
            self.sent,
            self._window,
            self._size,
            self._accounts,
            llm=self._compressor.llm,
            model=self._accounts.model,
            dialect=self.dialect.name,
            limit_tokens=self.limits.max_context_tokens,
        )

    @property
    def _strips_reasoning(self) -> bool:
        """Whether reasoning is good only behind the messages that it was made behind: by the model, or as refused."""
        binds = self.dialect.binds_reasoning(self._accounts.model)
        return self._reasoning_was_refused or binds


_SMALLEST_WINDOW = 4_000
"""No model that runs an agent has a smaller window than about this, in tokens."""

_LEANER = 0.7
"""Of the usual sizes: what a compression leaves that may not earn its cost otherwise."""

_ROOM_SHARE = 0.9
"""Of the hard limit: up to here the memory itself may fill the context. The loop's next step needs room too."""

_REFUSED_SHARE = 0.9
"""Of a context that was refused: the most that counts as acceptable from then on."""
_SURE_SHARE = 0.95
"""Of a limit that the provider names: what we use of it. A compression leaves other kinds of text than it found, and
for those the provider's count differs from ours otherwise: by 4 % in a recorded run, whose second try was refused too.
"""
