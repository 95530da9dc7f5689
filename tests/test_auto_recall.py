"""Automatic recall: what the newest message names, and was compressed away, comes back behind it; once, and bounded."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory import Compressed, CompressionStrategy, LLMMessage, MemoryConfig, MemoryManager, validate
from memory.dialects import DIALECTS
from memory.events import Event, Recalled
from memory.integrations._bridge import Bridge
from memory.messages import DialectName
from memory.names import names_in
from memory.native import to_wire
from memory.sessions.sqlite import SqliteSessionStore
from memory.testing import WordCounter

from .conversations import DIALECT_NAMES, Builder, builder_for, conversations
from .laws import Watched

CONFIG = MemoryConfig(
    max_context_tokens=4_000,
    compression_threshold=1_000,
    short_term_size=2,
    compression_strategy="deletion",  # type: ignore[arg-type]  # a name is accepted
    auto_recall=True,
    auto_recall_tokens=140,
)


def told(dialect: DialectName = "openai_chat", config: MemoryConfig = CONFIG, **options: Any) -> MemoryManager:
    """Return a memory that was told of sixty orders, most of which have left its context."""
    memory = MemoryManager(config, dialect=dialect, counter=WordCounter(), **options)
    build = builder_for(dialect)
    add(memory, build.user("look after the orders"))
    for number in range(60):
        add(memory, build.assistant(f"order ord_{1000 + number} goes to warehouse {number} " + "and so on " * 12))
        add(memory, build.user("next one, please"))
    assert len(memory.archive) > 20
    return memory


def add(memory: MemoryManager, messages: Sequence[object]) -> None:
    for message in messages:
        memory.add_message_sync(message)


def talk_on(memory: MemoryManager) -> None:
    """Talk of nothing until the context was compressed."""
    count = memory.get_stats()["compression_count"]
    while memory.get_stats()["compression_count"] == count:
        add(memory, [{"role": "assistant", "content": "and so on " * 40}, {"role": "user", "content": "go on"}])


def texts(memory: MemoryManager) -> list[str]:
    dialect = DIALECTS[memory.dialect or "openai_chat"]
    readings = [dialect.read(to_wire(message)) for message in memory.messages]
    return [reading.text + "".join(result.text for result in reading.results) for reading in readings]


# --- What comes back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
def test_what_the_user_names_comes_back_behind_it(dialect: DialectName) -> None:
    events: list[Event] = []
    memory = told(dialect, on_event=events.append)
    before = memory.messages
    question = builder_for(dialect).user("where does ord_1005 go?")

    add(memory, question)

    recalled = texts(memory)[-1]
    assert "warehouse 5 " in recalled
    assert "[r12, assistant]" in recalled
    assert "data" in recalled.split("]")[0]
    assert memory.messages[: len(before) + 1] == [*before, *question], "what stood before stays as it was"
    assert [e.refs for e in events if isinstance(e, Recalled)] == [("r12",)]
    assert not [issue for issue in validate(memory.messages, dialect) if issue.severity == "error"]


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
def test_what_a_tool_finds_or_is_asked_for_comes_back_once_no_call_is_open(dialect: DialectName) -> None:
    build = builder_for(dialect)
    for asked, found in (("next", "the next is ord_1005"), ("ord_1005", "nothing found")):
        memory = told(dialect)
        call = build.assistant("", [("c1", "lookup", {"id": asked})])
        for message in [*call, *build.results([("c1", "lookup", found)])]:
            assert "[r12, assistant]" not in texts(memory)[-1], "not while a call is open"
            memory.add_message_sync(message)

        assert "[r12, assistant]" in texts(memory)[-1]
        assert not [issue for issue in validate(memory.messages, dialect) if issue.severity == "error"]


def test_an_answer_of_the_model_asks_for_nothing() -> None:
    memory = told()
    add(memory, builder_for("openai_chat").assistant("I shall look at ord_1005"))

    assert memory.get_stats()["recalled_count"] == 0


def test_what_stands_in_the_context_is_not_brought_back() -> None:
    memory = told()
    present = next(number for number in range(1059, 1000, -1) if any(f"ord_{number}" in text for text in texts(memory)))
    add(memory, [{"role": "user", "content": f"where does ord_{present} go?"}])

    assert memory.get_stats()["recalled_count"] == 0


def test_what_was_brought_back_is_not_brought_back_again() -> None:
    memory = told()
    add(memory, [{"role": "user", "content": "where does ord_1005 go?"}])
    count = len(memory.messages)
    add(memory, [{"role": "assistant", "content": "to 5"}, {"role": "user", "content": "ord_1005, you are sure?"}])

    assert len(memory.messages) == count + 2


def test_what_a_summary_says_is_not_brought_back() -> None:
    memory = told(config=replace(CONFIG, compression_strategy="sliding_window"), llm=lambda prompt: "ord_1005 is lost")  # type: ignore[arg-type]
    add(memory, [{"role": "user", "content": "where does ord_1005 go?"}])

    assert memory.get_stats()["recalled_count"] == 0


def test_a_word_that_many_messages_have_names_none_of_them() -> None:
    memory = MemoryManager(CONFIG, counter=WordCounter())
    for number in range(60):
        add(memory, [{"role": "user", "content": f"see src/main.py for {number} " + "and so on " * 12}])
    add(memory, [{"role": "assistant", "content": "yes"}] * 8 + [{"role": "user", "content": "open src/main.py"}])

    assert memory.get_stats()["recalled_count"] == 0


def test_a_listing_asks_for_nothing() -> None:
    memory = told()
    add(memory, [{"role": "user", "content": " ".join(f"ord_{1000 + number}" for number in range(15))}])

    assert memory.get_stats()["recalled_count"] == 0


def test_a_file_that_is_read_again_does_not_bring_back_what_it_said_before() -> None:
    memory = MemoryManager(CONFIG, counter=WordCounter())
    add(memory, [{"role": "user", "content": "go"}])
    add(memory, read_file("a1", "src/engine.py", "the old text"))
    talk_on(memory)
    assert "r3" in {record.ref for record in memory.archive}

    add(memory, read_file("a2", "src/engine.py", "the new text"))
    assert memory.get_stats()["recalled_count"] == 0


def read_file(id: str, path: str, text: str) -> list[dict[str, Any]]:
    function = {"name": "read_file", "arguments": json.dumps({"path": path})}
    calls = [{"id": id, "type": "function", "function": function}]
    return [
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": id, "content": text},
    ]


def test_a_call_that_named_a_file_leads_to_its_result() -> None:
    memory = MemoryManager(CONFIG, counter=WordCounter())
    add(memory, [{"role": "user", "content": "go"}])
    add(memory, read_file("a1", "src/engine.py", "it has four cylinders"))
    talk_on(memory)
    add(memory, [{"role": "user", "content": "what was in src/engine.py?"}])

    assert "it has four cylinders" in memory.messages[-1]["content"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("see `src/app/main.py`, line 12", {"src/app/main.py", "main.py"}),
        ("call getUserName() or max_retries", {"getUserName", "max_retries"}),
        ("order ord_1005 of 2024-05-01, in 2024", {"ord_1005"}),
        ("it is called “Blue Heron”", {"Blue Heron"}),
        ("ticket 48213 costs 12 or 99", {"48213"}),
        ("https://example.org/a?b=1.", {"https://example.org/a?b=1"}),
        ("nothing of the well-known kind, and/or so", set()),
    ],
)
def test_names_are_what_can_hardly_be_there_by_chance(text: str, names: set[str]) -> None:
    assert names_in(text) == names


# --- How much ---------------------------------------------------------------------------------------------------------


def test_it_is_off_unless_asked_for() -> None:
    memory = told(config=replace(CONFIG, auto_recall=False))
    add(memory, [{"role": "user", "content": "where does ord_1005 go?"}])

    assert memory.get_stats()["recalled_count"] == 0


def test_a_copy_keeps_to_the_budget() -> None:
    memory = told(config=replace(CONFIG, compression_threshold=2_000, auto_recall_tokens=200))
    add(memory, [{"role": "user", "content": "where do ord_1003, ord_1005, ord_1007 and ord_1009 go?"}])
    stats = memory.get_stats()

    assert 0 < stats["recalled_tokens"] <= 200
    assert stats["recalled_count"] > 1


def test_what_stands_is_less_than_a_context_grows_between_compressions() -> None:
    memory = told()
    for number in range(1000, 1030):
        add(memory, [{"role": "assistant", "content": "ok"}, {"role": "user", "content": f"and ord_{number}?"}])
        standing = sum(entry.tokens for entry in memory._window.entries if entry.is_written)
        assert standing <= 0.15 * CONFIG.compression_threshold
    assert memory.get_stats()["recalled_count"] > 1


def test_the_statistics_count_what_came_and_what_came_back() -> None:
    memory = told()
    add(memory, [{"role": "user", "content": "where does ord_1005 go?"}])
    stats = memory.get_stats()

    assert (stats["message_count"], stats["recalled_count"]) == (122, 1)
    assert stats["context_count"] + stats["archived_count"] == 123


# --- Beside compressions, resumes, branches and lists -----------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["sliding_window", "selective", "deletion", "tiered"])
def test_a_compression_drops_the_copy_and_summarises_it_nowhere(strategy: Any) -> None:
    memory = told(config=replace(CONFIG, compression_strategy=strategy), llm=lambda prompt: "They talked of orders.")
    missing = next(n for n in range(1000, 1060) if not any(f"ord_{n}" in text for text in texts(memory)))
    add(memory, [{"role": "user", "content": f"where does ord_{missing} go?"}])
    assert memory.get_stats()["recalled_count"] == 1
    (copy,) = [entry for entry in memory._window.entries if str(entry.kind) == "recalled"]
    archived = len(memory.archive)
    talk_on(memory)

    assert copy.message not in memory.messages
    assert all(record.seq != copy.seq for record in memory.archive)
    assert all(copy.seq not in (e.covers.seqs if e.covers else ()) for e in memory._window.entries)
    assert len(memory.archive) >= archived


def test_an_undo_brings_the_copy_back_too() -> None:
    memory = told()
    add(memory, [{"role": "user", "content": "where does ord_1005 go?"}, {"role": "assistant", "content": "ok"}])
    before = memory.messages
    memory.compress_sync()
    assert memory.messages != before
    memory.undo()

    assert memory.messages == before
    add(memory, [{"role": "user", "content": "ord_1005 once more"}])
    assert memory.get_stats()["recalled_count"] == 1, "it stands again"


def test_a_resumed_memory_has_the_copy_byte_for_byte_and_goes_on_alike(tmp_path: Path) -> None:
    store = SqliteSessionStore(tmp_path / "sessions.db")
    memory, twin = told(store=store), told()
    question = [{"role": "user", "content": "where does ord_1005 go?"}]
    add(memory, question)
    add(twin, question)
    context, stats = memory.get_context_for_llm(), memory.get_stats()
    memory.close()

    resumed = MemoryManager.resume(store=store, counter=WordCounter())

    assert resumed.get_context_for_llm() == context
    assert {**resumed.get_stats(), "session_id": None} == {**stats, "session_id": None}
    for one in (resumed, twin):
        add(one, [{"role": "assistant", "content": "ok"}, {"role": "user", "content": "ord_1005? and ord_1006?"}])
    assert resumed.messages == twin.messages
    resumed.close()
    store.close()


def test_what_a_session_keeps_does_not_grow_with_what_was_recalled() -> None:
    memory = told()
    sizes: list[int] = []
    for number in range(40):
        add(memory, [{"role": "user", "content": f"where does ord_{1000 + number} go?"}])
        sizes.append(len(json.dumps([memory._auto_recall.state(), memory._intake.followed.state()])))
        talk_on(memory)

    assert memory.get_stats()["recalled_count"] > 20
    assert sizes[-1] <= sizes[0] + 10


def test_a_resumed_memory_knows_which_copies_stand_again() -> None:
    store = SqliteSessionStore(":memory:")
    memory, twin = told(store=store), told()
    for one in (memory, twin):
        add(one, [{"role": "user", "content": "where does ord_1005 go?"}, {"role": "assistant", "content": "ok"}])
        one.compress_sync()
    memory.close()
    with MemoryManager.resume(store=store, counter=WordCounter()) as resumed:
        for one in (resumed, twin):
            one.undo()
            assert one.get_stats()["recalled_count"] == 1
            for at in ("r122", "r123", "r124", None):
                branch = one.branch(at)
                expected = int(at != "r122")
                assert branch.get_stats()["recalled_count"] == expected
                assert branch.get_stats()["message_count"] == branch._window.last_seq - expected
                branch.close()
            add(one, [{"role": "user", "content": "ord_1005 once more"}])
            assert one.get_stats()["recalled_count"] == 1, "it stands again"

        assert resumed.messages == twin.messages


def test_a_branch_has_the_copy_if_it_begins_behind_it() -> None:
    memory = told()
    add(memory, [{"role": "user", "content": "where does ord_1005 go?"}])
    behind, before = memory.branch(), memory.branch("r122")

    assert behind.messages == memory.messages
    assert before.messages == memory.messages[:-1]
    add(behind, [{"role": "assistant", "content": "ok"}, {"role": "user", "content": "ord_1005?"}])
    assert len(behind.messages) == len(memory.messages) + 2
    assert (behind.get_stats()["recalled_count"], before.get_stats()["recalled_count"]) == (1, 0)


def test_a_list_that_is_followed_does_not_have_the_copy_and_may_depart() -> None:
    memory = MemoryManager(CONFIG, counter=WordCounter())
    listed: list[dict[str, Any]] = [{"role": "user", "content": "look after the orders"}]
    for number in range(60):
        listed.append({"role": "assistant", "content": f"ord_{1000 + number} goes to {number} " + "and so on " * 12})
        listed.append({"role": "user", "content": "next one, please"})
        memory.follow_sync(listed)
    memory.follow_sync([*listed, {"role": "user", "content": "where does ord_1005 go?"}])
    assert "[r12, assistant]" in texts(memory)[-1]
    copy = memory.messages[-1]

    answer = {"role": "assistant", "content": "to 5"}
    memory.follow_sync([*listed, {"role": "user", "content": "where does ord_1005 go?"}, answer])
    assert memory.messages[-2:] == [copy, answer]

    memory.follow_sync([*listed, {"role": "user", "content": "never mind"}])
    assert memory.messages[-1] == {"role": "user", "content": "never mind"}
    assert copy not in memory.messages
    assert None not in memory.origins()


def test_a_copy_is_no_message_of_the_callers() -> None:
    memory = told()
    add(memory, [LLMMessage("user", "where does ord_1005 go?")])

    assert memory.origins()[-1] is None
    assert isinstance(memory.messages[-1], LLMMessage), "it is of the kind that the caller's are"
    assert memory.messages[-1] not in memory.short_term.get_all()


def test_a_framework_gets_the_copy_as_a_message_of_its_own_kind() -> None:
    langchain = pytest.importorskip("memory.integrations.langchain", reason="langchain is not installed")
    messages = pytest.importorskip("langchain_core.messages")
    bridge = Bridge(MemoryManager(CONFIG, counter=WordCounter()), langchain._Codec())
    listed: list[Any] = [messages.HumanMessage("look after the orders")]
    for number in range(60):
        listed.append(messages.AIMessage(f"ord_{1000 + number} goes to warehouse {number} " + "and so on " * 12))
        listed.append(messages.HumanMessage("next one, please"))
        bridge.follow_sync(listed)
    listed.append(messages.HumanMessage("where does ord_1005 go?"))

    sent = bridge.follow_sync(listed)
    again = bridge.follow_sync([*sent, messages.AIMessage("to 5"), messages.HumanMessage("and then?")])

    assert sent[-2] is listed[-1]
    assert isinstance(sent[-1], messages.HumanMessage)
    assert "warehouse 5 " in str(sent[-1].content)
    assert again[: len(sent)] == sent
    assert len(again) == len(sent) + 2


# --- Laws -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
@given(data=st.data())
@settings(max_examples=5)
def test_the_laws_hold_with_automatic_recall(dialect: DialectName, data: st.DataObject) -> None:
    strategy = data.draw(st.sampled_from(CompressionStrategy))
    config = MemoryConfig(
        max_context_tokens=100_000,
        compression_threshold=data.draw(st.integers(400, 900)),
        short_term_size=data.draw(st.integers(1, 8)),
        compression_strategy=strategy,
        auto_recall=True,
    )
    messages = data.draw(conversations(dialect, min_turns=10, max_turns=30, long_texts=False))
    build = builder_for(dialect)
    store = SqliteSessionStore(":memory:") if data.draw(st.booleans()) else None
    watched = Watched(config, dialect, every=10, store=store)
    named = data.draw(st.lists(st.integers(0, 60), min_size=4, max_size=12))
    for message in with_names(messages, build, named):
        watched.add(message)
    watched.check_in_full()
    watched.check_bytes()
    if store is not None:
        context = watched.memory.messages
        watched.memory.close()
        with MemoryManager.resume(store=store, counter=WordCounter()) as resumed:
            assert list(map(to_wire, resumed.messages)) == list(map(to_wire, context))
        store.close()
    compressions = sum(isinstance(event, Compressed) for event in watched.events)
    assert compressions <= 1 + watched.memory._window.log_tokens / (0.05 * config.compression_threshold)


def with_names(messages: Sequence[object], build: Builder, named: Sequence[int]) -> Iterator[object]:
    """Yield a conversation, and behind it talk of things that are named, forgotten, and named again."""
    yield from messages
    for number in range(60):
        yield from build.user(f"item itm_{7000 + number} costs {number} " + "and so on " * 10)
        yield from build.assistant("noted")
    for call, number in enumerate(named):
        name = f"itm_{7000 + number}"
        yield from build.user(f"what of {name}?")
        if number % 2:
            yield from build.assistant("", [(f"call_{call}", "look", {"at": f"itm_{7060 - number}"})])
            yield from build.results([(f"call_{call}", "look", f"like itm_{7001 + number}")])
        yield from build.assistant("noted " * number)
