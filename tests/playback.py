"""Recorded conversations as live loops: behind our own models, and behind the bare SDKs with the memory in between.

A simulated provider serves the recorded assistant turns, the recorded results answer their calls, users say what they
said. What a run shows is an `Outcome`; it carries counts and names, never what was said.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from itertools import product
from typing import Any, Literal, TypeAlias

import aiohttp
from google.genai import types

from agent.base import AgentResult, BaseAgent
from agent.llm import LLM, ProviderModel, connect
from agent.llm.retrying import RetryPolicy
from agent.tools import Toolbox
from memory import CompressionStrategy, MemoryConfig, MemoryManager
from memory.dialects import dialect_named, validate
from memory.errors import AgentMemoryError
from memory.integrations import memory_of, with_memory
from memory.messages import DialectName, Issue, Reading, ToolCall, ToolResult, Wire
from memory.native import to_wire
from memory.testing.simulators import AnswerSource, Exchange, Metered, Playback, ProviderSimulator, Request
from memory.testing.simulators.faults import Faults
from memory.tokens import TiktokenCounter
from memory.window import reference

from .callers import AnthropicCaller, Caller, ChatCaller, Connections, GeminiCaller, Messages, ResponsesCaller, ask
from .corpus import Recorded, transcripts
from .simulated import SDK_ERRORS

Door: TypeAlias = str
"""How the loop reaches the provider: `with_memory` around the bare SDK, or the name of one of `connect`'s providers;
then it is our agent that loops."""

AGENT_DOORS: Mapping[DialectName, tuple[Door, ...]] = {
    "openai_chat": ("openai", "litellm"),
    "openai_responses": ("openai-responses",),
    "anthropic": ("anthropic",),
    "gemini": ("gemini", "google-generativeai"),
}
SDK_DOOR: Door = "with_memory"

MODELS: Mapping[DialectName, str] = {
    "openai_chat": "gpt-4o",
    "openai_responses": "gpt-5",
    "anthropic": "claude-sonnet-4-6",
    "gemini": "gemini-2.5-pro",
}
BINDING_MODEL = "claude-opus-5-5"
SUMMARY_MODELS: Mapping[DialectName, str] = {
    "openai_chat": "gpt-4o-mini",
    "openai_responses": "gpt-5-mini",
    "anthropic": "claude-haiku-4-5",
    "gemini": "gemini-2.5-flash-lite",
}
SUMMARY = "The user's task stands. Files were read and changed, commands were run, and their results are known."
KEY = "test"
LARGEST_CONTEXT_TOKENS = 250_000
MOST_FAILURES_IN_A_ROW = 30
NO_ANSWER: tuple[type[Exception], ...] = (
    *SDK_ERRORS,
    *(getattr(import_module(name), "HTTPError") for name in ("httpx", "httpx2") if find_spec(name)),  # noqa: B009
    *(TimeoutError, ValueError, AssertionError, AttributeError, aiohttp.ClientError),
)
"""How a caller of a bare SDK finds out that there is no answer: from its errors, from the HTTP library's, which pass
through streams, from JSON that ends too early, from what is missing in an answer or in the SDK's own snapshot of it."""
_LONG_SECONDS = 60.0
Signing: TypeAlias = Literal["none", "recorded", "every answer"]


async def _at_once(_seconds: float) -> None:
    await asyncio.sleep(0)


HASTY = RetryPolicy(max_retries=5, sleep=_at_once)
"""Repeats without waiting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One recording, and the way in which it is to be driven."""

    recorded: Recorded = field(repr=False)
    door: Door
    strategy: CompressionStrategy = CompressionStrategy.SLIDING_WINDOW
    threshold_tokens: int = 12_000
    is_streamed: bool = False
    signing: Signing = "none"
    """What the provider signs, and then checks: nothing, the recorded reasoning, or reasoning before every answer."""
    is_summarised: bool = False
    """A model writes the summaries, over the same wire."""
    faults: Faults = field(default=(), repr=False)
    timeout_seconds: float = _LONG_SECONDS
    """Longest silence of the provider."""
    context_window_tokens: int | None = None
    """Of the provider, which the memory has to find out; in four characters each."""
    retries: RetryPolicy = field(default=HASTY, repr=False)

    @property
    def dialect(self) -> DialectName:
        return self.recorded.dialect

    @property
    def model(self) -> str:
        is_bound = self.dialect == "anthropic" and self.signing != "none"
        return BINDING_MODEL if is_bound else MODELS[self.dialect]

    @property
    def name(self) -> str:
        ways = [self.door, str(self.strategy), f"{self.threshold_tokens}", self.signing.replace(" ", "-")]
        return "/".join([self.recorded.id, *ways, "streamed" if self.is_streamed else "whole"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run came to, in counts."""

    name: str
    requests: int
    rejected: int
    faulty: int
    compressions: int
    by_model: int
    """Requests for a summary."""
    learned_tokens: int = LARGEST_CONTEXT_TOKENS
    """What the memory takes for the longest context in the end."""
    ended_by: str = ""
    """The type of our error that ended the run before the recording did; empty if none did."""
    problems: tuple[str, ...] = field(default=())
    """What is not as it should be; empty if all is."""


def native_recordings() -> list[Recorded]:
    """Return the recorded conversations with native tool calls; none where the corpus is absent."""
    return [one for one in transcripts() if one.header.get("tool_style") == "native"]


def played_by(door: Door, recorded: Recorded) -> Recorded:
    """Return what a door can be given of a recording.

    Not thoughts, where the retired SDK never asks for them. And no end in silence: our models take an answer that
    says and calls nothing for a failure, and three recordings end with one.
    """
    messages = recorded.messages
    if door == "google-generativeai":
        messages = [{**one, "parts": [part for part in one["parts"] if not part.get("thought")]} for one in messages]
        messages = [one for one in messages if one["parts"]]
    if door != SDK_DOOR and _is_silent(dialect_named(recorded.dialect).read(messages[-1])):
        messages = messages[:-1]
    return replace(recorded, messages=messages)


def _is_silent(reading: Reading) -> bool:
    return reading.role == "assistant" and not reading.text.strip() and not reading.calls


def thresholds(recorded: Recorded) -> tuple[int, ...]:
    """Return where to compress: early enough that there is something to compress, and late for long recordings."""
    tokens = int(recorded.header["tokens_est"])
    early = min(12_000, max(1_000, tokens // 3))
    return (early, 40_000) if tokens > 60_000 else (early,)


# --- Runs -------------------------------------------------------------------------------------------------------------


async def play(run: Run) -> Outcome:
    """Drive a recording to its end, and look at what became of it."""
    playback = Playback(run.recorded.messages, run.dialect)
    with _server(run, playback) as server:
        played = await (_by_sdk if run.door == SDK_DOOR else _by_agent)(run, server, playback)
        return _outcome(run, server.requests, playback, played)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Played:
    memory: MemoryManager
    answers: Sequence[str]
    error: AgentMemoryError | None


def _server(run: Run, playback: AnswerSource) -> ProviderSimulator:
    return ProviderSimulator(
        run.dialect,
        {KEY: playback},
        aside=_summaries(run) if run.is_summarised else None,
        binds_thinking=run.signing != "none",
        checks_signatures=run.signing != "none",
        adds_reasoning=run.signing == "every answer",
        context_window_tokens=run.context_window_tokens,
        faults=run.faults,
    )


def _summaries(run: Run) -> Callable[[Request], str | None]:
    return lambda request: SUMMARY if request.model == SUMMARY_MODELS[run.dialect] else None


def manager(run: Run, llm: LLM | None = None) -> MemoryManager:
    """Return the memory of a run; its model writes the summaries if that is wanted."""
    config = MemoryConfig(
        max_context_tokens=LARGEST_CONTEXT_TOKENS,
        compression_threshold=run.threshold_tokens,
        compression_strategy=run.strategy,
        compression_model=SUMMARY_MODELS[run.dialect] if run.is_summarised else None,
    )
    writer = llm if run.is_summarised else None
    return MemoryManager(config, writer, dialect=run.dialect, model=run.model, counter=_COUNTER)


class _OnceCounter(TiktokenCounter):
    """Remembers what a reading measured: the same recording is driven several times."""

    def __init__(self) -> None:
        super().__init__("gpt-4o")
        self._sizes: dict[Reading, int] = {}

    def count_reading(self, reading: Reading) -> int:
        if reading not in self._sizes:
            self._sizes[reading] = super().count_reading(reading)
        return self._sizes[reading]


_COUNTER = _OnceCounter()


# --- Our own agent ----------------------------------------------------------------------------------------------------


class PlayedToolbox(Toolbox):
    """The tools of a recording: each call gives what it gave then."""

    def __init__(self, playback: Playback) -> None:
        super().__init__()
        self._playback = playback

    @property
    def schemas(self) -> list[dict[str, Any]]:
        parameters = {"type": "object", "properties": {"of": {"type": "string"}}}
        return [
            {"type": "function", "function": {"name": name, "description": name, "parameters": parameters}}
            for name in self._playback.tool_names
        ]

    async def call(self, call: ToolCall) -> ToolResult:
        recorded = self._playback.result_of(call)
        return replace(recorded, call_id=call.id, name=call.name)


class PlayedAgent(BaseAgent):
    """The agent's own thinking and acting, in the order in which the recorded users spoke."""

    def __init__(self, llm: LLM, playback: Playback, **options: Any) -> None:
        super().__init__(llm, tools=PlayedToolbox(playback), **options)
        self._playback = playback
        self.answers: list[str] = []

    async def run(self, task: str = "") -> AgentResult:
        """Play to the end; a second call goes on where the first one failed."""
        for message in self._playback.opening if not self.memory.short_term else ():
            await self.memory.add_message(message)
        while not self._playback.is_over:
            response = await self.think()
            self.answers.append(response.content)
            await (self.act(response) if response.tool_calls else self.conclude(response))
            for message in self._playback.says():
                await self.memory.add_message(message)
        return AgentResult(answer=self.answers[-1], end_reason="answered", iterations=len(self.answers))


async def _by_agent(run: Run, server: ProviderSimulator, playback: Playback) -> _Played:
    options = {"timeout_seconds": run.timeout_seconds, "retries": run.retries}
    async with connected(run.door, run.model, server, **options) as llm:
        agent = agent_for(run, llm, playback)
        error = await _failure(agent.run())
        return _Played(memory=agent.memory, answers=agent.answers, error=error)


def agent_for(run: Run, llm: LLM, playback: Playback) -> PlayedAgent:
    """Return the agent of a run, on a memory of its own."""
    return PlayedAgent(
        llm,
        playback,
        memory=manager(run, llm),
        # Where it is a message, the recording has it as one.
        system_prompt=run.recorded.system if run.dialect != "openai_chat" else None,
        on_delta=_ignore if run.is_streamed else None,
    )


async def _failure(work: Awaitable[object]) -> AgentMemoryError | None:
    """Return the error of ours that ends the work early."""
    try:
        await work
    except AgentMemoryError as error:
        return error
    return None


def _ignore(_delta: object) -> None:
    """Whoever wants a stream has to take it."""


def connected(provider: Door, model: str, server: ProviderSimulator, **options: Any) -> ProviderModel:
    """Return one of our models on a simulated provider."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    at = server.base_url if provider not in ("gemini", "google-generativeai") else server.url
    name = f"openai/{model}" if provider == "litellm" else model
    return connect(provider, name, base_url=at, **{"api_key": KEY, "retries": HASTY, **options})


# --- Bare SDKs --------------------------------------------------------------------------------------------------------


class _Chat(ChatCaller):
    def __init__(self, **fields: Any) -> None:
        self._fields = fields

    def _request(self, messages: Messages) -> dict[str, Any]:
        return {**super()._request(messages), **self._fields}


class _Responses(ResponsesCaller):
    def __init__(self, **fields: Any) -> None:
        self._fields = fields

    def _request(self, messages: Messages) -> dict[str, Any]:
        return {**super()._request(messages), **self._fields}


class _Anthropic(AnthropicCaller):
    def __init__(self, **fields: Any) -> None:
        self._fields = fields

    def _request(self, messages: Messages) -> dict[str, Any]:
        return {**super()._request(messages), **self._fields}


class _Gemini(GeminiCaller):
    def __init__(self, **fields: Any) -> None:
        self._fields = fields

    def _request(self, messages: Messages) -> dict[str, Any]:
        return {**super()._request(messages), **self._fields}


def caller_for(run: Run, tool_names: Sequence[str]) -> Caller:
    """Return a caller of the bare SDK who declares the recorded tools."""
    schema = {"type": "object", "properties": {"of": {"type": "string"}}}
    match run.dialect:
        case "openai_chat":
            functions = [{"name": name, "parameters": schema} for name in tool_names]
            return _Chat(model=run.model, **_tools([{"type": "function", "function": one} for one in functions]))
        case "openai_responses":
            tools = [{"type": "function", "name": name, "parameters": schema, "strict": False} for name in tool_names]
            return _Responses(model=run.model, **_tools(tools))
        case "anthropic":
            return _Anthropic(model=run.model, **_tools([{"name": one, "input_schema": schema} for one in tool_names]))
    declared = [types.FunctionDeclaration(name=name, parameters_json_schema=schema) for name in tool_names]
    config = types.GenerateContentConfig(
        tools=[types.Tool(function_declarations=declared)] if declared else None,
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
    )
    return _Gemini(model=run.model, config=config)


def _tools(tools: list[dict[str, Any]]) -> dict[str, Any]:
    # OpenAI refuses an empty list.
    return {"tools": tools} if tools else {}


async def _by_sdk(run: Run, server: ProviderSimulator, playback: Playback) -> _Played:
    way, connections = _way(run), Connections()
    caller = caller_for(run, playback.tool_names)
    answers: list[str] = []
    async with connected(AGENT_DOORS[run.dialect][0], run.model, server) as writer:
        memory = manager(run, writer)
        try:
            client = with_memory(_impatient(connections.open(caller, way, server, KEY), run), memory)
            error = await _failure(_own_list(caller, way, client, playback, answers))
        finally:
            await connections.close()
    return _Played(memory=memory, answers=answers, error=error)


def _way(run: Run) -> str:
    if not run.is_streamed:
        return "aask"
    # OpenAI's helper for chats takes tools with a strict schema alone (openai/lib/_parsing/_completions.py).
    return "astream" if run.dialect == "openai_chat" else "ahelper"


def _impatient(client: Any, run: Run) -> Any:
    if run.timeout_seconds >= _LONG_SECONDS:
        return client
    if run.dialect == "gemini":
        client._api_client._http_options.timeout = int(run.timeout_seconds * 1000)
        return client
    return client.with_options(timeout=run.timeout_seconds)


async def _own_list(caller: Caller, way: str, client: Any, playback: Playback, answers: list[str]) -> None:
    """The loop of a caller who builds the full list and knows of no memory."""
    messages: list[Any] = list(playback.opening)
    while not playback.is_over:
        said = await _until_answered(playback, partial(ask, caller, way, client, messages))
        answers.append(_text(said, caller.dialect))
        messages += [*said, *playback.replies()]
    # The memory sees a list when it is sent; the end of this one never is.
    await memory_of(client).follow(messages)


async def _until_answered(playback: Playback, request: Callable[[], Awaitable[list[Any]]]) -> list[Any]:
    """Ask again after a failure, as a caller does whose SDK has given up."""
    served = playback.served
    for _ in range(MOST_FAILURES_IN_A_ROW):
        try:
            said = await request()
        except NO_ANSWER:
            continue
        if playback.served > served:
            return said
    raise AssertionError(f"no answer in {MOST_FAILURES_IN_A_ROW} requests")


def _text(said: Sequence[Any], dialect: DialectName) -> str:
    return "".join(dialect_named(dialect).read(to_wire(message)).text for message in said)


# --- What became of it ------------------------------------------------------------------------------------------------


def _outcome(run: Run, requests: Sequence[Exchange], playback: Playback, played: _Played) -> Outcome:
    memory, stats = played.memory, played.memory.get_stats()
    is_cut = played.error is not None
    return Outcome(
        name=run.name,
        requests=len(requests),
        rejected=sum(one.refusal is not None for one in requests),
        faulty=sum(one.fault is not None for one in requests),
        compressions=stats["compression_count"],
        by_model=_calls_for_summaries(memory),
        learned_tokens=stats["max_context_tokens"],
        ended_by=type(played.error).__name__ if is_cut else "",
        problems=(
            *_refusals(requests, window_is_known=run.context_window_tokens is None),
            *(() if playback.is_over or is_cut else ("the recording was not played to its end",)),
            *lost(run.recorded.messages, memory, run.dialect, is_cut=is_cut),
            *(() if is_cut else _unanswered(run, played.answers)),
            *(f"the context breaks {issue.code}" for issue in _errors(memory, run.dialect)),
            *miscounted(requests, stats),
        ),
    )


def _errors(memory: MemoryManager, dialect: DialectName) -> list[Issue]:
    context = memory.messages
    if context and _is_silent(dialect_named(dialect).read(to_wire(context[-1]))):
        context = context[:-1]  # so the recording ends; nobody sends that
    return [issue for issue in validate(context, dialect) if issue.severity == "error"]


def _calls_for_summaries(memory: MemoryManager) -> int:
    totals = memory.tracker.by_purpose.get("summary")
    return totals.calls if totals else 0


def _refusals(requests: Sequence[Exchange], *, window_is_known: bool) -> Iterator[str]:
    refused = [one for one in requests if one.refusal is not None]
    if not window_is_known:
        refused = [one for one in refused if not _is_too_long(one)]
    rules = Counter(one.refusal.rule or one.refusal.kind for one in refused if one.refusal is not None)
    yield from (f"{number} requests were refused by {rule}" for rule, number in rules.items())


def _is_too_long(exchange: Exchange) -> bool:
    words = exchange.refusal.message if exchange.refusal is not None else ""
    return any(
        part in words for part in ("maximum context length", "context window", "too long", "exceeds the maximum")
    )


def _unanswered(run: Run, answers: Sequence[str]) -> Iterator[str]:
    """The last answer has to be the recorded one."""
    read = dialect_named(run.dialect).read
    turns: list[list[str]] = [[]]
    for message in run.recorded.messages:
        reading = read(message)
        if reading.role == "assistant":
            turns[-1].append(reading.text)
        elif turns[-1]:
            turns.append([])
    last = next(turn for turn in reversed(turns) if turn)
    if not answers or _bare("".join(last)) != _bare(answers[-1]):
        yield "the last answer is not the recorded one"


def lost(
    recorded: Sequence[Wire], memory: MemoryManager, dialect: DialectName, *, is_cut: bool = False
) -> Iterator[str]:
    """Yield what of a recording is not kept, or not once, in archive and context together.

    `is_cut`: as far as the run came before an error ended it.
    """
    in_context = {id(message) for message in memory.origins() if message is not None}
    archived = [record.seq for record in memory.archive]
    known = set(archived)
    kept = []
    for seq in range(1, memory.get_stats()["message_count"] + 1):
        kept.append(memory.original(reference(seq)))
        if id(kept[-1]) not in in_context and seq not in known:
            yield f"r{seq} is neither in the context nor in the archive"
    if len(archived) != len(known):
        yield "the archive holds a message twice"
    yield from _contents(recorded, dialect).differences(_contents(kept, dialect), is_cut=is_cut)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contents:
    """All that was said, called and answered, whatever messages it is divided into."""

    text: str
    calls: list[tuple[str, object]]
    results: Counter[str]
    """Without order: our agent writes the results of parallel calls in the order of the calls."""

    def differences(self, other: _Contents, *, is_cut: bool) -> Iterator[str]:
        """Yield in what the other one differs; of one that is cut, in what it is no beginning of this."""
        text, calls, results = self.text, self.calls, self.results
        if is_cut:
            text, calls, results = text[: len(other.text)], calls[: len(other.calls)], results & other.results
        if text != other.text:
            yield "texts differ"
        if calls != other.calls:
            yield "calls differ"
        if results != other.results:
            yield "results differ"


def _contents(messages: Sequence[object], dialect: DialectName) -> _Contents:
    readings = [dialect_named(dialect).read(to_wire(message)) for message in messages]
    return _Contents(
        text=_bare("".join(reading.text for reading in readings)),
        calls=[(call.name, _arguments(call)) for reading in readings for call in reading.calls],
        results=Counter(_bare(result.text) for reading in readings for result in reading.results),
    )


def _bare(text: str) -> str:
    return "".join(text.split())


def _arguments(call: ToolCall) -> object:
    try:
        return json.loads(call.arguments or "{}")
    except ValueError:
        return call.arguments


def miscounted(requests: Sequence[Exchange], stats: Mapping[str, Any]) -> Iterator[str]:
    """Yield the sums in which the statistics are not what the provider reported.

    What an answer cost that broke off is known only as far as it was reported; then the sums are bounds.
    """
    whole = [one.used for one in requests if one.used is not None and one.fault is None]
    broken = [one.used for one in requests if one.used is not None and one.fault is not None]
    for name, of in _SUMS.items():
        least, most = sum(map(of, whole)), sum(map(of, whole)) + _ESTIMATE * sum(map(of, broken))
        if not least <= stats[name] <= most:
            yield f"{name}: {stats[name]}, reported {least}" + (f" to {most}" if broken else "")


_SUMS: Mapping[str, Callable[[Metered], int]] = {
    "total_input_tokens": lambda used: used.input_tokens,
    "total_output_tokens": lambda used: used.output_tokens,
    "cached_tokens": lambda used: used.cache_read_tokens,
}
_ESTIMATE = 2
"""Nobody's tokens are the simulator's; an estimate of ours may be that many times its count."""


# --- Many runs --------------------------------------------------------------------------------------------------------


def every_run(recordings: Sequence[Recorded]) -> Iterator[Run]:
    """Yield each recording by each door of its format, with each strategy, at each threshold; streamed or not in turn.

    Where a provider signs reasoning it is driven three times: nothing checked, all checked that was recorded, all
    checked with reasoning before every answer. LiteLLM, which goes over the same wire as `openai`, takes one strategy
    a recording.
    """
    for number, recorded in enumerate(recordings):
        for position, (door, strategy) in enumerate(product(doors(recorded.dialect), CompressionStrategy)):
            if door == "litellm" and position % len(CompressionStrategy) != number % len(CompressionStrategy):
                continue
            ways = product(thresholds(recorded)[: 1 if door == "litellm" else 2], signings(recorded.dialect, door))
            for turn, (threshold, signing) in enumerate(ways):
                yield Run(
                    recorded=played_by(door, recorded),
                    door=door,
                    strategy=strategy,
                    threshold_tokens=threshold,
                    is_streamed=(number // 2 + position + position // len(CompressionStrategy) + turn) % 2 == 1,
                    signing=signing,
                )


def one_run_each(recordings: Sequence[Recorded]) -> Iterator[Run]:
    """Yield each recording once, such that all doors, strategies and ways take part."""
    seen: Counter[DialectName] = Counter()
    for recorded in recordings:
        number = seen[recorded.dialect]
        seen[recorded.dialect] += 1
        own, strategies = doors(recorded.dialect), list(CompressionStrategy)
        door = own[number % len(own)]
        yield Run(
            recorded=played_by(door, recorded),
            door=door,
            strategy=strategies[(number + number // len(strategies)) % len(strategies)],
            threshold_tokens=thresholds(recorded)[0],
            is_streamed=number // 2 % 2 == 1,
            signing=signings(recorded.dialect, door)[-1],
        )


def doors(dialect: DialectName) -> tuple[Door, ...]:
    """Return all ways to reach a provider of this format, as far as their packages are installed."""
    return (SDK_DOOR, *(door for door in AGENT_DOORS[dialect] if find_spec(_PACKAGES.get(door, "openai"))))


# Those that do not come with the development tools everywhere.
_PACKAGES: Mapping[Door, str] = {"litellm": "litellm", "google-generativeai": "google.generativeai"}


def signings(dialect: DialectName, door: Door) -> tuple[Signing, ...]:
    """Return what this format can have signed; the retired SDK loses signatures, as its page says."""
    if dialect == "openai_chat" or door == "google-generativeai":
        return ("none",)
    return ("none", "recorded", "every answer")


def play_now(run: Run) -> Outcome:
    """Drive a recording from a process without an event loop; an exception is a problem like any other."""
    try:
        return asyncio.run(play(run))
    except Exception as error:  # noqa: BLE001 - one run's failure is counted, and the others go on
        # By its type alone: its words may quote the recording.
        problem = f"ended by {type(error).__name__}"
        return Outcome(name=run.name, requests=0, rejected=0, faulty=0, compressions=0, by_model=0, problems=(problem,))
