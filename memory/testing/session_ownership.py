"""Of a session store: one owner writes, whole turns, and nobody writes over another."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeAlias

from ..errors import CorruptStorageError, SessionError, SessionInUseError, UnknownSessionError
from ..sessions.lease import new_owner
from ..sessions.store import SessionStore
from .session_turns import Writer, call, compression, everything, layout, owner_elsewhere, raised

MakeStore: TypeAlias = Callable[[], SessionStore]


class OwnershipContract:
    """Tests of `save`, `acquire` and `release`."""

    def test_a_session_begins_with_its_first_turn_and_belongs_to_its_owner(self, make_store: MakeStore) -> None:
        store = make_store()
        writer = Writer(store, "a1")
        assert store.sessions() == []

        writer.write("hello")

        (info,) = store.sessions()
        assert (info.id, info.owner, info.created_at) == ("a1", writer.owner, writer.at)
        assert info.lease_until > time.time(), "the owner's lease runs from its turn on"
        assert info.config == '{"strategy":"auto"}'

    def test_a_turn_comes_back_whole(self, make_store: MakeStore) -> None:
        writer = Writer(make_store(), "a1")
        turn = writer.write(
            "one", "two", calls=(call(1), call(2)), compressions=(compression(1),), layouts=(layout(1),)
        )

        other = make_store()

        assert other.messages("a1") == list(turn.messages)
        assert other.calls("a1") == list(turn.calls)
        assert other.compressions("a1") == list(turn.compressions)
        assert other.layouts("a1") == list(turn.layouts)
        saved = other.load("a1")
        assert (saved.state, saved.layout, saved.info.heading) == (turn.state, turn.layouts[0], turn.heading)

    def test_a_durable_turn_comes_back_too(self, make_store: MakeStore) -> None:
        turn = Writer(make_store(), "a1").write("one", is_durable=True)

        assert make_store().messages("a1") == list(turn.messages)

    def test_the_newest_turn_says_what_the_session_is(self, make_store: MakeStore) -> None:
        writer = Writer(make_store(), "a1")
        writer.write("one")

        turn = writer.write("two", heading=replace(writer.heading(), title="another", model=None, last_seq=2))

        saved = make_store().load("a1")
        assert (saved.info.heading, saved.state, saved.info.updated_at) == (turn.heading, turn.state, turn.at)

    def test_each_turn_renews_the_lease(self, make_store: MakeStore) -> None:
        store = make_store()
        writer = Writer(store, "a1")
        writer.write("one")
        before = store.load("a1").info.lease_until
        time.sleep(0.002)

        writer.write("two")

        assert store.load("a1").info.lease_until > before

    def test_the_same_turn_again_changes_nothing(self, make_store: MakeStore) -> None:
        store = make_store()
        writer = Writer(store, "a1")
        for news in ({}, {"calls": (call(1),), "compressions": (compression(1),), "layouts": (layout(1),)}):
            turn = writer.write("one", "x" * 10_000, **news)
            before = everything(store, "a1")

            store.save(turn)

            assert everything(store, "a1") == before

    def test_another_message_of_a_known_number_is_refused(self, make_store: MakeStore) -> None:
        store = make_store()
        writer = Writer(store, "a1")
        writer.write("one")
        copy = replace(writer)
        writer.write("two", "three")
        before = everything(store, "a1")

        raised(CorruptStorageError, lambda: copy.write("two", "another", "four", state='{"new":true}'))

        assert everything(store, "a1") == before, "of a refused turn nothing is written"

    def test_a_turn_without_messages_is_one_too(self, make_store: MakeStore) -> None:
        store = make_store()
        writer = Writer(store, "a1")
        writer.write("one")

        writer.write(calls=(call(1),), state='{"new":true}')

        assert store.load("a1").state == '{"new":true}'
        assert [one.seq for one in store.messages("a1")] == [1]

    def test_a_call_and_a_layout_of_a_known_number_take_its_place(self, make_store: MakeStore) -> None:
        store = make_store()
        writer = Writer(store, "a1")
        writer.write("one", calls=(call(1), call(2)), layouts=(layout(1), layout(2)))

        reported, redrawn = replace(call(1), input_tokens=999), layout(2, after_seq=5, body='{"new":1}')
        writer.write("two", calls=(reported,), layouts=(redrawn, layout(3)))

        assert store.calls("a1") == [reported, call(2)]
        assert store.layouts("a1") == [layout(1), redrawn, layout(3)]
        assert store.load("a1").layout == layout(3), "the newest is the one of the highest number"

    def test_a_compression_is_never_changed(self, make_store: MakeStore) -> None:
        store = make_store()
        writer = Writer(store, "a1")
        writer.write("one", compressions=(compression(1),))

        writer.write("two", compressions=(compression(1, summary="another"), compression(2)))

        assert store.compressions("a1") == [compression(1), compression(2)]

    def test_a_turn_of_a_session_that_was_never_begun_is_refused(self, make_store: MakeStore) -> None:
        store = make_store()
        writer = Writer(store, "a1", is_new=False)

        raised(UnknownSessionError, lambda: writer.write("one"))

        assert store.sessions() == []

    def test_a_turn_of_a_deleted_session_is_refused(self, make_store: MakeStore) -> None:
        store = make_store()
        writer = Writer(store, "a1")
        writer.write("one")
        writer.release()
        make_store().delete("a1")

        raised(UnknownSessionError, lambda: writer.write("two"))

        assert store.sessions() == []

    def test_a_branch_of_a_session_that_is_not_there_is_refused(self, make_store: MakeStore) -> None:
        store = make_store()

        raised(UnknownSessionError, lambda: Writer(store, "b1", parent=("a1", 1)).write("one"))

        assert store.sessions() == []

    def test_only_one_may_have_a_session_open(self, make_store: MakeStore) -> None:
        writer = Writer(make_store(), "a1")
        writer.write("one")

        error = raised(SessionInUseError, lambda: make_store().acquire("a1", new_owner()))

        assert (error.session_id, error.host) == ("a1", writer.owner.host)
        assert error.process_id == writer.owner.process_id
        writer.write("two")  # and nothing changed for its owner

    def test_whoever_has_a_session_may_acquire_it_again(self, make_store: MakeStore) -> None:
        writer = Writer(make_store(), "a1")
        writer.write("one")

        assert make_store().acquire("a1", writer.owner).info.owner == writer.owner

    def test_acquiring_returns_what_is_there_and_makes_an_owner(self, make_store: MakeStore) -> None:
        store = make_store()
        Writer(store, "a1").write("one", layouts=(layout(1),))
        store.release("a1", store.load("a1").info.owner or new_owner())
        owner = new_owner()

        saved = store.acquire("a1", owner)

        assert saved == store.load("a1")
        assert saved.info.owner == owner
        assert saved.info.lease_until > time.time()

    def test_a_session_that_is_not_there_cannot_be_acquired(self, make_store: MakeStore) -> None:
        raised(UnknownSessionError, lambda: make_store().acquire("a1", new_owner()))

    def test_only_the_whole_id_acquires(self, make_store: MakeStore) -> None:
        store = make_store()
        Writer(store, "a1").write("one")

        raised(UnknownSessionError, lambda: store.acquire("a", new_owner(), takes_over=True))

    def test_a_released_session_is_anyones(self, make_store: MakeStore) -> None:
        store = make_store()
        writer = Writer(store, "a1")
        writer.write("one")
        writer.release()
        assert store.load("a1").info.owner is None

        next_writer = Writer(make_store(), "a1", seq=1, is_new=False)
        next_writer.store.acquire("a1", next_writer.owner)
        next_writer.write("two")

        assert [one.seq for one in store.messages("a1")] == [1, 2]

    def test_whoever_gave_a_session_up_writes_no_more(self, make_store: MakeStore) -> None:
        writer = Writer(make_store(), "a1")
        writer.write("one")
        writer.release()

        raised(SessionError, lambda: writer.write("two"))

        assert [one.seq for one in make_store().messages("a1")] == [1]

    def test_nobody_releases_the_session_of_another(self, make_store: MakeStore) -> None:
        store = make_store()
        writer = Writer(store, "a1")
        writer.write("one")

        store.release("a1", new_owner())
        store.release("no-such-session", new_owner())

        assert store.load("a1").info.owner == writer.owner

    def test_a_session_of_a_process_that_ended_is_free(self, make_store: MakeStore) -> None:
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        gone = replace(new_owner(), process_id=ended.pid, process_started="")
        Writer(make_store(), "a1", owner=gone).write("one")

        owner = new_owner()

        assert make_store().acquire("a1", owner).info.owner == owner

    def test_an_owner_on_another_machine_is_believed_to_be_alive(self, make_store: MakeStore) -> None:
        elsewhere = owner_elsewhere()
        Writer(make_store(), "a1", owner=elsewhere).write("one")

        error = raised(SessionInUseError, lambda: make_store().acquire("a1", new_owner()))

        assert error.host == elsewhere.host

    def test_whoever_was_taken_over_from_writes_no_more(self, make_store: MakeStore) -> None:
        store = make_store()
        first = Writer(store, "a1")
        first.write("one")
        second = Writer(make_store(), "a1", seq=1, is_new=False)
        second.store.acquire("a1", second.owner, takes_over=True)
        second.write("two of the second")
        before = everything(store, "a1")

        error = raised(SessionInUseError, lambda: first.write("two of the first", calls=(call(1),)))

        assert error.process_id == second.owner.process_id
        assert everything(store, "a1") == before, "of a refused turn nothing is written"

    def test_a_session_that_another_began_is_not_begun_again(self, make_store: MakeStore) -> None:
        store = make_store()
        Writer(store, "a1").write("one")
        before = everything(store, "a1")

        raised(SessionInUseError, lambda: Writer(make_store(), "a1").write("other"))

        assert everything(store, "a1") == before

    def test_of_many_who_acquire_at_once_one_wins(self, make_store: MakeStore) -> None:
        Writer(make_store(), "a1").write("one")
        make_store().release("a1", make_store().load("a1").info.owner or new_owner())
        won: list[str] = []

        def try_it() -> None:
            owner, store = new_owner(), make_store()
            try:
                store.acquire("a1", owner)
            except SessionInUseError:
                return
            won.append(owner.token)

        at_once(try_it, 6)

        owner = make_store().load("a1").info.owner
        assert owner is not None
        assert won == [owner.token]

    def test_threads_may_share_a_store(self, make_store: MakeStore) -> None:
        store = make_store()
        numbers = iter(range(100))

        def write_some() -> None:
            writer = Writer(store, f"session-{next(numbers)}")
            for text in "abcde":
                writer.write(text)

        at_once(write_some, 4)

        assert {one.id: one.heading.last_seq for one in store.sessions()} == {f"session-{n}": 5 for n in range(4)}
        assert all(len(store.messages(f"session-{n}")) == 5 for n in range(4))

    def test_several_stores_write_to_one_place(self, make_store: MakeStore) -> None:
        writers = [Writer(make_store(), f"session-{n}") for n in range(3)]

        for text in "abc":
            for writer in writers:
                writer.write(text)

        assert [len(make_store().messages(writer.id)) for writer in writers] == [3, 3, 3]

    def test_a_closed_store_leaves_its_sessions_to_their_owners(self, make_store: MakeStore) -> None:
        store = make_store()
        writer = Writer(store, "a1")
        writer.write("one")

        store.close()
        store.close()

        assert make_store().load("a1").info.owner == writer.owner


def at_once(action: Callable[[], None], count: int) -> None:
    """Run an action in several threads; raise what one of them raises."""
    with ThreadPoolExecutor(count) as pool:
        for future in [pool.submit(action) for _ in range(count)]:
            future.result()
