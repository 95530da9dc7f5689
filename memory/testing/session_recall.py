"""Of a session store: what was indexed is found, what has a vector is known, and both go with their session."""

from __future__ import annotations

from ..recall import Document, Query
from ..sessions.store import SessionStore
from .session_ownership import MakeStore
from .session_turns import Writer

VECTOR = b"\0\0\x80\x3f\0\0\0\0"
"""(1.0, 0.0) as little-endian float32."""


class RecallContract:
    """Tests of `unindexed`, `index`, `search`, `unembedded`, `add_vectors` and `vectors`."""

    def test_new_messages_are_unindexed_until_they_are_indexed(self, make_store: MakeStore) -> None:
        store = make_store()
        writer = Writer(store, "a1")
        assert store.unindexed() == []
        writer.write("one", "two")
        assert pending(store) == [("a1", 1), ("a1", 2)]

        index_all(make_store())

        assert store.unindexed() == []
        writer.write("three")
        assert pending(store) == [("a1", 3)]

    def test_unindexed_messages_come_with_their_session(self, make_store: MakeStore) -> None:
        store = make_store()
        turn = Writer(store, "a1").write("one")

        assert store.unindexed() == [(store.load("a1").info, turn.messages[0])]

    def test_no_more_unindexed_messages_come_than_asked_for(self, make_store: MakeStore) -> None:
        store = make_store()
        Writer(store, "a1").write("one", "two")
        Writer(store, "b1").write("one", "two")

        seen = []
        while batch := store.unindexed(limit=3):
            seen.append(len(batch))
            store.index([document(info.id, row.seq, "x") for info, row in batch])

        assert seen == [3, 1]

    def test_messages_may_be_indexed_in_any_order(self, make_store: MakeStore) -> None:
        store = make_store()
        Writer(store, "a1").write("one", "two", "three")

        store.index([document("a1", 3, "three")])
        assert pending(store) == [("a1", 1), ("a1", 2)]
        store.index([document("a1", 1, "one")])
        assert pending(store) == [("a1", 2)]
        store.index([document("a1", 2, "two")])

        assert pending(store) == []

    def test_of_a_branch_the_shared_messages_are_asked_for_too(self, make_store: MakeStore) -> None:
        store = make_store()
        trunk = Writer(store, "a1")
        trunk.write("1", "2", "3")
        trunk.branch("b1", seq=2).write("b3")
        Writer(store, "c1").write("other")

        assert sorted(pending(store, "b1")) == [("a1", 1), ("a1", 2), ("b1", 3)]
        assert len(pending(store)) == 5

    def test_what_was_indexed_is_found(self, make_store: MakeStore) -> None:
        store = make_store()
        Writer(store, "a1").write("the lighthouse keeper", "a sailor")
        Writer(store, "b1").write("another lighthouse")
        store.index([document("a1", 1, "the lighthouse keeper"), document("a1", 2, "a sailor")])
        store.index([document("b1", 1, "another lighthouse")])
        other = make_store()

        assert set(found(other, "lighthouse")[:2]) == {("a1", 1), ("b1", 1)}, "behind them, neighbours may come"
        assert found(other, "lighthouse", "b1") == [("b1", 1)]
        assert found(other, "lighthouse", "nosuch") == found(other, "submarine") == []

    def test_any_text_may_be_searched_for(self, make_store: MakeStore) -> None:
        store = make_store()
        Writer(store, "a1").write("one")
        store.index([document("a1", 1, "one \0 \ud800 two")])

        for text in ("", '"', "'; --", "AND OR NOT", "\ud800", "\0", "a" * 10_000, "*", "(", "%", "x:y"):
            store.search(Query(text=text))
        assert found(store, "two") == [("a1", 1)]

    def test_a_deleted_session_is_not_found(self, make_store: MakeStore) -> None:
        store = make_store()
        writer = Writer(store, "a1")
        writer.write("lighthouse")
        index_all(store, "lighthouse")
        store.add_vectors("mini", [("a1", 1, VECTOR)])
        writer.release()

        store.delete("a1")

        assert found(store, "lighthouse") == []
        assert store.vectors("mini") == []

    def test_of_a_deleted_session_what_branches_share_is_found(self, make_store: MakeStore) -> None:
        store = make_store()
        trunk = Writer(store, "a1")
        trunk.write("lighthouse", "lighthouse")
        trunk.branch("b1", seq=1).write("b2")
        index_all(store, "lighthouse")
        store.add_vectors("mini", [("a1", 1, VECTOR), ("a1", 2, VECTOR)])
        trunk.release()

        store.delete("a1")

        assert found(store, "lighthouse", "a1") == [("a1", 1)]
        assert [row[1:3] for row in store.vectors("mini", "b1")] == [("a1", 1)]

    def test_forgotten_messages_are_not_found(self, make_store: MakeStore) -> None:
        store = make_store()
        writer = Writer(store, "a1")
        writer.write("lighthouse", "lighthouse")
        index_all(store, "lighthouse")
        store.add_vectors("mini", [("a1", 1, VECTOR), ("a1", 2, VECTOR)])
        writer.release()

        store.forget("a1", [1])

        assert found(store, "lighthouse") == [("a1", 2)]
        assert [row[1:3] for row in store.vectors("mini")] == [("a1", 2)]
        assert store.unindexed() == [], "what was forgotten needs no index"
        assert store.unembedded("mini") == []

    # --- Vectors ------------------------------------------------------------------------------------------------------

    def test_messages_are_unembedded_until_they_have_a_vector_of_the_embedder(self, make_store: MakeStore) -> None:
        store = make_store()
        writer = Writer(store, "a1")
        assert store.unembedded("mini") == []
        writer.write("one", "two")

        store.add_vectors("mini", [("a1", 1, VECTOR)])

        assert store.unembedded("mini") == [("a1", 2)]
        assert sorted(store.unembedded("other")) == [("a1", 1), ("a1", 2)]
        assert len(store.unembedded("other", limit=1)) == 1
        store.add_vectors("mini", [("a1", 2, VECTOR)])
        assert store.unembedded("mini") == []
        writer.write("three")
        assert store.unembedded("mini") == [("a1", 3)]

    def test_of_a_branch_the_shared_messages_want_vectors_too(self, make_store: MakeStore) -> None:
        store = make_store()
        trunk = Writer(store, "a1")
        trunk.write("1", "2", "3")
        trunk.branch("b1", seq=2).write("b3")

        assert sorted(store.unembedded("mini", "b1")) == [("a1", 1), ("a1", 2), ("b1", 3)]

    def test_vectors_come_back_by_ascending_row(self, make_store: MakeStore) -> None:
        store = make_store()
        Writer(store, "a1").write("one", "two")
        Writer(store, "b1").write("one")
        store.add_vectors("mini", [("b1", 1, VECTOR), ("a1", 2, VECTOR * 2)])
        store.add_vectors("other", [("a1", 1, VECTOR * 3)])

        rows = make_store().vectors("mini")

        assert [row[1:] for row in rows] == [("b1", 1, VECTOR), ("a1", 2, VECTOR * 2)]
        assert rows[0][0] < rows[1][0]
        assert store.vectors("mini", after_row=rows[0][0]) == rows[1:]
        assert store.vectors("mini", "a1") == rows[1:]
        assert store.vectors("nosuch") == []

    def test_rows_only_grow(self, make_store: MakeStore) -> None:
        store = make_store()
        writer = Writer(store, "a1")
        writer.write("one")
        store.add_vectors("mini", [("a1", 1, VECTOR)])
        ((row, *_),) = store.vectors("mini")
        writer.release()
        store.delete("a1")

        Writer(store, "b1").write("one")
        store.add_vectors("mini", [("b1", 1, VECTOR)])

        assert [one[1] for one in store.vectors("mini", after_row=row)] == ["b1"]

    def test_a_vector_that_comes_twice_counts_once(self, make_store: MakeStore) -> None:
        store = make_store()
        Writer(store, "a1").write("one")

        for _ in range(2):
            store.add_vectors("mini", iter([("a1", 1, VECTOR)]))

        assert len(store.vectors("mini")) == 1

    def test_of_a_branch_the_vectors_it_shares_come_too(self, make_store: MakeStore) -> None:
        store = make_store()
        trunk = Writer(store, "a1")
        trunk.write("1", "2", "3")
        trunk.branch("b1", seq=2).write("b3")
        store.add_vectors("mini", [("a1", n, VECTOR) for n in (1, 2, 3)] + [("b1", 3, VECTOR)])

        assert [row[1:3] for row in store.vectors("mini", "b1")] == [("a1", 1), ("a1", 2), ("b1", 3)]

    def test_what_comes_for_a_session_that_was_deleted_meanwhile_is_dropped(self, make_store: MakeStore) -> None:
        store = make_store()

        store.index([document("gone", 1, "lighthouse")])
        store.add_vectors("mini", [("gone", 1, VECTOR)])

        assert found(store, "lighthouse") == []
        assert store.vectors("mini") == []


def document(namespace: str, seq: int, text: str) -> Document:
    """Return a document of a message of `Writer`."""
    return Document(namespace=namespace, seq=seq, role="user", at=1_790_000_000.0 + seq, text=text)


def index_all(store: SessionStore, text: str = "words") -> None:
    """Index every message as if it said `text`."""
    store.index([document(info.id, row.seq, text) for info, row in store.unindexed()])


def pending(store: SessionStore, session_id: str | None = None) -> list[tuple[str, int]]:
    """Return which messages are unindexed."""
    return [(info.id, row.seq) for info, row in store.unindexed(session_id)]


def found(store: SessionStore, text: str, *namespaces: str) -> list[tuple[str, int]]:
    """Return where a text is found."""
    rows = store.search(Query(text=text, namespaces=namespaces or None))
    return [(row.namespace, row.seq) for row in rows]
