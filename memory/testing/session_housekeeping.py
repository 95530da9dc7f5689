"""Of a session store: titles, deleting, forgetting, limits."""

from __future__ import annotations

from functools import partial
from hashlib import sha256

from ..errors import CorruptStorageError, SessionInUseError, UnknownSessionError
from ..sessions.encoding import FORGOTTEN, dumped
from ..sessions.store import SessionStore
from .session_ownership import MakeStore
from .session_reading import said
from .session_turns import Writer, call, compression, days_ago, everything, layout, raised


class HousekeepingContract:
    """Tests of `rename`, `delete`, `forget` and `limit`."""

    def test_a_title_that_was_given_stays(self, make_store: MakeStore) -> None:
        store = make_store()
        writer = Writer(store, "a1", title="of the first message")
        writer.write("one")

        make_store().rename("a1", "Besprechung – 会議 😀")
        writer.write("two")

        assert store.load("a1").info.heading.title == "Besprechung – 会議 😀"
        assert store.find("Besprechung – 会議 😀").id == "a1"
        raised(UnknownSessionError, lambda: store.rename("nosuch", "x"))

    def test_renaming_does_not_count_as_a_turn(self, make_store: MakeStore) -> None:
        store = make_store()
        Writer(store, "a1", at=1_000.0).write("one")
        Writer(store, "b1", at=2_000.0).write("one")

        store.rename("a1", "new")

        assert [one.id for one in store.sessions()] == ["b1", "a1"]

    # --- Deleting -----------------------------------------------------------------------------------------------------

    def test_a_deleted_session_is_gone_with_all_that_it_had(self, make_store: MakeStore) -> None:
        store = make_store()
        image = bytes(10_000)
        Writer(store, "a1").write(image, calls=(call(1),), compressions=(compression(1),), layouts=(layout(1),))
        let_go(store, "a1")

        make_store().delete("a1")

        assert is_gone(store, "a1")
        assert store.sessions() == []
        assert store.daily_usage() == []
        raised(CorruptStorageError, lambda: store.blob(sha256(image).hexdigest()))

    def test_a_session_that_somebody_has_open_is_not_deleted(self, make_store: MakeStore) -> None:
        store = make_store()
        Writer(store, "a1").write("one")
        before = everything(store, "a1")

        raised(SessionInUseError, lambda: store.delete("a1"))

        assert everything(store, "a1") == before

    def test_a_session_that_is_not_there_is_not_deleted(self, make_store: MakeStore) -> None:
        store = make_store()
        Writer(store, "a1").write("one")

        for id in ("nosuch", "a", "latest", "", "a title"):
            raised(UnknownSessionError, partial(store.delete, id))

    def test_an_id_may_be_used_again_after_a_deletion(self, make_store: MakeStore) -> None:
        store = make_store()
        Writer(store, "a1").write("old", calls=(call(1),))
        let_go(store, "a1")
        store.delete("a1")

        Writer(store, "a1").write("new")

        assert said(store.messages("a1")) == ["new"]
        assert store.calls("a1") == []

    def test_what_another_session_needs_survives(self, make_store: MakeStore) -> None:
        store = make_store()
        image = bytes(10_000)
        for id in ("a1", "b1"):
            writer = Writer(store, id)
            writer.write(image)
            writer.release()

        store.delete("a1")
        assert store.blob(sha256(image).hexdigest()) == image

        store.delete("b1")
        raised(CorruptStorageError, lambda: store.blob(sha256(image).hexdigest()))

    def test_branches_keep_what_they_share_with_a_deleted_session(self, make_store: MakeStore) -> None:
        store = make_store()
        shared, own = b"s" * 10_000, b"o" * 10_000
        trunk = Writer(store, "a1")
        trunk.write("1", shared, own)
        branch = trunk.branch("b1", seq=2)
        branch.write("b3")
        before = everything(store, "b1")
        trunk.release()

        store.delete("a1")

        assert is_gone(store, "a1")
        assert [one.id for one in store.sessions()] == ["b1"]
        assert everything(store, "b1") == before
        assert store.line("b1") == [("a1", 2), ("b1", 3)]
        assert store.blob(sha256(shared).hexdigest()) == shared
        raised(CorruptStorageError, lambda: store.blob(sha256(own).hexdigest()))
        branch.write("b4")  # and it goes on

        branch.release()
        store.delete("b1")

        assert is_gone(store, "b1")
        raised(CorruptStorageError, lambda: store.blob(sha256(shared).hexdigest()))

    def test_branches_of_deleted_branches_keep_what_they_share(self, make_store: MakeStore) -> None:
        store = make_store()
        trunk = Writer(store, "a1")
        trunk.write("1", "2", "3")
        branch = trunk.branch("b1", seq=2)
        branch.write("b3", "b4")
        leaf = branch.branch("c1", seq=3)
        leaf.write("c4")
        before = everything(store, "c1")
        for writer in (trunk, branch, leaf):
            writer.release()

        store.delete("b1")
        store.delete("a1")

        assert everything(store, "c1")[1:] == before[1:]
        assert said(store.messages("c1")) == ["1", "2", "b3", "c4"]
        store.delete("c1")
        assert store.sessions() == []
        Writer(store, "a1").write("new")
        assert said(store.messages("a1")) == ["new"]

    def test_what_branches_share_of_a_deleted_session_is_read_under_its_id(self, make_store: MakeStore) -> None:
        store = make_store()
        trunk = Writer(store, "a1")
        trunk.write("1", "2", "3")
        trunk.branch("b1", seq=2).write("b3")
        trunk.release()

        store.delete("a1")

        assert said(store.messages("a1")) == ["1", "2"], "an index finds them there, and someone wants to read them"
        assert said(store.messages_of("a1", [2, 3])) == ["2"]
        assert store.line("a1") == [("a1", 2)]

    def test_a_deleted_session_cannot_be_written_or_branched_from(self, make_store: MakeStore) -> None:
        store = make_store()
        trunk = Writer(store, "a1")
        trunk.write("1", "2")
        trunk.branch("b1", seq=1).write("b2")
        trunk.release()
        store.delete("a1")

        raised(UnknownSessionError, lambda: trunk.write("3"))
        raised(UnknownSessionError, lambda: Writer(store, "a1").write("1"))
        raised(UnknownSessionError, lambda: trunk.branch("c1", seq=1).write("c2"))
        assert [one.id for one in store.sessions()] == ["b1"]

    # --- Limits -------------------------------------------------------------------------------------------------------

    def test_sessions_that_are_too_old_are_deleted(self, make_store: MakeStore) -> None:
        store = make_store()
        for id, days in (("old", 20), ("older", 30), ("new", 1)):
            Writer(store, id, at=days_ago(days)).write("one")
            let_go(store, id)
        Writer(store, "open", at=days_ago(40)).write("one")

        assert store.limit(max_age_seconds=10 * 86_400) == ["older", "old"]

        assert [one.id for one in store.sessions()] == ["new", "open"]
        assert store.limit(max_age_seconds=10 * 86_400) == []

    def test_a_size_limit_takes_the_oldest_and_no_more_than_needed(self, make_store: MakeStore) -> None:
        store = make_store()
        for n in range(6):
            Writer(store, f"session-{n}", at=days_ago(10 - n)).write(bytes([n]) * 2_000_000)
            let_go(store, f"session-{n}")

        deleted = store.limit(max_bytes=7_000_000)

        assert deleted == [f"session-{n}" for n in range(len(deleted))]
        assert 2 <= len(deleted) <= 4
        assert len(store.sessions()) == 6 - len(deleted)
        assert store.limit(max_bytes=7_000_000) == []

    def test_limits_leave_open_sessions_alone(self, make_store: MakeStore) -> None:
        store = make_store()
        Writer(store, "open").write("one")
        closed = Writer(store, "closed")
        closed.write("one")
        closed.release()

        assert store.limit(max_bytes=0, max_age_seconds=0) == ["closed"]

        assert [one.id for one in store.sessions()] == ["open"]

    def test_no_limit_deletes_nothing(self, make_store: MakeStore) -> None:
        store = make_store()
        writer = Writer(store, "a1")
        writer.write("one")
        writer.release()

        assert store.limit() == []
        assert store.limit(max_bytes=10**12, max_age_seconds=10**12) == []

    # --- Forgetting ---------------------------------------------------------------------------------------------------

    def test_forgotten_words_are_gone(self, make_store: MakeStore) -> None:
        store = make_store()
        image = bytes(10_000)
        writer = Writer(store, "a1")
        writer.write("keep", "the code is 4711", [{"type": "text", "text": "4711"}, image])
        writer.release()

        assert make_store().forget("a1", [2, 3, 99]) == 2

        kept, *forgotten = store.messages("a1")
        assert said([kept]) == ["keep"]
        assert all(FORGOTTEN in one.body and "4711" not in one.body for one in forgotten)
        assert [(one.seq, one.role, one.tokens, one.blobs) for one in forgotten] == [
            (2, "user", 7, ()),
            (3, "user", 7, ()),
        ]
        raised(CorruptStorageError, lambda: store.blob(sha256(image).hexdigest()))

    def test_a_blob_that_another_message_shows_is_not_forgotten(self, make_store: MakeStore) -> None:
        store = make_store()
        image = bytes(10_000)
        writer = Writer(store, "a1")
        writer.write(image, image)
        writer.release()

        store.forget("a1", [1])

        assert store.blob(sha256(image).hexdigest()) == image

    def test_summaries_of_forgotten_messages_lose_their_words(self, make_store: MakeStore) -> None:
        store = make_store()
        writer = Writer(store, "a1")
        before, quoting = compression(1, first=1, last=3), compression(2, first=4, last=6)
        building_on_it, without = compression(3, first=7, last=8), compression(4, first=7, last=8, summary="")
        writer.write(*"12345678", compressions=(before, quoting, building_on_it, without))
        writer.release()

        store.forget("a1", [5])

        first, *later, last = store.compressions("a1")
        assert first == before
        assert [one.summary for one in later] == [FORGOTTEN, FORGOTTEN], "a later summary may repeat an earlier one"
        assert last == without

    def test_layouts_that_quote_forgotten_messages_lose_their_words(self, make_store: MakeStore) -> None:
        store = make_store()
        image = bytes(10_000)
        digest = sha256(image).hexdigest()
        copies = [copy_of(1, "kept"), copy_of(2, "4711"), copy_of(9, "4711", covers=[[1, 3]])]
        standing = {"summaries": [[9, {"text": "4711", "digest": digest}]], "memory": None}
        quoting = layout(2, after_seq=3, body=dumped({"entries": copies, "standing": standing}), blobs=(digest,))
        before = layout(1, after_seq=1, body=dumped({"entries": [copy_of(1, "kept")]}))
        writer = Writer(store, "a1")
        writer.write(*"123", layouts=(before, quoting), blobs={digest: image})
        writer.release()

        store.forget("a1", [2])

        first, second = store.layouts("a1")
        assert first == before
        assert "4711" not in second.body
        assert "kept" in second.body
        assert digest not in second.blobs
        assert [len(store.blob(one)) > 0 for one in second.blobs] == [True] * len(second.blobs)
        raised(CorruptStorageError, lambda: store.blob(digest))

    def test_a_title_that_was_taken_from_forgotten_words_goes_too(self, make_store: MakeStore) -> None:
        store = make_store()
        for id in ("a1", "b1"):
            writer = Writer(store, id, title="the code is 4711")
            writer.write("the code is 4711", "two")
            writer.release()
        store.rename("b1", "given by hand")

        for id in ("a1", "b1"):
            store.forget(id, [1])

        assert "4711" not in store.load("a1").info.heading.title
        assert store.load("b1").info.heading.title == "given by hand"

    def test_a_branch_forgets_what_it_shares_in_all_that_share_it(self, make_store: MakeStore) -> None:
        store = make_store()
        trunk = Writer(store, "a1")
        trunk.write("1", "secret", "3")
        trunk.release()
        branch = trunk.branch("b1", seq=2)
        branch.write("b3", compressions=(compression(1, first=1, last=2, summary="secret"),))
        raised(SessionInUseError, lambda: store.forget("a1", [2]))
        assert said(store.messages("a1")) == ["1", "secret", "3"], "a branch that shares it is open"
        branch.release()

        assert store.forget("b1", [2]) == 1

        assert said(store.messages("a1")) == ["1", FORGOTTEN, "3"]
        assert said(store.messages("b1")) == ["1", FORGOTTEN, "b3"]
        assert store.compressions("b1")[0].summary == FORGOTTEN

    def test_nothing_of_an_open_session_is_forgotten(self, make_store: MakeStore) -> None:
        store = make_store()
        Writer(store, "a1").write("one")

        raised(SessionInUseError, lambda: store.forget("a1", [1]))
        raised(UnknownSessionError, lambda: store.forget("nosuch", [1]))

        assert said(store.messages("a1")) == ["one"]


def copy_of(seq: int, text: str, **more: object) -> dict[str, object]:
    """Return what a layout says of a shortened copy, or of a summary that covers messages."""
    body = dumped({"role": "user", "content": text})
    return {"kind": "clamped", "seq": seq, "tokens": 1, "form": "dict", "message": body, **more}


def is_gone(store: SessionStore, id: str) -> bool:
    """Return whether a session can neither be loaded nor found."""
    raised(UnknownSessionError, lambda: store.load(id))
    raised(UnknownSessionError, lambda: store.find(id))
    return id not in [one.id for one in store.sessions()]


def let_go(store: SessionStore, id: str) -> None:
    """Release a session for whoever owns it."""
    owner = store.load(id).info.owner
    assert owner is not None
    store.release(id, owner)
