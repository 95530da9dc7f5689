"""Every interleaving of a loop with the compression that goes on behind it keeps the laws of the memory."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory import CompressionStrategy, MemoryConfig
from memory.messages import DialectName

from .conversations import conversations
from .schedules import ANSWERS, Answer, AsyncDriver, Driver, Lawful, SyncDriver

DIALECT_NAMES: tuple[DialectName, ...] = ("openai_chat", "openai_responses", "anthropic", "gemini")
ACTIONS = (
    *("grow", "grow", "grow", "turn", "turn", "message", "send", "good", "good", "junk", "failure"),
    *("drop", "finish", "clear", "pin", "pin", "edit", "edit", "recover", "disturb"),
)
schedules = st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 20)), min_size=15, max_size=60)
answers: st.SearchStrategy[Answer] = st.sampled_from(["good", "good", "junk", "failure"])


def small(strategy: str, threshold: int, limit: int) -> MemoryConfig:
    return MemoryConfig(
        max_context_tokens=limit,
        compression_threshold=threshold,
        compression_strategy=CompressionStrategy(strategy),
        short_term_size=4,
        summary_input_tokens=100,
        background=True,
    )


@pytest.mark.parametrize("driver", [AsyncDriver, SyncDriver])
@pytest.mark.parametrize("dialect", DIALECT_NAMES)
@given(data=st.data())
@settings(max_examples=8)
def test_no_interleaving_breaks_a_law(driver: type[Driver], dialect: DialectName, data: st.DataObject) -> None:
    config = small(
        data.draw(st.sampled_from(["sliding_window", "selective", "masking", "tiered"])),
        data.draw(st.sampled_from([50, 80])),
        data.draw(st.sampled_from([150, 400, 100_000])),
    )
    messages = data.draw(conversations(dialect, min_turns=20, max_turns=60, long_texts=False))
    lawful = Lawful(config, dialect, driver, when_blocked=data.draw(answers))
    play(lawful, messages, data.draw(schedules), follows=data.draw(st.booleans()))
    lawful.finish()
    lawful.drop()
    lawful.driver.close()


def play(lawful: Lawful, messages: list[Any], schedule: list[tuple[str, int]], *, follows: bool) -> None:
    """Let the loop and the model take turns."""
    loop = Loop(lawful, messages, follows=follows)
    for action, number in schedule:
        if action in ANSWERS:
            lawful.answer(action)
        elif hasattr(loop, action):
            getattr(loop, action)(number)
        else:
            getattr(lawful, action)()


class Loop:
    """A caller with a conversation before it, which may be cut at any task of the user's."""

    def __init__(self, lawful: Lawful, messages: list[Any], *, follows: bool) -> None:
        self._lawful = lawful
        self._coming = messages
        self._follows = follows
        self._add = lawful.follow if follows else lawful.add

    def message(self, number: int) -> None:
        if self._coming:
            self._add(self._coming.pop(0))

    def turn(self, number: int) -> None:
        self.message(number)
        while self._lawful.is_open:
            self.message(number)

    def grow(self, number: int) -> None:
        """Go on until a compression goes on too."""
        while self._coming and not self._lawful.memory.is_compressing:
            self.turn(number)

    def pin(self, number: int) -> None:
        self._lawful.pin(number)

    def disturb(self, number: int) -> None:
        self._lawful.disturb(number)

    def clear(self, number: int) -> None:
        self._lawful.clear()
        self._skip_to_task()

    def edit(self, number: int) -> None:
        """Cut the list before one of the user's messages, and let another one stand there."""
        self._skip_to_task()
        there = self._lawful.list
        places = [i for i in range(1, len(there)) if self._lawful.is_task(there[i]) and [there[i]] != self._coming[:1]]
        if self._follows and self._coming and places:
            self._lawful.edit(places[number % len(places)], self._coming.pop(0))

    def _skip_to_task(self) -> None:
        while self._coming and not self._lawful.is_task(self._coming[0]):
            self._coming.pop(0)
