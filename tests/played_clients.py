"""Stand-ins for provider clients on the pages of the docs: a script reads a manual page by page, then answers.

They answer with the SDKs' own response objects, so the loops on the pages are those that one would write in earnest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

PAGE_COUNT = 14
ANSWER = "V-21 opens at 9 bar."
PARAMETERS = {"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]}


def read_page(number: int) -> str:
    """A tool with long results."""
    return f"Page {number}: valve V-{number * 7} opens at {number * 3} bar. " + "The text goes on and on. " * 60


class Turns:
    """One page a request, then the answer. Reports about as many input tokens as it is sent."""

    def __init__(self, reads: Callable[[int, int], Any], answers: Callable[[int, int], Any]) -> None:
        self._reads, self._answers = reads, answers
        self._number = 0

    def create(self, **request: Any) -> Any:
        return self.next(request.get("messages") or request["input"])

    def generate_content(self, *, contents: Sequence[object], **request: Any) -> Any:
        return self.next(contents)

    def next(self, messages: Sequence[object]) -> Any:
        self._number += 1
        size = sum(len(str(message)) for message in messages) // 4
        answer = self._reads if self._number <= PAGE_COUNT else self._answers
        return answer(self._number, size + 90)


def openai_chat_client() -> Any:
    from openai.types.chat import ChatCompletion

    def completion(number: int, size: int, **message: Any) -> ChatCompletion:
        said = {"role": "assistant", "content": None, **message}
        body = {
            "id": f"chatcmpl-{number}",
            "object": "chat.completion",
            "created": 0,
            "model": "gpt-4o-mini",
            "choices": [{"index": 0, "finish_reason": "stop", "message": said}],
            "usage": {"prompt_tokens": size, "completion_tokens": 20, "total_tokens": size + 20},
        }
        return ChatCompletion.model_validate(body)

    def reads(number: int, size: int) -> ChatCompletion:
        function = {"name": "read_page", "arguments": json.dumps({"number": number})}
        return completion(number, size, tool_calls=[{"id": f"call_{number}", "type": "function", "function": function}])

    turns = Turns(reads, lambda number, size: completion(number, size, content=ANSWER))
    return SimpleNamespace(chat=SimpleNamespace(completions=turns))


def anthropic_client() -> Any:
    from anthropic.types import Message

    def message(number: int, size: int, stop_reason: str, block: dict[str, Any]) -> Message:
        body = {
            "id": f"msg_{number}",
            "type": "message",
            "role": "assistant",
            "model": "claude-3-5-sonnet-20241022",
            "stop_reason": stop_reason,
            "stop_sequence": None,
            "content": [block],
            "usage": {"input_tokens": size, "output_tokens": 30},
        }
        return Message.model_validate(body)

    def reads(number: int, size: int) -> Message:
        use = {"type": "tool_use", "id": f"toolu_{number}", "name": "read_page", "input": {"number": number}}
        return message(number, size, "tool_use", use)

    def answers(number: int, size: int) -> Message:
        return message(number, size, "end_turn", {"type": "text", "text": ANSWER})

    return SimpleNamespace(messages=Turns(reads, answers))


def gemini_client() -> Any:
    from google.genai.types import GenerateContentResponse

    def response(size: int, part: dict[str, Any]) -> GenerateContentResponse:
        body = {
            "candidates": [{"content": {"role": "model", "parts": [part]}, "finish_reason": "STOP"}],
            "model_version": "gemini-1.5-pro",
            "usage_metadata": {"prompt_token_count": size, "candidates_token_count": 20},
        }
        return GenerateContentResponse.model_validate(body)

    def reads(number: int, size: int) -> GenerateContentResponse:
        return response(size, {"function_call": {"name": "read_page", "args": {"number": number}}})

    return SimpleNamespace(models=Turns(reads, lambda number, size: response(size, {"text": ANSWER})))


def openai_responses_client() -> Any:
    from openai.types.responses import Response

    def response(number: int, size: int, item: dict[str, Any]) -> Response:
        body = {
            "id": f"resp_{number}",
            "object": "response",
            "created_at": 0,
            "model": "gpt-4o-mini",
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "output": [item],
            "usage": {
                "input_tokens": size,
                "output_tokens": 20,
                "total_tokens": size + 20,
                "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                "output_tokens_details": {"reasoning_tokens": 0},
            },
        }
        return Response.model_validate(body)

    def reads(number: int, size: int) -> Response:
        call = {"call_id": f"call_{number}", "name": "read_page", "arguments": json.dumps({"number": number})}
        return response(number, size, {"type": "function_call", "id": f"fc_{number}", "status": "completed", **call})

    def answers(number: int, size: int) -> Response:
        content = [{"type": "output_text", "text": ANSWER, "annotations": []}]
        item = {"type": "message", "id": f"msg_{number}", "role": "assistant", "status": "completed"}
        return response(number, size, {**item, "content": content})

    return SimpleNamespace(responses=Turns(reads, answers))
