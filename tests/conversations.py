"""Valid conversations in every format: builders for tests that write their own, strategies for the laws.

A `Builder` writes native messages from what happens in a conversation. `conversations` draws whole ones that every
provider would accept: parallel calls, failed tools, images, signed thinking, server tools, call ids used again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias

from hypothesis import strategies as st

from memory.messages import DialectName

Message: TypeAlias = dict[str, Any]
Call: TypeAlias = tuple[str, str, Mapping[str, Any]]
"""Id, name, arguments."""
Result: TypeAlias = tuple[str, str, str]
"""Id, name, text."""

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="  # 1x1 PNG
SIGNATURE = "c2lnbmF0dXJlIG9mIGEgdGhvdWdodA=="


class Builder(Protocol):
    """Writes what happens in a conversation as one provider's messages; every method returns a list to append."""

    def system(self, text: str) -> list[Message]:
        """Return a system message; none where the format keeps the system prompt outside the list."""
        ...

    def user(self, text: str, *, image: bool = False) -> list[Message]: ...

    def assistant(self, text: str = "", calls: Sequence[Call] = (), *, reasoning: str = "") -> list[Message]:
        """Return what the model wrote; `reasoning` is signed where the format signs."""
        ...

    def results(
        self, results: Sequence[Result], *, errors: frozenset[int] = frozenset(), image: bool = False
    ) -> list[Message]:
        """Return the answers to all calls of the last assistant turn; `errors` says which of them failed."""
        ...

    def server_tool(self, text: str) -> list[Message]:
        """Return an assistant turn in which the provider itself ran a tool; plain text where there is none."""
        ...


class OpenAIChatBuilder:
    def system(self, text: str) -> list[Message]:
        return [{"role": "system", "content": text}]

    def user(self, text: str, *, image: bool = False) -> list[Message]:
        if not image:
            return [{"role": "user", "content": text}]
        picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}", "detail": "low"}}
        return [{"role": "user", "content": [{"type": "text", "text": text}, picture]}]

    def assistant(self, text: str = "", calls: Sequence[Call] = (), *, reasoning: str = "") -> list[Message]:
        message: Message = {"role": "assistant", "content": text if text or not calls else None}
        if calls:
            message["tool_calls"] = [
                {"id": id_, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
                for id_, name, arguments in calls
            ]
        if reasoning:
            message["reasoning_content"] = reasoning
        return [message]

    def results(
        self, results: Sequence[Result], *, errors: frozenset[int] = frozenset(), image: bool = False
    ) -> list[Message]:
        return [{"role": "tool", "tool_call_id": id_, "content": text} for id_, _, text in results]

    def server_tool(self, text: str) -> list[Message]:
        return self.assistant(text)


class OpenAIResponsesBuilder:
    def __init__(self) -> None:
        self._reasoning_items = 0

    def system(self, text: str) -> list[Message]:
        return [{"type": "message", "role": "developer", "content": [{"type": "input_text", "text": text}]}]

    def user(self, text: str, *, image: bool = False) -> list[Message]:
        content: list[Message] = [{"type": "input_text", "text": text}]
        if image:
            content.append({"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "auto"})
        return [{"type": "message", "role": "user", "content": content}]

    def assistant(self, text: str = "", calls: Sequence[Call] = (), *, reasoning: str = "") -> list[Message]:
        items: list[Message] = []
        if reasoning:
            self._reasoning_items += 1
            summary = [{"type": "summary_text", "text": reasoning}]
            items.append(
                {
                    "type": "reasoning",
                    "id": f"rs_{self._reasoning_items}",
                    "summary": summary,
                    "encrypted_content": SIGNATURE,
                }
            )
        if text or not calls:
            content = [{"type": "output_text", "text": text, "annotations": []}]
            items.append({"type": "message", "role": "assistant", "content": content})
        return items + [
            {"type": "function_call", "call_id": id_, "name": name, "arguments": json.dumps(arguments)}
            for id_, name, arguments in calls
        ]

    def results(
        self, results: Sequence[Result], *, errors: frozenset[int] = frozenset(), image: bool = False
    ) -> list[Message]:
        items: list[Message] = [
            {"type": "function_call_output", "call_id": id_, "output": text} for id_, _, text in results
        ]
        if image:
            items[0]["output"] = [
                {"type": "input_text", "text": results[0][2]},
                {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "low"},
            ]
        return items

    def server_tool(self, text: str) -> list[Message]:
        search = {
            "type": "web_search_call",
            "id": "ws_1",
            "status": "completed",
            "action": {"type": "search", "query": text[:40]},
        }
        return [search, *self.assistant(text)]


class AnthropicBuilder:
    def __init__(self) -> None:
        self._server_calls = 0

    def system(self, text: str) -> list[Message]:
        return []

    def user(self, text: str, *, image: bool = False) -> list[Message]:
        if not image:
            return [{"role": "user", "content": text}]
        return [{"role": "user", "content": [{"type": "text", "text": text}, self._image()]}]

    def assistant(self, text: str = "", calls: Sequence[Call] = (), *, reasoning: str = "") -> list[Message]:
        blocks: list[Message] = []
        if reasoning:
            blocks.append({"type": "thinking", "thinking": reasoning, "signature": SIGNATURE})
        if text:
            blocks.append({"type": "text", "text": text})
        blocks += [
            {"type": "tool_use", "id": id_, "name": name, "input": dict(arguments)} for id_, name, arguments in calls
        ]
        return [{"role": "assistant", "content": blocks}]

    def results(
        self, results: Sequence[Result], *, errors: frozenset[int] = frozenset(), image: bool = False
    ) -> list[Message]:
        blocks: list[Message] = [
            {"type": "tool_result", "tool_use_id": id_, "content": text} | ({"is_error": True} if n in errors else {})
            for n, (id_, _, text) in enumerate(results)
        ]
        if image:
            blocks[0]["content"] = [
                *([{"type": "text", "text": results[0][2]}] if results[0][2] else []),
                self._image(),
            ]
        return [{"role": "user", "content": blocks}]

    def server_tool(self, text: str) -> list[Message]:
        self._server_calls += 1
        id_ = f"srvtoolu_{self._server_calls}"
        page = {"type": "web_search_result", "url": "https://example.org", "title": "x", "encrypted_content": SIGNATURE}
        blocks = [
            {"type": "server_tool_use", "id": id_, "name": "web_search", "input": {"query": text[:40]}},
            {"type": "web_search_tool_result", "tool_use_id": id_, "content": [page]},
            {"type": "text", "text": text},
        ]
        return [{"role": "assistant", "content": blocks}]

    def _image(self) -> Message:
        return {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}


@dataclass
class GeminiBuilder:
    """Writes contents in camelCase, or in the snake_case of the Python SDKs; with or without call ids."""

    snake_case: bool = False
    with_ids: bool = True
    _keys: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        snake = {
            "functionCall": "function_call",
            "functionResponse": "function_response",
            "thoughtSignature": "thought_signature",
            "inlineData": "inline_data",
            "mimeType": "mime_type",
        }
        self._keys = snake if self.snake_case else {key: key for key in snake}

    def system(self, text: str) -> list[Message]:
        return []

    def user(self, text: str, *, image: bool = False) -> list[Message]:
        parts: list[Message] = [{"text": text}]
        if image:
            parts.append({self._keys["inlineData"]: {self._keys["mimeType"]: "image/png", "data": PIXEL}})
        return [{"role": "user", "parts": parts}]

    def assistant(self, text: str = "", calls: Sequence[Call] = (), *, reasoning: str = "") -> list[Message]:
        parts: list[Message] = []
        if reasoning:
            parts.append({"text": reasoning, "thought": True})
        if text:
            parts.append({"text": text})
        parts += [
            {self._keys["functionCall"]: self._with_id(id_, {"name": name, "args": dict(arguments)})}
            for id_, name, arguments in calls
        ]
        if reasoning and calls:
            parts[-len(calls)][self._keys["thoughtSignature"]] = SIGNATURE
        return [{"role": "model", "parts": parts}]

    def results(
        self, results: Sequence[Result], *, errors: frozenset[int] = frozenset(), image: bool = False
    ) -> list[Message]:
        bodies = [
            self._with_id(id_, {"name": name, "response": {"error" if n in errors else "output": text}})
            for n, (id_, name, text) in enumerate(results)
        ]
        if image:
            bodies[0]["parts"] = [{self._keys["inlineData"]: {self._keys["mimeType"]: "image/png", "data": PIXEL}}]
        return [{"role": "user", "parts": [{self._keys["functionResponse"]: body} for body in bodies]}]

    def server_tool(self, text: str) -> list[Message]:
        parts: list[Message] = [
            {"executableCode": {"language": "PYTHON", "code": "print(1)"}},
            {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1\n"}},
            {"text": text},
        ]
        return [{"role": "model", "parts": parts}]

    def _with_id(self, id_: str, body: Message) -> Message:
        return {"id": id_, **body} if self.with_ids else body


def builder_for(dialect: DialectName) -> Builder:
    """Return a fresh builder; Gemini's writes camelCase with ids."""
    builders: Mapping[DialectName, type[Any]] = MappingProxyType(
        {
            "openai_chat": OpenAIChatBuilder,
            "openai_responses": OpenAIResponsesBuilder,
            "anthropic": AnthropicBuilder,
            "gemini": GeminiBuilder,
        }
    )
    builder: Builder = builders[dialect]()
    return builder


DIALECT_NAMES: Sequence[DialectName] = ("openai_chat", "openai_responses", "anthropic", "gemini")

_TEXTS = (
    "Look at the failing test.",
    "Never touch config/prod.yaml; this is important.",
    "The limit is 4,096 tokens, see https://example.org/limits?id=17.",
    "Größe, Café, naïve, 東京, עברית, नमस्ते, 🏳️‍🌈, e\u0301",
    "def f(x):\n    return {'a': [x] * 3}\n",
    '{"type": "tool_use", "id": "not a real one"}',
    "\x00\x1b[31mcontrol\x1b[0m\u200b\u2028",
    "<|endoftext|> [result of x: 1 line, ref r1]",
    "Traceback (most recent call last):\n  File \"/srv/app.py\", line 12\nKeyError: 'user_id'",
    "ok",
    ".",
)
_LONG = (
    "word " * 700,
    "x" * 9_000,
    "".join(f"/srv/data/part-{n:05d}.csv {n * 7919}\n" for n in range(250)),
)
_LONE_SURROGATE = "half of an emoji: \ud83d"
_TOOLS = ("read_file", "search", "run_command", "mcp__db__query")
_ARGUMENTS: Sequence[Mapping[str, Any]] = (
    {},
    {"path": "src/app.py"},
    {"query": "Straße 東京", "limit": None, "nested": {"a": [1, 2.5, True]}},
    {"command": "pytest -q " + "tests/test_x.py " * 50},
)


def conversations(
    dialect: DialectName,
    *,
    min_turns: int = 1,
    max_turns: int = 8,
    surrogates: bool = False,
    long_texts: bool = True,
    ends_open: bool = False,
    thinks: bool = False,
) -> st.SearchStrategy[list[Message]]:
    """Draw conversations that the provider accepts; drawing costs two integers a turn, so that laws run fast.

    Args:
        dialect: The wire format.
        min_turns: Turns, not messages: a turn of parallel calls is one turn of several messages.
        max_turns: Likewise.
        surrogates: Let texts hold a lone surrogate, which is legal in Python and nowhere on the wire.
        long_texts: Let a text in ten be some thousand characters.
        ends_open: End with calls that nobody has answered yet; such a list is not valid to send.
        thinks: Let every answer and every call of a client's tool begin with reasoning.
    """
    # A turn is its kind and a seed: both shrink well, and all details follow from the seed.
    turn = st.tuples(st.sampled_from(_KINDS), st.integers(min_value=0, max_value=2**16))
    turns = st.lists(turn, min_size=min_turns, max_size=max_turns)
    return st.builds(
        lambda start, drawn: _Script(dialect, start, surrogates, long_texts, thinks).play(drawn, ends_open=ends_open),
        st.integers(min_value=0, max_value=2**16),
        turns,
    )


_KINDS = ("ask", "tools", "answer", "think", "server", "many_tools", "notes")


class _Script:
    """Plays one conversation: who may speak next is decided here, so that it is valid by construction."""

    def __init__(self, dialect: DialectName, start: int, surrogates: bool, long_texts: bool, thinks: bool) -> None:
        self._random = Random(start)
        self._dialect: DialectName = dialect
        self._texts = _TEXTS + ((_LONE_SURROGATE,) if surrogates else ())
        self._long_texts = long_texts
        self._thinks = thinks
        self._ids = 0
        self._builder = self._new_builder()
        self._messages: list[Message] = []

    def play(self, turns: Sequence[tuple[str, int]], *, ends_open: bool) -> list[Message]:
        if self._random.random() < 0.7:
            self._messages += self._builder.system(self._text())
        self._messages += self._builder.user(self._text())
        for kind, seed in turns:
            self._random.seed(seed)
            self._messages += self._turn(kind)
        if ends_open:
            self._messages += self._assistant(self._calls(2), reasoning=False)
        return self._messages

    def _new_builder(self) -> Builder:
        if self._dialect == "gemini":
            return GeminiBuilder(snake_case=self._random.random() < 0.3, with_ids=self._random.random() < 0.6)
        return builder_for(self._dialect)

    def _turn(self, kind: str) -> Iterator[Message]:
        if kind == "ask":
            yield from self._builder.assistant(self._text(), reasoning=self._text() if self._thinks else "")
            yield from self._builder.user(self._text(), image=self._random.random() < 0.3)
        elif kind == "notes":
            yield from self._builder.user(self._text())
        elif kind == "server":
            yield from self._builder.server_tool(self._text())
            yield from self._builder.user(self._text())
        elif kind == "answer":
            yield from self._builder.assistant(self._text(), reasoning=self._text())
            yield from self._builder.user(self._text())
        else:
            yield from self._tools(self._random.randint(2, 5) if kind == "many_tools" else 1, kind == "think")

    def _tools(self, count: int, reasoning: bool) -> Iterator[Message]:
        calls = self._calls(count)
        yield from self._assistant(calls, reasoning=reasoning)
        results = [(id_, name, self._result_text()) for id_, name, _ in calls]
        errors = frozenset(n for n in range(count) if self._random.random() < 0.2)
        # Gemini's pairs without ids are told apart by their order alone, so that one stays.
        if self._dialect != "gemini" and self._random.random() < 0.2 and not errors:
            results.reverse()
        yield from self._builder.results(results, errors=errors, image=self._random.random() < 0.15)

    def _assistant(self, calls: Sequence[Call], *, reasoning: bool) -> list[Message]:
        text = self._text() if self._random.random() < 0.4 else ""
        return self._builder.assistant(text, calls, reasoning=self._text() if reasoning or self._thinks else "")

    def _calls(self, count: int) -> list[Call]:
        if self._random.random() < 0.15:
            self._ids = 0  # some models number their calls anew in every turn
        calls = []
        for _ in range(count):
            self._ids += 1
            calls.append((f"call_{self._ids}", self._random.choice(_TOOLS), self._random.choice(_ARGUMENTS)))
        return calls

    def _text(self) -> str:
        if self._long_texts and self._random.random() < 0.1:
            return self._random.choice(_LONG)
        return self._random.choice(self._texts)

    def _result_text(self) -> str:
        return "" if self._random.random() < 0.1 else self._text()
