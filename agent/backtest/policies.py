"""The policies that a backtest knows by name: everything, a plain window, and the memory under several settings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias

from memory import CompressionStrategy, CompressionTrigger, LLMMessage, MemoryConfig, MemoryManager
from memory.config import nearest
from memory.dialects import dialect_named
from memory.errors import BudgetExceededError, ConfigError, ContextOverflowError
from memory.messages import DialectName
from memory.native import to_wire
from memory.tokens import TokenCounter
from memory.usage import Usage

from ..transcripts import Transcript
from .outcome import Policy, PrefixCall, Session, SummaryCall

Summariser: TypeAlias = Literal["extractive", "model"]

EVERYTHING: Final = "none"
"""The policy that every other one is measured against."""
WINDOW_MESSAGES: Final = 20
THRESHOLD_TOKENS: Final = 40_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Everything:
    """Sends the whole history with every request."""

    name: str = EVERYTHING

    def open(self, transcript: Transcript, *, model: str, counter: TokenCounter) -> Session:
        return _History()


class _History:
    def __init__(self) -> None:
        self.messages: list[Any] = []

    def add(self, message: Any) -> None:
        self.messages.append(message)

    def context(self) -> Sequence[Any]:
        return list(self.messages)

    def summary_calls(self) -> Sequence[SummaryCall]:
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LastMessages:
    """Sends leading system messages and the newest others, from the first that is no bare tool result."""

    count: int = WINDOW_MESSAGES

    @property
    def name(self) -> str:
        return f"window@{self.count}"

    def open(self, transcript: Transcript, *, model: str, counter: TokenCounter) -> Session:
        return _Sliding(self.count, transcript)


class _Sliding(_History):
    def __init__(self, count: int, transcript: Transcript) -> None:
        super().__init__()
        self._count = count
        self._read = dialect_named(transcript.dialect).read
        self._roles: list[str] = []

    def add(self, message: Any) -> None:
        super().add(message)
        self._roles.append(self._read(to_wire(message)).role)

    def context(self) -> Sequence[Any]:
        leading = next((i for i, role in enumerate(self._roles) if role != "system"), len(self._roles))
        start = max(leading, len(self.messages) - self._count)
        while start < len(self.messages) and self._roles[start] == "tool" and start > leading:
            start += 1
        return [*self.messages[:leading], *self.messages[start:]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Sends what a `MemoryManager` with these settings would."""

    name: str
    config: MemoryConfig
    summariser: Summariser = "extractive"

    def open(self, transcript: Transcript, *, model: str, counter: TokenCounter) -> Session:
        return _Remembering(self, transcript, model, counter)


class _Remembering:
    def __init__(self, policy: Memory, transcript: Transcript, model: str, counter: TokenCounter) -> None:
        # A backtest is to find out what a run costs, not to stop where the money would.
        config = replace(policy.config, max_cost_dollars=None, background=False)
        self._model = model
        self._now = 0.0
        self._writer: _PretendedModel | None = None
        if policy.summariser == "model":
            self._writer = _PretendedModel(model, transcript.dialect, counter, clock=lambda: self._now)
        self._memory = MemoryManager(
            config if self._writer else replace(config, compression_model=None),
            self._writer,
            dialect=transcript.dialect,
            model=model,
            system=transcript.system,
            tools=transcript.tools,
            counter=counter,
            clock=lambda: self._now,
        )

    def add(self, message: Any) -> None:
        try:
            if self._writer is None:
                self._memory.add_message_sync(message)
            else:  # the memory extends the context of a model of the agent's kind alone, and those are asynchronous
                asyncio.run(self._memory.add_message(message))
        except ContextOverflowError:
            return  # it was added; such a request is told by its size

    def context(self) -> Sequence[Any]:
        try:
            return self._memory.get_context_for_llm()
        except (ContextOverflowError, BudgetExceededError):
            return self._memory.messages

    def tell_time(self, at_seconds: float) -> None:
        self._now = at_seconds

    def record_usage(self, usage: Usage) -> None:
        self._memory.record_usage(usage, model=self._model)

    def summary_calls(self) -> Sequence[SummaryCall]:
        return self._writer.fresh_calls if self._writer else ()

    def take_prefix_calls(self) -> Sequence[PrefixCall]:
        return self._writer.taken_prefix_calls() if self._writer else ()


@dataclass(slots=True)
class _PretendedModel:
    """Writes a summary of a fixed size that says nothing, and remembers what a real model would have been paid for."""

    model: str
    dialect: DialectName
    counter: TokenCounter = field(repr=False)
    clock: Callable[[], float] = field(repr=False)
    fresh_calls: list[SummaryCall] = field(default_factory=list, repr=False)
    """Of this model and those that `with_model` made of it."""
    _prefix_calls: list[PrefixCall] = field(default_factory=list, repr=False)

    def with_model(self, name: str) -> _PretendedModel:
        return replace(self, model=name)

    async def call_async(self, messages: Sequence[Any], **options: Any) -> str:
        """Answer the memory, which quotes messages to it in its own, or sends the run's with an instruction."""
        written = self.counter.count_text(_PRETENDED_SUMMARY)
        if all(isinstance(one, LLMMessage) for one in messages):
            read = self.counter.count_text("\n\n".join(str(one.content) for one in messages))
            call = SummaryCall(input_tokens=read, cached_tokens=0, output_tokens=written, model=self.model)
            self.fresh_calls.append(call)
        else:
            at_seconds = self.clock()
            self._prefix_calls.append(PrefixCall(messages=messages, output_tokens=written, at_seconds=at_seconds))
        return _PRETENDED_SUMMARY

    def taken_prefix_calls(self) -> list[PrefixCall]:
        taken, self._prefix_calls = self._prefix_calls, []
        return taken


_PRETENDED_SUMMARY: Final = (
    "## State of the work\n" + "The work went on as it was asked for, step by step, and nothing else came of it.\n" * 30
)
"""About 600 tokens."""


def policies_named(
    names: Sequence[str], *, thresholds: Sequence[int], own: MemoryConfig, summariser: Summariser = "extractive"
) -> list[Policy]:
    """Return the policies of these names, each once, the one that sends everything first.

    Args:
        names: As in `POLICIES`; `NAME@NUMBER` says the threshold in tokens or, of a window, its messages.
        thresholds: For strategies that are named without a number: one policy each.
        own: The user's own settings, for the policy `own`.
        summariser: Who writes the memory's summaries.

    Raises:
        ConfigError: There is no policy of that name, or its number is out of range.
    """
    found: dict[str, Policy] = {EVERYTHING: Everything()}
    for name in names:
        for policy in _named(name, thresholds, own):
            found[policy.name] = replace(policy, summariser=summariser) if isinstance(policy, Memory) else policy
    return list(found.values())


def _named(text: str, thresholds: Sequence[int], own: MemoryConfig) -> list[Policy]:
    name, _, number = text.strip().partition("@")
    if name not in POLICIES:
        close = nearest(name, POLICIES)
        hint = f"; did you mean {close!r}?" if close else ""
        raise ConfigError(f"policy must be one of {', '.join(POLICIES)}, got {name!r}{hint}", field="policy")
    given = [_number(text, number)] if number else []
    return POLICIES[name](given, thresholds, own)


def _number(text: str, number: str) -> int:
    if not number.replace("_", "").isdecimal() or int(number) < 1:
        raise ConfigError(f"policy must end in @ and a whole number, or in neither, got {text!r}", field="policy")
    return int(number)


def _everything(given: Sequence[int], thresholds: Sequence[int], own: MemoryConfig) -> list[Policy]:
    return [Everything()]


def _window(given: Sequence[int], thresholds: Sequence[int], own: MemoryConfig) -> list[Policy]:
    return [LastMessages(count=given[0] if given else WINDOW_MESSAGES)]


def _economic(given: Sequence[int], thresholds: Sequence[int], own: MemoryConfig) -> list[Policy]:
    if not given:
        return [Memory(name="economic", config=MemoryConfig(trigger=CompressionTrigger.ECONOMIC))]
    config = _at(given[0], trigger=CompressionTrigger.ECONOMIC)
    return [Memory(name=f"economic@{given[0]}", config=config)]


def _own(given: Sequence[int], thresholds: Sequence[int], own: MemoryConfig) -> list[Policy]:
    return [Memory(name="own", config=own)]


def _strategy(strategy: CompressionStrategy) -> _Factory:
    def build(given: Sequence[int], thresholds: Sequence[int], own: MemoryConfig) -> list[Policy]:
        return [
            Memory(name=f"{strategy.value}@{tokens}", config=_at(tokens, compression_strategy=strategy))
            for tokens in given or thresholds
        ]

    return build


def _at(threshold_tokens: int, **settings: Any) -> MemoryConfig:
    """Return settings that compress at a threshold, which may be above what the default context allows."""
    if threshold_tokens > MemoryConfig().max_context_tokens:
        settings["max_context_tokens"] = threshold_tokens
    return MemoryConfig(compression_threshold=threshold_tokens, **settings)


_Factory: TypeAlias = Callable[[Sequence[int], Sequence[int], MemoryConfig], list[Policy]]

POLICIES: Final[Mapping[str, _Factory]] = {
    EVERYTHING: _everything,
    "window": _window,
    **{strategy.value: _strategy(strategy) for strategy in CompressionStrategy},
    "economic": _economic,
    "own": _own,
}
"""Name -> what makes the policies of that name."""

DEFAULT_POLICIES: Final = (EVERYTHING, "window", "sliding_window", "masking", "economic", "own")
