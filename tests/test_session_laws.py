"""A memory that is taken up again is the memory that it was, whatever was done to it before and whenever it ended."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory import CompressionStrategy, MemoryConfig
from memory.messages import DialectName

from .conversations import DIALECT_NAMES, conversations
from .twins import Twins

ACTIONS = (
    *("message", "message", "turn", "turn", "turn", "turn", "send", "usage", "fix", "pin", "unpin", "compress"),
    *("recover", "undo", "branch", "branch", "copies", "edit", "edit", "clear", "kill", "kill", "close", "move"),
)
schedules = st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 40)), min_size=15, max_size=50)


def config_of(data: st.DataObject, **settings: Any) -> MemoryConfig:
    """Draw settings under which a short conversation is compressed several times."""
    return MemoryConfig(
        max_context_tokens=data.draw(st.sampled_from([400, 2_000, 100_000])),
        compression_threshold=data.draw(st.sampled_from([50, 80, 200])),
        compression_strategy=CompressionStrategy(data.draw(st.sampled_from(list(CompressionStrategy)))),
        short_term_size=data.draw(st.sampled_from([1, 4, 20])),
        summary_input_tokens=100,
        **settings,
    )


def summarise(prompt: str) -> str:
    """A model that always says the same of the same."""
    return f"## State of the work\nThe agent did {len(prompt)} things, and read src/app.py."


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
@given(data=st.data())
@settings(max_examples=40)
def test_an_interrupted_memory_cannot_be_told_from_one_that_was_not(dialect: DialectName, data: st.DataObject) -> None:
    messages = data.draw(conversations(dialect, min_turns=10, max_turns=40, surrogates=True))
    llm = data.draw(st.sampled_from([None, summarise]))
    twins = Twins(config_of(data), dialect, messages, llm=llm, follows=data.draw(st.booleans()))
    for action, number in data.draw(schedules):
        getattr(twins, action)(number)
    twins.close(0)
    twins.turn(0)
