"""Peers and the memory as policies of a backtest, so that one engine measures them all."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.backtest.outcome import Session, SummaryCall
from agent.transcripts import Transcript
from memory import MemoryConfig, MemoryManager
from memory.tokens import TiktokenCounter, TokenCounter

from .plays import Play
from .summaries import STUB, Kind


@dataclass(frozen=True, slots=True)
class PeerPolicy:
    """Sends what a peer's play tells."""

    name: str
    play: Play = field(repr=False)
    """Of the transcript that it will be opened with."""
    summaries: Kind
    """Extractive summaries cost nothing; the fixed text stands for a model's, which costs a call."""

    def open(self, transcript: Transcript, *, model: str, counter: TokenCounter) -> Session:
        return _Played(self, transcript, model, counter)


class _Played:
    def __init__(self, policy: PeerPolicy, transcript: Transcript, model: str, counter: TokenCounter) -> None:
        self._policy, self._messages, self._model, self._counter = policy, transcript.messages, model, counter
        self._added = 0

    def add(self, message: Any) -> None:
        self._added += 1

    def context(self) -> Sequence[Any]:
        return self._policy.play.context(self._added, self._messages)

    def summary_calls(self) -> Sequence[SummaryCall]:
        if self._policy.summaries == "extractive":
            return ()
        return [
            SummaryCall(
                input_tokens=self._counter.count_text(one.prompt),
                cached_tokens=0,
                output_tokens=self._counter.count_text(one.text),
                model=self._model,
            )
            for one in self._policy.play.summaries
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """What a loop's turns cost in time: message number -> seconds and bytes, one entry for each request."""

    turns: tuple[tuple[int, float, int], ...]
    failed: str | None = None


def pace_of_play(play: Play) -> Pace:
    """Return what the turns of a peer's play cost."""
    turns = tuple((index, one.seconds, one.bytes) for index, one in sorted(play.requests.items()))
    return Pace(turns=turns, failed=play.failed)


def pace_of_memory(config: MemoryConfig, messages: Sequence[Any], requests: Sequence[int]) -> Pace:
    """Return what the turns of a memory cost, by a counter of its own that remembers nothing.

    On the clock are adding a message and reading the context, what a loop calls. As for peers, the text of a summary
    comes from elsewhere.
    """
    counter = TiktokenCounter()
    counter.count_text("")  # the first count builds the encoding
    memory = MemoryManager(config, lambda prompt: STUB, dialect="openai_chat", counter=counter)
    turns: list[tuple[int, float, int]] = []
    due, seconds, known = frozenset(requests), 0.0, 0
    for index, message in enumerate(messages):
        began = time.process_time()
        if index in due:
            memory.get_context_for_llm()
        seconds += time.process_time() - began
        if index in due:
            turns.append((index, seconds, counter.bytes_tokenised - known))
            seconds, known = 0.0, counter.bytes_tokenised
        began = time.process_time()
        memory.add_message_sync(message)
        seconds += time.process_time() - began
    return Pace(turns=tuple(turns))
