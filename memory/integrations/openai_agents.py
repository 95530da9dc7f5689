"""A session for the OpenAI Agents SDK whose history a `MemoryManager` keeps, between runs and inside a long one.

    session = MemorySession(MemoryManager(config, dialect="openai_responses", model="gpt-5"))
    result = await Runner.run(agent, "the task", **session.for_run())

A session alone is asked once, when a run begins; from there on the SDK sends its own growing list with every request.
`for_run` therefore gives the run a `call_model_input_filter` too, which sends the managed context instead, and hooks,
which book what each response used.

Facts about the SDK are those of openai-agents 0.20: `agents/memory/session.py`, `agents/run_config.py`,
`agents/run_internal/session_persistence.py` and `turn_preparation.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from inspect import isawaitable
from typing import Any, TypeAlias, TypedDict

from ..dialects import DIALECTS
from ..errors import ConfigError, ContextOverflowError, MessageError, MissingDependencyError
from ..manager import MemoryManager
from ..marks import is_same
from ..messages import Reading
from ..native import to_wire

try:
    from agents import (
        Agent,
        AgentHookContext,
        FunctionTool,
        ModelResponse,
        OpenAIConversationsSession,
        RunConfig,
        RunContextWrapper,
        RunHooks,
        Tool,
        TResponseInputItem,
    )
    from agents.memory import Session, SessionSettings, is_openai_responses_compaction_aware_session
    from agents.run import CallModelData, CallModelInputFilter, ModelInputData
except ImportError as error:
    raise MissingDependencyError(
        "this adapter needs the OpenAI Agents SDK: pip install 'aloop-memory[openai-agents]'", name="agents"
    ) from error

__all__ = ["MemorySession", "RunArguments"]

Items: TypeAlias = list[TResponseInputItem]


class RunArguments(TypedDict):
    """Keyword arguments of `Runner.run`, `run_sync` and `run_streamed`."""

    session: Session
    run_config: RunConfig
    hooks: RunHooks[Any]


class MemorySession:
    """The SDK's `Session` over one memory: items are kept whole, and what is sent of them is the managed context.

    It belongs to one conversation; the memory to this session. What `pop_item` and `clear_session` take away leaves
    the context, and the memory's archive keeps it. A run that resumes from a `RunState` finds its place by itself.
    """

    def __init__(
        self,
        memory: MemoryManager,
        *,
        session_id: str = "memory",
        store: Session | None = None,
        session_settings: SessionSettings | None = None,
    ) -> None:
        """Take the memory, and what it is to be filled from.

        Args:
            memory: A fresh one; best made with `dialect="openai_responses"` and the model's name, for prices.
            session_id: The SDK groups traces and prompt caches by it.
            store: A session that keeps the items beyond this process (`SQLiteSession(…)`). Every item is written
                there as well, and what it holds already is the history that the memory begins with.
            session_settings: With a `limit`, a run sees no more than the newest items.

        Raises:
            ConfigError: The memory is of another format, or the store keeps or compacts the history on OpenAI's
                servers.
        """
        if memory.dialect not in (None, "openai_responses"):
            raise ConfigError(
                f"the OpenAI Agents SDK works with Responses items, this memory with {memory.dialect}; "
                "make it with dialect='openai_responses'"
            )
        _refuse_server_side(store)
        self.memory = memory
        self.session_id = session_id
        self.session_settings = session_settings
        self._store = store
        self._is_open = store is None
        self._items: list[Any] = []
        """The whole conversation, as the SDK saved it."""
        self._followed: list[Any] = []
        """What the memory was last told of it: the newest only, with a limit; more, before the SDK saves it."""
        self._base: list[Any] = []
        """What of it was there when the run began."""
        self._given: list[Any] = []
        """The context that the SDK was given for it: every request of the run begins with these."""
        self._awaited_calls: frozenset[str] = frozenset()
        """Calls of the newest response: the run's next request has them in it."""

    def for_run(self, run_config: RunConfig | None = None, hooks: RunHooks[Any] | None = None) -> RunArguments:
        """Return what a run needs to work with this memory: `Runner.run(agent, task, **session.for_run())`.

        Args:
            run_config: Your own. Its `call_model_input_filter` is called after the memory's, on the managed list.
            hooks: Your own; they are called after the memory's.
        """
        config = run_config or RunConfig()
        chosen = _InputFilter(self, config.call_model_input_filter)
        return RunArguments(
            session=self, run_config=replace(config, call_model_input_filter=chosen), hooks=_Hooks(self, hooks)
        )

    # --- The SDK's session --------------------------------------------------------------------------------------------

    async def get_items(self, limit: int | None = None) -> Items:
        """Return the managed context of the conversation so far; a run begins with it.

        To look at it while a run is on its way, take `memory.messages`: here the next run would begin.

        Args:
            limit: Take the newest items only, at most this many; the rest leaves the context.

        Raises:
            ContextOverflowError: What may never be taken out exceeds `max_context_tokens`.
            BudgetExceededError: Sending it would bring the cost above `max_cost_dollars`.
        """
        await self._open()
        if limit is None and self.session_settings is not None:
            limit = self.session_settings.limit
        self._base = list(self._items) if limit is None else _newest(self._items, limit)
        self._awaited_calls = frozenset()
        await self._follow(self._base)
        self._given = self.memory.get_context_for_llm()
        return list(self._given)

    async def add_items(self, items: Items) -> None:
        """Keep what a turn brought. Compresses when that is due.

        Raises:
            MessageError: An item stands for one that only OpenAI's servers have.
        """
        await self._open()
        _refuse_references(items)
        if self._store is not None:
            await self._store.add_items(items)
        clean = [_without_metadata(item) for item in items]
        self._items += clean
        # A streamed run saves its input only after its first request, from which the memory knows it.
        known = _overlap(self._followed, clean)
        # Too long now, it is refused before the next request. Here that would cost the answer, which is paid for.
        with suppress(ContextOverflowError):
            await self._follow([*self._followed, *clean[known:]])

    async def pop_item(self) -> TResponseInputItem | None:
        """Take the newest item out of the conversation and return it; None if there is none."""
        await self._open()
        if not self._items:
            return None
        if self._store is not None:
            await self._store.pop_item()
        item: TResponseInputItem = self._items.pop()
        await self._follow(self._items)
        return item

    async def clear_session(self) -> None:
        """Begin anew: nothing of the conversation is sent any more. The memory's archive keeps it."""
        await self._open()
        if self._store is not None:
            await self._store.clear_session()
        self._items.clear()
        await self._follow([])

    async def _open(self) -> None:
        """Take over what the store holds, once; it is history and not billed to this memory."""
        if self._is_open or self._store is None:
            return
        # A limit of the store's own would hide the beginning from us; asked for this many, the SDK's stores give all.
        held = await self._store.get_items(_ALL)
        self._is_open = True
        _refuse_references(held)
        self._items = [_without_metadata(item) for item in held]
        await self._follow(self._items)

    async def _follow(self, items: Sequence[Any]) -> None:
        self._followed = list(items)
        await self.memory.follow(self._followed)

    # --- Inside a run -------------------------------------------------------------------------------------------------

    async def _managed(self, data: CallModelData[Any]) -> ModelInputData:
        """Return the input of the next request with the managed context in it.

        The input begins with what `get_items` gave, for the whole run. That may have lost items on its way (a
        session_input_callback, calls that were never answered): those are not sent. An input with another beginning
        is followed as it is.
        """
        given = data.model_data
        if self._is_of_another_run(given.input):
            return given
        _refuse_references(given.input)
        self._awaited_calls = frozenset()
        self.memory.set_fixed(system=given.instructions, tools=_schemas(data.agent))
        unsent, matched = _compared(self._given, given.input)
        base = self._base if matched else []
        await self._follow([*base, *given.input[matched:]])
        context = self.memory.get_context_for_llm()
        if matched and unsent:
            context = [item for item in context if id(item) not in unsent]
        return ModelInputData(input=context, instructions=given.instructions)

    def _record(self, response: ModelResponse) -> None:
        """Book what a response of the run used."""
        calls = (getattr(item, "call_id", None) for item in response.output)
        self._awaited_calls = frozenset(call for call in calls if isinstance(call, str))
        # A provider that reports nothing comes as zeros; then the estimate stands, marked as one.
        if response.usage.total_tokens or response.usage.input_tokens or response.usage.output_tokens:
            self.memory.record_usage(response.usage)

    def _note_handoff(self) -> None:
        """Expect no call in the next request: what another agent is handed may be filtered."""
        self._awaited_calls = frozenset()

    def _is_of_another_run(self, items: Sequence[Any]) -> bool:
        """Whether this is a request of an agent that runs as a tool: such a run inherits the configuration.

        It comes while calls of our own run are being answered, and knows nothing of them.
        """
        return bool(self._awaited_calls) and not any(_call_id(item) in self._awaited_calls for item in items)


class _InputFilter:
    """The run's `call_model_input_filter`: the memory's, then the caller's own."""

    def __init__(self, session: MemorySession, then: CallModelInputFilter | None) -> None:
        self._session = session
        self._then = then

    async def __call__(self, data: CallModelData[Any]) -> ModelInputData:
        managed = await self._session._managed(data)
        if self._then is None:
            return managed
        edited = self._then(replace(data, model_data=managed))
        return await edited if isawaitable(edited) else edited


class _Hooks(RunHooks[Any]):
    """The run's hooks: the memory's, then the caller's own."""

    def __init__(self, session: MemorySession, then: RunHooks[Any] | None) -> None:
        self._session = session
        self._then: RunHooks[Any] = then or RunHooks()

    async def on_llm_start(
        self, context: RunContextWrapper[Any], agent: Agent[Any], system_prompt: str | None, input_items: Items
    ) -> None:
        await self._then.on_llm_start(context, agent, system_prompt, input_items)

    async def on_llm_end(self, context: RunContextWrapper[Any], agent: Agent[Any], response: ModelResponse) -> None:
        self._session._record(response)
        await self._then.on_llm_end(context, agent, response)

    async def on_agent_start(self, context: AgentHookContext[Any], agent: Agent[Any]) -> None:
        await self._then.on_agent_start(context, agent)

    async def on_agent_end(self, context: AgentHookContext[Any], agent: Agent[Any], output: Any) -> None:
        await self._then.on_agent_end(context, agent, output)

    async def on_handoff(self, context: RunContextWrapper[Any], from_agent: Agent[Any], to_agent: Agent[Any]) -> None:
        self._session._note_handoff()
        await self._then.on_handoff(context, from_agent, to_agent)

    async def on_tool_start(self, context: RunContextWrapper[Any], agent: Agent[Any], tool: Tool) -> None:
        await self._then.on_tool_start(context, agent, tool)

    async def on_tool_end(self, context: RunContextWrapper[Any], agent: Agent[Any], tool: Tool, result: object) -> None:
        await self._then.on_tool_end(context, agent, tool, result)


_ALL = 2**31 - 1
"""What the SDK's own compaction session asks of its store (`openai_responses_compaction_session.py`)."""


def _refuse_server_side(store: Session | None) -> None:
    if isinstance(store, OpenAIConversationsSession):
        raise ConfigError(
            "an OpenAIConversationsSession keeps the history on OpenAI's servers, where no memory reaches it: what is "
            "taken out here would be sent all the same (OR-10); use SQLiteSession, or no store"
        )
    if is_openai_responses_compaction_aware_session(store):
        raise ConfigError(
            "this store compacts the history itself, and two of them would undo each other; give its underlying "
            "session as the store"
        )


def _refuse_references(items: Sequence[Any]) -> None:
    for item in items:
        if isinstance(item, Mapping) and item.get("type") == "item_reference":
            raise MessageError(
                "an item_reference stands for an item that only OpenAI's servers have, so that it can be neither "
                "counted nor kept (OR-10); send the item itself"
            )


def _compared(given: Sequence[Any], items: Sequence[Any]) -> tuple[set[int], int]:
    """Return the `id`s of those given that did not come back, and how many leading items are given ones."""
    missing: set[int] = set()
    matched = 0
    for one in given:
        if matched < len(items) and is_same(one, items[matched]):
            matched += 1
        else:
            missing.add(id(one))
    return missing, matched


def _overlap(known: Sequence[Any], items: Sequence[Any]) -> int:
    """Return how many of the leading items the known ones end with."""
    for size in range(min(len(known), len(items)), 0, -1):
        if all(map(is_same, known[-size:], items)):
            return size
    return 0


def _newest(items: Sequence[Any], limit: int) -> list[Any]:
    """Return the newest items, at most this many: a response is not cut, nor a result kept without its call."""
    readings = [_DIALECT.read(to_wire(item)) for item in items]
    start = max(0, len(items) - max(0, limit))
    while 0 < start < len(items) and not _is_cut(readings, start):
        start += 1
    return list(items[start:])


def _is_cut(readings: Sequence[Reading], index: int) -> bool:
    if readings[index].role == readings[index - 1].role == "assistant":
        return False
    before = {call.id for reading in readings[:index] for call in reading.calls}
    return not any(result.call_id in before for reading in readings[index:] for result in reading.results)


_DIALECT = DIALECTS["openai_responses"]


def _without_metadata(item: Any) -> Any:
    """Return the item without what the SDK notes on it for itself; it strips the same before it sends."""
    if not isinstance(item, Mapping) or not any(key.startswith("_agents_") for key in item):
        return item
    return {key: value for key, value in item.items() if not key.startswith("_agents_")}


def _call_id(item: Any) -> Any:
    return item.get("call_id") if isinstance(item, Mapping) else getattr(item, "call_id", None)


def _schemas(agent: Agent[Any]) -> list[dict[str, Any]]:
    """Return the schemas that travel with each request, for counting; hosted tools and handoffs are a few tokens."""
    return [
        {"type": "function", "name": tool.name, "description": tool.description, "parameters": tool.params_json_schema}
        for tool in agent.tools
        if isinstance(tool, FunctionTool)
    ]
