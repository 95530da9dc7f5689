"""Summaries without a model: what they keep, how they read, and that no input makes them long, slow or dishonest."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.extract import Digest, Source, digest, missing_identifiers, render
from memory.messages import Reading, Role, ToolCall, ToolResult

REFS = re.compile(r"\br\d+\b")
FOUND_LINE = re.compile(r"^- (?:.*? \()?((?:r\d+ ?)+)\)?: (.*)$")


def count(text: str) -> int:
    """Stand in for a tokeniser: deterministic, monotone, about as coarse."""
    return len(re.findall(r"\w{1,4}|[^\w\s]", text))


def numbered(readings: Sequence[Reading]) -> list[Source]:
    return [Source(ref=f"r{n}", reading=reading, tokens=20) for n, reading in enumerate(readings, start=1)]


def said(role: Role, text: str) -> list[Reading]:
    return [Reading(role=role, text=text)]


def called(name: str, result: str, *, is_error: bool = False, **arguments: object) -> list[Reading]:
    call = ToolCall(id=f"{name}-{json.dumps(arguments)}", name=name, arguments=json.dumps(arguments))
    answer = ToolResult(call_id=call.id, name=None, text=result, is_error=is_error)
    return [Reading(role="assistant", calls=(call,)), Reading(role="tool", results=(answer,))]


def session() -> list[Source]:
    """A short piece of work with everything that a summary should tell."""
    return numbered(
        [
            *said("user", "Rename the retry limit. You must never touch /srv/app/legacy/."),
            *called(
                "grep", "/srv/app/client.py:12:MAX_RETRIES = 5\n/srv/app/worker.py:80:MAX_RETRIES", pattern="RETRIES"
            ),
            *called(
                "read_file", "class RetryPolicy:\n    def next_delay(self):\n        ...", path="/srv/app/client.py"
            ),
            *said("assistant", "I decided to keep RetryPolicy because worker_pool depends on it."),
            *called("edit_file", "ok", path="/srv/app/client.py", old="MAX_RETRIES = 5", new="RETRY_LIMIT = 5"),
            *called("bash", "FAILED: test_worker_pool\nexit code: 1", command="pytest -q tests/"),
            *called("todo", "ok", items=[{"content": "fix worker_pool", "status": "pending"}]),
        ]
    )


names = st.builds(
    lambda stem, tail: f"{stem}_{tail}",
    st.text("abcdefgh", min_size=3, max_size=8),
    st.text("xyz", min_size=2, max_size=6),
)
paths = st.builds(lambda parts, stem: f"/{'/'.join(parts)}/{stem}.py", st.lists(names, min_size=1, max_size=3), names)
prose = st.sampled_from(["look", "here it is", "we found that", "because", "and then"])
lines = st.lists(st.one_of(names, paths, prose), max_size=12).map(" ".join)
texts = st.lists(lines, max_size=6).map("\n".join)
tame = st.one_of(
    texts.map(lambda text: said("user", text)),
    texts.map(lambda text: said("assistant", text)),
    st.builds(lambda path, text: called("read", text, path=path), paths, texts),
    st.builds(lambda name, text: called("bash", text, command=f"run {name}"), names, texts),
)
tame_sessions = st.lists(tame, max_size=12)
any_text = st.text(st.characters(), max_size=300)  # lone surrogates and control characters included
wild = st.one_of(
    any_text.map(lambda text: said("user", text)),
    any_text.map(lambda text: said("assistant", text)),
    st.builds(lambda name, text, error: called(name, text, is_error=error, x=name), any_text, any_text, st.booleans()),
    st.builds(
        lambda arguments: [Reading(role="assistant", calls=(ToolCall(id=None, name="f", arguments=arguments),))],
        any_text,
    ),
)


def flat(turns: Sequence[Sequence[Reading]]) -> list[Source]:
    return numbered([reading for turn in turns for reading in turn])


# --- Laws -------------------------------------------------------------------------------------------------------------


@given(st.lists(wild, max_size=10), st.integers(-1, 400))
def test_the_target_is_never_exceeded_whatever_the_messages_hold(turns: list[list[Reading]], target: int) -> None:
    known = digest(flat(turns))

    assert count(render(known, target_tokens=target, count=count)) <= max(0, target)
    assert count(missing_identifiers(known, "nothing", target_tokens=target, count=count)) <= max(0, target)


@given(st.lists(wild, max_size=10), st.integers(1, 400))
def test_the_same_messages_give_the_same_text(turns: list[list[Reading]], target: int) -> None:
    once, again = (render(digest(flat(turns)), target_tokens=target, count=count) for _ in range(2))

    assert once == again


@given(tame_sessions, st.integers(10, 600))
def test_every_reference_exists(turns: list[list[Reading]], target: int) -> None:
    sources = flat(turns)

    text = render(digest(sources), target_tokens=target, count=count)

    assert set(REFS.findall(text)) <= {source.ref for source in sources}


@given(tame_sessions, st.integers(10, 600))
def test_every_identifier_stands_word_for_word_in_a_message_that_its_line_refers_to(
    turns: list[list[Reading]], target: int
) -> None:
    sources = flat(turns)
    said_in = {source.ref: _all_text(source.reading) for source in sources}

    text = render(digest(sources), target_tokens=target, count=count)

    for line in _section(text, "Found"):
        refs, identifiers = _parsed(line)
        for identifier in identifiers:
            assert any(identifier in said_in[ref] for ref in refs), line


@given(tame_sessions, tame_sessions)
def test_reading_in_two_steps_knows_what_reading_in_one_knows(
    first: list[list[Reading]], second: list[list[Reading]]
) -> None:
    sources, size = flat(first + second), sum(map(len, first))

    in_two = digest(sources[size:], previous=digest(sources[:size]))

    assert in_two == digest(sources)


@given(tame_sessions, st.integers(40, 600))
def test_what_a_text_lacks_is_listed_and_what_it_has_is_not(turns: list[list[Reading]], target: int) -> None:
    known = digest(flat(turns))
    everything = " ".join(known.facts)

    assert missing_identifiers(known, everything, target_tokens=target, count=count) == ""
    lacking = missing_identifiers(known, "", target_tokens=10_000, count=count)
    assert all(name in lacking for name in known.facts)


# --- Bounds -----------------------------------------------------------------------------------------------------------


def test_a_digest_stays_bounded_over_a_long_run() -> None:
    known: Digest | None = None
    sizes = []
    for step in range(60):
        text = "\n".join(f"/data/{step}/part_{n}.csv row_{step}_{n}" for n in range(100))
        known = digest(numbered(called("list", text, path=f"/data/{step}")), previous=known)
        sizes.append(len(known.facts))

    assert sizes[-1] == max(sizes) <= 1_500
    assert known is not None
    assert len(known.actions) <= 300


def test_what_mattered_early_survives_later_summaries() -> None:
    known = digest(numbered([*said("user", "The order is order_482913."), *called("get", "paid", id="order_482913")]))
    for step in range(30):
        text = "\n".join(f"item_{step}_{n}a other_{n}_{step}b" for n in range(60))
        known = digest(numbered(called("list", text, page=step)), previous=known)

    assert "order_482913" in render(known, target_tokens=150, count=count)


HOSTILE = {
    "base64 in one line": "QUJDRA1b" * 40_000,
    "slashes": "/" * 300_000,
    "path without end": "ab/" * 100_000,
    "dots": "a." * 150_000,
    "colons": "a:" * 150_000,
    "underscores": "_" * 300_000,
    "digits": "7" * 300_000,
    "equals": "a=b" * 100_000,
    "errors in one line": "ValueError: " * 25_000,
    "backslashes": "C:\\a" * 75_000,
    "urls in one": "https://" * 40_000,
    "escapes": "\x1b[" * 150_000,
    "spaces": " " * 300_000,
    "line ends": "\n" * 300_000,
    "deep json": "[" * 150_000,
    "wide json": json.dumps([{f"k{n}": n} for n in range(20_000)]),
    "surrogates": "\ud800" * 100_000,
    "one long word": "\u00e9" * 300_000,
    "no spaces": "\u6587\u4ef6" * 100_000,
    "distinct names": " ".join(f"name_{n}x" for n in range(30_000)),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_of_300_kb_costs_well_under_a_second_or_two(text: str) -> None:
    sources = numbered([*said("user", text), *said("assistant", text), *called("bash", text, command=text)])

    began = time.process_time()
    written = render(digest(sources), target_tokens=500, count=count, task=text)
    seconds = time.process_time() - began

    assert count(written) <= 500
    # Typical is a tenth of a second; anything quadratic would take minutes.
    assert seconds < 10


# --- Readable examples ------------------------------------------------------------------------------------------------


def test_a_summary_has_the_sections_a_reader_looks_for() -> None:
    text = render(digest(session()), target_tokens=400, count=count)

    sections = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
    assert sections == ["Asked", "Done", "Found", "Errors", "Decided", "Open"]


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ("Asked", 'r1 "Rename the retry limit. You must never touch /srv/app/legacy/."'),
        ("Done", "edit_file /srv/app/client.py (r7)"),
        ("Found", "MAX_RETRIES"),
        ("Found", "next_delay"),
        ("Errors", '`pytest -q tests/` (r9) -> "FAILED: test_worker_pool" (r10)'),
        ("Decided", 'r6 "I decided to keep RetryPolicy because worker_pool depends on it."'),
        ("Open", "pending: fix worker_pool (r11)"),
    ],
)
def test_each_section_tells(section: str, told: str) -> None:
    text = render(digest(session()), target_tokens=400, count=count)

    assert told in "\n".join(_section(text, section))


def test_an_identifier_stands_beside_what_it_belongs_to() -> None:
    sources = numbered(
        [
            *called("read", "def parse_args(): ...\ndef build_index(): ...", path="src/cli.py"),
            *called("read", "class OrderBook: ...\n  total_amount = 3.75", path="src/book.py"),
        ]
    )

    found = _section(render(digest(sources), target_tokens=200, count=count), "Found")

    assert found == ["- src/cli.py (r2): parse_args build_index", "- src/book.py (r4): OrderBook total_amount 3.75"]


def test_what_stays_in_the_context_anyway_is_not_repeated() -> None:
    sources = numbered([*called("read", "MAX_RETRIES and RETRY_DELAY", path="a.py")])

    text = render(digest(sources), target_tokens=200, count=count, task="Rename MAX_RETRIES.")

    assert "MAX_RETRIES" not in text
    assert "RETRY_DELAY" in text


def test_a_few_tokens_still_give_the_most_valuable_identifiers() -> None:
    sources = numbered([*said("user", "My booking is booking_771204."), *called("find", "none", id="booking_771204")])

    assert "booking_771204" in render(digest(sources), target_tokens=16, count=count)


def test_nothing_to_say_gives_nothing() -> None:
    assert render(digest([]), target_tokens=100, count=count) == ""
    assert missing_identifiers(digest([]), "", target_tokens=100, count=count) == ""


def test_the_count_is_called_a_handful_of_times() -> None:
    calls: list[str] = []
    text = "\n".join(f"/data/part_{n}.csv row_{n}x" for n in range(2_000))

    def counted(text: str) -> int:
        calls.append(text)
        return count(text)

    render(digest(numbered(called("list", text))), target_tokens=2_000, count=counted)

    assert len(calls) <= 6


def test_constraints_in_a_long_request_survive() -> None:
    request = "Here is some background. " * 60 + "You must never delete rows in table_9. " + "More background. " * 60

    text = render(digest(numbered([*said("user", "hi"), *said("user", request)])), target_tokens=600, count=count)

    assert "You must never delete rows in table_9." in text


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("请修改src/app_main.py，不要删除config_v2.yaml。", ["src/app_main.py", "config_v2.yaml"]),
        ("app_main.py를 고쳐 주세요", ["app_main.py"]),
        ("Öffne /größe/straße_1.txt und nie mehr", ["/größe/straße_1.txt"]),
        ("see https://example.org/a?b=c&d=1#frag.", ["https://example.org/a?b=c&d=1#frag"]),
        (r"open C:\Users\dev\plan_2.txt now", [r"C:\Users\dev\plan_2.txt"]),
        ("src/app.py:12:5: error: bad_name", ["src/app.py", "bad_name"]),
        ("listening on localhost:8080", ["localhost:8080"]),
        ("it took 12.5ms and cost $32.20, 34.7% less", ["12.5ms", "$32.20", "34.7%"]),
        ("commit 9fceb02d0ae598e95dc970b74767f19372d61af8", ["9fceb02d0ae598e95dc970b74767f19372d61af8"]),
        ("id 123e4567-e89b-12d3-a456-426614174000", ["123e4567-e89b-12d3-a456-426614174000"]),
        ("use --no-verify, never std::vector<int>", ["--no-verify", "std::vector"]),
        ("flight HAT278 on 2024-05-15", ["HAT278", "2024-05-15"]),
        ("call obj.method_name(x) or `parseHTTPHeader`", ["obj.method_name", "parseHTTPHeader"]),
    ],
)
def test_identifiers_survive_word_for_word_in_any_language(text: str, kept: list[str]) -> None:
    known = digest(numbered(called("read", text, path="x")))

    assert [name for name in kept if name not in known.facts] == []
    summary = render(known, target_tokens=200, count=count)
    assert [name for name in kept if name not in summary] == []


@pytest.mark.parametrize(
    "text", ["just a plain sentence with words", "and/or", "1 2 3", "\tindented", "-- - ---", "...", "{}[]"]
)
def test_prose_holds_no_identifiers(text: str) -> None:
    assert list(digest(numbered(called("read", text, path="x"))).facts) == []


def test_field_names_of_records_are_left_out_but_ids_used_as_keys_are_not() -> None:
    record = json.dumps({"payment_methods": {"card_9901": {"last_four": "4242"}}, "user_name": "omar_davis_3817"})

    known = digest(numbered(called("get", record, id=1)))

    assert list(known.facts) == ["card_9901", "4242", "omar_davis_3817"]


def test_line_numbers_and_terminal_colours_are_no_facts() -> None:
    known = digest(numbered(called("read", "  2958\tparse_args()\n\x1b[32m10441 ok\x1b[0m", path="x")))

    assert list(known.facts) == ["parse_args", "10441"]


# --- Reading a summary ------------------------------------------------------------------------------------------------


def _all_text(reading: Reading) -> str:
    parts = [reading.text, *(call.arguments for call in reading.calls), *(result.text for result in reading.results)]
    return "\n".join(parts)


def _section(text: str, name: str) -> list[str]:
    lines = text.splitlines()
    if f"## {name}" not in lines:
        return []
    body = lines[lines.index(f"## {name}") + 1 :]
    return body[: next((n for n, line in enumerate(body) if line.startswith("## ")), len(body))]


def _parsed(line: str) -> tuple[list[str], list[str]]:
    match = FOUND_LINE.match(line)
    return (match[1].split(), match[2].split()) if match else ([], [])


def test_a_long_run_of_numbered_names_does_not_drive_out_the_one_name_of_each_message() -> None:
    def page(n: int) -> Source:
        bolts = " ".join(f"bolt_{n}_{k}=M{k % 20}" for k in range(60))
        result = ToolResult(call_id="c", name=None, text=f"valve V-{n * 7} opens at {n * 3} bar. {bolts}")
        return Source(ref=f"r{n}", reading=Reading(role="tool", results=(result,)), tokens=400)

    text = render(digest([page(n) for n in range(1, 16)]), target_tokens=300, count=lambda text: len(text) // 3)
    assert [n for n in range(1, 16) if f"V-{n * 7}" not in text] == []
