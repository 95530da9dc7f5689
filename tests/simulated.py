"""The four SDKs as one thing to call, for tests that put the same question to every simulated provider."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from anthropic import Anthropic
from anthropic import APIError as AnthropicError
from google import genai
from google.genai.errors import APIError as GeminiError
from openai import APIError as OpenAIError
from openai import OpenAI

from memory.messages import DialectName
from memory.testing.simulators import ProviderSimulator

Message = dict[str, Any]
SDK_ERRORS = (OpenAIError, AnthropicError, GeminiError)
MODEL: Mapping[DialectName, str] = {
    "openai_chat": "gpt-4o",
    "openai_responses": "gpt-5",
    "anthropic": "claude-opus-5-5",
    "gemini": "gemini-2.5-pro",
}


@dataclass(kw_only=True)
class Said:
    """An answer, as far as every provider gives it."""

    messages: list[Message]
    """As the caller adds them to its list."""
    text: str
    calls: list[tuple[str, Mapping[str, Any]]]
    reasoning: str
    input_tokens: int
    """All of it."""
    cached_tokens: int
    output_tokens: int
    deltas: list[str] = field(default_factory=list)


class Client:
    """One SDK's client on a simulator; retries switched off."""

    def __init__(self, server: ProviderSimulator, wire: DialectName, *, api_key: str = "test") -> None:
        self._wire: DialectName = wire
        self._ask: Mapping[DialectName, Callable[..., Said]] = {
            "openai_chat": self._chat,
            "openai_responses": self._responses,
            "anthropic": self._anthropic,
            "gemini": self._gemini,
        }
        self._client: Any
        if wire == "anthropic":
            self._client = Anthropic(base_url=server.base_url, api_key=api_key, max_retries=0, timeout=20)
        elif wire == "gemini":
            self._client = genai.Client(api_key=api_key, http_options={"base_url": server.base_url, "timeout": 20_000})
        else:
            self._client = OpenAI(base_url=server.base_url, api_key=api_key, max_retries=0, timeout=20)

    def ask(self, messages: Sequence[Message], *, stream: bool = False, **fields: Any) -> Said:
        return self._ask[self._wire](list(messages), stream, {"model": MODEL[self._wire], **fields})

    def _chat(self, messages: list[Message], stream: bool, fields: dict[str, Any]) -> Said:
        deltas: list[str] = []
        create = self._client.chat.completions
        if stream:
            with create.stream(messages=messages, stream_options={"include_usage": True}, **fields) as events:
                deltas += [event.delta for event in events if event.type == "content.delta"]
                response = events.get_final_completion()
        else:
            response = create.create(messages=messages, **fields)
        message = response.choices[0].message.model_dump(exclude_none=True) if response.choices else {}
        for call in message.get("tool_calls", ()):
            call.pop("index", None)
            call["function"].pop("parsed_arguments", None)
        message.pop("parsed", None)
        usage = response.usage
        return Said(
            messages=[message] if message else [],
            text=message.get("content") or "",
            calls=[
                (call["function"]["name"], _json(call["function"]["arguments"]))
                for call in message.get("tool_calls", ())
            ],
            reasoning=message.get("reasoning_content", ""),
            input_tokens=usage.prompt_tokens,
            cached_tokens=usage.prompt_tokens_details.cached_tokens,
            output_tokens=usage.completion_tokens,
            deltas=deltas,
        )

    def _responses(self, items: list[Message], stream: bool, fields: dict[str, Any]) -> Said:
        deltas: list[str] = []
        if stream:
            with self._client.responses.stream(input=items, **fields) as events:
                deltas += [event.delta for event in events if event.type == "response.output_text.delta"]
                response = events.get_final_response()
        else:
            response = self._client.responses.create(input=items, **fields)
        output = [_without_parsed(item.model_dump(exclude_none=True)) for item in response.output]
        return Said(
            messages=output,
            text=response.output_text,
            calls=[(i["name"], _json(i["arguments"])) for i in output if i["type"] == "function_call"],
            reasoning="".join(s["text"] for i in output if i["type"] == "reasoning" for s in i["summary"]),
            input_tokens=response.usage.input_tokens,
            cached_tokens=response.usage.input_tokens_details.cached_tokens,
            output_tokens=response.usage.output_tokens,
            deltas=deltas,
        )

    def _anthropic(self, messages: list[Message], stream: bool, fields: dict[str, Any]) -> Said:
        fields = {"max_tokens": 1_000, **fields}
        deltas: list[str] = []
        if stream:
            with self._client.messages.stream(messages=messages, **fields) as events:
                deltas += [event.text for event in events if event.type == "text"]
                response = events.get_final_message()
        else:
            response = self._client.messages.create(messages=messages, **fields)
        blocks = [_without_parsed(block.model_dump(exclude_none=True)) for block in response.content]
        usage = response.usage
        return Said(
            messages=[{"role": "assistant", "content": blocks}],
            text="".join(block["text"] for block in blocks if block["type"] == "text"),
            calls=[(block["name"], block["input"]) for block in blocks if block["type"] == "tool_use"],
            reasoning="".join(block["thinking"] for block in blocks if block["type"] == "thinking"),
            input_tokens=usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens,
            cached_tokens=usage.cache_read_input_tokens,
            output_tokens=usage.output_tokens,
            deltas=deltas,
        )

    def _gemini(self, contents: list[Message], stream: bool, fields: dict[str, Any]) -> Said:
        models = self._client.models
        if stream:
            chunks = list(models.generate_content_stream(contents=contents, **fields))
        else:
            chunks = [models.generate_content(contents=contents, **fields)]
        found = [part for chunk in chunks for part in _parts(chunk)]
        deltas = [part["text"] for part in found if "text" in part and not part.get("thought")] if stream else []
        usage = chunks[-1].usage_metadata
        thoughts = usage.thoughts_token_count or 0
        return Said(
            messages=[{"role": "model", "parts": _joined(found)}],
            text="".join(part["text"] for part in found if "text" in part and not part.get("thought")),
            calls=[(p["function_call"]["name"], p["function_call"]["args"]) for p in found if "function_call" in p],
            reasoning="".join(part["text"] for part in found if part.get("thought")),
            input_tokens=usage.prompt_token_count,
            cached_tokens=usage.cached_content_token_count or 0,
            output_tokens=usage.candidates_token_count + thoughts,
            deltas=deltas,
        )


def _json(text: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(text)
    return found


def _without_parsed(item: Message) -> Message:
    """What the SDKs' stream helpers add to an item is not taken back by the API."""
    plain = {key: value for key, value in item.items() if not key.startswith("parsed")}
    if isinstance(plain.get("content"), list):
        plain["content"] = [_without_parsed(part) for part in plain["content"]]
    return plain


def _parts(chunk: Any) -> list[Message]:
    content = chunk.candidates[0].content
    return content.model_dump(exclude_none=True, mode="json")["parts"] if content and content.parts else []


def _joined(parts: Sequence[Message]) -> list[Message]:
    """Join the texts of a stream's parts, as a caller does who sends the answer back."""
    joined: list[Message] = []
    for part in parts:
        last = joined[-1] if joined else {}
        if "text" in part and "text" in last and part.get("thought") == last.get("thought"):
            joined[-1] = {**last, **part, "text": last["text"] + part["text"]}
        else:
            joined.append(dict(part))
    return joined
