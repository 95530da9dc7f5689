"""Of a session store: what was written is found and comes back exactly, along branches too."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from hashlib import sha256

from ..errors import CorruptStorageError, UnknownSessionError
from ..sessions.encoding import decode
from ..sessions.values import StoredMessage
from .session_ownership import MakeStore
from .session_turns import Writer, call, compression, layout, message, raised

DAY = 86_400.0
MIDNIGHT = 20_700 * DAY
"""2026-09-04, 0:00 UTC."""
ODD_TEXTS = (
    "",
    "\0",
    "a\0b",
    "\ud800",
    "\udfff tail",
    "\ud83d\ude00",
    "😀",
    "é\u0301",
    "\r\n\t\x1b",
    "$aloop",
    "'\"; --",
)


class ReadingContract:
    """Tests of everything that reads."""

    # --- Which sessions there are -------------------------------------------------------------------------------------

    def test_sessions_are_listed_by_their_newest_turn(self, make_store: MakeStore) -> None:
        store = make_store()
        early, late = Writer(store, "a1", at=1_000.0), Writer(store, "b1", at=2_000.0)
        late.write("one")
        early.write("one")
        assert [one.id for one in store.sessions()] == ["b1", "a1"]

        early.write("two", at=3_000.0)

        assert [one.id for one in store.sessions()] == ["a1", "b1"]
        assert [one.id for one in store.sessions(limit=1)] == ["a1"]
        assert store.sessions(limit=0) == []

    def test_a_list_says_of_each_session_what_it_is(self, make_store: MakeStore) -> None:
        writer = Writer(make_store(), "a1")
        turn = writer.write("one")
        writer.branch("b1", seq=1).write("two", at=turn.at + 1)

        branch, info = make_store().sessions()

        assert info.heading == turn.heading
        assert (info.created_at, info.updated_at) == (writer.at, turn.at)
        assert (info.parent_id, info.parent_seq) == (None, 0)
        assert (branch.parent_id, branch.parent_seq) == ("a1", 1)

    def test_a_session_is_found_by_id_prefix_title_and_as_the_latest(self, make_store: MakeStore) -> None:
        store = make_store()
        Writer(store, "abc1", title="the first one", at=2_000.0).write("one")
        Writer(store, "abd2", title="Ünïcode – 会議 😀", at=1_000.0).write("one")

        assert store.find("abc1").id == "abc1"
        assert store.find("abd").id == "abd2"
        assert store.find("the first one").id == "abc1"
        assert store.find("Ünïcode – 会議 😀").id == "abd2"
        assert store.find("latest").id == "abc1"

    def test_a_whole_id_is_found_though_others_begin_like_it(self, make_store: MakeStore) -> None:
        store = make_store()
        for id in ("ab", "abc", "abcd"):
            Writer(store, id).write("one")

        assert [store.find(id).id for id in ("ab", "abc", "abcd")] == ["ab", "abc", "abcd"]

    def test_a_name_of_several_sessions_or_of_none_finds_nothing(self, make_store: MakeStore) -> None:
        store = make_store()
        raised(UnknownSessionError, lambda: store.find("latest"))
        for id in ("abc1", "abd2"):
            Writer(store, id, title="twins").write("one")

        error = raised(UnknownSessionError, lambda: store.find("ab"))

        assert "abc1" in str(error), "the error names those that begin like that"
        assert "abd2" in str(error)
        for name in ("twins", "zz", "", "%", "_", "abc1%", "a_c1", "abc*", "TWINS", "bc1", "the", *ODD_TEXTS):
            raised(UnknownSessionError, partial(store.find, name))

    def test_loading_makes_nobody_an_owner(self, make_store: MakeStore) -> None:
        writer = Writer(make_store(), "a1")
        turn = writer.write("one")
        writer.release()

        saved = make_store().load("a1")

        assert saved == make_store().load("a1")
        assert (saved.info.owner, saved.state, saved.layout) == (None, turn.state, None)

    def test_only_a_whole_id_is_loaded(self, make_store: MakeStore) -> None:
        store = make_store()
        Writer(store, "abc1").write("one")

        for id in ("abc", "latest", "", "nosuch", "\0", "\ud800"):
            raised(UnknownSessionError, partial(store.load, id))

    # --- What they hold -----------------------------------------------------------------------------------------------

    def test_messages_come_by_ascending_number_within_bounds(self, make_store: MakeStore) -> None:
        store = make_store()
        Writer(store, "a1").write(*"abcdef")

        def numbers(**bounds: int) -> list[int]:
            return [one.seq for one in store.messages("a1", **bounds)]

        assert numbers() == [1, 2, 3, 4, 5, 6]
        assert numbers(first_seq=3) == [3, 4, 5, 6]
        assert numbers(last_seq=2) == [1, 2]
        assert numbers(first_seq=2, last_seq=4) == [2, 3, 4]
        assert numbers(first_seq=5, last_seq=4) == numbers(first_seq=7) == []

    def test_messages_are_picked_by_number(self, make_store: MakeStore) -> None:
        store = make_store()
        Writer(store, "a1").write(*(str(n) for n in range(1, 1_301)))

        picked = store.messages_of("a1", iter([7, 3, 3, 0, -1, 9_999]))

        assert [one.seq for one in picked] == [3, 7]
        assert store.messages_of("a1", []) == []
        assert [one.seq for one in store.messages_of("a1", range(1, 2_000))] == list(range(1, 1_301))

    def test_every_column_of_a_message_comes_back(self, make_store: MakeStore) -> None:
        store = make_store()
        writer = Writer(store, "a1")
        row = StoredMessage(
            seq=1,
            role="tool",
            tools=("grep", "name, with, commas", "ünï"),
            form="llm_message",
            body='{"role":"tool"}',
            tokens=2**40,
            at=1_790_000_000.123456,
            is_written=True,
            shown='{"kind":"clamped"}',
        )

        writer.seq = 1
        writer.write(messages=(row,))

        assert store.messages("a1") == [row]

    def test_any_text_comes_back_exactly(self, make_store: MakeStore) -> None:
        store = make_store()
        Writer(store, "a1").write(*ODD_TEXTS)

        contents = [decode(one.body, one.form, store.blob) for one in store.messages("a1")]

        assert contents == [{"role": "user", "content": text} for text in ODD_TEXTS]

    def test_any_text_may_be_a_summary(self, make_store: MakeStore) -> None:
        store = make_store()
        rows = [compression(number, summary=text) for number, text in enumerate(ODD_TEXTS, start=1)]
        Writer(store, "a1").write("one", compressions=rows)

        assert joined(one.summary for one in store.compressions("a1")) == joined(ODD_TEXTS)

    def test_any_text_may_be_a_title_a_model_or_a_tool(self, make_store: MakeStore) -> None:
        store = make_store()
        for number, text in enumerate(ODD_TEXTS):
            writer = Writer(store, f"session-{number}", title=text)
            row, _ = message(1, "x", tools=(text,))
            writer.seq = 1
            writer.write(messages=(row,), calls=(call(1, model=text),), heading=replace(writer.heading(), model=text))

        assert len(store.sessions()) == len(ODD_TEXTS)
        assert store.load("session-6").info.heading.title == "😀"
        tools = [store.messages(f"session-{n}")[0].tools[0] for n in range(len(ODD_TEXTS))]
        assert joined(tools) == joined(ODD_TEXTS)

    def test_long_strings_and_bytes_are_blobs(self, make_store: MakeStore) -> None:
        store = make_store()
        image, result = bytes(range(256)) * 400, "result \0 \ud800 " * 5_000
        turn = Writer(store, "a1").write([image, result])

        (row,) = make_store().messages("a1")

        assert len(row.body) < 1_000
        assert set(row.blobs) == turn.blobs.keys()
        assert store.blob(sha256(image).hexdigest()) == image
        assert decode(row.body, row.form, store.blob) == {"role": "user", "content": [image, result]}

    def test_a_blob_may_come_again_and_again(self, make_store: MakeStore) -> None:
        store = make_store()
        image = bytes(10_000)
        for id in ("a1", "b1"):
            Writer(store, id).write(image, image)

        assert store.blob(sha256(image).hexdigest()) == image

    def test_a_blob_that_is_not_there_is_told(self, make_store: MakeStore) -> None:
        store = make_store()
        for digest in ("0" * 64, "", "\0", "\ud800"):
            raised(CorruptStorageError, partial(store.blob, digest))

    def test_layouts_keep_their_blobs(self, make_store: MakeStore) -> None:
        store = make_store()
        content = bytes(9_000)
        digest = sha256(content).hexdigest()

        Writer(store, "a1").write("one", layouts=(layout(1, blobs=(digest,)),), blobs={digest: content})

        assert store.layouts("a1") == [layout(1, blobs=(digest,))]
        assert store.load("a1").layout == layout(1, blobs=(digest,))
        assert store.blob(digest) == content

    # --- Branches -----------------------------------------------------------------------------------------------------

    def test_a_branch_shares_messages_and_goes_on_with_its_own(self, make_store: MakeStore) -> None:
        store = make_store()
        trunk = Writer(store, "a1")
        trunk.write("one", "two", "three")
        branch = trunk.branch("b1", seq=2)
        branch.write("three of the branch", "four of the branch")
        trunk.write("four")

        assert said(store.messages("a1")) == ["one", "two", "three", "four"]
        assert said(store.messages("b1")) == ["one", "two", "three of the branch", "four of the branch"]
        assert said(store.messages_of("b1", [4, 1])) == ["one", "four of the branch"]
        assert said(store.messages("b1", first_seq=2, last_seq=3)) == ["two", "three of the branch"]
        assert store.line("a1") == [("a1", 4)]
        assert store.line("b1") == [("a1", 2), ("b1", 4)]

    def test_branches_have_branches(self, make_store: MakeStore) -> None:
        store = make_store()
        trunk = Writer(store, "a1")
        trunk.write("1", "2", "3")
        branch = trunk.branch("b1", seq=2)
        branch.write("b3", "b4")
        branch.branch("c1", seq=3).write("c4")
        branch.branch("d1", seq=1).write("d2")

        assert said(store.messages("c1")) == ["1", "2", "b3", "c4"]
        assert store.line("c1") == [("a1", 2), ("b1", 3), ("c1", 4)]
        assert said(store.messages("d1")) == ["1", "d2"], "it left its parent before that one's own messages begin"
        assert said(store.messages_of("d1", [1, 2, 3])) == ["1", "d2"]
        assert store.line("d1")[0] == ("a1", 1)
        assert store.line("d1")[-1] == ("d1", 2)

    def test_a_branch_may_begin_without_a_message_of_its_own(self, make_store: MakeStore) -> None:
        store = make_store()
        trunk = Writer(store, "a1")
        trunk.write("1", "2", "3")

        trunk.branch("b1", seq=2).write(state='{"of":"the branch"}')

        assert said(store.messages("b1")) == ["1", "2"]
        assert store.line("b1") == [("a1", 2), ("b1", 2)]

    def test_calls_compressions_and_layouts_are_each_sessions_own(self, make_store: MakeStore) -> None:
        store = make_store()
        trunk = Writer(store, "a1")
        trunk.write("1", "2", calls=(call(1),), compressions=(compression(1),), layouts=(layout(1),))

        trunk.branch("b1", seq=2).write("b3", calls=(call(1), call(2)), layouts=(layout(7),))

        assert [one.number for one in store.calls("a1")] == [1]
        assert [one.number for one in store.calls("b1")] == [1, 2]
        assert [one.number for one in store.compressions("b1")] == []
        assert [one.number for one in store.layouts("b1")] == [7]

    def test_a_line_is_a_sessions(self, make_store: MakeStore) -> None:
        raised(UnknownSessionError, lambda: make_store().line("a1"))

    # --- Usage --------------------------------------------------------------------------------------------------------

    def test_usage_is_summed_by_day_and_model(self, make_store: MakeStore) -> None:
        store = make_store()
        late, early = MIDNIGHT - 1, MIDNIGHT
        calls = (call(1, at=late), call(2, at=early), call(3, at=early), call(4, at=early, model="other"))
        Writer(store, "a1").write("one", calls=calls)
        Writer(store, "b1").write("one", calls=(call(5, at=early, purpose="summary"),))

        first, *rest = store.daily_usage()

        assert (first.day, first.model, first.calls) == ("2026-09-03", "some-model", 1)
        usage = {one.model: one for one in rest}
        assert {one.day for one in rest} == {"2026-09-04"}
        assert usage.keys() == {"some-model", "other"}
        sums = usage["some-model"]
        assert (sums.calls, sums.sessions, sums.input_tokens) == (3, 2, 102 + 103 + 105)
        assert (sums.cache_read_tokens, sums.output_tokens) == (150, 30)
        assert (sums.cost_usd, sums.summary_cost_usd, sums.has_estimates) == (0.75, 0.25, False)

    def test_usage_says_where_it_was_estimated(self, make_store: MakeStore) -> None:
        store = make_store()
        estimate, default = replace(call(1, model="a"), is_estimate=True), replace(call(2), price_is_default=True)
        Writer(store, "a1").write("one", calls=(estimate, default, call(3, model="z"), call(4, model=None)))

        assert {one.model: one.has_estimates for one in store.daily_usage()} == {
            "a": True,
            "some-model": True,
            "z": False,
            None: False,
        }

    def test_usage_begins_when_it_is_asked_from(self, make_store: MakeStore) -> None:
        store = make_store()
        assert store.daily_usage() == []
        Writer(store, "a1").write("one", calls=(call(1, at=MIDNIGHT - 1), call(2, at=MIDNIGHT)))

        assert [one.calls for one in store.daily_usage(since=MIDNIGHT)] == [1]
        assert store.daily_usage(since=MIDNIGHT + 1) == []


def said(messages: list[StoredMessage]) -> list[object]:
    """Return what messages of `Writer` say; blobs are not looked up."""

    def content(row: StoredMessage) -> object:
        decoded = decode(row.body, row.form, lambda digest: digest.encode())
        assert isinstance(decoded, dict)
        return decoded["content"]

    return [content(row) for row in messages]


def joined(texts: Iterable[str]) -> list[str]:
    """Return texts in which two surrogates that stand side by side are the letter that they spell."""
    return [text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass") for text in texts]
