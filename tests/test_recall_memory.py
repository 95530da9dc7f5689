"""`recall`: what left the context is found, within a budget, in one conversation or in all of a store."""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory import ConfigError, Hit, InMemoryArchive, MemoryConfig, MemoryManager, Record, UnknownReferenceError
from memory.embedders import EmbeddingCall, OpenAIEmbedder, Vector
from memory.quoting import passage
from memory.sessions.recall import search_sessions
from memory.sessions.sqlite import SqliteSessionStore
from memory.testing import WordCounter

CONFIG = MemoryConfig(
    max_context_tokens=1_000,
    compression_threshold=120,
    short_term_size=2,
    compression_strategy="deletion",  # type: ignore[arg-type]  # a name is accepted
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteSessionStore]:
    store = SqliteSessionStore(tmp_path / "sessions.db")
    yield store
    store.close()


@pytest.fixture(params=["in memory", "in a store"])
def memory(request: pytest.FixtureRequest, store: SqliteSessionStore) -> MemoryManager:
    return talk(store if request.param == "in a store" else None)


def talk(store: SqliteSessionStore | None, *, subject: str = "valve", **options: Any) -> MemoryManager:
    """Return a memory of twenty pages, a tool's result among them, whose older part has left the context."""
    memory = MemoryManager(CONFIG, store=store, counter=WordCounter(), **options)
    memory.add_message_sync({"role": "user", "content": "read the manual"})
    for number in range(1, 21):
        memory.add_message_sync({"role": "assistant", "content": f"page {number} says {subject} V-{number} is open"})
        if number == 4:
            for message in call_and_result("read_gauge", "pressure of the boiler: 42 bar"):
                memory.add_message_sync(message)
        memory.add_message_sync({"role": "user", "content": "turn the page, please, and go on reading"})
    return memory


def call_and_result(tool: str, text: str) -> list[dict[str, Any]]:
    call = {"id": "c1", "type": "function", "function": {"name": tool, "arguments": '{"which": "boiler"}'}}
    return [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": text},
    ]


def text(hit: Hit) -> str:
    return str(hit.message["content"])


# --- One conversation -------------------------------------------------------------------------------------------------


def test_the_message_that_was_meant_comes_first(memory: MemoryManager) -> None:
    assert "V-5" in text(memory.recall("valve V-5")[0])


def test_a_hit_says_what_it_is(memory: MemoryManager) -> None:
    hit = memory.recall("pressure of the boiler")[0]

    assert (hit.role, hit.text, hit.is_excerpt) == ("tool", "pressure of the boiler: 42 bar", False)
    assert hit.session_id == memory.session_id
    assert hit.tokens > 0
    assert memory.original(hit.ref) == hit.message


def test_what_stands_whole_in_the_context_is_not_recalled(memory: MemoryManager) -> None:
    context = memory.messages

    assert not {id(one) for one in context} & {id(hit.message) for hit in memory.recall("page valve reading", 100)}


def test_a_compression_that_was_taken_back_leaves_nothing_to_recall(memory: MemoryManager) -> None:
    while memory.get_stats()["compression_count"] > memory.get_stats()["undone_count"]:
        memory.undo()

    assert memory.recall("valve V-5", limit=100) == []


def test_roles_and_tools_narrow_it_down(memory: MemoryManager) -> None:
    assert {hit.role for hit in memory.recall("page reading", limit=50, role="user")} == {"user"}
    assert [hit.role for hit in memory.recall("boiler", tool="read_gauge")] == ["tool", "assistant"]
    assert memory.recall("boiler", tool="no_such_tool") == []


@pytest.mark.parametrize(("limit", "count"), [(None, 5), (2, 2), (0, 0), (-1, 0)])
def test_a_limit_is_a_limit(memory: MemoryManager, limit: int | None, count: int) -> None:
    assert len(memory.recall("page valve", limit)) == count


@pytest.mark.parametrize("query", ["", "  ", "nosuchword"])
def test_what_matches_nothing_finds_nothing(memory: MemoryManager, query: str) -> None:
    assert memory.recall(query) == []


def test_a_scope_that_does_not_exist_is_refused(memory: MemoryManager) -> None:
    with pytest.raises(ConfigError, match="session, all"):
        memory.recall("valve", scope="everything")  # type: ignore[arg-type]  # that is the point
    with pytest.raises(ConfigError, match="role must be one of system, user, assistant, tool, or None, got 'wizard'"):
        memory.recall("valve", role="wizard")  # type: ignore[arg-type]  # as above


def test_without_a_store_there_are_no_other_sessions() -> None:
    with pytest.raises(ConfigError, match="store"):
        talk(None).recall("valve", scope="all")


def test_the_ranking_is_the_same_with_and_without_a_store(store: SqliteSessionStore) -> None:
    alone, kept = talk(None), talk(store)

    for query in ("valve V-7", "pressure of the boiler", "page 3"):
        assert alone.recall(query)[0].ref == kept.recall(query)[0].ref


# --- Budgets ----------------------------------------------------------------------------------------------------------


def test_a_budget_takes_as_many_as_fit(memory: MemoryManager) -> None:
    hits = memory.recall("page valve", budget_tokens=100)

    assert len(hits) > 5
    assert 80 < sum(hit.tokens for hit in hits) <= 100


def test_a_message_that_exceeds_the_rest_of_the_budget_comes_in_part() -> None:
    memory = MemoryManager(CONFIG, counter=WordCounter())
    lines = [f"entry {number} is of no interest" for number in range(100)]
    lines[70] = "the spare rotor lies on shelf 12"
    for content in ("tidy up", "\n".join(lines), *["go on " * 30] * 4):
        memory.add_message_sync({"role": "user", "content": content})

    (hit,) = [hit for hit in memory.recall("spare rotor", budget_tokens=40) if "rotor" in hit.text]

    assert hit.is_excerpt
    assert hit.tokens <= 40
    assert lines[70] in hit.text.split("\n")
    assert set(hit.text.split("\n")) <= set(lines)
    assert hit.message["content"] == "\n".join(lines)


@given(budget=st.integers(1, 300), query=st.sampled_from(["page valve", "V-9", "reading", "boiler pressure"]))
def test_a_budget_is_never_exceeded(budget: int, query: str) -> None:
    hits = TALK.recall(query, budget_tokens=budget)
    count = WordCounter().count_text

    assert sum(hit.tokens for hit in hits) <= budget
    assert all(count(hit.text) <= hit.tokens for hit in hits)


TALK = talk(None)


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="budget_tokens"):
        TALK.recall("valve", budget_tokens=0)


@given(
    content=st.text(st.characters(codec="utf-8") | st.just("\n"), max_size=300),
    query=st.text(max_size=20),
    tokens=st.integers(1, 60),
)
def test_a_passage_stands_in_its_text_and_fits(content: str, query: str, tokens: int) -> None:
    found = passage(content, query, tokens=tokens, count=len)

    assert len(found) <= tokens
    assert found.strip("…") in content


# --- All sessions -----------------------------------------------------------------------------------------------------


def test_other_sessions_are_searched_too(store: SqliteSessionStore) -> None:
    with talk(store, subject="turbine") as other:
        pass
    memory = talk(store)

    hit = memory.recall("turbine V-5", scope="all")[0]

    assert hit.ref == f"{other_id(store, memory)}:r12"
    assert memory.original(hit.ref) == hit.message
    assert "turbine" in text(hit)
    assert all("turbine" not in text(found) for found in memory.recall("turbine V-5"))
    with pytest.raises(UnknownReferenceError):
        memory.original(f"{hit.session_id}:r4000")
    del other


def other_id(store: SqliteSessionStore, memory: MemoryManager) -> str:
    return next(info.id for info in store.sessions() if info.id != memory.session_id)


def test_own_messages_keep_their_short_references_among_all(store: SqliteSessionStore) -> None:
    memory = talk(store)

    assert memory.recall("valve V-5", scope="all")[0].ref == memory.recall("valve V-5")[0].ref


def test_a_branch_recalls_what_it_shares_and_not_what_came_after(store: SqliteSessionStore) -> None:
    memory = talk(store)
    branch = memory.branch()
    for _ in range(2):
        memory.add_message_sync({"role": "user", "content": "the zeppelin leaves at noon " + "and so on " * 60})

    assert "V-5" in text(branch.recall("valve V-5")[0])
    assert branch.recall("zeppelin") == []
    assert "zeppelin" in text(branch.recall("zeppelin", scope="all")[0])


def test_a_resumed_memory_recalls(store: SqliteSessionStore) -> None:
    with talk(store) as memory:
        before = memory.recall("valve V-5")

    resumed = MemoryManager.resume(store=store, counter=WordCounter())

    assert [(hit.ref, hit.message) for hit in resumed.recall("valve V-5")] == [(hit.ref, hit.message) for hit in before]


def test_a_store_is_searched_without_a_memory(store: SqliteSessionStore) -> None:
    with talk(store):
        pass

    hits = search_sessions(store, "pressure of the boiler", limit=3)

    assert hits[0].ref == f"{store.sessions()[0].id}:r10"
    assert search_sessions(store, "boiler", session="latest", role="user") == []
    assert [hit.role for hit in search_sessions(store, "boiler", tool="read_gauge")] == ["tool", "assistant"]


def test_what_a_deleted_session_shared_is_still_found(store: SqliteSessionStore) -> None:
    memory = talk(store)
    branch = memory.branch()
    memory.close()
    store.delete(str(memory.session_id or next(i.id for i in store.sessions() if i.parent_id is None)))

    assert "V-5" in text(branch.recall("valve V-5")[0])
    assert "V-5" in text(branch.recall("valve V-5", scope="all")[0])


def test_a_first_search_before_anything_was_said_finds_nothing(store: SqliteSessionStore) -> None:
    memory = MemoryManager(CONFIG, store=store)

    assert memory.recall("valve") == memory.recall("valve", scope="all") == []


# --- By meaning -------------------------------------------------------------------------------------------------------


class Synonyms:
    """An embedder for which some words mean the same, and all others nothing in particular."""

    name = "synonyms"
    dimensions: int | None = 16

    def __init__(self) -> None:
        self.texts: list[str] = []

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        self.texts += texts
        return [_vector("heat" if "boiler" in one or "warmth" in one else one) for one in texts]


def _vector(word: str) -> Vector:
    numbers = [byte - 127.5 for byte in hashlib.md5(word.encode(), usedforsecurity=False).digest()]
    length = math.hypot(*numbers)
    return struct.pack("<16f", *(number / length for number in numbers))


@pytest.mark.parametrize("is_kept", [False, True])
def test_with_an_embedder_what_was_meant_is_found(store: SqliteSessionStore, is_kept: bool) -> None:
    embedder = Synonyms()
    memory = talk(store if is_kept else None, embedder=embedder)
    assert embedder.texts == [], "adding embeds nothing"

    hits = memory.recall("warmth")

    assert "boiler" in hits[0].text
    embedded = len(embedder.texts)
    memory.recall("warmth again")
    assert len(embedder.texts) == embedded + 1, "each message is embedded once"


async def test_an_embedder_that_answers_asynchronously_does() -> None:
    class Elsewhere(Synonyms):
        async def aembed(self, texts: Sequence[str]) -> list[Vector]:
            return super().embed(texts)

        def embed(self, texts: Sequence[str]) -> list[Vector]:
            raise AssertionError("it blocks")

    memory = talk(None, embedder=Elsewhere())

    assert "boiler" in (await memory.recall_async("warmth"))[0].text


async def test_a_store_that_is_elsewhere_is_searched_in_threads(store: SqliteSessionStore) -> None:
    class Elsewhere(SqliteSessionStore):
        is_remote = True

    embedder, remote = Synonyms(), Elsewhere(":memory:")
    memory = talk(remote, embedder=embedder)

    assert "boiler" in (await memory.recall_async("warmth"))[0].text
    assert (await memory.recall_async("warmth", scope="all"))[0].role == "tool"
    memory.close()
    remote.close()


def test_embeddings_that_cost_something_are_booked() -> None:
    told: list[EmbeddingCall] = []
    memory = talk(None, embedder=OpenAIEmbedder(fake_client(), model="text-embedding-3-small", on_usage=told.append))

    before = memory.get_stats()

    memory.recall("valve")
    stats = memory.get_stats()

    assert stats["recall_cost"] > 0
    assert stats["recall_cost"] == pytest.approx(sum(call.cost_usd or 0.0 for call in told))
    assert stats["total_cost"] == pytest.approx(before["total_cost"] + stats["recall_cost"])
    assert [stats[name] - before[name] for name in ("request_count", "unpriced_tokens")] == [0, 0]
    assert memory.tracker.by_purpose["recall"].calls == len(told) > 0


def fake_client() -> Any:
    def create(*, input: Sequence[str], **_: object) -> object:
        data = [SimpleNamespace(index=index, embedding=[1.0, float(len(one))]) for index, one in enumerate(input)]
        return SimpleNamespace(data=data, usage=SimpleNamespace(prompt_tokens=1_000, total_tokens=1_000))

    return SimpleNamespace(embeddings=SimpleNamespace(create=create))


def test_an_embedder_that_needs_a_client_is_asked_for() -> None:
    with pytest.raises(ConfigError, match="embedder=OpenAIEmbedder"):
        MemoryManager(MemoryConfig(embedder="openai:text-embedding-3-small"))


@pytest.mark.parametrize("name", ["locale", "openai:", "", 3])
def test_an_unknown_embedder_is_refused(name: Any) -> None:
    with pytest.raises(ConfigError, match=r"local, openai:MODEL, or none"):
        MemoryConfig(embedder=name)


# --- An archive of one's own ------------------------------------------------------------------------------------------


def test_an_archive_of_ones_own_is_searched_as_it_searches() -> None:
    class Own:
        def __init__(self) -> None:
            self.kept = InMemoryArchive()

        def put(self, record: Record) -> None:
            self.kept.put(record)

        def get(self, ref: str) -> Record:
            return self.kept.get(ref)

        def search(self, query: str, *, limit: int) -> list[Hit]:
            return [
                Hit(ref=hit.ref, message=hit.message, score=hit.score, excerpt=hit.excerpt)
                for hit in self.kept.search(query, limit=limit)
            ]

        def __iter__(self) -> Iterator[Record]:
            return iter(self.kept)

        def __len__(self) -> int:
            return len(self.kept)

    memory = talk(None, archive=Own())

    assert "V-5" in memory.recall("valve V-5")[0].text
    assert {hit.role for hit in memory.recall("page reading", role="user")} == {"user"}
    assert sum(hit.tokens for hit in memory.recall("page valve", budget_tokens=50)) <= 50


# --- In Postgres ------------------------------------------------------------------------------------------------------


async def test_a_database_is_searched_like_a_file(postgres_server: str, postgres_schema: str) -> None:
    postgres = pytest.importorskip("memory.sessions.postgres")
    store = postgres.PostgresSessionStore(postgres_server, schema=postgres_schema)
    memory = talk(store, embedder=Synonyms())
    branch = memory.branch()

    assert "boiler" in memory.recall("warmth")[0].text
    assert "boiler" in (await memory.recall_async("warmth", scope="all"))[0].text
    assert "V-5" in branch.recall("valve V-5")[0].text
    assert search_sessions(store, "boiler", tool="read_gauge")[0].role == "tool"
    for one in (memory, branch):
        one.close()
    store.close()
