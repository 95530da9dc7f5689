"""A memory that is taken up again is the memory that it was, whatever was done to it before and whenever it ended."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from memory import CompressionStrategy, MemoryConfig, MemoryManager
from memory.messages import DialectName
from memory.sessions.sqlite import SqliteSessionStore
from memory.sessions.store import SessionStore
from memory.testing import WordCounter
from memory.tokens import TiktokenCounter

from .conversations import DIALECT_NAMES, conversations
from .schedules import ANSWERS, AsyncDriver
from .twins import Twins, context_of, picture

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
@settings(max_examples=25)
def test_an_interrupted_memory_cannot_be_told_from_one_that_was_not(dialect: DialectName, data: st.DataObject) -> None:
    play(data, dialect)


def test_nor_can_one_that_is_kept_in_postgres(postgres_server: str, postgres_schema: str) -> None:
    from memory.sessions.postgres import PostgresSessionStore

    store = PostgresSessionStore(postgres_server, schema=postgres_schema)

    @given(data=st.data(), dialect=st.sampled_from(DIALECT_NAMES))
    @settings(max_examples=8)
    def check(data: st.DataObject, dialect: DialectName) -> None:
        play(data, dialect, store)

    check()
    store.close()


def play(data: st.DataObject, dialect: DialectName, store: SessionStore | None = None) -> None:
    """Draw a conversation, settings, and what is done to it and when; compare after each action."""
    messages = data.draw(conversations(dialect, min_turns=10, max_turns=40, surrogates=True))
    llm = data.draw(st.sampled_from([None, summarise]))
    twins = Twins(config_of(data), dialect, messages, llm=llm, follows=data.draw(st.booleans()), store=store)
    for action, number in data.draw(schedules):
        getattr(twins, action)(number)
    twins.close(0)
    twins.turn(0)


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
@given(data=st.data())
@settings(max_examples=8, phases=(Phase.generate,))
def test_what_goes_on_in_the_background_is_in_the_context_or_not_there(
    dialect: DialectName, data: st.DataObject
) -> None:
    messages = data.draw(conversations(dialect, min_turns=10, max_turns=20, long_texts=False))
    config = replace(config_of(data, background=True), max_context_tokens=100_000)  # no turn has to wait for the model
    store = SqliteSessionStore(":memory:")
    driver = AsyncDriver(lambda llm: MemoryManager(config, llm, dialect=dialect, store=store, counter=WordCounter()))
    answers = data.draw(st.lists(BACKGROUND, min_size=10, max_size=60))
    for message, answer in zip(messages, cycle(answers)):
        driver.add(message)
        if answer in ANSWERS:
            driver.answer(answer)
        elif answer == "finish":
            driver.finish()
        elif answer == "kill":
            driver.memory = resumed_like(driver.memory, store, llm=driver._ask)
            driver.disturb(1)  # nothing of a process that died goes on
    driver.finish()
    resumed_like(driver.memory, store)
    driver.drop()
    driver.close()


BACKGROUND = st.sampled_from(["good", "good", "junk", "failure", "finish", "kill", "nothing", "nothing", "nothing"])


def resumed_like(memory: MemoryManager, store: SqliteSessionStore, llm: object = None) -> MemoryManager:
    """Return the memory of the same session, of which everything but unfinished business must be the same."""
    before, is_busy = picture(memory), memory.is_compressing
    resumed = MemoryManager.resume("latest", llm=llm, store=store, counter=WordCounter(), takes_over=True)
    after = picture(resumed)
    for name in before:
        assert before[name] == after[name] or (is_busy and name == "stats"), name
    return resumed


def test_nothing_is_tokenised_at_a_resume() -> None:
    store, counter = SqliteSessionStore(":memory:"), TiktokenCounter()
    with filled(store, count=300) as memory:
        tokens = memory.current_tokens
        assert memory.get_stats()["compression_count"] > 1
    resumed = MemoryManager.resume(store=store, counter=counter)
    resumed.get_context_for_llm()
    assert (resumed.current_tokens, counter.bytes_tokenised) == (tokens, 0)


def test_two_memories_of_one_process_never_meet() -> None:
    store = SqliteSessionStore(":memory:")
    alone = filled(SqliteSessionStore(":memory:"), count=120)
    one, other = (MemoryManager(SMALL, store=store) for _ in range(2))
    for number in range(60):
        for message in step(number):
            one.add_message_sync(message)
            other.add_message_sync({"role": "user", "content": f"something else, number {number}"})
    assert context_of(one) == context_of(alone)
    one.close()
    other.close()
    session = next(info.id for info in store.sessions() if "something" not in info.heading.title)
    assert context_of(MemoryManager.resume(session, store=store)) == context_of(alone)


SMALL = MemoryConfig(max_context_tokens=4_000, compression_threshold=1_000)


def filled(store: SqliteSessionStore, *, count: int) -> MemoryManager:
    """Return a memory of a loop of so many messages."""
    memory = MemoryManager(SMALL, store=store)
    for number in range(count // 2):
        for message in step(number):
            memory.add_message_sync(message)
    return memory


def step(number: int) -> list[dict[str, Any]]:
    """Return an answer of the model and the user's next wish."""
    asked = {"role": "user", "content": f"Read src/part_{number}.py, and say what it does. " + "Be brief. " * 5}
    return [asked, {"role": "assistant", "content": f"Part {number} adds {number} to what it is given."}]
