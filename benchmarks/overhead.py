"""What `with_memory` costs a call in time, as a ratio to the bare SDK, so that it holds on any machine.

A loop adds an answer and a question to its list and sends it, once with the bare client and once with the wrapped
one, in turn. A server in a process of its own sends recorded bytes and looks at nothing: there is no model's time to
hide the memory in. Nothing is compressed. The figure is the median of the ratios of the pairs, by the clock on the
wall, and beside it by this process's time on the processor. No key; nothing leaves the machine.

    python benchmarks/overhead.py [--pairs 200] [--check] [--json]
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any, TypeAlias

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from anthropic import Anthropic  # noqa: E402
from google import genai  # noqa: E402
from google.genai import types  # noqa: E402
from openai import OpenAI  # noqa: E402

from memory import MemoryConfig, MemoryManager  # noqa: E402
from memory.integrations import with_memory  # noqa: E402
from memory.messages import DialectName  # noqa: E402
from memory.testing.simulators import ProviderSimulator  # noqa: E402

LENGTHS = (10, 200)
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
class Figure:
    """Wrapped over bare, of one SDK, one way and one length of the list."""

    api: str
    way: str
    messages: int
    ratio: float
    """By the clock."""
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
            with _replaying(_recorded(api, ask)) as url:
                client = api.connect(url + _base_path(api))
                for length in LENGTHS:
                    figure = _figure(api, way, length, _pairs(api.dialect, ask, client, length, pairs))
                    if show:
                        print(_row(figure), flush=True)
                    yield figure


def _row(figure: Figure) -> str:
    verdict = "" if figure.is_met else f"  (target {TARGET})"
    name = f"{figure.api:18} {figure.way:9} {figure.messages:4} messages"
    return f"{name}   {figure.ratio:.3f}   processor {figure.processor_ratio:.3f}{verdict}"


def _figure(api: Api, way: str, length: int, pairs: list[tuple[float, float]]) -> Figure:
    wall, processor = zip(*pairs, strict=True)
    return Figure(api=api.name, way=way, messages=length, ratio=median(wall), processor_ratio=median(processor))


def _pairs(dialect: DialectName, ask: Ask, client: Any, length: int, count: int) -> list[tuple[float, float]]:
    """Return the ratios of wrapped to bare, of each pair of calls."""
    found: list[tuple[float, float]] = []
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
            (wall, processor), (bare_wall, bare_processor) = times[id(wrapped)], times[id(client)]
            found.append((wall / bare_wall, processor / bare_processor))
    return found


def _timed(ask: Ask, client: Any, messages: list[Any]) -> tuple[float, float]:
    wall, processor = perf_counter(), process_time()
    ask(client, list(messages))
    return perf_counter() - wall, process_time() - processor


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """An answer as it went over the wire."""

    media_type: str
    body: bytes


def _base_path(api: Api) -> str:
    with ProviderSimulator(api.dialect, [ANSWER]) as server:
        return server.base_url.removeprefix(server.url)


def _recorded(api: Api, ask: Ask) -> Recording:
    """Ask a simulated provider once, and ask it the same again for the bytes."""
    with ProviderSimulator(api.dialect, [ANSWER, ANSWER]) as server:
        ask(api.connect(server.base_url), _conversation(api.dialect, 1))
        (exchange,) = server.requests
        connection = HTTPConnection(server.url.removeprefix("http://"))
        headers = {"content-type": "application/json", "x-api-key": "test", "authorization": "Bearer test"}
        connection.request("POST", exchange.path, json.dumps(dict(exchange.body)), headers)
        response = connection.getresponse()
        assert response.status == 200
        return Recording(media_type=response.headers["content-type"], body=response.read())


@contextmanager
def _replaying(recording: Recording) -> Iterator[str]:
    """Serve a recording to whatever is asked, in a process of its own; give its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ready = multiprocessing.get_context("fork").Event()
    process = multiprocessing.get_context("fork").Process(target=_serve, args=(port, recording, ready), daemon=True)
    process.start()
    ready.wait(10)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.join(10)


def _serve(port: int, recording: Recording, ready: Any) -> None:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body are two writes: together with the client's delayed acknowledgement that costs 40 ms.
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-type", recording.media_type)
            self.send_header("content-length", str(len(recording.body)))
            self.end_headers()
            self.wfile.write(recording.body)

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    ready.set()
    server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
