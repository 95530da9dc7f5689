"""Gemini's generateContent, as google-genai and google-generativeai call it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any, Final
from urllib.parse import parse_qs

from ...messages import DialectName, Wire
from .formats import Account, Completion, Event, Json, Refusal, Target, native_messages, opaque, pieces
from .gemini_judge import SEAL, judge
from .metering import AutomaticCache, Metered, Segment, prompt_tokens, text_of, tokens_of
from .turns import Answer, Call, Request, Turn

_PATH: Final = re.compile(r"/v1(?:alpha|beta)?/(?:models|tunedModels)/(?P<model>[^/:]+):(?P<method>\w+)")
_FINISH_REASONS: Final[Mapping[str, str]] = {
    "end_turn": "STOP",
    "tool_use": "STOP",
    "max_tokens": "MAX_TOKENS",
    "refusal": "SAFETY",
}


class GeminiContents:
    """`POST /v1beta/models/…`: `:generateContent`, `:streamGenerateContent` (events or an array), `:countTokens`."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._cache = AutomaticCache()
        self._signatures = count(1)

    @property
    def name(self) -> DialectName:
        return "gemini"

    @property
    def base_path(self) -> str:
        return ""

    def target(self, path: str) -> Target | None:
        bare, _, query = path.partition("?")
        found = _PATH.fullmatch(bare)
        if found is None:
            return None
        match found["method"]:
            case "generateContent":
                return Target(kind="generate", model=found["model"], is_streamed=False)
            case "streamGenerateContent" if parse_qs(query).get("alt") == ["sse"]:
                return Target(kind="generate", model=found["model"], is_streamed=True)
            case "streamGenerateContent":
                return Target(kind="generate", model=found["model"], is_streamed=True, frames="array")
            case "countTokens":
                return Target(kind="count", model=found["model"], is_streamed=False)
        return None

    def api_key(self, headers: Mapping[str, str], path: str) -> str:
        in_query = parse_qs(path.partition("?")[2]).get("key", [""])
        return headers.get("x-goog-api-key") or in_query[0]

    def refusal(self, request: Request) -> Refusal | None:
        account = self._account
        if account.api_keys is not None and request.api_key not in account.api_keys:
            # https://github.com/cequence-io/openai-scala-client/issues/109
            message = "API key not valid. Please pass a valid API key."
            return Refusal(message=message, kind="INVALID_ARGUMENT", code="API_KEY_INVALID")
        if account.models is not None and request.model not in account.models:
            return Refusal(status=404, message=_UNKNOWN_MODEL.format(request.model), kind="NOT_FOUND")
        return judge(_content_of(request.body), checks_signatures=account.checks_signatures)

    def segments(self, body: Wire) -> list[Segment]:
        body = _content_of(body)
        system = body.get("systemInstruction") or body.get("system_instruction")
        return [
            *(Segment(text=text_of(tool)) for tool in body.get("tools") or ()),
            *([Segment(text=text_of(system))] if system else []),
            *(Segment(text=text_of(content) + "\n") for content in body.get("contents") or ()),
        ]

    def completion(self, answer: Answer, request: Request, *, adds_reasoning: bool) -> Completion:
        native = native_messages(answer)
        turn = Turn(answer) if isinstance(answer, str) else answer
        parts = _written(turn) if isinstance(turn, Turn) else _native_parts(native or [])
        if adds_reasoning and not any(part.get("thought") for part in parts):
            parts.insert(0, {"text": f"Thoughts before answer {request.number}.", "thought": True})
        parts = self._signed(parts)
        return Completion(messages=[{"role": "model", "parts": parts}], stop_reason=_finish_reason(turn))

    def metered(self, request: Request, completion: Completion) -> Metered:
        segments = self.segments(request.body)
        parts = completion.messages[0]["parts"] if completion.messages else []
        reasoning = sum(tokens_of(text_of(part)) for part in parts if part.get("thought"))
        said = sum(tokens_of(text_of(part)) for part in parts if not part.get("thought"))
        return Metered(
            input_tokens=prompt_tokens(segments),
            cache_read_tokens=self._cache.read_and_write(segments, request.model, self.name).read_tokens,
            output_tokens=reasoning + said,
            reasoning_tokens=reasoning,
        )

    def response(self, request: Request, completion: Completion) -> Json:
        candidates = [
            {"content": message, "finishReason": completion.stop_reason, "index": 0} for message in completion.messages
        ]
        return _frame(request, completion.used, candidates or [{"finishReason": "STOP", "index": 0}])

    def events(self, request: Request, completion: Completion) -> Iterator[Event]:
        parts = completion.messages[0]["parts"] if completion.messages else []
        split = [piece for part in parts for piece in _split(part)]
        for piece in split[:-1]:
            candidate = {"content": {"role": "model", "parts": [piece]}, "index": 0}
            yield Event(data=_frame(request, completion.used, [candidate]))
        last: Json = {"content": {"role": "model", "parts": split[-1:]}} if split else {}
        candidate = {**last, "finishReason": completion.stop_reason, "index": 0}
        yield Event(data=_frame(request, completion.used, [candidate]))

    def empty(self, request: Request) -> Completion:
        return Completion(messages=[], stop_reason="STOP")

    def count_response(self, tokens: int) -> Json:
        return {"totalTokens": tokens}

    def error_body(self, refusal: Refusal, number: int) -> Json:
        error: Json = {"code": refusal.status, "message": refusal.message, "status": refusal.kind}
        if refusal.code is not None:
            kind = "type.googleapis.com/google.rpc.ErrorInfo"
            error["details"] = [{"@type": kind, "reason": refusal.code, "domain": "googleapis.com"}]
        return {"error": error}

    def error_event(self, refusal: Refusal, number: int) -> Event:
        return Event(data=self.error_body(refusal, number))

    def failure(self, kind: str) -> Refusal:
        # https://ai.google.dev/gemini-api/docs/troubleshooting
        match kind:
            case "rate_limit":
                message = "You exceeded your current quota, please check your plan and billing details."
                return Refusal(status=429, message=message, kind="RESOURCE_EXHAUSTED")
            case "server_error":
                message = "An internal error has occurred. Please retry or report in the developer forum."
                return Refusal(status=500, message=message, kind="INTERNAL")
        message = "The model is overloaded. Please try again later."
        return Refusal(status=503, message=message, kind="UNAVAILABLE")

    def too_long(self, tokens: int, limit: int) -> Refusal:
        # https://github.com/google-gemini/gemini-cli/issues/4231
        message = f"The input token count ({tokens}) exceeds the maximum number of tokens allowed ({limit})."
        return Refusal(message=message, kind="INVALID_ARGUMENT")

    def unknown_path(self, path: str) -> Refusal:
        return Refusal(status=404, message="Requested entity was not found.", kind="NOT_FOUND")

    def headers(self, number: int) -> Mapping[str, str]:
        return {"server-timing": "gfet4t7; dur=1"}

    def _signed(self, parts: Sequence[Json]) -> list[Json]:
        """Sign as the thinking models do: the first call of a response, its parallel siblings not (GE-8)."""
        first = next((n for n, part in enumerate(parts) if "functionCall" in part), None)
        return [
            {**part, "thoughtSignature": opaque(SEAL, str(next(self._signatures)))} if n == first else part
            for n, part in enumerate(parts)
        ]


_UNKNOWN_MODEL: Final = (
    "models/{} is not found for API version v1beta, or is not supported for generateContent. Call ListModels to see "
    "the list of available models and their supported methods."
)


def _content_of(body: Wire) -> Wire:
    """Return the request within a request to count tokens, which wraps it."""
    inner = body.get("generateContentRequest")
    return inner if isinstance(inner, Mapping) else body


def _written(turn: Turn) -> list[Json]:
    parts: list[Json] = [{"text": turn.reasoning, "thought": True}] if turn.reasoning else []
    if turn.text or not turn.calls:
        parts.append({"text": turn.text})
    return parts + [{"functionCall": _call(call)} for call in turn.calls]


def _call(call: Call) -> Json:
    return {**({"id": call.id} if call.id else {}), "name": call.name, "args": dict(call.arguments)}


def _native_parts(messages: Sequence[Wire]) -> list[Json]:
    """Return recorded parts in camelCase, as the API writes them; signatures of another run left out."""
    found = [part for message in messages for part in message.get("parts", [message])]
    return [{_CAMEL.get(key, key): value for key, value in part.items() if key not in _SIGNATURES} for part in found]


_CAMEL: Final = {"function_call": "functionCall", "inline_data": "inlineData", "executable_code": "executableCode"}
_SIGNATURES: Final = frozenset({"thoughtSignature", "thought_signature"})


def _finish_reason(turn: object) -> str:
    reason = turn.stop_reason if isinstance(turn, Turn) else None
    return _FINISH_REASONS[reason or "end_turn"]


def _frame(request: Request, used: Metered, candidates: Sequence[Json]) -> Json:
    return {
        "candidates": list(candidates),
        "usageMetadata": _usage(used),
        "modelVersion": request.model,
        "responseId": f"resp-{request.number}",
    }


def _split(part: Json) -> Iterator[Json]:
    """Yield the pieces in which a part is streamed: texts are split, calls come whole."""
    if "text" not in part:
        yield part
        return
    rest = {key: value for key, value in part.items() if key not in {"text", "thoughtSignature"}}
    texts = list(pieces(part["text"])) or [""]
    yield from ({**rest, "text": text} for text in texts[:-1])
    yield {**part, "text": texts[-1]}


def _usage(used: Metered) -> Json:
    said = used.output_tokens - used.reasoning_tokens
    usage: dict[str, Any] = {
        "promptTokenCount": used.input_tokens,
        "candidatesTokenCount": said,
        "totalTokenCount": used.input_tokens + used.output_tokens,
    }
    if used.reasoning_tokens:
        usage["thoughtsTokenCount"] = used.reasoning_tokens
    if used.cache_read_tokens:
        usage["cachedContentTokenCount"] = used.cache_read_tokens
    return usage
