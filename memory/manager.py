"""MemoryManager: the loop hands it every message and sends what `get_context_for_llm()` returns."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from .accounts import Accounts
from .archive import Archive, Hit, InMemoryArchive, as_number
from .auto_recall import AutoRecall
from .compressor import CompressedMemory, WorkingMemoryCompressor
from .config import MemoryConfig
from .cycle import CompressionCycle
from .dialects import DIALECTS, dialect_named
from .embedding import adrive_embedding, drive_embedding
from .errors import ConfigError, HistoryError, MessageError, SessionError, StorageError
from .events import Event
from .history import Standing
from .intake import Intake
from .llm import Result, Work, adrive, drive
from .messages import DialectName, Role, ToolCall
from .native import unwrap
from .recalling import Recall, Scope
from .request_size import RequestSize
from .sessions import opening
from .sessions.opening import Opened
from .sessions.parts import Parts
from .sessions.recorder import SessionRecorder
from .sessions.store import SessionStore
from .starting import astart, start
from .stats import spending
from .strategies import Plan, Strategy
from .summarize import Summarizer
from .telling import Teller
from .tokens import TiktokenCounter, TokenCounter
from .tracker import TokenTracker
from .usage import Usage, carried_usage, read_model, read_usage
from .window import Entry, Window

if TYPE_CHECKING:
    from .embedders.protocol import Embedder


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
        store: SessionStore | Opened | None = None,
        title: str | None = None,
        embedder: Embedder | None = None,
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
            store: Where the conversation is kept, from its first message on; None: where `session_db` says, nowhere if
                that is not set. Whoever gives one closes it. (`resume` and `branch` give a session in it.)
            title: What lists of sessions call this one; None: the beginning of the first task.
            embedder: Lets `recall` find what was meant in other words; None: what the settings name.
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
        known = dialect_named(dialect) if dialect else None
        opened = (
            store
            if isinstance(store, Opened)
            else opening.begin(store, self.config, model=self._model, dialect=known, title=title)
        )
        if opened is not None:
            opening.refuse_archive(archive)
            archive = opened.archive
        if compressor is not None and opened is not None:
            # Another one of the same kind: the caller's own may serve other conversations, each with its archive.
            compressor = compressor.over(opened.archive)
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
        self._counter: TokenCounter = self._compressor.counter
        self._size = RequestSize(self._counter)
        self._size.set_beside(system, tools)
        teller = Teller(on_event)
        self._accounts = Accounts(
            self.tracker,
            self._size,
            self._counter,
            model=self._model,
            limit_usd=self.config.max_cost_dollars,
            on_over_budget=teller.tell,
            clock=clock,
        )
        self._on_event = on_event
        self._clock = clock
        default = known or DIALECTS["openai_chat"]
        self._window = Window(splits_responses=default.splits_responses)
        self._cycle = CompressionCycle(
            self.config, self._window, self._compressor, self._size, self._accounts, dialect=default, emit=teller.tell
        )
        self._intake = Intake(
            self._window,
            self._compressor,
            self._size,
            self._accounts,
            self._cycle,
            counter=self._counter,
            dialect=known,
            short_term_size=self.config.short_term_size,
            has_breakpoints=self.config.cache_breakpoints,
        )
        self.short_term = self._intake.recent.short_term
        self._auto_recall = AutoRecall(
            self.config, self._window, self.archive, self._intake, self._cycle, self._counter, emit=teller.tell
        )
        self._recall = Recall(self.config, self.archive, self._window, self._counter, self.tracker, embedder=embedder)
        self._session: SessionRecorder | None = None
        self._was_closed = False
        if opened is not None:
            self._attach(opened, teller)

    @classmethod
    def resume(
        cls,
        session: str = "latest",
        config: MemoryConfig | None = None,
        llm: object | None = None,
        *,
        store: SessionStore | None = None,
        takes_over: bool = False,
        model: str | None = None,
        **options: Any,
    ) -> Self:
        """Return the memory of a session as its newest turn left it: the same context, byte for byte, and its figures.

        Nothing is counted again. Messages are what they were as JSON: dicts, or `LLMMessage`s.

        Args:
            session: An id, the beginning of one, a title, or `"latest"`, the session that was written to last.
            config: Settings for what follows; None: those that the session was begun with.
            llm: As for a new memory: a model cannot be kept.
            store: Where to look; None: where `config.session_db` says, or `~/.aloop/sessions.db`.
            takes_over: Also take a session that somebody else has open; their next turn fails then.
            model: The model that the loop calls; None: the one that it called.
            **options: Everything else that a memory takes, for example `strategy` or `on_event`.

        Cost: reads what stands in the context; the rest of the conversation is read when it is asked for.

        Raises:
            SessionInUseError: Somebody else has it open.
            UnknownSessionError: There is none of that name, or several begin like that.
            StorageError: The store cannot be read.
        """
        opened = opening.go_on(session, store, config, takes_over=takes_over)
        assert opened.saved is not None
        try:
            kept, kept_model = opening.settings_of(opened.saved)
            if options.get("compressor") is None:  # a compressor brings its own
                config = config or kept
            name = opened.saved.info.heading.dialect
            memory = cls(config, llm, dialect=name, model=model or kept_model, store=opened, **options)
            memory._change_beside(model, options)
        except BaseException:
            opening.give_up(opened)
            raise
        return memory

    def _change_beside(self, model: str | None, options: Mapping[str, Any]) -> None:
        """Let what was given to `resume` count in place of what the session had."""
        if model is not None:
            self._accounts.ledger.model = model
        if options.keys() & {"system", "tools"}:
            system, tools = self._size.beside
            self.set_fixed(system=options.get("system", system), tools=options.get("tools", tools))

    def _attach(self, opened: Opened, teller: Teller) -> None:
        parts = Parts(
            window=self._window,
            intake=self._intake,
            size=self._size,
            accounts=self._accounts,
            cycle=self._cycle,
            recall=self._auto_recall,
        )
        self._session = opened.attach(parts, self.config, teller.tell)
        self._intake.journal = self._session.news
        # Whoever drops a memory without closing it leaves its session taken, and what the store could not take yet.
        self._released = weakref.finalize(self, opening.give_up, opened, self._session.rest)
        self._closes_store = opened.is_own

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
        return self._intake.breakpoints.context(self.dialect)

    def record_usage(self, usage: object, *, model: str | None = None) -> None:
        """Book what the provider reported for a call, before or after its answer is added.

        Args:
            usage: An SDK's response or usage, or `{"input": …, "output": …}`.
            model: The model that answered, where it is not the one the manager knows.

        Raises:
            MessageError: No token counts are found in it, or they cannot be true.
            StorageError: It cannot be saved, and `session_required` is set.
        """
        self._accounts.report(_required_usage(usage), usage, model or read_model(usage))
        if self._session is not None:
            self._session.save_soon()

    # --- Looking and steering -----------------------------------------------------------------------------------------

    @property
    def dialect(self) -> DialectName | None:
        """The format of the messages; None while they could still be of several."""
        return self._intake.dialect_name

    @property
    def messages(self) -> list[Any]:
        """What `get_context_for_llm` would return, whatever the limits say; for looking, not for sending."""
        return self._window.context

    def origins(self) -> list[Any | None]:
        """Return, beside each message of the context, the message as it was added; None for what the memory wrote."""
        return [None if e.is_written else e.as_added.message for e in self._window.entries]

    def history(self) -> list[Any]:
        """Return everything that was added and not withdrawn since, in order: the whole list, nothing compressed.

        With it, a caller who keeps the list goes on after a resume: `messages = memory.history()`. O(n), and reads the
        store where the memory was resumed.
        """
        return self._intake.followed.items()

    @property
    def open_calls(self) -> tuple[ToolCall, ...]:
        """The newest response's calls that wait for a result; after a crash, they must get one before anything else."""
        return self._window.open_calls

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
        self._intake.clear()
        self._save()

    def pin(self, message: object) -> str:
        """Never take this message out, nor the unit it belongs to. Give it as it was added, or its reference.

        A response counts as its first message; the others belong to the same unit.

        Return its reference.

        Raises:
            MessageError: It is not in the context.
        """
        entry = self._find(message)
        self._window.pin(entry)
        self._save()
        return entry.ref

    def unpin(self, message: object) -> str:
        """Allow a pinned message to be taken out again. Return its reference."""
        entry = self._find(message)
        self._window.unpin(entry)
        self._save()
        return entry.ref

    def undo(self) -> None:
        """Take the last compression back, exactly: what it was made of stands in the context again.

        What was added since stays behind it. What the compression cost stays spent. It is not repeated at once: unless
        the context passes `max_context_tokens`, the memory waits for it to grow.

        Raises:
            HistoryError: There is none, one is running, or the messages that it was made of were changed since.
        """
        self._cycle.undo()
        if self._session is not None:
            self._session.news.note_layout("undo")
        self._save()

    def branch(self, at: object | None = None, *, title: str | None = None) -> Self:
        """Begin a second line of the conversation. This one goes on unchanged; what is common is shared.

        The new memory has the context that stood when a message was the newest one, and its own books from there on.
        With a store it is a session of its own.

        Args:
            at: A message of this line, as it was added, or its reference; None: the newest one.
            title: What lists of sessions call it; None: as this one.

        Raises:
            HistoryError: There is no such message in this line, or its session was closed.
            StorageError: This line or the new one cannot be written.
        """
        if self._was_closed:
            raise HistoryError("this memory was closed; resume its session and branch from there")
        seq = self._window.last_seq if at is None else self._seq_of(at)
        entries, standing = self._cycle.results.history.entries_at(seq, self._window.entries)
        opened = None if self._session is None else self._open_branch(self._session, seq, title)
        memory = type(self)(
            dialect=self.dialect,
            model=self._model,
            compressor=self._compressor.over(opened.archive if opened is not None else InMemoryArchive()),
            store=opened,
            embedder=self._recall.own_embedder,
            tracker=self.tracker.emptied(),
            on_event=self._on_event,
            clock=self._clock,
        )
        memory._begin_at(seq, entries, standing, self)
        return memory

    def _open_branch(self, session: SessionRecorder, seq: int, title: str | None) -> Opened | None:
        session.settle()
        return opening.begin(
            session.store,
            self.config,
            model=self._model,
            dialect=self._intake.dialect,
            title=title or session.news.title,
            parent=(session.news.session_id, seq),
        )

    def _begin_at(self, seq: int, entries: Sequence[Entry], standing: Standing, origin: MemoryManager) -> None:
        """Have the state that another memory had when a message was the newest one; only its books begin anew."""
        self._intake.begin_at(seq, entries, origin._intake)
        self._window.pin_like(origin._window)
        self._size.restore(origin._size.state(), *origin._size.beside)
        self._cycle.begin_like(origin._cycle, standing)
        self._auto_recall.begin_like(origin._auto_recall)
        self._accounts.ledger.model = origin._accounts.model
        present = {entry.seq for entry in entries if entry.as_added is entry and not entry.is_written}
        for record in origin.archive:
            if record.seq <= seq and record.seq not in present:
                self.archive.put(record)
        if self._session is not None:
            self._session.news.note_layout("branch")
            self._session.begin()

    @property
    def session_id(self) -> str | None:
        """The id of the session that this memory is kept in; None where it is not kept."""
        return self._session.news.session_id if self._session is not None else None

    @property
    def session_problem(self) -> StorageError | None:
        """Why the newest turns are in memory only; None where all is kept, or nothing is to be."""
        return self._session.problem if self._session is not None else None

    def close(self) -> None:
        """Write what is left and give the session up, so that another process can resume it. Without one, nothing.

        The memory can be looked at afterwards, and refuses what is added to it. A store that was opened for it, by
        `session_db`, is closed with it.

        Raises:
            StorageError: It cannot be written. Nothing was given up: close it again when the store can take the rest.
            SessionInUseError: Another memory took the session over, which has it from now on.
        """
        session = self._session
        if session is None:
            return
        try:
            session.close()
        except StorageError:
            raise
        except SessionError:
            self._let_go(session)
            raise
        self._let_go(session)

    def _let_go(self, session: SessionRecorder) -> None:
        self._session, self._intake.journal, self._was_closed = None, None, True
        self._released.detach()
        if self._closes_store:
            session.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def original(self, ref: str) -> Any:
        """Return the message under a reference, exactly as it was added, from the archive or the context.

        `<session>:r17` names a message of another session of the store.

        Raises:
            UnknownReferenceError: There is none.
        """
        entry = self._window.find(ref)
        return entry.message if entry is not None else self._recall.original(ref)

    def recall(
        self,
        query: str,
        limit: int | None = None,
        *,
        budget_tokens: int | None = None,
        scope: Scope = "session",
        role: Role | None = None,
        tool: str | None = None,
    ) -> list[Hit]:
        """Return the messages that match best, best first, of those that are no longer whole in the context.

        Args:
            query: Words, names, a question; any text is legal, an empty one finds nothing.
            limit: How many; None: 5 or, with a budget, as many as fit.
            budget_tokens: What all of them may have together. A message that exceeds what is left of it comes as the
                passage that matches best (`Hit.is_excerpt`, `Hit.text`).
            scope: `session`: this conversation; `all`: also all other sessions of the store, also what stands in their
                contexts.
            role: Only messages of this role.
            tool: Only calls of this tool, and their results.

        Cost: the first search after a compression indexes what it archived; with an embedder, that and the query are
        embedded, which is booked where it costs something.

        Raises:
            ConfigError: There is no such scope, or `all` without a store.
            StorageError: The store cannot be read.
            EmbeddingError: The embedder gave no vectors.
        """
        found = self._recall.found(query, limit, budget_tokens=budget_tokens, scope=scope, role=role, tool=tool)
        return drive_embedding(found, self._recall.embedder)

    async def recall_async(
        self,
        query: str,
        limit: int | None = None,
        *,
        budget_tokens: int | None = None,
        scope: Scope = "session",
        role: Role | None = None,
        tool: str | None = None,
    ) -> list[Hit]:
        """Return what `recall` returns, without blocking the event loop while an embedder or a server is asked."""
        found = self._recall.found(query, limit, budget_tokens=budget_tokens, scope=scope, role=role, tool=tool)
        return await adrive_embedding(found, self._recall.embedder, in_threads=self._recall.is_remote)

    def get_stats(self) -> dict[str, Any]:
        """Return the run's figures so far. Tokens are integers, costs USD; docs/tokens-and-prices.md explains each."""
        self._cycle.orders.book()
        return {
            "current_tokens": self.current_tokens,
            "max_context_tokens": self._cycle.limits.max_context_tokens,
            **spending(self.tracker, self._accounts.ledger),
            **self._cycle.results.counts(),
            **self._auto_recall.counts(),
            "message_count": self._window.last_seq - self._auto_recall.appended_count,
            "context_count": len(self._window.entries),
            "short_term_count": len(self.short_term),
            "archived_count": len(self.archive),
            "session_id": self.session_id,
            "unsaved_count": self._session.news.unsaved_count if self._session is not None else 0,
        }

    # --- Running ------------------------------------------------------------------------------------------------------

    async def _run(self, work: Work[Result]) -> Result:
        self._refuse_closed()
        llm, meter = self._compressor.llm, self._accounts.summary_meter
        try:
            result = await adrive(work, llm, meter=meter)
        finally:  # whatever went wrong, what was added was added
            if self._session is not None:
                await self._session.save_async()
        self._cycle.orders.start(partial(astart, llm=llm, meter=meter))
        return result

    def _run_sync(self, work: Work[Result]) -> Result:
        self._refuse_closed()
        llm, meter = self._compressor.llm, self._accounts.summary_meter
        try:
            result = drive(work, llm, meter=meter)
        finally:
            self._save()
        self._cycle.orders.start(partial(start, llm=llm, meter=meter))
        return result

    def _refuse_closed(self) -> None:
        if self._was_closed:
            raise SessionError("this memory was closed, so nothing more would be kept; resume its session to go on")

    def _save(self) -> None:
        if self._session is not None:
            self._session.save()

    # --- Adding -------------------------------------------------------------------------------------------------------

    def _add(self, message: object, actual_tokens: object | None) -> Work[None]:
        source = message if actual_tokens is None else actual_tokens
        usage = carried_usage(message) if actual_tokens is None else _required_usage(actual_tokens)
        entries = self._intake.read(message)
        self._accounts.begin_message()
        for entry in entries:
            self._intake.add(entry)
        if usage is not None:
            self._accounts.report(usage, source, read_model(message) or read_model(source))
        yield from self._cycle.settle()
        self._auto_recall.run()

    def _load(self, messages: Iterable[object]) -> Work[None]:
        for message in messages:
            for entry in self._intake.read(message):
                self._intake.log(entry)
        self._accounts.note_edit(0)
        yield from self._cycle.settle()

    def _follow(self, messages: Iterable[object], dialect: DialectName | None) -> Work[None]:
        self._intake.follow(messages, dialect)
        yield from self._cycle.settle()
        self._auto_recall.run()

    def _find(self, message: object) -> Entry:
        natives = [message] if isinstance(message, str) else unwrap(message)
        entry = next((found for native in natives if (found := self._window.find(native, copies=True))), None)
        if entry is None:
            what = repr(message) if isinstance(message, str) else f"this {type(message).__name__}"
            raise MessageError(f"{what} is not in the context; pass the object that was added, or its reference")
        return entry

    def _seq_of(self, message: object) -> int:
        """Return the number of a message of this conversation, in the context or not."""
        if isinstance(message, str) and (seq := as_number(message)) is not None:
            return seq
        try:
            return self._find(message).seq
        except MessageError as error:
            raise HistoryError(f"{error}; a message that left the context is named by its reference") from error


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
