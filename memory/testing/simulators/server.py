"""A provider on this machine: one HTTP server for each of the four wire formats."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from types import TracebackType
from typing import Any, Final, TypeAlias

from ...errors import ConfigError
from ...messages import DialectName
from .anthropic import AnthropicMessages
from .faults import Fault, Faults, fault_for
from .formats import Account, Completion, Event, Refusal, Target, WireFormat, dumped
from .gemini import GeminiContents
from .http import Listener, Reply
from .metering import Metered, prompt_tokens
from .openai_chat import OpenAIChat
from .openai_responses import OpenAIResponses
from .turns import Answer, AnswersByCall, AnswerSource, AnswerTo, Request, Script

Answers: TypeAlias = AnswerSource | AnswerTo | Sequence[Answer]
"""The answers of one conversation: in order, from a callable, or a `Playback`."""

_FORMATS: Final[Mapping[DialectName, Callable[[Account], WireFormat]]] = {
    "openai_chat": OpenAIChat,
    "openai_responses": OpenAIResponses,
    "anthropic": AnthropicMessages,
    "gemini": GeminiContents,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A request and what became of it."""

    request: Request
    status: int
    """HTTP status; 0 where the connection hung before any."""
    refusal: Refusal | None = None
    """Why it was refused; None for an answer and for a fault."""
    fault: Fault | None = None
    used: Metered | None = None
    """What was counted, cache reads and writes included; None without an answer."""

    @property
    def path(self) -> str:
        return self.request.path

    @property
    def body(self) -> Mapping[str, Any]:
        return self.request.body

    @property
    def is_streamed(self) -> bool:
        return self.request.is_streamed


@dataclass(slots=True)
class _Outcome:
    """An exchange on its way to become a reply."""

    request: Request
    status: int = 200
    refusal: Refusal | None = None
    fault: Fault | None = None
    used: Metered | None = None
    body: bytes = b""
    events: list[Event] = field(default_factory=list)
    ends: str = "whole"


class ProviderSimulator:
    """Speaks one provider's API on 127.0.0.1, to that provider's own SDK.

    A request that the provider would refuse is refused, with its status and its words. Answers come whole or as
    server-sent events; usage is counted, with prompt-cache reads and writes by the provider's rules. No request leaves
    the machine. Several clients and threads may call at once.

        with ProviderSimulator("anthropic", [Turn("It is sunny.")]) as server:
            client = Anthropic(base_url=server.base_url, api_key="test", max_retries=0)

    `requests` holds every request with what became of it, `rejected` those that were refused.
    """

    def __init__(
        self,
        wire: DialectName,
        answers: Answers | Mapping[str, Answers],
        *,
        aside: AnswerTo | None = None,
        models: Collection[str] | None = None,
        api_keys: Collection[str] | None = None,
        context_window_tokens: int | None = None,
        binds_thinking: bool = False,
        checks_signatures: bool = False,
        adds_reasoning: bool = False,
        faults: Faults = (),
    ) -> None:
        """Listen at once, on a free port; the context manager, or `close`, ends it.

        Args:
            wire: The API to speak.
            answers: What to answer: a sequence, a callable from `Request`, a `Playback`; or for several conversations
                a mapping from the API key that each of them uses to one of these.
            aside: Asked first. What it answers is no part of the conversation (a request for a summary, say); None
                leaves the request to `answers`.
            models: The models that there are; any other gives 404.
            api_keys: The keys that are valid; any other gives 401 (Gemini: 400). A mapping of answers implies them.
            context_window_tokens: A longer prompt is refused as the provider does it. Counted in four characters each.
            binds_thinking: Anthropic: a thinking block is valid only behind the very conversation it was made in.
            checks_signatures: Gemini: calls of the current turn need the signature that came with them.
            adds_reasoning: Every answer begins with reasoning, scripted or not.
            faults: Which requests fail, and how.
        """
        if wire not in _FORMATS:
            raise ConfigError(f"wire must be one of {', '.join(_FORMATS)}, got {wire!r}")
        self._sources = _sources(answers)
        keys = frozenset(answers) if isinstance(answers, Mapping) and api_keys is None else api_keys
        self._account = Account(
            models=None if models is None else frozenset(models),
            api_keys=None if keys is None else frozenset(keys),
            context_window_tokens=context_window_tokens,
            binds_thinking=binds_thinking,
            checks_signatures=checks_signatures,
        )
        self._format = _FORMATS[wire](self._account)
        self._aside = aside
        self._adds_reasoning = adds_reasoning
        self._faults = faults
        self._lock = Lock()
        self._count = 0
        self._exchanges: list[Exchange] = []
        self._listener = Listener(self._reply)

    @property
    def base_url(self) -> str:
        """What the provider's SDK takes as its base URL."""
        return self.url + self._format.base_path

    @property
    def url(self) -> str:
        """Scheme, host and port; google-generativeai takes this as its `api_endpoint`."""
        return f"http://127.0.0.1:{self._listener.port}"

    @property
    def requests(self) -> list[Exchange]:
        """Every request so far with what became of it, in the order in which they were answered."""
        with self._lock:
            return list(self._exchanges)

    @property
    def rejected(self) -> list[Exchange]:
        """The requests that were refused for what they say; faults are none of these."""
        return [one for one in self.requests if one.refusal is not None]

    def close(self) -> None:
        """Stop listening and end all connections, hung ones too."""
        self._listener.close()

    def __enter__(self) -> ProviderSimulator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _reply(self, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Answer one HTTP request. Called from many threads."""
        with self._lock:
            self._count += 1
            number = self._count
        target = self._format.target(path)
        request = _request(number, path, headers, body, target, self._format.api_key(headers, path))
        outcome = self._outcome(request, target)
        with self._lock:
            self._exchanges.append(_exchange(outcome))
        return self._reply_of(outcome, target)

    def _outcome(self, request: Request, target: Target | None) -> _Outcome:
        refusal = self._refusal(request, target)
        if refusal is not None:
            return self._refused(request, refusal)
        if target is not None and target.kind == "count":
            tokens = prompt_tokens(self._format.segments(request.body))
            return _Outcome(request, body=dumped(self._format.count_response(tokens)).encode())
        fault = fault_for(request, self._faults)
        return self._answered(request) if fault is None else self._failed(request, fault)

    def _refusal(self, request: Request, target: Target | None) -> Refusal | None:
        if target is None:
            return self._format.unknown_path(request.path.partition("?")[0])
        return self._format.refusal(request) or self._too_long(request)

    def _too_long(self, request: Request) -> Refusal | None:
        limit = self._account.context_window_tokens
        if limit is None:
            return None
        tokens = prompt_tokens(self._format.segments(request.body))
        return self._format.too_long(tokens, limit) if tokens > limit else None

    def _refused(self, request: Request, refusal: Refusal) -> _Outcome:
        body = dumped(self._format.error_body(refusal, request.number)).encode()
        return _Outcome(request, status=refusal.status, refusal=refusal, body=body)

    def _answered(self, request: Request) -> _Outcome:
        answer = self._aside(request) if self._aside else None
        if answer is None:
            answer = self._source(request).take(request)
        if answer is None:
            return self._refused(request, _script_is_over(len(self._exchanges)))
        return self._said(request, self._completion(answer, request))

    def _said(self, request: Request, completion: Completion) -> _Outcome:
        completion = replace(completion, used=self._format.metered(request, completion))
        outcome = _Outcome(request, used=completion.used)
        if request.is_streamed:
            outcome.events = list(self._format.events(request, completion))
        else:
            outcome.body = dumped(self._format.response(request, completion)).encode()
        return outcome

    def _completion(self, answer: Answer, request: Request) -> Completion:
        return self._format.completion(answer, request, adds_reasoning=self._adds_reasoning)

    def _source(self, request: Request) -> AnswerSource:
        return self._sources.get(request.api_key) or self._sources[""]

    # --- Faults -------------------------------------------------------------------------------------------------------

    def _failed(self, request: Request, fault: Fault) -> _Outcome:
        match fault.kind:
            case "empty_answer":
                outcome = self._said(request, self._format.empty(request))
            case "malformed_json":
                outcome = _Outcome(request, body=b'{"id": "half', events=[Event(data='{"id": "half')])
            case "cut_stream" | "hang":
                outcome = self._broken(request, fault)
            case "stream_error" if request.is_streamed:
                outcome = self._broken(request, fault)
                outcome.events.append(self._format.error_event(self._format.failure("overloaded"), request.number))
            case "context_length":
                tokens = prompt_tokens(self._format.segments(request.body))
                outcome = self._refused(request, self._format.too_long(tokens, max(1, tokens - 1)))
            case "stream_error":
                outcome = self._refused(request, self._format.failure("overloaded"))
            case _:
                outcome = self._refused(request, self._format.failure(fault.kind))
        outcome.fault, outcome.refusal = fault, None
        return outcome

    def _broken(self, request: Request, fault: Fault) -> _Outcome:
        """Begin to say the answer that comes next, without using it up."""
        answer = self._source(request).peek(request)
        outcome = self._said(request, self._completion(answer or "This answer breaks off.", request))
        outcome.events = outcome.events[: fault.after_events]
        outcome.ends = "hang" if fault.kind == "hang" else "cut" if fault.kind == "cut_stream" else "whole"
        if outcome.ends == "hang" and (fault.after_events == 0 or not request.is_streamed):
            outcome.status = 0
        return outcome

    # --- Replies ------------------------------------------------------------------------------------------------------

    def _reply_of(self, outcome: _Outcome, target: Target | None) -> Reply:
        headers = {**self._format.headers(outcome.request.number), **_retry_after(outcome.fault)}
        is_streamed = outcome.request.is_streamed and outcome.status == 200
        is_array = target is not None and target.frames == "array"
        return Reply(
            status=outcome.status,
            headers=headers,
            body=outcome.body,
            chunks=_array(outcome.events, outcome.ends) if is_array else [event.encoded() for event in outcome.events],
            is_streamed=is_streamed,
            media_type="text/event-stream" if is_streamed and not is_array else "application/json",
            ends=outcome.ends,
        )


def _sources(answers: Answers | Mapping[str, Answers]) -> dict[str, AnswerSource]:
    if isinstance(answers, Mapping):
        return {"": Script([]), **{key: _source(one) for key, one in answers.items()}}
    return {"": _source(answers)}


def _source(answers: Answers) -> AnswerSource:
    if isinstance(answers, Sequence):
        return Script(answers)
    return AnswersByCall(answers) if callable(answers) else answers


def _request(
    number: int, path: str, headers: Mapping[str, str], body: bytes, target: Target | None, api_key: str
) -> Request:
    content = _json_object(body)
    in_path = target.model if target is not None else None
    is_streamed = target.is_streamed if target is not None else None
    return Request(
        number=number,
        path=path,
        headers=headers,
        body=content,
        model=in_path or str(content.get("model") or ""),
        api_key=api_key,
        is_streamed=content.get("stream") is True if is_streamed is None else is_streamed,
    )


def _json_object(body: bytes) -> Mapping[str, Any]:
    """Return the body; what is no JSON object is none of an SDK's, and is judged as an empty one."""
    try:
        content = json.loads(body or b"{}")
    except ValueError:
        return {}
    return content if isinstance(content, Mapping) else {}


def _script_is_over(requests: int) -> Refusal:
    return Refusal(message=f"The simulator has no answer left to give after {requests} requests: script more turns.")


def _exchange(outcome: _Outcome) -> Exchange:
    return Exchange(
        request=outcome.request,
        status=outcome.status,
        refusal=outcome.refusal,
        fault=outcome.fault,
        used=outcome.used,
    )


def _retry_after(fault: Fault | None) -> dict[str, str]:
    if fault is None or fault.retry_after_seconds is None:
        return {}
    return {"retry-after": f"{fault.retry_after_seconds:g}"}


def _array(events: Sequence[Event], ends: str) -> list[bytes]:
    """Return a stream as one JSON array in pieces, the form of Gemini's REST stream without `alt=sse`."""
    items = [event.data if isinstance(event.data, str) else dumped(event.data) for event in events]
    texts = [("[" if n == 0 else ",\r\n") + item for n, item in enumerate(items)]
    return [text.encode() for text in (*texts, *(["]"] if ends == "whole" else []))]
