"""OpenAI's chat completions, and what compatible servers add to them (`reasoning_content`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any, Final

from ...messages import DialectName, Wire
from .formats import CREATED, Account, Completion, Event, Json, Refusal, Target, dumped, native_messages, pieces
from .metering import AutomaticCache, Metered, Segment, prompt_tokens, text_of, tokens_of
from .openai_chat_judge import judge
from .openai_errors import OpenAIErrors
from .turns import Answer, Call, Request, Turn

_FINISH_REASONS: Final[Mapping[str, str]] = {
    "end_turn": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "refusal": "content_filter",
}


class OpenAIChat(OpenAIErrors):
    """`POST /v1/chat/completions`."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._cache = AutomaticCache()
        self._calls = count(1)

    @property
    def name(self) -> DialectName:
        return "openai_chat"

    def target(self, path: str) -> Target | None:
        return Target(kind="generate") if path.partition("?")[0].endswith("/chat/completions") else None

    def refusal(self, request: Request) -> Refusal | None:
        return self.account_refusal(request, self._account) or judge(request.body)

    def segments(self, body: Wire) -> list[Segment]:
        return [
            *(Segment(text=text_of(tool)) for tool in body.get("tools") or ()),
            *(Segment(text=text_of(message) + "\n") for message in body["messages"]),
        ]

    def completion(self, answer: Answer, request: Request, *, adds_reasoning: bool) -> Completion:
        native = native_messages(answer)
        turn = Turn(answer) if isinstance(answer, str) else answer
        message = self._written(turn) if isinstance(turn, Turn) else dict(_joined(native or []))
        if adds_reasoning and not message.get("reasoning_content"):
            message["reasoning_content"] = f"Thoughts before answer {request.number}."
        return Completion(messages=[message], stop_reason=_finish_reason(message, turn))

    def metered(self, request: Request, completion: Completion) -> Metered:
        segments = self.segments(request.body)
        cached = self._cache.read_and_write(segments, request.model, self.name)
        message = completion.messages[0] if completion.messages else {}
        reasoning = tokens_of(str(message.get("reasoning_content") or ""))
        return Metered(
            input_tokens=prompt_tokens(segments),
            cache_read_tokens=cached.read_tokens,
            cache_write_5m_tokens=cached.written_tokens,
            output_tokens=tokens_of(text_of({k: v for k, v in message.items() if k not in _UNBILLED})) + reasoning,
            reasoning_tokens=reasoning,
        )

    def response(self, request: Request, completion: Completion) -> Json:
        choices = [
            {
                "index": 0,
                "message": {"refusal": None, **message},
                "logprobs": None,
                "finish_reason": _reason(completion),
            }
            for message in completion.messages
        ]
        return {**_frame(request, "chat.completion"), "choices": choices, "usage": _usage(completion.used)}

    def events(self, request: Request, completion: Completion) -> Iterator[Event]:
        options = request.body.get("stream_options")
        has_usage = isinstance(options, Mapping) and options.get("include_usage") is True
        frame = {**_frame(request, "chat.completion.chunk"), **({"usage": None} if has_usage else {})}
        for message in completion.messages:
            for delta in _deltas(message):
                yield Event(data={**frame, "choices": [_choice(delta, None)]})
            yield Event(data={**frame, "choices": [_choice({}, _reason(completion))]})
        if has_usage:
            yield Event(data={**frame, "choices": [], "usage": _usage(completion.used)})
        yield Event(data="[DONE]")

    def empty(self, request: Request) -> Completion:
        return Completion(messages=[], stop_reason="stop")

    def count_response(self, tokens: int) -> Json:
        raise NotImplementedError("chat completions count no tokens: target() never says so")

    def too_long(self, tokens: int, limit: int) -> Refusal:
        # https://github.com/conghaonet/hao_chatgpt/issues/4, newer wording without the completion's share:
        # https://github.com/BerriAI/litellm/issues/1370
        return Refusal(
            message=f"This model's maximum context length is {limit} tokens. However, your messages resulted in "
            f"{tokens} tokens. Please reduce the length of the messages.",
            code="context_length_exceeded",
            param="messages",
        )

    def error_event(self, refusal: Refusal, number: int) -> Event:
        return Event(data=self.error_body(refusal, number))

    def _written(self, turn: Turn) -> Json:
        message: Json = {"role": "assistant", "content": turn.text or (None if turn.calls else "")}
        if turn.calls:
            message["tool_calls"] = [self._call(call) for call in turn.calls]
        if turn.reasoning:
            message["reasoning_content"] = turn.reasoning
        return message

    def _call(self, call: Call) -> Json:
        function = {"name": call.name, "arguments": dumped(call.arguments)}
        return {"id": call.id or f"call_{next(self._calls)}", "type": "function", "function": function}


_UNBILLED: Final = frozenset({"role", "reasoning_content"})


def _joined(messages: Sequence[Wire]) -> Wire:
    """Return several recorded assistant messages as the one that a response can hold."""
    if len(messages) == 1:
        # A response's content is a text, whatever was recorded as parts.
        content = messages[0].get("content")
        return {**messages[0], "content": content if content is None else _plain(content) or None}
    joined: Json = {"role": "assistant"}
    for key in ("content", "reasoning_content"):
        texts = [text for text in (_plain(message.get(key)) for message in messages) if text]
        if texts or key == "content":
            joined[key] = "\n\n".join(texts) or None
    calls = [call for message in messages for call in message.get("tool_calls") or ()]
    return {**joined, "tool_calls": calls} if calls else {**joined, "content": joined["content"] or ""}


def _plain(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    return content if isinstance(content, str) else ""


def _finish_reason(message: Wire, turn: object) -> str:
    if isinstance(turn, Turn) and turn.stop_reason is not None:
        return _FINISH_REASONS[turn.stop_reason]
    return "tool_calls" if message.get("tool_calls") else "stop"


def _reason(completion: Completion) -> str:
    return completion.stop_reason


def _frame(request: Request, kind: str) -> Json:
    return {"id": f"chatcmpl-{request.number}", "object": kind, "created": CREATED, "model": request.model}


def _choice(delta: Json, reason: str | None) -> Json:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}


def _deltas(message: Wire) -> Iterator[Json]:
    calls = message.get("tool_calls") or ()
    text = _plain(message.get("content"))
    yield {"role": "assistant", "content": None if calls and not text else "", "refusal": None}
    for piece in pieces(str(message.get("reasoning_content") or "")):
        yield {"reasoning_content": piece}
    for piece in pieces(text):
        yield {"content": piece}
    for index, call in enumerate(calls):
        yield from _call_deltas(index, call)


def _call_deltas(index: int, call: Wire) -> Iterator[Json]:
    """The id and the name come first and once, the arguments in pieces."""
    function = call["function"]
    yield {"tool_calls": [{**call, "index": index, "function": {**function, "arguments": ""}}]}
    for piece in pieces(function.get("arguments") or ""):
        yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def _usage(used: Metered) -> Json:
    return {
        "prompt_tokens": used.input_tokens,
        "completion_tokens": used.output_tokens,
        "total_tokens": used.input_tokens + used.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": used.cache_read_tokens,
            "cache_write_tokens": used.cache_write_5m_tokens,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": used.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
