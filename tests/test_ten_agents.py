"""Ten conversations at once in one process: each sends only its own words, and books only its own tokens."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from agent import ReActAgent
from agent.tools import Tool
from memory import CompressionStrategy, MemoryConfig, MemoryManager
from memory.dialects import dialect_named
from memory.integrations import with_memory
from memory.messages import DialectName
from memory.native import to_wire
from memory.testing.simulators import Call, ProviderSimulator, Request, Turn

from .callers import CALLERS, Caller, ask, results_for
from .conversations import DIALECT_NAMES, builder_for
from .playback import MODELS, SUMMARY_MODELS, connected

COUNT = 10
ROUNDS = 8
MARKER = re.compile(r"marker-\d+-end")
PROVIDERS: Sequence[tuple[str, DialectName]] = (
    ("openai", "openai_chat"),
    ("anthropic", "anthropic"),
    ("gemini", "gemini"),
    ("openai-responses", "openai_responses"),
)
CONFIG = MemoryConfig(max_context_tokens=20_000, compression_threshold=1_500, short_term_size=4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """One of the ten; its key tells the simulator which."""

    number: int
    provider: str
    dialect: DialectName

    @property
    def key(self) -> str:
        return f"key-{self.number}"

    @property
    def marker(self) -> str:
        return f"marker-{self.number}-end"

    def script(self) -> list[Turn | str]:
        reads = [
            Turn(f"{self.marker} reads on.", [Call("read_page", {"page": f"{self.marker} {page}"})])
            for page in range(ROUNDS)
        ]
        return [*reads, f"{self.marker} is done."]

    def page(self) -> str:
        return f"{self.marker} stands on this page. " * 30


CONVERSATIONS = [
    Conversation(number=number, provider=provider, dialect=dialect)
    for number in range(COUNT)
    for provider, dialect in [PROVIDERS[number % len(PROVIDERS)]]
]


@contextmanager
def servers() -> Iterator[dict[DialectName, ProviderSimulator]]:
    """One simulated provider for each format; it serves all conversations in it, and summaries besides."""
    with ExitStack() as stack:
        yield {
            dialect: stack.enter_context(
                ProviderSimulator(
                    dialect,
                    {one.key: one.script() for one in CONVERSATIONS if one.dialect == dialect},
                    aside=_summary,
                )
            )
            for dialect in DIALECT_NAMES
        }


def _summary(request: Request) -> str | None:
    is_for_a_summary = request.model in SUMMARY_MODELS.values()
    return f"Pages were read by {_markers([request])}." if is_for_a_summary else None


def _markers(requests: Sequence[Request]) -> set[str]:
    return {found for request in requests for found in MARKER.findall(json.dumps(request.body))}


def check(one: Conversation, server: ProviderSimulator, memory: MemoryManager, *, answer: str) -> None:
    """Check that a conversation met no other, and that its statistics are its own."""
    own = [exchange for exchange in server.requests if exchange.request.api_key == one.key]
    used = [exchange.used for exchange in own if exchange.used is not None]
    stats = memory.get_stats()

    assert server.rejected == []
    assert answer == f"{one.marker} is done."
    assert _markers([exchange.request for exchange in own]) == {one.marker}
    assert stats["request_count"] == ROUNDS + 1
    assert stats["compression_count"] > 0
    assert stats["total_input_tokens"] == sum(usage.input_tokens for usage in used)
    assert stats["total_output_tokens"] == sum(usage.output_tokens for usage in used)
    assert stats["cached_tokens"] == sum(usage.cache_read_tokens for usage in used)
    assert len(memory.archive) + stats["context_count"] >= stats["message_count"]


# --- Our agents -------------------------------------------------------------------------------------------------------


async def run_agent(one: Conversation, server: ProviderSimulator, *, is_streamed: bool) -> None:
    async def read_page(page: str) -> str:
        """Read a page.

        Args:
            page: Which one.
        """
        assert one.marker in page
        await asyncio.sleep(0)  # so that the others get their turn in the middle
        return one.page()

    async with connected(one.provider, MODELS[one.dialect], server, api_key=one.key) as llm:
        config = MemoryConfig(
            max_context_tokens=20_000,
            compression_threshold=1_500,
            short_term_size=4,
            compression_model=SUMMARY_MODELS[one.dialect],
        )
        shown: list[object] = []
        agent = ReActAgent(
            llm,
            tools=[Tool.from_function(read_page)],
            memory_config=config,
            on_delta=shown.append if is_streamed else None,
        )
        result = await agent.run(f"Read all pages of {one.marker}.")
        check(one, server, agent.memory, answer=result.answer)
        assert agent.memory.tracker.by_purpose["summary"].calls > 0
        assert bool(shown) == is_streamed


@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "streamed"])
async def test_ten_agents_on_one_event_loop_do_not_meet(is_streamed: bool) -> None:
    with servers() as of:
        await asyncio.gather(*(run_agent(one, of[one.dialect], is_streamed=is_streamed) for one in CONVERSATIONS))

        assert sum(len(server.requests) for server in of.values()) > COUNT * (ROUNDS + 1)


def test_ten_agents_in_ten_threads_with_a_loop_each_do_not_meet() -> None:
    with servers() as of, ThreadPoolExecutor(COUNT) as pool:
        running = [
            pool.submit(asyncio.run, run_agent(one, of[one.dialect], is_streamed=one.number % 2 == 0))
            for one in CONVERSATIONS
        ]
        for done in running:
            done.result(timeout=60)


async def test_one_model_object_serves_ten_agents_and_books_each_its_own() -> None:
    """Connections are shared; conversations are not."""
    script = [answer for _ in range(COUNT) for answer in ["One answer."]]
    with ProviderSimulator("anthropic", script) as server:
        async with connected("anthropic", MODELS["anthropic"], server) as llm:
            agents = [ReActAgent(llm, memory=MemoryManager(dialect="anthropic", model=llm.model)) for _ in range(COUNT)]
            await asyncio.gather(*(one.run(f"marker-{n}-end") for n, one in enumerate(agents)))
        by_marker = {_markers([exchange.request]).pop(): exchange.used for exchange in server.requests}

    for number, agent in enumerate(agents):
        used = by_marker[f"marker-{number}-end"]
        assert used is not None
        assert agent.memory.get_stats()["total_input_tokens"] == used.input_tokens


# --- Bare SDKs --------------------------------------------------------------------------------------------------------


def caller_of(one: Conversation) -> Caller:
    return next(caller for caller in CALLERS if caller.dialect == one.dialect)


def _said(answer: Sequence[Any], one: Conversation) -> str:
    return "".join(dialect_named(one.dialect).read(to_wire(message)).text for message in answer)


def run_sync(one: Conversation, server: ProviderSimulator) -> None:
    """The loop of a caller with a bare synchronous SDK, who keeps the whole list."""
    caller, memory = caller_of(one), MemoryManager(CONFIG, dialect=one.dialect)
    client = with_memory(caller.client(server, one.key), memory)
    messages: list[Any] = builder_for(one.dialect).user(f"Read all pages of {one.marker}.")
    while True:
        answer = caller.ask(client, messages)
        messages += answer
        results = results_for(caller, answer, lambda _name, _arguments: one.page())
        if not results:
            break
        messages += results
    memory.follow_sync(messages)
    client.close()
    check(one, server, memory, answer=_said(answer, one))


async def run_async(one: Conversation, server: ProviderSimulator) -> None:
    caller, memory = caller_of(one), MemoryManager(CONFIG, dialect=one.dialect)
    opened = caller.aclient(server, one.key)
    client = with_memory(opened, memory)
    messages: list[Any] = builder_for(one.dialect).user(f"Read all pages of {one.marker}.")
    while True:
        answer = await ask(caller, "aask", client, messages)
        messages += answer
        results = results_for(caller, answer, lambda _name, _arguments: one.page())
        if not results:
            break
        messages += results
    await memory.follow(messages)
    await (opened.aio.aclose() if one.dialect == "gemini" else opened.close())
    check(one, server, memory, answer=_said(answer, one))


def test_ten_managed_clients_in_ten_threads_do_not_meet() -> None:
    with servers() as of, ThreadPoolExecutor(COUNT) as pool:
        for done in [pool.submit(run_sync, one, of[one.dialect]) for one in CONVERSATIONS]:
            done.result(timeout=60)


async def test_ten_managed_clients_on_one_event_loop_do_not_meet() -> None:
    with servers() as of:
        await asyncio.gather(*(run_async(one, of[one.dialect]) for one in CONVERSATIONS))


@pytest.mark.parametrize("strategy", list(CompressionStrategy))
async def test_ten_memories_side_by_side_compress_as_one_alone_does(strategy: CompressionStrategy) -> None:
    config = MemoryConfig(max_context_tokens=20_000, compression_threshold=1_000, compression_strategy=strategy)

    async def filled(marker: str) -> MemoryManager:
        memory, build = MemoryManager(config), builder_for("openai_chat")
        for number in range(30):
            call = (f"c{number}", "read_page", {"page": number})
            pages = build.results([(f"c{number}", "read_page", f"{marker} on page {number}. " * 20)])
            for message in [*build.user(f"{marker}: go on"), *build.assistant(calls=[call]), *pages]:
                await memory.add_message(message)
                await asyncio.sleep(0)
        return memory

    alone = await filled("marker-7-end")
    together = await asyncio.gather(*(filled(f"marker-{number}-end") for number in range(COUNT)))

    assert together[7].get_context_for_llm() == alone.get_context_for_llm()
    assert together[7].get_stats() == alone.get_stats()
