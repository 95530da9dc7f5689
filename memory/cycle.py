"""The compression cycle: when the window is compressed, what becomes of it, and what is said about it.

The manager adds messages; after each one the cycle looks whether a compression is due, has it planned and run, and puts
the result in place. Nothing changes before a result is complete, valid and smaller.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from .accounts import Accounts
from .background import BackgroundCompression, Order, Start
from .compressor import Compaction, CompressedMemory, View, WorkingMemoryCompressor
from .config import MemoryConfig
from .dialects import validate
from .economics import Appraisal
from .economy import Economy
from .errors import ContextOverflowError, InvalidMessagesError, StalePlanError, SummaryError
from .events import Compressed, Degraded, Event, FloorReached, Trigger
from .limits import Limits
from .live_context import live_context
from .live_prefix import LiveContext
from .llm import Work
from .messages import Dialect
from .placing import changed_end, placed, stands
from .refusals import Refusal, read_refusal
from .request_size import RequestSize
from .started import CallLostError, StartedCall
from .strategies import Action, Plan
from .summarize import Summary
from .usage import Usage
from .window import Kind, Window

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
        model: str | None,
        emit: Callable[[Event], None],
    ) -> None:
        self.dialect = dialect
        """The format of the messages; the manager sets it when they show it."""
        self.limits = Limits(config)
        self.is_running = False
        """Somebody waits for a summary."""
        self.sent: Callable[[], Sequence[object]] = lambda: window.context
        """Returns what is sent for the window; the manager sets it where that is more than the messages."""
        self.memory: CompressedMemory | None = None
        """What the last compression made."""
        self.compressed_this_turn = False
        self.saved_tokens = 0
        """What the last compression took out of the context."""
        self._config = config
        self._window = window
        self._compressor = compressor
        self._size = size
        self._accounts = accounts
        self._model = model
        self._emit = emit
        self._economy = Economy(config, window, size, accounts)
        self._known_model: str | None = None
        self._is_economic = False
        self._background: BackgroundCompression | None = None
        self._was_lost = False
        """The last compression in the background was lost with its event loop: the next one is waited for."""
        self._summaries: dict[int, Summary] = {}
        self._reasoning_was_refused = False
        self._count = 0
        self._degraded_count = 0
        self._summary_count = 0
        self._masked_seqs: set[int] = set()

    @property
    def tokens(self) -> int:
        """Size of the next request, system prompt and tools included; calibrated by what responses reported."""
        if not self._window.entries and not self._size.beside_tokens:
            return 0
        return self._size.whole(self._window.tokens)

    def counts(self) -> dict[str, Any]:
        """Return how often something was compressed, summarised, masked, or had to be done a lesser way."""
        return {
            "compression_count": self._count,
            "summary_count": self._summary_count,
            "masked_count": len(self._masked_seqs),
            "degraded_count": self._degraded_count,
        }

    def settle(self) -> Work[None]:
        """Compress what is due after messages were added, and refuse what cannot be made to fit.

        Raises:
            ContextOverflowError: It cannot.
        """
        self.compressed_this_turn = False
        self._take_over()
        yield from self._compress_while_due()
        if not self.is_running:
            self.refuse_overflow()

    def note_request(self) -> None:
        """A request was made with the window as it stands."""
        if self._is_economic:
            self._economy.note_request()

    @property
    def is_in_background(self) -> bool:
        """Whether a compression goes on while the loop does."""
        return self._background is not None

    def start_background(self, start: Start) -> None:
        """Ask the model what a compression in the background has to ask next."""
        if self._background is not None and not self.is_running:
            self._background.start(start)

    def book_background(self) -> None:
        """Book what a compression in the background has used by now."""
        if self._background is not None:
            self._background.book()

    def finish_background(self) -> Work[bool]:
        """Wait for the compression in the background. Return whether the context was changed.

        It is not, and the result stays ready for the next turn, while a call is open or an answer is awaited.
        """
        if self._background is None or self.is_running:
            return False
        yield from self._complete(self._background)
        return self._take_over()

    def drop_background(self) -> StartedCall | None:
        """Let go of the compression in the background. Return the model call that is still under way."""
        dropped, self._background = self._background, None
        return dropped.drop() if dropped is not None else None

    def note_withdrawn(self) -> None:
        """Messages were taken out of the window: a summary of any of them is not wanted any more."""
        if self._background is None:
            return
        order = self._background.order
        if not stands(order.view.entries, self._window.entries, stop=changed_end(order.plan)):
            self.drop_background()

    def note_cleared(self) -> None:
        """The window was emptied."""
        self.drop_background()
        self._summaries.clear()
        self.compressed_this_turn = False
        self.limits.note_compressed(tokens=self.tokens, last_seq=self._window.last_seq)
        self._economy.note_compressed()

    def plan(self) -> Plan:
        """Return what a compression would do now."""
        return self._compressor.plan(self._view(is_forced=False))

    def apply(self, plan: Plan) -> Work[bool]:
        """Carry out a plan that was asked for. Return whether it changed the context.

        Raises:
            StalePlanError: The window has changed since it was made.
        """
        if self.is_running:
            raise StalePlanError("a compression is running; ask preview() for a new plan when it is done")
        if self._background is not None:
            raise StalePlanError("a compression runs in the background; `finish_background()`, then preview() anew")
        units, entries = [decision.unit for decision in plan.decisions], self._window.entries
        is_own = not units or (bool(entries) and units[0].entries[0] is entries[0])
        if plan.version != self._window.version or not is_own:
            raise StalePlanError("the window has changed since this plan was made; ask preview() for a new one")
        if not plan.changes or self.limits.is_compressed(self._window.last_seq):
            return False
        return (yield from self._carry_out(self._order(plan, "manual")))

    def recover(self, error: BaseException) -> Work[bool]:
        """Do what can be done about a refused request. Return whether to send it once more.

        Raises:
            InvalidMessagesError: It was malformed, and `validate` knows by which rules.
        """
        refusal = read_refusal(error)
        if refusal is None:
            return False
        if self.is_running:
            if refusal.kind == "context_overflow":
                self.limits.learn(self._learned(refusal))
            return False
        match refusal.kind:
            case "context_overflow":
                return self._config.enable_compression and (yield from self._shrink(refusal))
            case "stale_reasoning":
                self.drop_background()
                return self._strip()
            case "malformed":
                issues = validate(self._window.context, self.dialect)
                if errors := [issue for issue in issues if issue.severity == "error"]:
                    raise InvalidMessagesError(errors) from error
                return False

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
            if self._background is not None:
                yield from self._complete(self._background)
                self._take_over(is_forced=True)
                continue
            self.limits.note_attempt(self._window.last_seq)
            plan, appraisal = self._considered(trigger)
            if appraisal is not None and not (appraisal.pays and self._is_worth_it(plan, trigger)):
                self._economy.note_declined(plan)
            elif not self._is_worth_it(plan, trigger):
                self._note_floor(plan)
            elif not (yield from self._carry_out(self._order(plan, trigger, appraisal))):
                self.limits.note_failed(tokens=self.tokens)

    def _due(self) -> Trigger | None:
        """Say why a compression may be due now. Never while a call is open, never twice without new input."""
        if not self._config.enable_compression or self.is_running or self._window.has_open_calls:
            return None
        if self.limits.is_attempted(self._window.last_seq):
            return None
        tokens = self.tokens
        self._know_model(tokens)
        due = self.limits.due(tokens=tokens)
        if self._background is not None:
            return "limit" if due == "limit" else None
        if due == "limit" or not self._is_economic or (due == "threshold" and self._config.gives_threshold):
            return due
        looks = self._economy.is_worth_a_look(tokens, growth_tokens=self.limits.growth_tokens)
        return "economic" if looks else None

    def _know_model(self, tokens: int) -> None:
        """Let the limits follow the model, once its window can matter: looking prices up takes a while."""
        model = self._accounts.model or self._model
        if tokens < _SMALLEST_WINDOW or model is None:
            return
        self.limits.growth_tokens = self._accounts.growth_tokens(self._window)
        if model != self._known_model:
            prices = self._accounts.tracker.prices
            self._known_model = model
            self.limits.know_window(prices.context_window(model))
            self._economy.edges = prices.tier_edges(model)
            self._is_economic = self._config.is_economic and self._accounts.knows_price

    def _considered(self, trigger: Trigger) -> tuple[Plan, Appraisal | None]:
        """Return what to do and, where money decides, what speaks for and against it.

        From the threshold on, a compression that may not earn its cost is tried leaner: it rewrites less, so that less
        is lost should the run end.
        """
        plan = self._compressor.plan(self._view(is_forced=trigger == "limit"))
        if trigger != "economic":
            return plan, None
        appraisal = self._appraise(plan)
        if appraisal.reason == "too_risky" and self.tokens > self.limits.threshold_tokens:
            for share in _LEANER:
                leaner = self._compressor.plan(self._view(is_forced=False, share=share))
                found = self._appraise(leaner)
                if found.pays:
                    return leaner, found
        return plan, appraisal

    def _appraise(self, plan: Plan) -> Appraisal:
        usd = self._summary_usd(plan)
        return self._economy.appraise(plan, summary_usd=usd, growth_tokens=self.limits.growth_tokens)

    def _summary_usd(self, plan: Plan) -> float:
        """Estimate what writing a plan's summary will cost; nothing without a model."""
        llm, gone = self._compressor.llm, plan.with_action(Action.SUMMARISE)
        if llm is None or not gone:
            return 0.0
        usage = Usage(
            input_tokens=sum(decision.tokens_before for decision in gone), output_tokens=plan.summary_target_tokens
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
        if self._background is not None:
            yield from self._complete(self._background)
            if self._take_over(is_forced=True) and self.tokens <= self.limits.max_context_tokens:
                return True
        plan = self._compressor.plan(self._view(is_forced=True))
        return bool(plan.changes) and (yield from self._carry_out(self._order(plan, "refusal")))

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

    def _carry_out(self, order: Order) -> Work[bool]:
        """Carry out an order, or begin with it. Return whether anything came of it."""
        job = BackgroundCompression(order=order, run=self._compressor.run(order.plan, order.view))
        try:
            job.begin()
            if job.result is None and self._may_go_on(order):
                self._background = job
                return True
            self.is_running = True
            yield from job.complete()
        except SummaryError as error:
            self._give_up(order, error)
            return False
        finally:
            self.is_running = False
            if self._background is not job:
                job.run.close()
        return self._put(job)

    def _may_go_on(self, order: Order) -> bool:
        """Whether the loop may go on while the summary is written."""
        was_lost, self._was_lost = self._was_lost, False
        return self._config.background and not was_lost and order.trigger in ("threshold", "economic")

    def _complete(self, job: BackgroundCompression) -> Work[None]:
        """Wait for what goes on in the background. What went wrong is found when it is taken over."""
        self.is_running = True
        try:
            yield from job.complete()
        except SummaryError as error:
            self._give_up_background(job, error)
        finally:
            self.is_running = False

    def _take_over(self, *, is_forced: bool = False) -> bool:
        """Put in place what was made in the background, if it is done and this is the moment. Return whether it was.

        Not while a request is under way: it is booked as what it was when its answer comes. Not while a call is open:
        no other compression happens then either.
        """
        job = self._background
        if job is None or self.is_running:
            return False
        try:
            job.advance()
        except SummaryError as error:
            self._give_up_background(job, error)
            return False
        is_moment = not self._window.has_open_calls and not self._accounts.awaits_answer
        if job.result is None or not (is_moment or is_forced):
            return False
        self._background = None
        is_put = self._put(job, in_background=True)
        if not is_put:
            self.limits.note_failed(tokens=self.tokens)
        return is_put

    def _give_up_background(self, job: BackgroundCompression, error: SummaryError) -> None:
        if self._background is job:
            self._background = None
            self._was_lost = isinstance(error, CallLostError)
            self._give_up(job.order, error)
            self.limits.note_failed(tokens=self.tokens)

    def _give_up(self, order: Order, error: SummaryError) -> None:
        last = error.failed_steps[-1].next if error.failed_steps else order.plan.strategy
        for step in (*error.failed_steps, Degraded(failed=last, next="nothing", reason=str(error))):
            self._degraded(step)

    def _put(self, job: BackgroundCompression, *, in_background: bool = False) -> bool:
        """Put a result in the place of what it was made from. Return whether that was possible."""
        compaction, view = job.result, job.order.view
        assert compaction is not None
        before, late_count = self.tokens, len(self._window.entries) - len(view.entries)
        try:
            entries = placed(
                compaction,
                view,
                self._window,
                dialect=self.dialect,
                preserves_system_prompts=self._config.preserve_system_prompts,
                compressor=self._compressor,
            )
        except SummaryError as error:
            self._give_up(job.order, error)
            return False
        self._window.splice(entries, replaced_count=len(self._window.entries))
        self._note_compressed(compaction, before)
        event = self._event(compaction, job.order, before)
        self._emit(replace(event, in_background=in_background, late_count=max(0, late_count)))
        return True

    def _note_compressed(self, compaction: Compaction, tokens_before: int) -> None:
        unchanged = sum(entry.tokens for entry in compaction.entries[: compaction.first_edit])
        self._accounts.note_edit(unchanged)
        self._keep_summary(compaction)
        self._masked_seqs |= {entry.seq for entry in compaction.entries if entry.kind in _SHORTENED}
        self._count += 1
        self.limits.note_compressed(tokens=self.tokens, last_seq=self._window.last_seq)
        self._economy.note_compressed()
        self.compressed_this_turn = True
        self.memory = compaction.memory
        self.saved_tokens = tokens_before - self.tokens
        for step in compaction.degradations:
            self._degraded(step)

    def _keep_summary(self, compaction: Compaction) -> None:
        standing = {entry.seq for entry in compaction.entries if entry.kind is Kind.SUMMARY}
        self._summaries = {seq: summary for seq, summary in self._summaries.items() if seq in standing}
        if compaction.summary is not None and compaction.summary_seq is not None:
            self._summary_count += 1
            self._summaries[compaction.summary_seq] = compaction.summary

    def _event(self, compaction: Compaction, order: Order, before: int) -> Compressed:
        plan = compaction.plan
        changed = [entry for decision in plan.changes for entry in decision.unit.entries]
        written = [e.tokens for e in compaction.entries if e.kind is Kind.SUMMARY and e.seq == compaction.summary_seq]
        return Compressed(
            trigger=order.trigger,
            strategy=plan.strategy,
            method=compaction.memory.method,
            tokens_before=before,
            tokens_after=self.tokens,
            summarised_count=_count(plan, Action.SUMMARISE),
            masked_count=_count(plan, Action.MASK) + _count(plan, Action.CLAMP),
            dropped_count=_count(plan, Action.DROP),
            first_ref=changed[0].ref,
            last_ref=changed[-1].ref,
            summary_tokens=sum(written),
            cost_usd=self._accounts.tracker.compression_cost - order.spent_usd,
            saved_usd_per_request=(before - self.tokens) * self._accounts.usd_per_token(self._window),
            stripped_count=compaction.memory.stripped_count,
            appraisal=order.appraisal,
            summary_from=compaction.summary.made_from if compaction.summary is not None else None,
        )

    def _view(self, *, is_forced: bool, share: float = 1.0) -> View:
        """Return the window as a compression sees it, with a share of the usual room to leave things in."""
        return View(
            entries=tuple(self._window.entries),
            dialect=self.dialect,
            protected=self._window.protected(system_prompts=self._config.preserve_system_prompts),
            summaries=dict(self._summaries),
            threshold_tokens=self._size.messages_within(int(self.limits.threshold_tokens * share)),
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
            model=self._accounts.model or self._model,
            dialect=self.dialect.name,
            limit_tokens=self.limits.max_context_tokens,
        )

    @property
    def _strips_reasoning(self) -> bool:
        """Whether reasoning is good only behind the messages that it was made behind: by the model, or as refused."""
        binds = self.dialect.binds_reasoning(self._accounts.model or self._model)
        return self._reasoning_was_refused or binds

    def _degraded(self, event: Degraded) -> None:
        self._degraded_count += 1
        logger.warning("failed=%s next=%s reason=%s | summary degraded", event.failed, event.next, event.reason)
        self._emit(event)


_SMALLEST_WINDOW = 4_000
"""No model that runs an agent has a smaller window than about this, in tokens."""

_LEANER = (0.7, 0.5)
"""Shares of the threshold that a leaner compression is sized by."""

_SHORTENED = (Kind.MASKED, Kind.CLAMPED)

_REFUSED_SHARE = 0.9
"""Of a context that was refused: the most that counts as acceptable from then on."""
_SURE_SHARE = 0.95
"""Of a limit that the provider names: what we use of it. A compression leaves other kinds of text than it found, and
for those the provider's count differs from ours otherwise: by 4 % in a recorded run, whose second try was refused too.
"""


def _count(plan: Plan, action: Action) -> int:
    return sum(len(decision.unit.entries) for decision in plan.with_action(action))
