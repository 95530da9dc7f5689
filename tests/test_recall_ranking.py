"""What ranks above what, and why: each signal of recall shows in a search of its own."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.recall import (
    WEIGHTS,
    Candidate,
    Corpus,
    Document,
    Found,
    Fts5Index,
    Query,
    Weights,
    embedded_text,
    query_terms,
    rank,
    spoken_names,
    terms_of,
)
from memory.recall.dates import periods_in
from memory.recall.stemming import stem

MAY_2023 = datetime(2023, 5, 20, 12, tzinfo=UTC).timestamp()
DAY = 86_400.0
PLAIN = Weights(
    sharpness=1.0,
    coverage=0.0,
    calls=1.0,
    system=1.0,
    near=0.0,
    speaker=1.0,
    told=1.0,
    newest=1.0,
    origin=0.0,
    burst=0.0,
)
"""BM25 alone."""


def say(seq: int, text: str, **fields: Any) -> Document:
    values: dict[str, Any] = {"namespace": "n", "role": "user", "at": MAY_2023 + 30.0 * seq} | fields
    return Document(seq=seq, text=text, **values)


def search(documents: Sequence[Document], text: str, *, weights: Weights = WEIGHTS, **fields: Any) -> list[int]:
    with closing(sqlite3.connect(":memory:")) as connection:
        index = Fts5Index(connection, weights=weights)
        index.add(documents)
        return [one.seq for one in index.search(Query(text=text, **fields))]


def talk(*texts: str, **fields: Any) -> list[Document]:
    return [say(seq, text, **fields) for seq, text in enumerate(texts)]


FILLER = [say(100 + 10 * number, f"something else about matter {number}") for number in range(8)]


def test_a_rare_word_outranks_a_common_one() -> None:
    said = talk("the build failed", "the build passed", "the build hung at linker", "the build ran")

    assert search(said, "build linker")[0] == 2


def test_equal_messages_come_newest_first() -> None:
    assert search(talk("same words", "same words", "same words"), "words") == [2, 1, 0]


@pytest.mark.parametrize("query", ["src/app/main.py", "E4711: no such device (os error 19)", "req_7f3a9c"])
def test_a_message_with_the_query_as_it_stands_comes_first(query: str) -> None:
    scattered = " ".join(re.findall(r"[^\W_]+", query)[::-1] * 5)

    assert search([*talk(scattered, f"well, {query} " + "and then some " * 60), *FILLER], query)[0] == 1


def test_an_answer_without_the_words_is_found_beside_its_question() -> None:
    said = [say(3, "which city is the office in?"), say(4, "Lisbon, since spring"), *FILLER]

    assert search(said, "where is the office, in which city")[:2] == [3, 4]
    assert 4 not in search(said, "where is the office, in which city", weights=PLAIN)


def test_a_tools_result_ranks_above_the_call_that_asked_for_it() -> None:
    call = say(3, '{"path": "config/limits.toml"}', role="assistant", tools=("read_file",))
    result = say(4, "# config/limits.toml\nmax = 5", role="tool")

    assert search([call, result, *FILLER], "what are the config/limits.toml")[0] == 4


def test_where_an_agent_had_a_name_from_ranks_above_where_it_was_repeated() -> None:
    given = say(2, "booked flights: QX77, " + "and so on and on, " * 20, role="tool")
    repeated = [say(10 * n, "QX77 it is", role="assistant") for n in range(1, 4)]

    assert search([given, *repeated, *FILLER], "what was QX77")[0] == 2


def test_who_is_named_is_taken_for_the_speaker() -> None:
    said = [say(2, "I adopted a puppy", speaker="Ana"), say(9, "Ana, I adopted a puppy too", speaker="Ben"), *FILLER]

    assert search(said, "what did Ana adopt")[0] == 2
    assert search(said, "what did Ben adopt")[0] == 9
    assert search(said, "what did Ben adopt", weights=PLAIN)[0] == 2


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("the concert in May 2023", 1),
        ("the concert on 2023-05-20", 1),
        ("the concert in 2022", 0),
        ("the concert in December", 0),
        ("the concert yesterday", 1),
    ],
)
def test_a_date_in_the_query_raises_what_was_said_then(query: str, expected: int) -> None:
    said = [
        say(0, "we went to the concert", at=datetime(2022, 12, 3, tzinfo=UTC).timestamp()),
        say(1, "we went to the concert", at=MAY_2023),
        say(2, "we went to the concert", at=datetime(2024, 8, 1, tzinfo=UTC).timestamp()),
    ]

    assert search(said, query, at=MAY_2023 + DAY)[0] == expected


def test_a_query_for_the_latest_prefers_the_newest() -> None:
    said = [say(seq, f"the budget is {number} thousand", at=MAY_2023 + seq * DAY) for seq, number in ((0, 10), (5, 20))]

    assert search([*said, *FILLER], "the latest budget")[0] == 5


def test_words_that_a_stretch_of_talk_has_together_raise_its_messages() -> None:
    together = [say(0, "the trip to Norway", at=MAY_2023), say(5, "we packed the tent", at=MAY_2023 + 60)]
    apart = [say(20, "we packed the tent", at=MAY_2023 + 40 * DAY)]

    assert search([*together, *apart, *FILLER], "did we pack a tent for the trip to Norway").index(5) < search(
        [*together, *apart, *FILLER], "did we pack a tent for the trip to Norway"
    ).index(20)


def test_a_file_read_twice_does_not_take_two_of_the_first_places() -> None:
    page = " ".join(f"word{number}" for number in range(200)) + " retry policy"
    said = [say(0, page, role="tool"), say(10, page, role="tool"), say(20, "a retry, perhaps", role="tool"), *FILLER]

    assert {0, 20} < set(search(said, "retry policy")[:3])
    assert search(said, "retry policy backoff")[:2] in ([0, 20], [10, 20])


def test_a_name_of_several_words_is_found_as_it_is_spoken() -> None:
    said = [*talk("see cosine_reformer.cc", "see reformer of a kind", "the cosine"), *FILLER]

    assert search(said, "check the cosine reformer")[0] == 0


def test_meaning_finds_what_words_do_not() -> None:
    said = [*talk("my dog ate it", "the weather is fine"), *FILLER]
    near = {("n", 0): 0.7, ("n", 1): 0.1, ("elsewhere", 3): 0.9}

    assert search(said, "pets", similarities=near)[0] == 0
    assert search(said, "weather", similarities=near)[:2] == [1, 0]
    assert search(said, "pets", similarities=near, namespaces=("other",)) == []


def test_what_is_embedded_says_who_speaks() -> None:
    assert embedded_text(say(0, "hello", speaker="Ana")) == "Ana: hello"
    assert embedded_text(say(0, "hello")) == "hello"


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 40), st.integers(0, 3), st.integers(0, 3), st.booleans()),
        max_size=12,
        unique_by=lambda drawn: drawn[0],
    )
)
def test_ranking_orders_any_candidates_and_puts_literal_ones_first(
    drawn: list[tuple[int, int, int, int, bool]],
) -> None:
    candidates = [
        Candidate(
            namespace="n",
            seq=seq,
            role="user",
            speaker="",
            tools=(),
            at=float(seq),
            burst=0,
            asks=False,
            length=length,
            counts={term: count for term, count in (("a", a), ("b", b)) if count},
            is_literal=is_literal,
        )
        for seq, length, a, b, is_literal in drawn
    ]
    corpus = Corpus(documents=50, mean_length=20.0, frequencies={"a": 3.0, "b": 20.0})
    found: list[Found] = rank(candidates, query=Query(text="a b", limit=50), terms=["a", "b"], corpus=corpus)

    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    literal = {one.seq for one in candidates if one.is_literal}
    assert {one.seq for one in found[: len(literal)]} == literal
    assert rank(candidates[::-1], query=Query(text="a b", limit=50), terms=["a", "b"], corpus=corpus) == found


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("The HTTPServerError", {"the", "httpservererror", "http", "server", "error"}),
        ("src/get_user.py", {"src/get_user.py", "get_user.py", "getuser", "src", "get", "user", "py"}),
        ("東京", {"東京", "東", "京"}),
        ("...", set()),
    ],
)
def test_terms_are_stems_parts_and_wholes(text: str, terms: set[str]) -> None:
    assert set(terms_of(text)) == {stem(term) for term in terms} | {
        term for term in terms if "/" in term or "." in term
    }


@given(st.text(st.characters(exclude_categories=())))
def test_no_term_could_break_an_index(text: str) -> None:
    for term in [*terms_of(text), *query_terms(text), *spoken_names(text)]:
        assert term
        assert not set(term) & set(' "=\t\n\0')


def test_stop_words_are_looked_for_only_where_there_is_nothing_else() -> None:
    assert query_terms("what is the linker") == ["linker"]
    assert set(query_terms("to be or not")) == {"to", "be", "or", "not"}


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("caresses", "caress"),
        ("ponies", "poni"),
        ("agreed", "agre"),
        ("hopping", "hop"),
        ("hoping", "hope"),
        ("relational", "relat"),
        ("researching", "research"),
        ("happy", "happi"),
        ("as", "as"),
        ("größe", "größe"),
    ],
)
def test_words_have_porters_stems(word: str, expected: str) -> None:
    assert stem(word) == expected


def test_our_stems_are_those_of_fts5s_own_stemmer() -> None:
    words = ["generalizations", "oscillators", "electricity", "conditional", "rationally", "adjustable", "controlling"]
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE VIRTUAL TABLE t USING fts5 (word, tokenize = 'porter ascii')")
        connection.execute("CREATE VIRTUAL TABLE v USING fts5vocab (t, instance)")
        connection.executemany("INSERT INTO t (rowid, word) VALUES (?, ?)", enumerate(words))
        theirs = [term for (term,) in connection.execute("SELECT term FROM v ORDER BY doc")]

    assert [stem(word) for word in words] == theirs


@pytest.mark.parametrize(
    "text", ["the 31st of June 2023", "99 February", "in 0000-13-45", "in 2023-02-31", "march on", "it may be"]
)
def test_what_is_no_date_says_nothing(text: str) -> None:
    assert periods_in(text, now=MAY_2023) == []


@given(st.text(), st.floats(allow_nan=True))
def test_no_text_and_no_clock_breaks_the_reading_of_dates(text: str, now: float) -> None:
    assert isinstance(periods_in(text + " in May yesterday", now=now), list)
