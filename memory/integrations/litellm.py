"""LiteLLM: a hook for its proxy, router and asynchronous calls, and a wrapper for the completion functions.

    litellm.callbacks = [MemoryHook(lambda: MemoryManager(config, llm))]
    await litellm.acompletion(model=…, messages=…, metadata={"session_id": "conversation 1"})

    completion = managed(litellm.completion, memory)
    completion(model=…, messages=…)

Which to take: LiteLLM asks no hook about the messages of its synchronous `completion`, and a hook cannot send a refused
request again; `managed` does both, for one conversation. The hook serves any number of them, also in the proxy, which
makes its calls through `acompletion`; therefore the proxy's own `async_pre_call_hook` is left alone, or one request
would be managed twice.

Facts about LiteLLM are those of 1.106: `litellm/integrations/custom_logger.py`, `wrapper_async` in `litellm/utils.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import wraps
from inspect import iscoroutinefunction, signature
from threading import Lock
from typing import Any, ParamSpec, TypeVar, cast
from uuid import uuid4

from ..errors import ConfigError, MissingDependencyError
from ..manager import MemoryManager
from ..messages import DialectName
from .clients import Arguments, Call, ChatCompletions, Link, delivered

try:
    from litellm.integrations.custom_logger import CustomLogger
    from litellm.types.utils import CallTypes
except ImportError as error:
    raise MissingDependencyError(
        "this adapter needs LiteLLM: pip install 'aloop-memory[litellm]'", name="litellm"
    ) from error

__all__ = ["MemoryHook", "managed"]

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


def managed(complete: Callable[P, R], memory: MemoryManager) -> Callable[P, R]:
    """Return a completion function whose conversation the memory keeps short.

    The caller goes on building its own full list and passes it to each call. What is new in it goes into the memory,
    the memory's context is sent, usage is booked, of streams too, and a request that is refused as too long is made
    smaller and sent once more.

    Args:
        complete: `litellm.completion`, `litellm.acompletion`, or the methods of these names of a `Router`.
        memory: The conversation's own: one memory, one conversation.
    """
    link = Link(memory)
    names = list(signature(complete).parameters)

    def call_of(positional: tuple[Any, ...], named: dict[str, Any]) -> Call | None:
        """Return the call of the conversation; None: it is the memory's own, for a summary, or has no messages."""
        arguments = {**dict(zip(names, positional, strict=False)), **named}
        if link.is_preparing or not arguments.get("messages"):
            return None
        return Call(link, _CHAT, arguments, complete, streams=bool(arguments.get("stream")))

    @wraps(complete)
    def ask(*positional: P.args, **named: P.kwargs) -> Any:
        call = call_of(positional, named)
        return complete(*positional, **named) if call is None else delivered(call.run(), call)

    @wraps(complete)
    async def aask(*positional: P.args, **named: P.kwargs) -> Any:
        call = call_of(positional, named)
        if call is None:
            return await cast(Any, complete(*positional, **named))
        return delivered(await call.arun(), call)

    return cast(Callable[P, R], aask if iscoroutinefunction(complete) else ask)


class MemoryHook(CustomLogger):
    """A LiteLLM callback that keeps each conversation's requests short: one memory for each session id.

    A request names its conversation by `metadata={"session_id": …}` or `litellm_session_id=…`, over the proxy also by
    the header `x-litellm-session-id`; one that names none is left as it is. The caller goes on sending its full list.

    Booked is what LiteLLM says a response used; of a stream, after its end. A context that the provider refuses as too
    long makes the next request of the conversation smaller, the router's own retry of this one included.
    """

    def __init__(self, new_memory: Callable[[], MemoryManager], *, max_conversations: int = 1_000) -> None:
        """Serve no conversation yet.

        Args:
            new_memory: Makes the memory of each new conversation.
            max_conversations: How many to hold. Beyond that, the one that was silent longest is let go: its next
                request is taken as the beginning of a new one, with all that its list holds.
        """
        if max_conversations < 1:
            raise ConfigError(f"max_conversations must be at least 1, got {max_conversations!r}")
        super().__init__()
        # LiteLLM takes two callbacks for one whose public texts and numbers are equal (`_get_custom_logger_key`).
        self.key = uuid4().hex
        self._new_memory = new_memory
        self._max_conversations = max_conversations
        self._conversations: dict[str, _Conversation] = {}
        self._streams: dict[str, str] = {}
        """The session ids of streams by LiteLLM's id of the call: at their end it no longer says which it was."""
        self._lock = Lock()

    def memory(self, session_id: str) -> MemoryManager:
        """Return the memory of a conversation.

        Raises:
            ConfigError: There has been no request of that id, or it was let go.
        """
        with self._lock:
            found = self._conversations.get(session_id)
        if found is None:
            raise ConfigError(f"there is no conversation {session_id!r}: no request with that session id came here")
        return found.link.memory

    def forget(self, session_id: str) -> None:
        """Let a conversation and its memory go."""
        with self._lock:
            self._conversations.pop(session_id, None)

    # --- What LiteLLM calls -------------------------------------------------------------------------------------------

    async def async_pre_call_deployment_hook(
        self, kwargs: dict[str, Any], call_type: CallTypes | None
    ) -> dict[str, Any] | None:
        """Put the managed context in the place of the caller's list, before each attempt.

        Raises:
            ContextOverflowError: What may never be taken out exceeds `max_context_tokens`.
            BudgetExceededError: Sending it would bring the cost above `max_cost_dollars`.
        """
        session_id = _session_id(kwargs)
        if session_id is None or call_type is not CallTypes.acompletion:
            return None
        if "messages" not in kwargs:
            logger.warning(
                "the messages were given by position, where no hook sees them; pass messages=… | not managed"
            )
            return None
        conversation = self._conversation(session_id)
        if conversation.link.is_preparing:
            return None
        if kwargs.get("stream") and isinstance(call_id := kwargs.get("litellm_call_id"), str):
            self._streams[call_id] = session_id
            _keep_newest(self._streams, self._max_conversations)
        return {**kwargs, "messages": await conversation.context(kwargs)}

    async def async_post_call_success_deployment_hook(
        self, request_data: dict[str, Any], response: Any, call_type: CallTypes | None
    ) -> None:
        """Book what a whole answer used."""
        self._book(_session_id(request_data), response)

    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Book what a stream used, when LiteLLM has put it together; whole answers are booked already."""
        session_id = self._streams.pop(str(kwargs.get("litellm_call_id")), None)
        if session_id is not None and kwargs.get("cache_hit") is not True:
            self._book(session_id, response_obj)

    async def async_post_call_failure_deployment_hook(
        self,
        request_data: Mapping[str, Any],
        exception: Exception,
        call_type: CallTypes | None,
        fallback_depth: int | None = None,
    ) -> None:
        """Compress what the provider refused as too long."""
        conversation = self._known(_session_id(request_data))
        if conversation is not None:
            await conversation.link.arecover(exception)

    def _book(self, session_id: str | None, response: object) -> None:
        conversation, known = self._known(session_id), _CHAT.usage(response, None)
        if conversation is not None and known is not None:
            conversation.link.book(known)

    def _known(self, session_id: str | None) -> _Conversation | None:
        with self._lock:
            return self._conversations.get(session_id) if session_id is not None else None

    def _conversation(self, session_id: str) -> _Conversation:
        with self._lock:
            found = self._conversations.pop(session_id, None) or _Conversation(Link(self._new_memory()))
            self._conversations[session_id] = found  # the newest stands last
            _keep_newest(self._conversations, self._max_conversations)
        return found


class _Conversation:
    """One session id's memory, and what was sent of it last."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self._sent: list[Any] = []

    async def context(self, arguments: Arguments) -> list[Any]:
        """Return what to send for the caller's list, or for our own: it comes back, copied, for a fallback model."""
        if arguments["messages"] == self._sent:
            self._sent = self.link.memory.get_context_for_llm()
        else:
            self._sent = await self.link.afollow(Call(self.link, _CHAT, arguments, _never, streams=False))
        return self._sent


class _LiteLLMChat:
    """OpenAI's chat completions as LiteLLM speaks them for every provider."""

    dialect: DialectName = "openai_chat"
    key = "messages"

    def __init__(self) -> None:
        chat = ChatCompletions()
        self.messages, self.beside, self.usage = chat.messages, chat.beside, chat.usage
        self.asking_for_usage = chat.asking_for_usage

    def is_usage_alone(self, event: Any) -> bool:
        """Whether a chunk brings usage and nothing else; LiteLLM gives it a choice that is empty."""
        if getattr(event, "usage", None) is None:
            return False
        return all(choice.finish_reason is None and _is_silent(choice.delta) for choice in event.choices)


def _is_silent(delta: Any) -> bool:
    return not any(value for name, value in dict(delta).items() if name != "role")


_CHAT = _LiteLLMChat()


def _keep_newest(entries: dict[str, Any], count: int) -> None:
    while len(entries) > count:
        del entries[next(iter(entries))]


def _never(**arguments: Any) -> Any:
    raise AssertionError("the hook sends nothing itself")


def _session_id(request: Mapping[str, Any]) -> str | None:
    """Return the conversation that a request names; an id that the proxy made up for its logs names none.

    Source: `get_stable_session_id` in `litellm/litellm_core_utils/provider_affinity.py`.
    """
    notes = [found for name in ("metadata", "litellm_metadata") if isinstance(found := request.get(name), Mapping)]
    if any(note.get("litellm_session_id_generated") for note in notes):
        return None
    named = [request.get("litellm_session_id"), *(note.get("session_id") for note in notes)]
    return next((str(name) for name in named if name), None)
