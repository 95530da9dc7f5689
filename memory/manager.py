"""MemoryManager: the loop hands it every message and sends what `get_context_for_llm()` returns."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from .accounts import Accounts
from .archive import Archive, Hit
from .breakpoints import Breakpoints
from .compressor import CompressedMemory, WorkingMemoryCompressor
from .config import MemoryConfig
from .copies import entry_of, without_stale_marks
from .cycle import CompressionCycle
from .dialects import DIALECTS, detect, dialect_named
from .errors import (
    ConfigError,
    MessageError,
)
from .events import Compressed, Event
from .following import Followed
from .llm import Result, Work, adrive, drive
from .messages import Dialect, DialectName
from .native import unwrap
from .request_size import RequestSize
from .short_term import ShortTermMemory
from .starting import astart, start
from .stats import spending
from .strategies import Plan, Strategy
from .summarize import Summarizer
from .tokens import TiktokenCounter, TokenCounter
from .tracker import TokenTracker
from .usage import Usage, carried_usage, read_model, read_usage
from .window import Entry, Kind, Window

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
        clock: Callable[[], float] = time.monotonic,
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
            clock: Seconds that pass between requests, after which a provider's prompt cache expires.

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
            clock=clock,
        )
        self._on_event = on_event
        self._dialect = dialect_named(dialect) if dialect else None
        self._window = Window(splits_responses=self._dialect_or_default.splits_responses)
        self._cycle = CompressionCycle(
            self.config,
            self._window,
            self._compressor,
            self._size,
            self._accounts,
            dialect=self._dialect_or_default,
            emit=self._emit,
        )
        self._followed = Followed()
        self._breakpoints = Breakpoints(self._window, self._size, is_wanted=self.config.cache_breakpoints)
        self._cycle.sent = lambda: self._breakpoints.context(self.dialect)

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
        await self._run(self._add(message, actual_tokens))

    def add_message_sync(self, message: object, actual_tokens: object | None = None) -> None:
        """Take the next message like `add_message`, without an event loop."""
        self._run_sync(self._add(message, actual_tokens))

    async def load_history(self, messages: Iterable[object]) -> None:
        """Take messages of an earlier run: kept, counted and compressed like any other, but not billed to this one.

        Raises:
            MessageError: A message is in no known shape; those before it were added.
            ContextOverflowError: As with `add_message`.
        """
        await self._run(self._load(messages))

    def load_history_sync(self, messages: Iterable[object]) -> None:
        """Take messages of an earlier run like `load_history`, without an event loop."""
        self._run_sync(self._load(messages))

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
        await self._run(self._follow(list(messages), dialect))

    def follow_sync(self, messages: Iterable[object], *, dialect: DialectName | None = None) -> None:
        """Make the log equal to the caller's list like `follow`, without an event loop."""
        self._run_sync(self._follow(list(messages), dialect))

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
        return await self._run(self._cycle.recover(error))

    def recover_sync(self, error: BaseException) -> bool:
        """Do what can be done about a refused request like `recover`, without an event loop."""
        return self._run_sync(self._cycle.recover(error))

    def get_context_for_llm(self) -> list[Any]:
        """Return the messages to send, in a new list: a plain read, no I/O.

        Between compressions each list extends the one before; a compression leaves everything before its first edit
        as it was. Providers' prompt caches live on this.

        Raises:
            ContextOverflowError: The list is longer than `max_context_tokens` and cannot be made shorter.
            BudgetExceededError: Sending it would bring the cost above `max_cost_dollars`.
        """
        self._cycle.refuse_overflow()
        self._cycle.orders.book()
        self._accounts.refuse_over_budget(self._window)
        self._accounts.note_sent()
        return self._breakpoints.context(self.dialect)

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
        return self._cycle.tokens

    @property
    def compressed_memory(self) -> CompressedMemory | None:
        """What the last compression made; None before the first one."""
        return self._cycle.results.memory

    @property
    def was_compressed_last_iteration(self) -> bool:
        """Whether the last `add_message` compressed."""
        return self._cycle.results.compressed_this_turn

    @property
    def last_compression_savings(self) -> int:
        """Tokens that the last compression took out of the context."""
        return self._cycle.results.saved_tokens

    def preview(self) -> Plan:
        """Return what a compression would do now: per unit the action, the reason, and the sizes. Changes nothing."""
        plan = self._cycle.plan()
        return replace(plan, version=self._window.version, usd_per_token=self._accounts.usd_per_token(self._window))

    async def apply(self, plan: Plan) -> bool:
        """Carry out a plan from `preview`. Return whether it changed the context.

        Without a new message since the last compression it does nothing: to compress a summary again loses more
        than it wins.

        Raises:
            StalePlanError: The window has changed since the preview.
        """
        return await self._run(self._cycle.apply(plan))

    def apply_sync(self, plan: Plan) -> bool:
        """Carry out a plan like `apply`, without an event loop."""
        return self._run_sync(self._cycle.apply(plan))

    async def compress(self) -> bool:
        """Compress now, whatever the threshold says. Return whether that changed the context.

        What goes on in the background is finished instead, if that changes it.

        Raises:
            StalePlanError: A summary made in the background waits for the answer to a request; add that answer first.
        """
        return await self.finish_background() or await self.apply(self.preview())

    def compress_sync(self) -> bool:
        """Compress now like `compress`, without an event loop."""
        return self.finish_background_sync() or self.apply_sync(self.preview())

    @property
    def is_compressing(self) -> bool:
        """Whether a summary is being written in the background, or is ready for the next turn."""
        return self._cycle.orders.is_in_background

    async def finish_background(self) -> bool:
        """Wait for the summary that is being written in the background. Return whether that changed the context.

        It is not put in place, but stays ready for the next turn, while a call is open or an answer is awaited.
        """
        return await self._run(self._cycle.orders.finish())

    def finish_background_sync(self) -> bool:
        """Wait like `finish_background`, without an event loop; for what was begun without one."""
        return self._run_sync(self._cycle.orders.finish())

    async def drop_background(self) -> bool:
        """Let go of the summary that is being written in the background, if any. Return whether there was one.

        The context stays as it is, and the model call is ended; what it has used until then is booked as an estimate.
        """
        was_compressing = self.is_compressing
        call = self._cycle.orders.drop()
        if call is not None:
            await call.wait_async(timeout_seconds=_ENDING_SECONDS)
        return was_compressing

    def drop_background_sync(self) -> bool:
        """Let go like `drop_background`, without an event loop; a thread is left to end by itself."""
        was_compressing = self.is_compressing
        self._cycle.orders.drop()
        return was_compressing

    def clear(self) -> None:
        """Empty the context, but for the system prompt that it begins with, and drop what is being compressed.

        The archive keeps what was in it, so `recall` and `original` still find it; costs and statistics go on. Pins
        end. A list that is followed is taken whole the next time, so clear that as well. Call it between turns: the
        result of a call that was open has nothing to belong to any more.
        """
        for entry in self._window.clear():
            self._compressor.keep(entry)
        self._followed.cut_behind(self._window.entries[-1].seq if self._window.entries else 0)
        self._refill_short_term()
        self._cycle.note_cleared()
        self._accounts.note_withdrawal(self._window)

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
        self._cycle.orders.book()
        return {
            "current_tokens": self.current_tokens,
            "max_context_tokens": self._cycle.limits.max_context_tokens,
            **spending(self.tracker, self._accounts.ledger),
            **self._cycle.results.counts(),
            "message_count": self._window.last_seq,
            "context_count": len(self._window.entries),
            "short_term_count": len(self.short_term),
            "archived_count": len(self.archive),
        }

    # --- Running ------------------------------------------------------------------------------------------------------

    async def _run(self, work: Work[Result]) -> Result:
        llm, meter = self._compressor.llm, self._accounts.summary_meter
        result = await adrive(work, llm, meter=meter)
        self._cycle.orders.start(partial(astart, llm=llm, meter=meter))
        return result

    def _run_sync(self, work: Work[Result]) -> Result:
        llm, meter = self._compressor.llm, self._accounts.summary_meter
        result = drive(work, llm, meter=meter)
        self._cycle.orders.start(partial(start, llm=llm, meter=meter))
        return result

    # --- Adding -------------------------------------------------------------------------------------------------------

    def _add(self, message: object, actual_tokens: object | None) -> Work[None]:
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
        yield from self._cycle.settle()

    def _load(self, messages: Iterable[object]) -> Work[None]:
        for message in messages:
            for entry in self._read(message):
                self._log(entry)
        self._accounts.note_edit(0)
        yield from self._cycle.settle()

    def _follow(self, messages: Sequence[object], dialect: DialectName | None) -> Work[None]:
        if dialect is not None:
            self._settle_dialect(dialect_named(dialect))
        messages = self._breakpoints.originals(messages)
        answered = common = self._followed.common(messages)
        if common < len(self._followed):
            answered = self._followed.behind(messages, default=common)
            common = self._withdraw(common)
        self._exchange(messages[:common])
        for index, message in enumerate(messages[common:], start=common):
            self._take_over(message, may_answer=index >= answered)
        yield from self._cycle.settle()

    def _exchange(self, messages: Sequence[object]) -> None:
        """Let the caller's newest objects stand in place of equal ones."""
        if self._cycle.orders.is_running:  # what is being written is made of those that stand; next time, then
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
        self._refill_short_term()
        self._cycle.orders.note_withdrawn()
        self._accounts.note_withdrawal(self._window)
        return length

    def _refill_short_term(self) -> None:
        self.short_term.clear()
        for entry in self._window.entries[-self.config.short_term_size :]:
            self.short_term.add_message(entry.message)

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
            self._dialect = self._cycle.dialect = dialect
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
        is_marked = self._window.has_cache_breakpoint or self._breakpoints.are_placed(self.dialect)
        caches = self._dialect_or_default.name != "anthropic" or is_marked
        self._accounts.open_request(self._window, output_tokens=answer.tokens, caches=caches)
        self._cycle.note_request()

    @property
    def _dialect_or_default(self) -> Dialect:
        return self._dialect or DIALECTS["openai_chat"]

    def _find(self, message: object) -> Entry:
        natives = [message] if isinstance(message, str) else unwrap(message)
        entry = next((found for native in natives if (found := self._window.find(native, copies=True))), None)
        if entry is None:
            what = repr(message) if isinstance(message, str) else f"this {type(message).__name__}"
            raise MessageError(f"{what} is not in the context; pass the object that was added, or its reference")
        return entry

    # --- Telling ------------------------------------------------------------------------------------------------------

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


_ENDING_SECONDS = 1.0
"""How long a model call that was dropped may take to end before it is left to itself."""


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
