"""The index in SQLite: what is added is found, in its namespace, whatever the text, and forgotten when asked."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory import MissingDependencyError
from memory.messages import Reading, ToolCall, ToolResult
from memory.recall import Document, Fts5Index, Query, document_of

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=60)
"""Control characters and lone surrogates too."""


def say(seq: int, text: str, **fields: Any) -> Document:
    values: dict[str, Any] = {"namespace": "n", "role": "user", "at": 1000.0 + seq} | fields
    return Document(seq=seq, text=text, **values)


def found(index: Fts5Index, text: str, **fields: Any) -> list[int]:
    return [one.seq for one in index.search(Query(text=text, **fields))]


@pytest.fixture
def index() -> Iterator[Fts5Index]:
    with closing(sqlite3.connect(":memory:")) as connection:
        yield Fts5Index(connection)


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("call getUserName() first", "user name"),
        ("call getUserName() first", "getusername"),
        ("the HTTPServerError again", "server"),
        ("set max_retry_count to 3", "retry count"),
        ("see src/memory/window.py:88", "window.py"),
        ("see src/memory/window.py:88", "memory/window"),
        ("error E1234x", "1234"),
        ("she researched it", "researching"),
        ("die Größe ist falsch", "GRÖSSE"),
        ("пароль: тайна", "ПАРОЛЬ"),
        ("東京タワーの高さ", "東京"),
        ("naïve café", "CAFÉ"),
        ("a \ud83d half", "\ud83d"),
        ("nul \x00 byte", "\x00"),
        ("to be or not to be", "not to be"),
    ],
)
def test_words_stems_identifiers_and_other_scripts_are_found(index: Fts5Index, text: str, query: str) -> None:
    index.add([say(0, "nothing of the kind"), say(1, text), say(2, "nor here")])

    assert found(index, query)[0] == 1


@given(texts=st.lists(ANY_TEXT, max_size=4), query=ANY_TEXT)
def test_any_text_is_legal_and_a_contained_query_is_found_first(texts: list[str], query: str) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        index = Fts5Index(connection)
        index.add(say(seq, text) for seq, text in enumerate(texts))
        seqs = found(index, query)

    wanted = query.strip().casefold()
    containing = {seq for seq, text in enumerate(texts) if wanted and wanted in text.casefold()}
    assert set(seqs[: len(containing)]) == containing


@pytest.mark.parametrize("query", ["", "   ", "\n", "nosuchword", "(", "*", '"', "' OR 1=1 --", "?", "NEAR(a b)"])
def test_a_query_of_unknown_words_finds_nothing(index: Fts5Index, query: str) -> None:
    index.add([say(0, "some words"), say(1, "other words")])

    assert found(index, query) == []


def test_adding_again_changes_nothing(index: Fts5Index) -> None:
    for _ in range(2):
        index.add([say(0, "one apple"), say(1, "two pears")])

    assert found(index, "apple pears") in ([0, 1], [1, 0])
    assert index.newest_seq("n") == 1


def test_the_newest_number_is_minus_one_before_the_first(index: Fts5Index) -> None:
    assert index.newest_seq("n") == -1


def test_a_namespace_sees_only_its_own(index: Fts5Index) -> None:
    index.add([say(0, "apple", namespace="a"), say(0, "apple", namespace="b"), say(1, "apple", namespace="b")])
    hits = {names: index.search(Query(text="apple", namespaces=names)) for names in (("a",), ("b",), ("a", "b"), None)}

    assert [len(found) for found in hits.values()] == [1, 2, 3, 3]
    assert {one.namespace for one in hits["b",]} == {"b"}


def test_role_tool_and_place_narrow_a_search(index: Fts5Index) -> None:
    index.add(
        [
            say(0, "apple", role="user"),
            say(1, "apple", role="assistant", tools=("read file",)),
            say(2, "apple", role="tool"),
        ]
    )

    assert found(index, "apple", role="user") == [0]
    assert found(index, "apple", tool="read file") == [1]
    assert found(index, "apple", since_seq=1, until_seq=2, namespaces=("n",)) == [1]
    assert sorted(found(index, "apple", since_seq=1)) == [1, 2]


def test_what_was_removed_is_gone_and_its_words_with_it(index: Fts5Index) -> None:
    index.add([say(0, "the apple"), say(1, "the pear"), say(2, "other", namespace="m")])
    index.remove("n", [0, 17])
    index.remove("m")
    index.remove("never seen")

    assert found(index, "apple") == []
    assert found(index, "other") == []
    assert found(index, "pear") == [1]
    assert index.newest_seq("m") == -1


def test_after_a_removal_no_word_is_left_in_the_file(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        index = Fts5Index(connection)
        index.add([say(0, "zanzibar and 4711"), say(1, "kept")])
        index.remove("n", [0])
        connection.execute("CREATE VIRTUAL TABLE temp.words USING fts5vocab(main, recall_terms, row)")
        words = {word for (word,) in connection.execute("SELECT term FROM temp.words")}

    assert words == {"kept", "role=user"}


def test_inside_a_transaction_the_caller_decides(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as connection:
        index = Fts5Index(connection)
        connection.execute("BEGIN IMMEDIATE")
        index.add([say(0, "apple")])
        connection.execute("ROLLBACK")
        after_rollback = found(index, "apple")
        index.add([say(0, "apple")])

        assert after_rollback == []
        assert found(index, "apple") == [0]
        with pytest.raises(sqlite3.OperationalError, match="no transaction"):
            connection.execute("COMMIT")


def test_two_connections_index_the_same_messages_once(tmp_path: Path) -> None:
    with (
        closing(sqlite3.connect(tmp_path / "a.db")) as one,
        closing(sqlite3.connect(tmp_path / "a.db")) as other,
    ):
        first, second = Fts5Index(one), Fts5Index(other)
        first.add([say(0, "apple"), say(1, "pear")])
        second.add([say(0, "apple"), say(1, "pear"), say(2, "plum")])

        assert first.newest_seq("n") == second.newest_seq("n") == 2
        assert found(first, "apple pear plum") == found(second, "apple pear plum")


def test_a_document_has_every_part_of_its_message() -> None:
    reading = Reading(
        role="assistant",
        text="let me see",
        reasoning="the cache is stale",
        calls=(ToolCall(id="c", name="read_file", arguments='{"path": "a.py"}'),),
        results=(ToolResult(call_id="c", name="grep", text="exit code 137"),),
    )
    document = document_of(reading, namespace="n", seq=3, at=5.0)

    assert document.tools == ("read_file", "grep")
    for part in ("let me see", "the cache is stale", "read_file", "a.py", "exit code 137"):
        assert part in document.text


class WithoutFts5(sqlite3.Connection):
    """Answers as a build of SQLite without full-text search does."""

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        if "fts5" in sql:
            raise sqlite3.OperationalError("no such function: fts5_source_id")
        return super().execute(sql, *arguments)


def test_a_build_without_full_text_search_is_told_what_to_do() -> None:
    with (
        closing(sqlite3.connect(":memory:", factory=WithoutFts5)) as connection,
        pytest.raises(MissingDependencyError, match="built without FTS5"),
    ):
        Fts5Index(connection)


def test_a_failing_add_leaves_nothing_of_itself_in_the_callers_transaction(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as connection:
        index = Fts5Index(connection)
        connection.execute("BEGIN IMMEDIATE")
        index.add([say(0, "kept")])
        with pytest.raises(sqlite3.IntegrityError):
            index.add([say(0, "lost", namespace="m"), say(1, "lost", speaker=None)])
        connection.execute("COMMIT")

        assert found(index, "kept") == [0]
        assert found(index, "lost") == []
        assert index.newest_seq("m") == -1


def test_documents_may_come_late_and_in_any_order(index: Fts5Index) -> None:
    index.add([say(5, "five apples"), say(2, "two apples")])
    index.add([say(3, "three apples"), say(2, "another text under a known number")])

    assert sorted(found(index, "apples")) == [2, 3, 5]
    assert index.newest_seq("n") == 5


def test_a_common_word_finds_the_newest_and_two_common_words_find_an_old_message(index: Fts5Index) -> None:
    pears = [say(seq, f"pear number {seq}") for seq in range(10, 2000)]
    apples = [say(seq, f"apple number {seq}") for seq in range(2010, 4000)]
    index.add([say(1, "an apple beside a pear"), *pears, *apples])

    assert found(index, "apple")[0] == 3999
    assert found(index, "apple pear")[0] == 1


def test_a_small_namespace_is_searched_whole_beside_a_large_one(index: Fts5Index) -> None:
    index.add([say(seq, "the same apple", namespace="large") for seq in range(3000)])
    index.add([say(0, "an old apple", namespace="small")])
    index.add([say(seq, "the same apple", namespace="newer") for seq in range(3000)])

    assert found(index, "apple", namespaces=("small",)) == [0]


def test_a_page_is_a_legal_query(index: Fts5Index) -> None:
    page = " ".join(f"word{number} of_{number}" for number in range(5000))
    index.add([say(0, "word17 and word18"), say(1, "nothing")])

    assert isinstance(found(index, page), list)


def test_processes_that_index_one_file_at_once_index_each_message_once(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        Fts5Index(connection)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: index_all(path), range(4)))
    with closing(sqlite3.connect(path)) as connection:
        index = Fts5Index(connection)
        counted = connection.execute("SELECT documents FROM recall_namespaces").fetchall()

        assert counted == [(40,)]
        assert sorted(found(index, "apple", limit=99)) == list(range(40))


def index_all(path: Path) -> None:
    """Index forty messages through a connection of one's own."""
    with closing(sqlite3.connect(path, timeout=30)) as connection:
        index = Fts5Index(connection)
        for start in range(0, 40, 10):
            index.add([say(seq, f"apple {seq}") for seq in range(start, start + 10)])
