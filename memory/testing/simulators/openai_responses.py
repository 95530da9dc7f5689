"""OpenAI's Responses API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from threading import Lock
from typing import Any, Final

from ...messages import DialectName, Wire
from .formats import CREATED, Account, Completion, Event, Json, Refusal, Target, dumped, native_messages, opaque, pieces
from .metering import AutomaticCache, Metered, Segment, prompt_tokens, text_of, tokens_of
from .openai_errors import OpenAIErrors
from .openai_responses_judge import Issued, judge
from .turns import Answer, Request, Turn


class OpenAIResponses(OpenAIErrors):
    """`POST /v1/responses` and `/v1/responses/input_tokens`; stored responses can be continued."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._cache = AutomaticCache()
        self._ids = count(1)
        self._issued = Issued()
        self._stored: dict[str, list[Wire]] = {}
        self._lock = Lock()

    @property
    def name(self) -> DialectName:
        return "openai_responses"

    def target(self, path: str) -> Target | None:
        bare = path.partition("?")[0]
        if bare.endswith("/responses"):
            return Target(kind="generate")
        return Target(kind="count", is_streamed=False) if bare.endswith("/responses/input_tokens") else None

    def refusal(self, request: Request) -> Refusal | None:
        found = self.account_refusal(request, self._account)
        if found is not None:
            return found
        previous = request.body.get("previous_response_id")
        if previous is not None and previous not in self._stored:
            # https://github.com/maximhq/bifrost/issues/2441
            message = f"Previous response with id '{previous}' not found."
            return Refusal(message=message, code="previous_response_not_found", param="previous_response_id")
        return judge(request.body, before=self._stored.get(previous or "", []), issued=self._issued)

    def segments(self, body: Wire) -> list[Segment]:
        instructions = body.get("instructions")
        return [
            *(Segment(text=text_of(tool)) for tool in body.get("tools") or ()),
            *([Segment(text=instructions)] if isinstance(instructions, str) else []),
            *(Segment(text=text_of(item) + "\n") for item in self._items(body)),
        ]

    def completion(self, answer: Answer, request: Request, *, adds_reasoning: bool) -> Completion:
        native = native_messages(answer)
        turn = Turn(answer) if isinstance(answer, str) else answer
        items = self._written(turn) if isinstance(turn, Turn) else [dict(item) for item in native or []]
        if adds_reasoning and not any(item.get("type") == "reasoning" for item in items):
            items.insert(0, _reasoning(f"Thoughts before answer {request.number}."))
        items = [self._completed(item) for item in items]
        return Completion(messages=items, stop_reason=_stop_reason(turn))

    def metered(self, request: Request, completion: Completion) -> Metered:
        segments = self.segments(request.body)
        cached = self._cache.read_and_write(segments, request.model, self.name)
        reasoning = sum(tokens_of(text_of(i.get("summary"))) for i in completion.messages if i["type"] == "reasoning")
        said = sum(tokens_of(text_of(item)) for item in completion.messages if item["type"] != "reasoning")
        return Metered(
            input_tokens=prompt_tokens(segments),
            cache_read_tokens=cached.read_tokens,
            cache_write_5m_tokens=cached.written_tokens,
            output_tokens=reasoning + said,
            reasoning_tokens=reasoning,
        )

    def response(self, request: Request, completion: Completion) -> Json:
        is_stored = request.body.get("store") is not False
        self._issued.note(completion.messages, is_stored=is_stored)
        response = _frame(request, completion.stop_reason, completion.messages)
        if is_stored:
            with self._lock:
                self._stored[response["id"]] = [*self._items(request.body), *completion.messages]
        return {**response, "usage": _usage(completion.used)}

    def events(self, request: Request, completion: Completion) -> Iterator[Event]:
        numbers = count()
        for name, data in self._stream(request, completion):
            yield Event(name=name, data={"type": name, "sequence_number": next(numbers), **data})

    def empty(self, request: Request) -> Completion:
        return Completion(messages=[], stop_reason="completed")

    def count_response(self, tokens: int) -> Json:
        return {"object": "response.input_tokens", "input_tokens": tokens}

    def too_long(self, tokens: int, limit: int) -> Refusal:
        # https://github.com/dyad-sh/dyad/issues/1672; it names no sizes.
        message = "Your input exceeds the context window of this model. Please adjust your input and try again."
        return Refusal(message=message, code="context_length_exceeded", param="input")

    def error_event(self, refusal: Refusal, number: int) -> Event:
        error = {"type": refusal.kind, "code": refusal.code, "message": refusal.message, "param": refusal.param}
        # https://github.com/dyad-sh/dyad/issues/1672
        return Event(name="error", data={"type": "error", "sequence_number": 99, "error": error})

    def _items(self, body: Wire) -> list[Wire]:
        """Return the whole input: what is stored under the previous response, then what the request brings."""
        given = body.get("input")
        new = [{"role": "user", "content": given}] if isinstance(given, str) else list(given or ())
        return [*self._stored.get(body.get("previous_response_id") or "", []), *new]

    def _stream(self, request: Request, completion: Completion) -> Iterator[tuple[str, Json]]:
        begun = _frame(request, "in_progress", ())
        yield "response.created", {"response": begun}
        yield "response.in_progress", {"response": begun}
        for index, item in enumerate(completion.messages):
            yield from _item_events(index, item)
        whole = self.response(request, completion)
        yield f"response.{completion.stop_reason}", {"response": whole}

    def _written(self, turn: Turn) -> list[Json]:
        items: list[Json] = [_reasoning(turn.reasoning)] if turn.reasoning else []
        if turn.text or not turn.calls:
            items.append({"type": "message", "role": "assistant", "content": [_output_text(turn.text)]})
        for call in turn.calls:
            call_id = call.id or f"call_{next(self._ids)}"
            arguments = dumped(call.arguments)
            items.append({"type": "function_call", "call_id": call_id, "name": call.name, "arguments": arguments})
        return items

    def _completed(self, item: Json) -> Json:
        """Return an item with the id, status and payload that the server gives it; recorded items often lack them."""
        kind = item.get("type") or "message"
        completed = {**item, "type": kind, "id": f"{_PREFIXES.get(kind, 'item')}_{next(self._ids)}"}
        if kind == "message":
            return {**completed, "status": "completed", "content": _output_content(item.get("content"))}
        if kind == "reasoning":
            summary = item.get("summary") or []
            return {**completed, "summary": summary, "encrypted_content": opaque(completed["id"], text_of(summary))}
        return {**completed, "status": "completed"}


_PREFIXES: Final[Mapping[str, str]] = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "custom_tool_call": "ctc",
    "web_search_call": "ws",
}
_STOP_REASONS: Final = {"max_tokens": "incomplete"}


def _reasoning(text: str) -> Json:
    return {"type": "reasoning", "summary": [{"type": "summary_text", "text": text}]}


def _output_text(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _output_content(content: Any) -> list[Json]:
    if isinstance(content, str):
        return [_output_text(content)]
    return [{"annotations": [], **part} if part.get("type") == "output_text" else dict(part) for part in content or ()]


def _stop_reason(turn: object) -> str:
    """Return the status of the response; tools to run are no status of their own here."""
    reason = turn.stop_reason if isinstance(turn, Turn) else None
    return _STOP_REASONS.get(reason or "", "completed")


def _frame(request: Request, status: str, output: Sequence[Wire]) -> Json:
    body = request.body
    return {
        "id": f"resp_{request.number}",
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": body.get("instructions"),
        "model": request.model,
        "output": list(output),
        "parallel_tool_calls": True,
        "previous_response_id": body.get("previous_response_id"),
        "store": body.get("store") is not False,
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": body.get("tools") or [],
        "truncation": body.get("truncation") or "disabled",
        "metadata": {},
        "usage": None,
    }


def _item_events(index: int, item: Wire) -> Iterator[tuple[str, Json]]:
    yield "response.output_item.added", {"output_index": index, "item": _begun(item)}
    at = {"output_index": index, "item_id": item["id"]}
    match item["type"]:
        case "message":
            for part, content in enumerate(item["content"]):
                yield from _part_events({**at, "content_index": part}, content)
        case "function_call":
            for piece in pieces(item["arguments"]):
                yield "response.function_call_arguments.delta", {**at, "delta": piece}
            yield "response.function_call_arguments.done", {**at, "name": item["name"], "arguments": item["arguments"]}
        case "reasoning":
            for part, summary in enumerate(item["summary"]):
                yield from _summary_events({**at, "summary_index": part}, summary)
    yield "response.output_item.done", {"output_index": index, "item": item}


def _part_events(at: Json, part: Wire) -> Iterator[tuple[str, Json]]:
    text = str(part.get("text") or "")
    yield "response.content_part.added", {**at, "part": {**part, "text": ""}}
    for piece in pieces(text):
        yield "response.output_text.delta", {**at, "delta": piece, "logprobs": []}
    yield "response.output_text.done", {**at, "text": text, "logprobs": []}
    yield "response.content_part.done", {**at, "part": part}


def _summary_events(at: Json, summary: Wire) -> Iterator[tuple[str, Json]]:
    text = str(summary.get("text") or "")
    yield "response.reasoning_summary_part.added", {**at, "part": {"type": "summary_text", "text": ""}}
    for piece in pieces(text):
        yield "response.reasoning_summary_text.delta", {**at, "delta": piece}
    yield "response.reasoning_summary_text.done", {**at, "text": text}
    yield "response.reasoning_summary_part.done", {**at, "part": summary}


def _begun(item: Wire) -> Json:
    match item["type"]:
        case "message":
            return {**item, "status": "in_progress", "content": []}
        case "function_call":
            return {**item, "status": "in_progress", "arguments": ""}
        case "reasoning":
            return {**item, "summary": [], "encrypted_content": ""}
    return dict(item)


def _usage(used: Metered) -> Json:
    return {
        "input_tokens": used.input_tokens,
        "input_tokens_details": {
            "cached_tokens": used.cache_read_tokens,
            "cache_write_tokens": used.cache_write_5m_tokens,
        },
        "output_tokens": used.output_tokens,
        "output_tokens_details": {"reasoning_tokens": used.reasoning_tokens},
        "total_tokens": used.input_tokens + used.output_tokens,
    }
