"""MemoryManager: the loop hands it every message and sends what `get_context_for_llm()` returns."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from .accounts import Accounts
from .archive import Archive, Hit
from .compressor import Compaction, CompressedMemory, View, WorkingMemoryCompressor
from .config import MemoryConfig
from .copies import entry_of, without_stale_marks
from .dialects import DIALECTS, detect, dialect_named, validate
from .errors import (
    ConfigError,
    ContextOverflowError,
    InvalidMessagesError,
    MessageError,
    StalePlanError,
    SummaryError,
)
from .events import Compressed, Degraded, Event, FloorReached, Trigger
from .following import Followed
from .limits import Limits
from .llm import Steps, adrive, drive
from .messages import Dialect, DialectName
from .native import unwrap
from .refusals import Refusal, read_refusal
from .request_size import RequestSize
from .short_term import ShortTermMemory
from .stats import spending
from .strategies import Action, Plan, Strategy
from .summarize import Summarizer, Summary
from .tokens import TiktokenCounter, TokenCounter
from .tracker import TokenTracker
from .usage import Usage, carried_usage, read_model, read_usage
from .window import PINNED, Entry, Kind, Window

logger = logging.getLogger(__name__)


class MemoryManager:
    """Wraps the message list of one agent loop: counts, compresses when due, archives, prices, and reports.

    One manager belongs to one conversation and to one thread or event loop at a time; any number of managers live
    side by side without meeting. Messages are the callers' own objects in any provider's format and are sent as
    they were added, unless a compression took them out; then the archive has them.
    """

    def __init__(
        self,
        config: MemoryConfig | None = None,
        llm: object | None = None,
        *,
        dialect: DialectName | None = None,
        model: str | None = None,
        system: object | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        strategy: Strategy | None = None,
        compressor: WorkingMemoryCompressor | None = None,
        summarizer: Summarizer | None = None,
        archive: Archive | None = None,
        counter: TokenCounter | None = None,
        tracker: TokenTracker | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        """Take what is given; build the rest from the configuration.

        Args:
            config: Settings; None for the defaults.
            llm: The model that writes summaries: an agent's model (`call_async`), or a callable from a prompt to a
                text. None: no model is ever called.
            dialect: The messages' format; None: found out from the first messages.
            model: The model that the loop calls, for counting and prices; None: that of `llm`, or what responses say.
            system: A system prompt that travels beside the messages (Anthropic, Gemini); counted, never changed.
            tools: Tool schemas that travel with every request; counted, never changed.
            strategy: A strategy of your own.
            compressor: A compressor of your own, usually a subclass; settings, model, strategy, summariser, archive
                and counter are then the compressor's, and giving others here is an error.
            summarizer: A summariser of your own, tried before the extractive one.
            archive: Where messages go when they leave the context; None: in memory.
            counter: How tokens are counted; None: tiktoken with the model's family factor.
            tracker: Where calls are priced; None: a new one.
            on_event: Called with each event. What it raises is logged by its type and goes no further.

        Raises:
            ConfigError: A setting is out of range, `llm` is no model, or an argument contradicts `compressor`.
        """
        if config is not None and not isinstance(config, MemoryConfig):
            raise ConfigError(
                f"config must be a MemoryConfig, got {type(config).__name__}; `MemoryConfig(…)` makes one"
            )
        if compressor is not None:
            own = {"strategy": strategy, "summarizer": summarizer, "archive": archive, "counter": counter}
            _refuse_contradictions(compressor, config, llm, own)
        self.config = config or (compressor.config if compressor else MemoryConfig())
        self._model = model or _model_name(llm)
        self._compressor = compressor or WorkingMemoryCompressor(
            llm,
            self.config,
            strategy=strategy,
            summarizer=summarizer,
            counter=counter or TiktokenCounter(self._model),
            archive=archive,
        )
        self.archive: Archive = self._compressor.archive
        if len(self.archive):
            raise ConfigError(
                f"the archive holds {len(self.archive)} messages of another conversation; give each manager its own"
            )
        self.tracker = tracker or TokenTracker()
        self.short_term = ShortTermMemory(self.config.short_term_size)
        self.compressed_memory: CompressedMemory | None = None
        """What the last compression made; None before the first one."""
        self.was_compressed_last_iteration = False
        """Whether the last `add_message` compressed."""
        self.last_compression_savings = 0
        """Tokens that the last compression took out of the context."""
        self._counter: TokenCounter = self._compressor.counter
        self._size = RequestSize(self._counter)
        self._size.set_beside(system, tools)
        self._accounts = Accounts(
            self.tracker,
            self._size,
            self._counter,
            model=self._model,
            limit_usd=self.config.max_cost_dollars,
            on_over_budget=self._emit,
        )
        self._on_event = on_event
        self._dialect = dialect_named(dialect) if dialect else None
        self._window = Window(splits_responses=self._dialect_or_default.splits_responses)
        self._summaries: dict[int, Summary] = {}
        self._followed = Followed()

        self._limits = Limits(self.config)
        self._is_compressing = False
        self._reasoning_was_refused = False
        self._compression_count = 0
        self._degraded_count = 0
        self._summary_count = 0
        self._masked_seqs: set[int] = set()

    # --- One turn -----------------------------------------------------------------------------------------------------

    async def add_message(self, message: object, actual_tokens: object | None = None) -> None:
        """Take the next message of the loop, and compress if that is due.

        Args:
            message: An `LLMMessage`, a dict in a provider's format, an SDK's message, or an SDK's whole response,
                whose message and usage are taken.
            actual_tokens: What the provider reported for the call that this message answers, in any SDK's form or as
                `{"input": …, "output": …}`; None: taken from `message` if it carries it, else estimated.

        Cost: one tokenisation of the message. A compression costs at most a model call for each 100,000 tokens that
        it summarises, and no call without a model.

        Raises:
            MessageError: The message is in no known shape, or `actual_tokens` has no counts; nothing was added.
            ContextOverflowError: What may never be taken out exceeds `max_context_tokens`. The message was added.
        """
        await adrive(self._add(message, actual_tokens), self._compressor.llm, meter=self._accounts.summary_meter)

    def add_message_sync(self, message: object, actual_tokens: object | None = None) -> None:
        """Take the next message like `add_message`, without an event loop."""
        drive(self._add(message, actual_tokens), self._compressor.llm, meter=self._accounts.summary_meter)

    async def load_history(self, messages: Iterable[object]) -> None:
        """Take messages of an earlier run: kept, counted and compressed like any other, but not billed to this one.

        Raises:
            MessageError: A message is in no known shape; those before it were added.
            ContextOverflowError: As with `add_message`.
        """
        await adrive(self._load(messages), self._compressor.llm, meter=self._accounts.summary_meter)

    def load_history_sync(self, messages: Iterable[object]) -> None:
        """Take messages of an earlier run like `load_history`, without an event loop."""
        drive(self._load(messages), self._compressor.llm, meter=self._accounts.summary_meter)

    async def follow(self, messages: Iterable[object], *, dialect: DialectName | None = None) -> None:
        """Make the log equal to a list that the caller keeps; for loops that build their own full list.

        What is new is added. Where the list departs from what was there before (a message edited, removed, replaced),
        what departed leaves the context, the archive keeps it, and the rest is added. Messages that differ in
        `cache_control` alone are the same; the newest object is sent. An answer that came with the call before is
        booked, earlier ones are history. Compresses when that is due.

        Args:
            messages: The whole list, as it is to be sent.
            dialect: Its format, where the caller knows it before the messages show it.

        Cost: one comparison a message, by identity where the caller keeps its objects; new ones as `add_message`.

        Raises:
            ConfigError: The conversation is in another format than `dialect`.
            MessageError: A message is in no known shape; those before it were added.
            ContextOverflowError: As with `add_message`.
        """
        await adrive(self._follow(list(messages), dialect), self._compressor.llm, meter=self._accounts.summary_meter)

    def follow_sync(self, messages: Iterable[object], *, dialect: DialectName | None = None) -> None:
        """Make the log equal to the caller's list like `follow`, without an event loop."""
        drive(self._follow(list(messages), dialect), self._compressor.llm, meter=self._accounts.summary_meter)

    async def recover(self, error: BaseException) -> bool:
        """Do what can be done about a request that a provider refused. Return whether to send it once more.

        A context that is too long for the model is compressed to a strictly smaller one, and the limit remembered;
        reasoning that the provider no longer accepts where it stands is taken out. False: the error is about
        something else, or nothing can be made smaller; then it is the caller's to raise again.

        Args:
            error: The SDK's own exception, or one that it caused.

        Raises:
            InvalidMessagesError: The request was malformed, and `validate` knows by which rules.
        """
        return await adrive(self._recover(error), self._compressor.llm, meter=self._accounts.summary_meter)

    def recover_sync(self, error: BaseException) -> bool:
        """Do what can be done about a refused request like `recover`, without an event loop."""
        return drive(self._recover(error), self._compressor.llm, meter=self._accounts.summary_meter)

    def get_context_for_llm(self) -> list[Any]:
        """Return the messages to send, in a new list: a plain read, no I/O.

        Between compressions each list extends the one before; a compression leaves everything before its first edit
        as it was. Providers' prompt caches live on this.

        Raises:
            ContextOverflowError: The list is longer than `max_context_tokens` and cannot be made shorter.
            BudgetExceededError: Sending it would bring the cost above `max_cost_dollars`.
        """
        self._refuse_overflow()
        self._accounts.refuse_over_budget(self._window)
        self._accounts.note_sent()
        return self._window.context

    def record_usage(self, usage: object, *, model: str | None = None) -> None:
        """Book what the provider reported for a call, before or after its answer is added.

        Args:
            usage: An SDK's response or usage, or `{"input": …, "output": …}`.
            model: The model that answered, where it is not the one the manager knows.

        Raises:
            MessageError: No token counts are found in it, or they cannot be true.
        """
        self._accounts.report(_required_usage(usage), usage, model or read_model(usage))

    # --- Looking and steering -----------------------------------------------------------------------------------------

    @property
    def dialect(self) -> DialectName | None:
        """The format of the messages; None while they could still be of several."""
        return self._dialect.name if self._dialect else None

    @property
    def messages(self) -> list[Any]:
        """What `get_context_for_llm` would return, whatever the limits say; for looking, not for sending."""
        return self._window.context

    def origins(self) -> list[Any | None]:
        """Return, beside each message of the context, the message as it was added; None where a summary stands."""
        return [None if e.kind is Kind.SUMMARY else e.as_added.message for e in self._window.entries]

    def set_fixed(self, *, system: object | None = None, tools: Sequence[Mapping[str, Any]] | None = None) -> None:
        """Say what now travels beside the messages with every request: it is counted, never changed.

        Call it before each request if that may change; the same again costs a comparison.
        """
        if self._size.set_beside(system, tools):
            self._accounts.note_new_front()

    @property
    def current_tokens(self) -> int:
        """Size of the next request, system prompt and tools included; calibrated by what responses reported."""
        if not self._window.entries and not self._size.beside_tokens:
            return 0
        return self._size.whole(self._window.tokens)

    def preview(self) -> Plan:
        """Return what a compression would do now: per unit the action, the reason, and the sizes. Changes nothing."""
        plan = self._compressor.plan(self._view(is_forced=False))
        return replace(plan, version=self._window.version, usd_per_token=self._accounts.usd_per_token(self._window))

    async def apply(self, plan: Plan) -> bool:
        """Carry out a plan from `preview`. Return whether it changed the context.

        Without a new message since the last compression it does nothing: to compress a summary again loses more
        than it wins.

        Raises:
            StalePlanError: The window has changed since the preview.
        """
        return await adrive(self._apply(plan), self._compressor.llm, meter=self._accounts.summary_meter)

    def apply_sync(self, plan: Plan) -> bool:
        """Carry out a plan like `apply`, without an event loop."""
        return drive(self._apply(plan), self._compressor.llm, meter=self._accounts.summary_meter)

    async def compress(self) -> bool:
        """Compress now, whatever the threshold says. Return whether that changed the context."""
        return await self.apply(self.preview())

    def compress_sync(self) -> bool:
        """Compress now like `compress`, without an event loop."""
        return self.apply_sync(self.preview())

    def pin(self, message: object) -> str:
        """Never take this message out, nor the unit it belongs to. Give it as it was added, or its reference.

        A response counts as its first message; the others belong to the same unit.

        Return its reference.

        Raises:
            MessageError: It is not in the context.
        """
        entry = self._find(message)
        self._window.pin(entry)
        return entry.ref

    def unpin(self, message: object) -> str:
        """Allow a pinned message to be taken out again. Return its reference."""
        entry = self._find(message)
        self._window.unpin(entry)
        return entry.ref

    def original(self, ref: str) -> Any:
        """Return the message under a reference, exactly as it was added, from the archive or the context.

        Raises:
            UnknownReferenceError: There is none.
        """
        entry = self._window.find(ref)
        return entry.message if entry is not None else self.archive.get(ref).message

    def recall(self, query: str, limit: int = 5) -> list[Hit]:
        """Return the archived messages that match the words best, best first; [] if none does."""
        return self.archive.search(query, limit=limit)

    def get_stats(self) -> dict[str, Any]:
        """Return the run's figures so far. Tokens are integers, costs USD; docs/tokens-and-prices.md explains each."""
        return {
            "current_tokens": self.current_tokens,
            "max_context_tokens": self._limits.max_context_tokens,
            **spending(self.tracker, self._accounts.ledger),
            "compression_count": self._compression_count,
            "summary_count": self._summary_count,
            "masked_count": len(self._masked_seqs),
            "degraded_count": self._degraded_count,
            "message_count": self._window.last_seq,
            "context_count": len(self._window.entries),
            "short_term_count": len(self.short_term),
            "archived_count": len(self.archive),
        }

    # --- Adding -------------------------------------------------------------------------------------------------------

    def _add(self, message: object, actual_tokens: object | None) -> Steps[None]:
        source = message if actual_tokens is None else actual_tokens
        usage = carried_usage(message) if actual_tokens is None else _required_usage(actual_tokens)
        entries = self._read(message)
        self._accounts.begin_message()
        for entry in entries:
            if self._window.begins_response(entry.reading):
                self._open_request(entry)
            self._log(entry)
        if usage is not None:
            self._accounts.report(usage, source, read_model(message) or read_model(source))
        yield from self._settle()

    def _load(self, messages: Iterable[object]) -> Steps[None]:
        for message in messages:
            for entry in self._read(message):
                self._log(entry)
        self._accounts.note_edit(0)
        yield from self._settle()

    def _follow(self, messages: Sequence[object], dialect: DialectName | None) -> Steps[None]:
        if dialect is not None:
            self._settle_dialect(dialect_named(dialect))
        answered = common = self._followed.common(messages)
        if common < len(self._followed):
            answered = self._followed.behind(messages, default=common)
            common = self._withdraw(common)
        self._exchange(messages[:common])
        for index, message in enumerate(messages[common:], start=common):
            self._take_over(message, may_answer=index >= answered)
        yield from self._settle()

    def _exchange(self, messages: Sequence[object]) -> None:
        """Let the caller's newest objects stand in place of equal ones."""
        if self._is_compressing:  # what is being written is made of those that stand; next time, then
            return
        swapped = self._followed.swap(messages)
        self._window.swap({seq + i: n for seq, message in swapped.items() for i, n in enumerate(unwrap(message))})
        if self._window.has_cache_breakpoint:
            self._window.renew([without_stale_marks(e, self._dialect_or_default) for e in self._window.entries])

    def _take_over(self, message: object, *, may_answer: bool) -> None:
        """Add a message of the caller's list; an answer is booked if a request waits for one."""
        entries = self._read(message)
        self._followed.add(message, first_seq=self._window.last_seq + 1, log_tokens=self._window.log_tokens)
        for entry in entries:
            if may_answer and self._window.begins_response(entry.reading) and self._accounts.awaits_answer:
                self._open_request(entry)
            self._append(entry)

    def _withdraw(self, length: int) -> int:
        """Take out of the context what departed from the caller's list. Return how much of the list still stands."""
        first_seq, log_tokens = self._followed.cut(length)
        for entry in self._window.withdraw(first_seq):
            self._compressor.keep(entry)
        if not self._window.entries:
            # A summary stood for some of it: everything that is still in the list is added once more.
            length, log_tokens = 0, 0
            self._followed.clear()
        self._window.log_tokens = log_tokens
        self.short_term.clear()
        for entry in self._window.entries[-self.config.short_term_size :]:
            self.short_term.add_message(entry.message)
        self._accounts.note_withdrawal(self._window)
        return length

    def _settle(self) -> Steps[None]:
        """Compress what is due after messages were added, and refuse what cannot be made to fit."""
        self.was_compressed_last_iteration = False
        yield from self._compress_while_due()
        if not self._is_compressing:
            self._refuse_overflow()

    def _read(self, message: object) -> list[Entry]:
        """Read a caller's message; the first one that shows the format settles it.

        All is read before the first entry is appended: a response with one unreadable item adds nothing.
        """
        natives = unwrap(message)
        dialect = self._dialect or detect(natives)
        entries = [
            entry_of(native, self._window.last_seq + number, dialect or self._dialect_or_default, self._counter)
            for number, native in enumerate(natives, start=1)
        ]
        if dialect is not None:
            self._settle_dialect(dialect)
        return entries

    def _settle_dialect(self, dialect: Dialect) -> None:
        if self._dialect is None:
            # What came before reads the same in every format.
            self._dialect = dialect
            self._window.regroup(splits_responses=dialect.splits_responses)
        elif self._dialect is not dialect:
            raise ConfigError(
                f"this conversation is in the format {self._dialect.name}, not {dialect.name}; use one manager each"
            )

    def _log(self, entry: Entry) -> None:
        """Append a message that was handed over by itself; a list that is followed later may begin with it."""
        self._followed.add(entry.message, first_seq=entry.seq, log_tokens=self._window.log_tokens)
        self._append(entry)

    def _append(self, entry: Entry) -> None:
        entry = self._compressor.admitted(entry, self._dialect_or_default, self._window.open_calls)
        self._window.append(entry)
        self.short_term.add_message(entry.message)

    def _open_request(self, answer: Entry) -> None:
        """Book the request that this answer came from: the context as it stood before it."""
        caches = self._dialect_or_default.name != "anthropic" or self._window.has_cache_breakpoint
        self._accounts.open_request(self._window, output_tokens=answer.tokens, caches=caches)

    @property
    def _dialect_or_default(self) -> Dialect:
        return self._dialect or DIALECTS["openai_chat"]

    # --- Compressing --------------------------------------------------------------------------------------------------

    def _compress_while_due(self) -> Steps[None]:
        """Compress until it is no longer due: messages may have been added while a model was asked."""
        while (trigger := self._due()) is not None:
            self._limits.note_attempt(self._window.last_seq)
            plan = self._compressor.plan(self._view(is_forced=trigger == "limit"))
            if not self._is_worth_it(plan, trigger):
                self._note_floor(plan)
            elif not (yield from self._carry_out(plan, trigger)):
                self._limits.note_failed(tokens=self.current_tokens)

    def _due(self) -> Trigger | None:
        """Say why a compression is due now. Never while a call is open, never twice without new input."""
        if not self.config.enable_compression or self._is_compressing or self._window.has_open_calls:
            return None
        return self._limits.due(tokens=self.current_tokens, last_seq=self._window.last_seq)

    def _is_worth_it(self, plan: Plan, trigger: Trigger) -> bool:
        gain = plan.tokens_before - plan.tokens_after
        return bool(plan.changes) and gain > (self._limits.smallest_gain_tokens if trigger == "threshold" else 0)

    def _note_floor(self, plan: Plan) -> None:
        """Nothing is worth taking out: wait for growth, and say so once."""
        if self._limits.note_floor(tokens=self.current_tokens):
            self._emit(
                FloorReached(
                    tokens=self.current_tokens,
                    threshold_tokens=self._limits.threshold_tokens,
                    irreducible_tokens=self._size.whole(plan.tokens_after),
                )
            )

    def _recover(self, error: BaseException) -> Steps[bool]:
        refusal = read_refusal(error)
        if refusal is None:
            return False
        if self._is_compressing:
            if refusal.kind == "context_overflow":
                self._limits.learn(self._learned(refusal))
            return False
        match refusal.kind:
            case "context_overflow":
                return self.config.enable_compression and (yield from self._shrink(refusal))
            case "stale_reasoning":
                return self._strip()
            case "malformed":
                issues = validate(self._window.context, self._dialect_or_default)
                if errors := [issue for issue in issues if issue.severity == "error"]:
                    raise InvalidMessagesError(errors) from error
                return False

    def _shrink(self, refusal: Refusal) -> Steps[bool]:
        """Learn the model's own limit, and compress to fit it. Return whether the context is smaller now."""
        self._limits.learn(self._learned(refusal))
        plan = self._compressor.plan(self._view(is_forced=True))
        return bool(plan.changes) and (yield from self._carry_out(plan, "refusal"))

    def _strip(self) -> bool:
        """Take out all signed reasoning: the provider does not accept it where it stands. Return whether any was."""
        self._reasoning_was_refused = True
        before = self._window.entries
        after = self._compressor.stripped(before, self._dialect_or_default)
        if len(before) == len(after) and all(one is other for one, other in zip(before, after, strict=True)):
            return False
        self._window.splice(after, replaced_count=len(before))
        self._accounts.note_edit(0)
        return True

    def _learned(self, refusal: Refusal) -> int:
        """Return the limit in tokens as we count them, below what was just refused."""
        if refusal.requested_tokens is not None:
            self._size.learn(message_tokens=self._window.tokens, reported_tokens=refusal.requested_tokens)
        tokens = self.current_tokens
        if refusal.limit_tokens is None:
            return int(tokens * _REFUSED_SHARE)
        share = _SURE_SHARE * refusal.limit_tokens / (refusal.requested_tokens or tokens)
        return int(tokens * min(share, _REFUSED_SHARE))

    def _apply(self, plan: Plan) -> Steps[bool]:
        if self._is_compressing:
            raise StalePlanError("a compression is running; ask preview() for a new plan when it is done")
        units, entries = [decision.unit for decision in plan.decisions], self._window.entries
        is_own = not units or (bool(entries) and units[0].entries[0] is entries[0])
        if plan.version != self._window.version or not is_own:
            raise StalePlanError("the window has changed since this plan was made; ask preview() for a new one")
        if not plan.changes or self._limits.is_compressed(self._window.last_seq):
            return False
        return (yield from self._carry_out(plan, "manual"))

    def _carry_out(self, plan: Plan, trigger: Trigger) -> Steps[bool]:
        """Run a plan and splice its result in. Return whether anything changed."""
        view = self._view(is_forced=trigger in ("limit", "refusal"))
        spent_before = self.tracker.compression_cost
        self._is_compressing = True
        try:
            compaction = yield from self._compressor.run(plan, view)
            self._refuse_changed(view, compaction)
        except SummaryError as error:
            last = error.failed_steps[-1].next if error.failed_steps else plan.strategy
            for step in (*error.failed_steps, Degraded(failed=last, next="nothing", reason=str(error))):
                self._degraded(step)
            return False
        finally:
            self._is_compressing = False
        self._splice(compaction, trigger, self.tracker.compression_cost - spent_before)
        return True

    def _refuse_changed(self, view: View, compaction: Compaction) -> None:
        """Do not take out what was pinned while a model was asked, nor bring back what was withdrawn."""
        now = self._window.entries[: len(view.entries)]
        if [entry.seq for entry in now] != [entry.seq for entry in view.entries]:
            raise SummaryError("the history was changed while the compression ran")
        protected = self._window.protected(system_prompts=False)
        for decision in compaction.plan.changes:
            if decision.action is Action.STRIP:
                continue  # its stale reasoning would make the request invalid, pinned or not
            for entry in decision.unit.entries:
                if protected.get(entry.seq) == PINNED:
                    raise SummaryError(f"{entry.ref} was pinned while the compression ran")

    def _splice(self, compaction: Compaction, trigger: Trigger, cost_usd: float) -> None:
        """Put the new entries in the place of those they were made from; what was added since stays behind them."""
        before = self.current_tokens
        added_since = self._window.entries[compaction.replaced_count :]
        late = self._compressor.late(compaction, added_since, self._dialect_or_default)
        self._window.splice((*compaction.entries, *late), replaced_count=len(self._window.entries))
        unchanged = sum(entry.tokens for entry in compaction.entries[: compaction.first_edit])
        self._accounts.note_edit(unchanged)
        self._keep_summary(compaction)
        self._masked_seqs |= {entry.seq for entry in compaction.entries if entry.kind in _SHORTENED}
        self._compression_count += 1
        self._limits.note_compressed(tokens=self.current_tokens, last_seq=self._window.last_seq)
        self.was_compressed_last_iteration = True
        self.compressed_memory = compaction.memory
        self.last_compression_savings = before - self.current_tokens
        for step in compaction.degradations:
            self._degraded(step)
        self._emit(self._event(compaction, trigger, before, cost_usd))

    def _keep_summary(self, compaction: Compaction) -> None:
        standing = {entry.seq for entry in compaction.entries if entry.kind is Kind.SUMMARY}
        self._summaries = {seq: summary for seq, summary in self._summaries.items() if seq in standing}
        if compaction.summary is not None and compaction.summary_seq is not None:
            self._summary_count += 1
            self._summaries[compaction.summary_seq] = compaction.summary

    def _event(self, compaction: Compaction, trigger: Trigger, before: int, cost_usd: float) -> Compressed:
        plan = compaction.plan
        changed = [entry for decision in plan.changes for entry in decision.unit.entries]
        summaries = [entry.tokens for entry in compaction.entries if entry.kind is Kind.SUMMARY]
        return Compressed(
            trigger=trigger,
            strategy=plan.strategy,
            method=compaction.memory.method,
            tokens_before=before,
            tokens_after=self.current_tokens,
            summarised_count=_count(plan, Action.SUMMARISE),
            masked_count=_count(plan, Action.MASK) + _count(plan, Action.CLAMP),
            dropped_count=_count(plan, Action.DROP),
            first_ref=changed[0].ref,
            last_ref=changed[-1].ref,
            summary_tokens=sum(summaries) if compaction.summary is not None else 0,
            cost_usd=cost_usd,
            saved_usd_per_request=(before - self.current_tokens) * self._accounts.usd_per_token(self._window),
            stripped_count=compaction.memory.stripped_count,
        )

    def _view(self, *, is_forced: bool) -> View:
        return View(
            entries=tuple(self._window.entries),
            dialect=self._dialect_or_default,
            protected=self._window.protected(system_prompts=self.config.preserve_system_prompts),
            summaries=dict(self._summaries),
            threshold_tokens=self._size.messages_within(self._limits.threshold_tokens),
            limit_tokens=self._size.messages_within(self._limits.max_context_tokens),
            task=self._window.task,
            is_forced=is_forced,
            strips_reasoning=self._strips_reasoning,
        )

    @property
    def _strips_reasoning(self) -> bool:
        """Whether reasoning is good only behind the messages that it was made behind: by the model, or as refused."""
        binds = self._dialect_or_default.binds_reasoning(self._accounts.model or self._model)
        return self._reasoning_was_refused or binds

    def _find(self, message: object) -> Entry:
        natives = [message] if isinstance(message, str) else unwrap(message)
        entry = next((found for native in natives if (found := self._window.find(native, copies=True))), None)
        if entry is None:
            what = repr(message) if isinstance(message, str) else f"this {type(message).__name__}"
            raise MessageError(f"{what} is not in the context; pass the object that was added, or its reference")
        return entry

    # --- Limits -------------------------------------------------------------------------------------------------------

    def _refuse_overflow(self) -> None:
        tokens = self.current_tokens
        if (
            not self.config.enable_compression
            or self._window.has_open_calls
            or tokens <= self._limits.max_context_tokens
        ):
            return
        sizes = [(e.ref, str(e.reading.role), e.tokens) for e in self._window.entries]
        if self._size.beside_tokens:
            sizes.append(("beside the messages", "system prompt and tools", self._size.beside_tokens))
        largest = sorted(sizes, key=lambda size: -size[2])[:3]
        raise ContextOverflowError(
            tokens=tokens,
            limit_tokens=self._limits.max_context_tokens,
            contributors=[(ref, role, self._size.share(size)) for ref, role, size in largest],
        )

    # --- Telling ------------------------------------------------------------------------------------------------------

    def _degraded(self, event: Degraded) -> None:
        self._degraded_count += 1
        logger.warning("failed=%s next=%s reason=%s | summary degraded", event.failed, event.next, event.reason)
        self._emit(event)

    def _emit(self, event: Event) -> None:
        if isinstance(event, Compressed):
            logger.info(
                "trigger=%s strategy=%s method=%s refs=%s-%s tokens=%d->%d | compressed",
                *(event.trigger, event.strategy, event.method, event.first_ref, event.last_ref),
                *(event.tokens_before, event.tokens_after),
            )
        if self._on_event is not None:
            try:
                self._on_event(event)
            except Exception as error:  # noqa: BLE001 - an observer's failure must not stop the loop it observes
                logger.warning("event=%s error=%s | on_event raised", type(event).__name__, type(error).__name__)


_SHORTENED = (Kind.MASKED, Kind.CLAMPED)

_REFUSED_SHARE = 0.9
"""Of a context that was refused: the most that counts as acceptable from then on."""
_SURE_SHARE = 0.95
"""Of a limit that the provider names: what we use of it. A compression leaves other kinds of text than it found, and
for those the provider's count differs from ours otherwise: by 4 % in a recorded run, whose second try was refused too.
"""


def _count(plan: Plan, action: Action) -> int:
    return sum(len(decision.unit.entries) for decision in plan.with_action(action))


def _refuse_contradictions(
    compressor: WorkingMemoryCompressor, config: MemoryConfig | None, llm: object | None, others: Mapping[str, object]
) -> None:
    """Raise ConfigError if an argument says other than the compressor does: one of the two would be ignored."""
    given = [name for name, value in others.items() if value is not None]
    if config is not None and config != compressor.config:
        given.append("config")
    if llm is not None and (compressor.llm is None or not compressor.llm.is_made_of(llm)):
        given.append("llm")
    if given:
        raise ConfigError(
            f"{given[0]} was given to the manager and is not the compressor's own; give it to the compressor instead: "
            f"{type(compressor).__name__}(llm, config, …)"
        )


def _required_usage(source: object) -> Usage:
    usage = read_usage(source)
    if usage is None:
        raise MessageError(
            f"no token counts found in {type(source).__name__}; give an SDK's response or usage, or "
            "{'input': …, 'output': …}"
        )
    return usage


def _model_name(llm: object | None) -> str | None:
    name = getattr(llm, "model", None)
    return name if isinstance(name, str) else None
