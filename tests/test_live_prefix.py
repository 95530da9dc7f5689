"""Summaries that are written behind the loop's own context, at the price of what the provider has cached."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from agent import LLMResponse, ReActAgent, connect
from agent.llm import ProviderModel
from memory import Compressed, LLMMessage, MemoryConfig, MemoryManager, Usage
from memory.events import Degraded, Event
from memory.live_prefix import LiveContext
from memory.messages import DialectName
from memory.native import to_wire
from memory.prices import PriceBook
from memory.testing.simulators import Call, ProviderSimulator, Request, Turn

PROVIDERS: dict[DialectName, str] = {
    "openai_chat": "openai",
    "openai_responses": "openai-responses",
    "anthropic": "anthropic",
    "gemini": "gemini",
}
MODELS: dict[DialectName, str] = {
    "openai_chat": "gpt-4.1",
    "openai_responses": "gpt-4.1",
    "anthropic": "claude-sonnet-4-6",
    "gemini": "gemini-2.5-pro",
}
CHEAP: dict[DialectName, str] = {
    "openai_chat": "gpt-4.1-nano",
    "openai_responses": "gpt-4.1-nano",
    "anthropic": "claude-haiku-4-5",
    "gemini": "gemini-2.5-flash-lite",
}
SUMMARY = "## State of the work\nPages of the manual were read one after the other; none of them names the valve V-99."
every_provider = pytest.mark.parametrize("dialect", list(PROVIDERS))


def page(number: int) -> str:
    """Read a page of the manual."""
    return f"Page {number}. " + " ".join(f"Valve V-{number}{n} opens at {n} bar, says table {n}." for n in range(90))


def is_on_prefix(request: Request) -> bool:
    body = json.dumps(request.body)
    return "[Memory] This is a note of the program" in body


def is_fresh(request: Request) -> bool:
    return "You write the working memory" in json.dumps(request.body)


class Run:
    """An agent that reads a manual over the wire, and what was asked of the provider on the way."""

    def __init__(
        self, dialect: DialectName, *, on_prefix: str | Turn = SUMMARY, pages: int = 14, **config: Any
    ) -> None:
        self.events: list[Event] = []
        self._dialect = dialect
        self._on_prefix = on_prefix
        self._config = MemoryConfig(compression_threshold=8_000, short_term_size=4, **config)

    async def play(self) -> Run:
        script: list[Turn | str] = [Turn(calls=[Call("page", {"number": n})]) for n in range(10)]
        with ProviderSimulator(self._dialect, [*script, "V-99 is in none of them."], aside=self._aside) as server:
            async with self._connect(server) as llm:
                self.memory = MemoryManager(
                    self._config, llm, dialect=self._dialect, model=llm.model, on_event=self.events.append
                )
                agent = ReActAgent(llm, tools=[page], memory=self.memory)
                await agent.run("Where is V-99?")
            self.rejected = server.rejected
            self.summaries = [x for x in server.requests if is_on_prefix(x.request) or is_fresh(x.request)]
        return self

    def _connect(self, server: ProviderSimulator) -> ProviderModel:
        url = server.base_url
        return connect(PROVIDERS[self._dialect], MODELS[self._dialect], api_key="test", base_url=url, max_retries=0)

    def _aside(self, request: Request) -> str | Turn | None:
        if is_on_prefix(request):
            return self._on_prefix
        return SUMMARY if is_fresh(request) else None

    @property
    def compressions(self) -> list[Compressed]:
        return [event for event in self.events if isinstance(event, Compressed)]

    @property
    def ways(self) -> list[str | None]:
        return [event.summary_from for event in self.compressions]


@every_provider
async def test_the_provider_reads_nearly_all_of_the_request_from_its_cache(dialect: DialectName) -> None:
    run = await Run(dialect).play()

    assert run.rejected == []
    assert run.ways
    assert set(run.ways) == {"prefix"}
    for exchange in run.summaries:
        assert exchange.used is not None
        assert exchange.used.cache_read_tokens > 0.7 * exchange.used.input_tokens
    totals = run.memory.tracker.by_purpose["summary"]
    assert totals.cache_read_tokens == sum(x.used.cache_read_tokens for x in run.summaries if x.used)
    assert (totals.calls, totals.estimated_calls) == (len(run.summaries), 0)


@every_provider
async def test_it_costs_far_less_than_quoting_the_messages(dialect: DialectName) -> None:
    live = await Run(dialect).play()
    fresh = await Run(dialect, summary_prefix=False).play()

    assert set(fresh.ways) == {"fresh"}
    assert len(live.ways) == len(fresh.ways)
    # A read costs a quarter at OpenAI (gpt-4.1) and a tenth at Anthropic; the answer costs the same.
    assert live.memory.tracker.compression_cost < 0.7 * fresh.memory.tracker.compression_cost


@every_provider
async def test_system_prompt_tools_and_messages_are_those_of_the_loop(dialect: DialectName) -> None:
    run = await Run(dialect).play()
    body = dict(run.summaries[0].body)

    assert len(body["tools"]) == 1
    assert "tool_choice" not in body
    messages = body.get("messages") or body.get("input") or body["contents"]
    assert "[Memory] This is a note" in json.dumps(messages[-1])
    assert "Where is V-99?" in json.dumps(messages[:2])


@every_provider
async def test_a_much_cheaper_model_is_asked_afresh(dialect: DialectName) -> None:
    run = await Run(dialect, compression_model=CHEAP[dialect], cache_alive=0.5).play()

    assert set(run.ways) == {"fresh"}
    assert {exchange.request.model for exchange in run.summaries} == {CHEAP[dialect]}


async def test_a_cache_that_has_expired_is_not_built_on() -> None:
    run = await Run("anthropic", cache_alive=0.0).play()

    assert set(run.ways) == {"fresh"}


@pytest.mark.parametrize(
    "answer",
    [
        Turn(calls=[Call("page", {"number": 99})]),
        "I will read page 15 now.",
        Turn(text=SUMMARY, stop_reason="max_tokens"),
    ],
    ids=["calls a tool", "goes on", "is cut off"],
)
@pytest.mark.parametrize("dialect", ["openai_chat", "anthropic"])
async def test_an_answer_that_is_no_summary_is_followed_by_a_fresh_request(
    dialect: DialectName, answer: str | Turn
) -> None:
    run = await Run(dialect, on_prefix=answer).play()

    assert run.rejected == []
    assert set(run.ways) == {"fresh"}
    steps = {(event.failed, event.next) for event in run.events if isinstance(event, Degraded)}
    assert steps == {("prefix", "model")}
    assert sum(is_on_prefix(x.request) for x in run.summaries) == len(run.ways)
    assert run.memory.tracker.by_purpose["summary"].calls == 2 * len(run.ways)


async def test_the_prefix_is_extended_in_the_background_too() -> None:
    run = await Run("openai_chat", background=True).play()

    assert run.rejected == []
    assert set(run.ways) == {"prefix"}
    assert any(event.in_background for event in run.compressions)


async def test_what_does_not_fit_the_window_is_asked_afresh() -> None:
    # The threshold leaves no room for an instruction and an answer.
    run = await Run("openai_chat", max_context_tokens=8_100).play()

    assert set(run.ways) <= {"fresh", None}


class Recording:
    """An agent's model without a provider; it says what it was sent."""

    def __init__(self, *, model: str = "gpt-4.1", dialect: DialectName = "openai_chat") -> None:
        self.model = model
        self.dialect = dialect
        self.asked: list[tuple[list[Any], Any, dict[str, Any]]] = []

    async def call_async(
        self, messages: Sequence[Any], tools: Any = None, max_tokens: int | None = None, **options: Any
    ) -> LLMResponse:
        self.asked.append((list(messages), tools, options))
        usage = Usage(input_tokens=9_000, output_tokens=40, cache_read_tokens=8_000)
        return LLMResponse(content=SUMMARY, stop_reason="end_turn", usage=usage, message={})


async def played(llm: object, *, reads: int = 8_000, **options: Any) -> MemoryManager:
    """Return a memory that has compressed a few long turns."""
    config = MemoryConfig(compression_threshold=8_000, short_term_size=4, **options.pop("settings", {}))
    memory = MemoryManager(config, llm, dialect="openai_chat", **options)
    await memory.add_message(LLMMessage("user", "Where is V-99?"))
    for number in range(8):
        memory.get_context_for_llm()
        sent = memory.current_tokens
        used = Usage(input_tokens=sent, output_tokens=9, cache_read_tokens=min(reads, sent))
        await memory.add_message(LLMMessage("assistant", page(number)), used)
        await memory.add_message(LLMMessage("user", f"And on page {number + 1}?"))
    return memory


async def test_the_very_objects_of_the_loop_are_sent() -> None:
    llm = Recording()
    memory = await played(llm, system="Read.", tools=[{"type": "function", "function": {"name": "page"}}])
    messages, tools, options = llm.asked[0]

    assert memory.get_stats()["summary_count"] >= 1
    assert messages[0] is memory.original("r1")
    assert all(message is memory.original(f"r{seq}") for seq, message in enumerate(messages[:-1], start=1))
    assert (tools, options) == ([{"type": "function", "function": {"name": "page"}}], {"system": "Read."})


async def test_the_instruction_names_the_very_messages_that_leave_the_context() -> None:
    llm, events = Recording(), list[Event]()
    memory = await played(llm, on_event=events.append)
    instruction = str(to_wire(llm.asked[0][0][-1])["content"])
    event = next(event for event in events if isinstance(event, Compressed))

    first, last = int(event.first_ref[1:]), int(event.last_ref[1:])
    assert f"messages {first} to {last}: from" in instruction
    for seq in (first, last):
        assert str(memory.original(f"r{seq}").content)[:20] in instruction


@pytest.mark.parametrize(
    ("llm", "options"),
    [
        (Recording(model="gpt-4.1-mini"), {"model": "gpt-4.1"}),
        (Recording(dialect="anthropic"), {"model": "gpt-4.1"}),
        (Recording(), {"system": [{"type": "text", "text": "Read."}]}),
        (Recording(), {"reads": 0}),
        (Recording(), {"settings": {"summary_prefix": False}}),
    ],
    ids=["another model", "another format", "a system prompt in parts", "nothing is cached", "not wanted"],
)
async def test_the_messages_are_quoted_where_the_context_cannot_be_extended(llm: Recording, options: Any) -> None:
    await played(llm, **options)

    assert llm.asked
    assert all("You write the working memory" in messages[0].content for messages, _, _ in llm.asked)


async def test_a_plain_callable_is_asked_with_quotes() -> None:
    prompts: list[str] = []

    def ask(prompt: str) -> str:
        prompts.append(prompt)
        return SUMMARY

    await played(ask, model="gpt-4.1")

    assert prompts
    assert all("<messages>" in prompt for prompt in prompts)


async def test_a_dated_name_is_the_same_model() -> None:
    llm = Recording(model="gpt-4.1-2025-04-14")
    await played(llm, model="gpt-4.1")

    assert "[Memory] This is a note" in str(llm.asked[0][0][-1])


async def test_what_the_memory_wants_can_be_demanded() -> None:
    llm = Recording()
    await played(llm, reads=0, settings={"summary_prefix": True})

    assert "[Memory] This is a note" in str(llm.asked[0][0][-1])


def context(**changes: Any) -> LiveContext:
    rates = PriceBook().rates("claude-sonnet-4-5")
    made = LiveContext(
        messages=(),
        system=None,
        tools=None,
        tokens=40_000,
        cached_tokens=39_000,
        limit_tokens=200_000,
        rates=rates,
        fresh_rates=rates,
    )
    return replace(made, **changes)


@pytest.mark.parametrize(
    ("changes", "fresh_tokens", "is_chosen"),
    [
        ({}, 30_000, True),
        ({"cached_tokens": 0}, 30_000, False),
        ({"cached_tokens": 20_000}, 20_000, False),
        ({"fresh_rates": PriceBook().rates("gpt-4.1-nano")}, 30_000, False),
        ({}, 2_000, False),
        ({"is_wanted": True, "cached_tokens": 0}, 30_000, True),
        ({"is_wanted": False}, 30_000, False),
    ],
)
def test_the_cheaper_way_is_taken(changes: dict[str, Any], fresh_tokens: int, is_chosen: bool) -> None:
    assert context(**changes).is_chosen(output_tokens=1_000, fresh_tokens=fresh_tokens) is is_chosen
