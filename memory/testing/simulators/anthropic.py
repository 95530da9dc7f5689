"""Anthropic's Messages API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any, Final

from ...messages import DialectName, Wire
from ...prompt_cache import Ttl
from .anthropic_judge import judge
from .anthropic_thinking import Thinking
from .formats import Account, Completion, Event, Json, Refusal, Target, dumped, native_messages, pieces
from .metering import BreakpointCache, Metered, Segment, prompt_tokens, text_of, tokens_of
from .turns import Answer, Request, Turn

_LIMIT: Final = 4_000


class AnthropicMessages:
    """`POST /v1/messages` and `/v1/messages/count_tokens`."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._cache = BreakpointCache()
        self._calls = count(1)
        self._thinking = Thinking(is_bound=account.binds_thinking)

    @property
    def name(self) -> DialectName:
        return "anthropic"

    @property
    def base_path(self) -> str:
        return ""

    def target(self, path: str) -> Target | None:
        match path.partition("?")[0]:
            case "/v1/messages":
                return Target(kind="generate")
            case "/v1/messages/count_tokens":
                return Target(kind="count", is_streamed=False)
        return None

    def api_key(self, headers: Mapping[str, str], path: str) -> str:
        return headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ").strip()

    def refusal(self, request: Request) -> Refusal | None:
        is_counting = request.path.partition("?")[0].endswith("/count_tokens")
        return (
            self._account_refusal(request)
            or judge(request.body, needs_max_tokens=not is_counting, betas=_betas(request))
            or self._thinking.refusal(request.body, _betas(request))
        )

    def segments(self, body: Wire) -> list[Segment]:
        system = body.get("system") or []
        found = [
            *(_segment(tool) for tool in body.get("tools") or ()),
            *(_segment(block) for block in ([_text(system)] if isinstance(system, str) else system)),
            *(_segment(block, role=message["role"]) for message in body["messages"] for block in _blocks(message)),
        ]
        return _with_automatic_breakpoint(found, body.get("cache_control"))

    def completion(self, answer: Answer, request: Request, *, adds_reasoning: bool) -> Completion:
        native = native_messages(answer)
        turn = Turn(answer) if isinstance(answer, str) else answer
        blocks = self._written(turn) if isinstance(turn, Turn) else _native_blocks(native or [])
        if adds_reasoning and not any(block["type"] in _THINKING for block in blocks):
            blocks.insert(0, {"type": "thinking", "thinking": f"Thoughts before answer {request.number}."})
        blocks = self._thinking.signed(blocks, request.body)
        return Completion(messages=[{"role": "assistant", "content": blocks}], stop_reason=_stop_reason(blocks, turn))

    def metered(self, request: Request, completion: Completion) -> Metered:
        segments = self.segments(request.body)
        blocks = completion.messages[0]["content"]
        cached = self._cache.read_and_write(segments, request.model)
        reasoning = sum(tokens_of(text_of(block)) for block in blocks if block["type"] in _THINKING)
        said = sum(tokens_of(text_of(block)) for block in blocks if block["type"] not in _THINKING)
        return Metered(
            input_tokens=prompt_tokens(segments),
            cache_read_tokens=cached.read_tokens,
            cache_write_5m_tokens=cached.written_tokens,
            cache_write_1h_tokens=cached.written_1h_tokens,
            output_tokens=reasoning + said,
            reasoning_tokens=reasoning,
        )

    def response(self, request: Request, completion: Completion) -> Json:
        content = completion.messages[0]["content"]
        usage = {**_input_usage(completion.used), **_output_usage(completion.used)}
        reason = completion.stop_reason
        return {**self._frame(request), "content": content, "stop_reason": reason, "usage": usage}

    def events(self, request: Request, completion: Completion) -> Iterator[Event]:
        started = {**self._frame(request), "usage": {**_input_usage(completion.used), "output_tokens": 1}}
        yield _event("message_start", message=started)
        for index, block in enumerate(completion.messages[0]["content"]):
            yield _event("content_block_start", index=index, content_block=_begun(block))
            if index == 0:
                yield _event("ping")
            for delta in _deltas(block):
                yield _event("content_block_delta", index=index, delta=delta)
            yield _event("content_block_stop", index=index)
        usage = {**_cumulative(completion.used), **_output_usage(completion.used)}
        yield _event("message_delta", delta={"stop_reason": completion.stop_reason, "stop_sequence": None}, usage=usage)
        yield _event("message_stop")

    def empty(self, request: Request) -> Completion:
        return Completion(messages=[{"role": "assistant", "content": []}], stop_reason="end_turn")

    def count_response(self, tokens: int) -> Json:
        return {"input_tokens": tokens}

    def error_body(self, refusal: Refusal, number: int) -> Json:
        error = {"type": refusal.kind, "message": refusal.message}
        return {"type": "error", "error": error, "request_id": f"req_{number}"}

    def error_event(self, refusal: Refusal, number: int) -> Event:
        return Event(name="error", data=self.error_body(refusal, number))

    def failure(self, kind: str) -> Refusal:
        # Statuses and types: https://docs.claude.com/en/api/errors
        match kind:
            case "rate_limit":
                message = "This request would exceed your account's rate limit. Please try again later."
                return Refusal(status=429, message=message, kind="rate_limit_error")
            case "overloaded":
                return Refusal(status=529, message="Overloaded", kind="overloaded_error")
            case "unavailable":
                return Refusal(status=503, message="Service Unavailable", kind="api_error")
        return Refusal(status=500, message="Internal server error", kind="api_error")

    def too_long(self, tokens: int, limit: int) -> Refusal:
        return Refusal(message=f"prompt is too long: {tokens} tokens > {limit} maximum")

    def unknown_path(self, path: str) -> Refusal:
        return Refusal(status=404, message="Not Found", kind="not_found_error")

    def headers(self, number: int) -> Mapping[str, str]:
        return {
            "request-id": f"req_{number}",
            "anthropic-ratelimit-requests-limit": str(_LIMIT),
            "anthropic-ratelimit-requests-remaining": str(max(0, _LIMIT - number)),
            "anthropic-ratelimit-requests-reset": "2026-01-01T00:00:00Z",
        }

    def _frame(self, request: Request) -> Json:
        frame: Json = {
            "id": f"msg_{request.number}",
            "type": "message",
            "role": "assistant",
            "model": request.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
        }
        dropped = self._thinking.dropped(request.body, _betas(request))
        return {**frame, "input_transformations": dropped} if dropped else frame

    def _account_refusal(self, request: Request) -> Refusal | None:
        account = self._account
        if account.api_keys is not None and request.api_key not in account.api_keys:
            return Refusal(status=401, message="invalid x-api-key", kind="authentication_error")
        if not request.model:
            return Refusal(message="model: Field required")
        if account.models is not None and request.model not in account.models:
            return Refusal(status=404, message=f"model: {request.model}", kind="not_found_error")
        return None

    def _written(self, turn: Turn) -> list[Json]:
        blocks: list[Json] = []
        if turn.reasoning:
            blocks.append({"type": "thinking", "thinking": turn.reasoning})
        if turn.text:
            blocks.append(_text(turn.text))
        for call in turn.calls:
            id_ = call.id or f"toolu_{next(self._calls)}"
            blocks.append({"type": "tool_use", "id": id_, "name": call.name, "input": dict(call.arguments)})
        return blocks


_THINKING: Final = frozenset({"thinking", "redacted_thinking"})
_STOP_REASONS: Final = {
    "end_turn": "end_turn",
    "tool_use": "tool_use",
    "max_tokens": "max_tokens",
    "refusal": "refusal",
}


def _betas(request: Request) -> frozenset[str]:
    return frozenset(beta.strip() for beta in request.headers.get("anthropic-beta", "").split(","))


def _text(text: str) -> Json:
    return {"type": "text", "text": text}


def _blocks(message: Wire) -> Sequence[Wire]:
    content = message["content"]
    return [_text(content)] if isinstance(content, str) else content


def _native_blocks(messages: Sequence[Wire]) -> list[Json]:
    """Return the blocks of recorded messages, or the blocks themselves where no message is around them."""
    found = [block for one in messages for block in (_blocks(one) if "content" in one and "role" in one else [one])]
    return [{key: value for key, value in block.items() if key != "cache_control"} for block in found]


def _stop_reason(blocks: Sequence[Wire], turn: object) -> str:
    if isinstance(turn, Turn) and turn.stop_reason is not None:
        return _STOP_REASONS[turn.stop_reason]
    return "tool_use" if any(block["type"] == "tool_use" for block in blocks) else "end_turn"


def _segment(block: Wire, role: str = "") -> Segment:
    return Segment(text=f"{role}\n{text_of(block)}\n", breakpoint=_ttl(block.get("cache_control")))


def _ttl(mark: object) -> Ttl | None:
    if not isinstance(mark, Mapping):
        return None
    return "1h" if mark.get("ttl") == "1h" else "5m"


def _with_automatic_breakpoint(segments: list[Segment], mark: object) -> list[Segment]:
    """Apply a top-level `cache_control`, which marks the last block (anthropic: message_create_params.py)."""
    if segments and mark and segments[-1].breakpoint is None:
        return [*segments[:-1], Segment(text=segments[-1].text, breakpoint=_ttl(mark))]
    return segments


def _event(name: str, **data: Any) -> Event:
    return Event(name=name, data={"type": name, **data})


def _begun(block: Wire) -> Json:
    """Return a block as a stream begins it: without what its deltas bring."""
    match block["type"]:
        case "text":
            return {**block, "text": ""}
        case "thinking":
            return {"type": "thinking", "thinking": "", "signature": ""}
        case "tool_use" | "server_tool_use":
            return {**block, "input": {}}
    return dict(block)


def _deltas(block: Wire) -> Iterator[Json]:
    match block["type"]:
        case "text":
            yield from ({"type": "text_delta", "text": piece} for piece in pieces(block["text"]))
        case "thinking":
            yield from ({"type": "thinking_delta", "thinking": piece} for piece in pieces(block["thinking"]))
            yield {"type": "signature_delta", "signature": block["signature"]}
        case "tool_use" | "server_tool_use":
            text = dumped(block["input"]) if block["input"] else ""
            # The API begins every input with an empty piece.
            yield from ({"type": "input_json_delta", "partial_json": piece} for piece in ("", *pieces(text)))


def _input_usage(used: Metered) -> Json:
    ttls = {
        "ephemeral_5m_input_tokens": used.cache_write_5m_tokens,
        "ephemeral_1h_input_tokens": used.cache_write_1h_tokens,
    }
    return {**_cumulative(used), "cache_creation": ttls, "service_tier": "standard"}


def _cumulative(used: Metered) -> Json:
    """Anthropic's input leaves out what was read from the cache and written to it."""
    written = used.cache_write_5m_tokens + used.cache_write_1h_tokens
    return {
        "input_tokens": used.input_tokens - used.cache_read_tokens - written,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": used.cache_read_tokens,
    }


def _output_usage(used: Metered) -> Json:
    details = {"output_tokens_details": {"thinking_tokens": used.reasoning_tokens}} if used.reasoning_tokens else {}
    return {"output_tokens": used.output_tokens, **details}
