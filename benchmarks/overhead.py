"""What `with_memory` costs a call in time, as a ratio to the bare SDK, so that it holds on any machine.

A loop adds an answer and a question to its list and sends it, once with the bare client and once with the wrapped
one, in turn. A simulated provider in a process of its own answers at once, where a real one takes a hundred times as
long. Nothing is compressed. The figure is the median of the ratios of the pairs, by the clock on the wall; beside it
what was added to a call, and the ratio by this process's time on the processor, which no server is part of.
No key; nothing leaves the machine.

    python benchmarks/overhead.py [--pairs 200] [--check] [--json]
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from threading import Event
from time import perf_counter, process_time
from typing import Any, TypeAlias

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from anthropic import Anthropic  # noqa: E402
from google import genai  # noqa: E402
from google.genai import types  # noqa: E402
from openai import OpenAI  # noqa: E402

from memory import MemoryConfig, MemoryManager, with_memory  # noqa: E402
from memory.messages import DialectName  # noqa: E402
from memory.testing.simulators import ProviderSimulator  # noqa: E402

LENGTHS = (11, 201)
"""Odd: a conversation begins and ends with the user."""
TURNS = 20
"""Calls of one conversation that are timed; its first, which brings in the history, is not."""
TARGET = 1.05
SENTENCE = "The valve of the second circuit opens when the pressure passes nine bar. "
ANSWER = SENTENCE * 6
NO_LIMIT = MemoryConfig(max_context_tokens=10_000_000, compression_threshold=9_000_000)
Ask: TypeAlias = Callable[[Any, list[Any]], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """One SDK, and how its documentation asks."""

    name: str
    dialect: DialectName
    connect: Callable[[str], Any]
    ask: Ask
    stream: Ask


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Of one call, in seconds."""

    wall: float
    processor: float


Pair: TypeAlias = tuple[Times, Times]
"""Bare and wrapped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Wrapped over bare, of one SDK, one way and one length of the list."""

    api: str
    way: str
    messages: int
    ratio: float
    """By the clock."""
    added_microseconds: float
    """What the wrapper added to a call, by the clock."""
    processor_ratio: float
    """By this process's time on the processor: without waiting for the network and the server."""

    @property
    def is_met(self) -> bool:
        return self.ratio <= TARGET


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; with `--check` return 1 if a target is missed."""
    options = _options().parse_args(arguments)
    figures = list(_figures(options.pairs, show=not options.json))
    if options.json:
        print(json.dumps([{**asdict(figure), "is_met": figure.is_met} for figure in figures], indent=1))
    return 1 if options.check and not all(figure.is_met for figure in figures) else 0


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=200, help="calls of each kind")
    parser.add_argument("--check", action="store_true", help="end with 1 where a target is missed")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _figures(pairs: int, *, show: bool) -> Iterator[Figure]:
    for api in APIS:
        for way, ask in (("whole", api.ask), ("streamed", api.stream)):
            with _provider(api) as url:
                client = api.connect(url)
                for length in LENGTHS:
                    figure = _figure(api, way, length, _pairs(api.dialect, ask, client, length, pairs))
                    if show:
                        print(_row(figure), flush=True)
                    yield figure


def _row(figure: Figure) -> str:
    verdict = "" if figure.is_met else f"  (target {TARGET})"
    name = f"{figure.api:18} {figure.way:9} {figure.messages:4} messages"
    beside = f"added {figure.added_microseconds:4.0f} µs, processor {figure.processor_ratio:.3f}"
    return f"{name}   {figure.ratio:.3f}   {beside}{verdict}"


def _figure(api: Api, way: str, length: int, pairs: Sequence[Pair]) -> Figure:
    return Figure(
        api=api.name,
        way=way,
        messages=length,
        ratio=median(wrapped.wall / bare.wall for bare, wrapped in pairs),
        added_microseconds=median(wrapped.wall - bare.wall for bare, wrapped in pairs) * 1e6,
        processor_ratio=median(wrapped.processor / bare.processor for bare, wrapped in pairs),
    )


def _pairs(dialect: DialectName, ask: Ask, client: Any, length: int, count: int) -> list[Pair]:
    """Return the times of so many pairs of calls, bare and wrapped."""
    found: list[Pair] = []
    while len(found) < count:
        messages = _conversation(dialect, length)
        wrapped = with_memory(client, MemoryManager(NO_LIMIT, dialect=dialect))
        ask(wrapped, messages)
        gc.collect()
        for turn in range(TURNS):
            messages += _conversation(dialect, 2)
            # Who comes first takes turns: the second call finds the caches warm.
            order = (client, wrapped) if turn % 2 else (wrapped, client)
            times = {id(one): _timed(ask, one, messages) for one in order}
            found.append((times[id(client)], times[id(wrapped)]))
    return found


def _timed(ask: Ask, client: Any, messages: list[Any]) -> Times:
    wall, processor = perf_counter(), process_time()
    ask(client, list(messages))
    return Times(wall=perf_counter() - wall, processor=process_time() - processor)


def _conversation(dialect: DialectName, length: int) -> list[Any]:
    """Return so many new messages in turn, the last one the user's."""
    roles = ["user" if (length - n) % 2 else "assistant" for n in range(length)]
    text = SENTENCE * 6
    if dialect == "gemini":
        return [{"role": "model" if role == "assistant" else role, "parts": [{"text": text}]} for role in roles]
    return [{"role": role, "content": text} for role in roles]


# --- The SDKs ---------------------------------------------------------------------------------------------------------


def _ask_chat(client: OpenAI, messages: list[Any]) -> object:
    return client.chat.completions.create(model="gpt-4o", messages=messages)


def _stream_chat(client: OpenAI, messages: list[Any]) -> object:
    return list(client.chat.completions.create(model="gpt-4o", messages=messages, stream=True))


def _ask_responses(client: OpenAI, messages: list[Any]) -> object:
    return client.responses.create(model="gpt-4o", input=messages)


def _stream_responses(client: OpenAI, messages: list[Any]) -> object:
    return list(client.responses.create(model="gpt-4o", input=messages, stream=True))


def _ask_anthropic(client: Anthropic, messages: list[Any]) -> object:
    return client.messages.create(model="claude-sonnet-4-6", max_tokens=99, messages=messages)


def _stream_anthropic(client: Anthropic, messages: list[Any]) -> object:
    return list(client.messages.create(model="claude-sonnet-4-6", max_tokens=99, messages=messages, stream=True))


def _ask_gemini(client: genai.Client, contents: list[Any]) -> object:
    return client.models.generate_content(model="gemini-2.5-flash", contents=contents)


def _stream_gemini(client: genai.Client, contents: list[Any]) -> object:
    return list(client.models.generate_content_stream(model="gemini-2.5-flash", contents=contents))


def _openai(url: str) -> OpenAI:
    return OpenAI(base_url=url, api_key="test", max_retries=0)


def _anthropic(url: str) -> Anthropic:
    return Anthropic(base_url=url, api_key="test", max_retries=0)


def _gemini(url: str) -> genai.Client:
    return genai.Client(http_options=types.HttpOptions(base_url=url), api_key="test")


APIS = (
    Api(name="openai chat", dialect="openai_chat", connect=_openai, ask=_ask_chat, stream=_stream_chat),
    Api(
        name="openai responses",
        dialect="openai_responses",
        connect=_openai,
        ask=_ask_responses,
        stream=_stream_responses,
    ),
    Api(name="anthropic", dialect="anthropic", connect=_anthropic, ask=_ask_anthropic, stream=_stream_anthropic),
    Api(name="gemini", dialect="gemini", connect=_gemini, ask=_ask_gemini, stream=_stream_gemini),
)


# --- The server -------------------------------------------------------------------------------------------------------


@contextmanager
def _provider(api: Api) -> Iterator[str]:
    """Run a simulated provider in a process of its own; give its base URL."""
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe()
    process = fork.Process(target=_serve, args=(api.dialect, theirs), daemon=True)
    process.start()
    try:
        assert ours.poll(20)
        yield ours.recv()
    finally:
        process.kill()
        process.join(10)


def _serve(dialect: DialectName, address: Any) -> None:
    with ProviderSimulator(dialect, lambda request: ANSWER) as server:
        address.send(server.base_url)
        Event().wait()


if __name__ == "__main__":
    sys.exit(main())
