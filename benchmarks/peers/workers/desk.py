"""What all workers share: their end of the pipe, the counter, the clock, the way back to recorded messages.

A worker runs in its peer's own environment and imports nothing of this project but this file. It is sent conversations,
one JSON value a line, plays each through its peer, and answers with what the peer would have sent at each request.
"""

from __future__ import annotations

import json
import os
import sys
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TextIO, TypeAlias

import tiktoken

Message: TypeAlias = dict[str, Any]
"""In OpenAI's chat format."""
Play: TypeAlias = "Callable[[Desk], None]"

TOKENS_PER_MESSAGE, TOKENS_PER_CALL, TOKENS_PER_RESULT = 4, 8, 6
"""As the parent's counter adds them, so that every peer is handed the same exact counter."""


class Clock:
    """Adds up what passes inside `with clock:`, which stands around the calls of the peer and nothing else.

    It is the processor's time: what else runs on the machine does not count, nor does waiting.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began: float | None = None

    def __enter__(self) -> None:
        self._began = time.process_time()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._began is not None
        self.seconds += time.process_time() - self._began
        self._began = None


class Tokenizer:
    """o200k, which notes how many bytes it was given; where told to, it tokenises an equal text once only.

    It stands in for every use of the encoding, a peer's own included: the bytes of all peers are counted alike.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self.remembers = False
        self._known: dict[str, tuple[list[int], int]] = {}
        self._encode = tiktoken.get_encoding("o200k_base").encode_ordinary
        encodings: Any = tiktoken.Encoding
        encodings.encode = lambda _, text, **__: self.encode(text)
        encodings.encode_ordinary = lambda _, text: self.encode(text)

    def encode(self, text: str) -> list[int]:
        if not self.remembers:
            self.bytes += _size(text)
            return self._encode(_whole(text))
        known = self._known.get(text)
        if known is None:
            known = self._known[text] = self._encode(_whole(text)), _size(text)
        self.bytes += known[1]
        return known[0]


class Desk:
    """One conversation to be played: what came in, what the peer may ask for, and where its requests go."""

    def __init__(self, job: Mapping[str, Any], tokenizer: Tokenizer, source: TextIO, sink: TextIO) -> None:
        self.messages: list[Message] = job["messages"]
        self.requests: frozenset[int] = frozenset(job["requests"])
        """How many messages come before each request."""
        self.options: Mapping[str, Any] = job["options"]
        self.clock = Clock()
        self._tokenizer, self._source, self._sink = tokenizer, source, sink
        self._places: dict[Any, list[int]] = defaultdict(list)
        for index, message in enumerate(self.messages):
            self._places[_key(message)].append(index)
        self._literals: dict[str, int] = {}
        self._left_seconds: float = job["limit_seconds"]
        tokenizer.remembers, tokenizer.bytes = job["remembers"], 0

    # --- What a peer may ask for ---

    def count(self, texts: Sequence[str], *, calls: int = 0, results: int = 0) -> int:
        """Return the tokens of one message: its texts, the names and arguments of its calls, its results."""
        text = "\n".join(one for one in texts if one)
        frame = TOKENS_PER_MESSAGE + TOKENS_PER_CALL * calls + TOKENS_PER_RESULT * results
        return len(self._tokenizer.encode(text)) + frame

    def count_text(self, text: str) -> int:
        return len(self._tokenizer.encode(text))

    def count_message(self, message: Message) -> int:
        calls = message.get("tool_calls") or []
        said = [text_of(message)]
        for call in calls:
            said += (call["function"]["name"], call["function"]["arguments"])
        return self.count(said, calls=len(calls), results=int(message["role"] == "tool"))

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """Leave out the bytes of what is tokenised meanwhile: it stands for what a provider reports."""
        before = self._tokenizer.bytes
        yield
        self._tokenizer.bytes = before

    def summarise(self, parts: Iterable[Message], *, prompt: str) -> str:
        """Return a summary of messages: the parent's, the same for every peer.

        Args:
            parts: The messages to be summarised; an older summary is one of them.
            prompt: What the peer would send to a model, which is what the summary costs.
        """
        self._write({"summarise": self._located(parts), "prompt": prompt})
        text: str = json.loads(self._source.readline())["summary"]
        return text

    # --- Where its requests go ---

    def play(self, add: Callable[[int, Message], None], request: Callable[[], Iterable[Message]]) -> None:
        """Hand the messages over one by one, and send a request wherever the recorded loop made one."""
        for index, message in enumerate(self.messages):
            if index in self.requests:
                self.send(index, request())
            add(index, message)

    def send(self, index: int, context: Iterable[Message]) -> None:
        """Report the request that is made after `index` messages."""
        new_before = len(self._literals)
        runs = _runs(self._placed(context, index))
        new = list(self._literals)[new_before:]
        self._write({"request": index, "runs": runs, "new": [json.loads(text) for text in new], **self._spent()})
        self._left_seconds -= self.clock.seconds
        self.clock.seconds, self._tokenizer.bytes = 0.0, 0
        if self._left_seconds < 0:
            raise TimeoutError(f"stopped at message {index}: it took too long")

    def _spent(self) -> dict[str, float]:
        return {"seconds": self.clock.seconds, "bytes": self._tokenizer.bytes}

    def _placed(self, context: Iterable[Message], stop: int) -> Iterable[int]:
        """Yield each message as its place in the recording, or as -1, -2 and so on where the peer wrote it."""
        last = -1
        for message in context:
            places = self._places.get(_key(message), ())
            at = bisect_right(places, last)
            if at < len(places) and places[at] < stop:
                last = places[at]
                yield last
            else:
                text = json.dumps(message, ensure_ascii=False)
                yield -1 - self._literals.setdefault(text, len(self._literals))

    def _located(self, parts: Iterable[Message]) -> list[int | Message]:
        located: list[int | Message] = []
        for message in parts:
            places = self._places.get(_key(message), ())
            located.append(places[0] if places else message)
        return located

    def _write(self, value: object) -> None:
        self._sink.write(json.dumps(value) + "\n")
        self._sink.flush()


def serve(plays: Mapping[str, Play]) -> None:
    """Play what comes in by the way that it names, until nothing comes any more."""
    # Whatever the peer prints must not get between the lines of the answer.
    sink = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    tokenizer = Tokenizer()
    for line in sys.stdin:
        job = json.loads(line)
        desk = Desk(job, tokenizer, sys.stdin, sink)
        answer: dict[str, Any] = {"done": True}
        try:
            plays[job["way"]](desk)
        except Exception as error:  # noqa: BLE001 - how a peer fails is a result, which the parent reports
            answer = {"failed": f"{type(error).__name__}: {error}"[:300]}
        sink.write(json.dumps(answer) + "\n")
        sink.flush()


def text_of(message: Mapping[str, Any]) -> str:
    """Return what a message says; parts that are no text stand as their JSON."""
    content = message.get("content")
    if not isinstance(content, list):
        return content or ""
    return "\n".join(
        part["text"] if isinstance(part, dict) and "text" in part else json.dumps(part) for part in content
    )


def arguments_of(call: Mapping[str, Any]) -> dict[str, Any]:
    """Return a call's arguments; text that is no JSON object as the one argument `raw`."""
    try:
        value = json.loads(call["function"]["arguments"] or "{}")
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {"raw": call["function"]["arguments"]}


def as_arguments(value: Mapping[str, Any]) -> str:
    """Undo `arguments_of`."""
    raw = value.get("raw")
    return raw if set(value) == {"raw"} and isinstance(raw, str) else json.dumps(value, ensure_ascii=False)


def _key(message: Message) -> Any:
    """Return what two messages have in common that differ in nothing that a provider is sent."""
    calls = tuple(
        (call["id"], call["function"]["name"], _normal(call["function"]["arguments"]))
        for call in message.get("tool_calls") or ()
    )
    return message["role"], text_of(message).strip(), calls, message.get("tool_call_id")


def _normal(arguments: str) -> str:
    try:
        return json.dumps(json.loads(arguments or "{}"), sort_keys=True)
    except ValueError:
        return arguments


def _runs(places: Iterable[int]) -> list[list[int]]:
    """Shorten a list of places: `[3, 4, 5, -1]` to `[[3, 6], [-1]]`."""
    runs: list[list[int]] = []
    for place in places:
        if place >= 0 and runs and len(runs[-1]) == 2 and runs[-1][1] == place:
            runs[-1][1] += 1
        else:
            runs.append([place, place + 1] if place >= 0 else [place])
    return runs


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _whole(text: str) -> str:
    # The encoder refuses lone surrogates, which recordings hold.
    return text.encode("utf-8", "replace").decode("utf-8")
