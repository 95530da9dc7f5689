"""The report of a session: the account from its rows, what stands on the page, and that a real browser shows it."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from agent.session_report.account import Account, account_of
from agent.session_report.expenses import BESIDE, Cost, Expense, Place, Standing, costs_of
from agent.session_report.page import page
from agent.session_report.reading import sent, undone
from agent.session_report.tables import print_account
from memory import TokenTracker
from memory.sessions.values import Heading, SessionInfo, StoredCall, StoredCompression, StoredLayout, StoredMessage

from .pages_read import Opened, Reader, launched_browser

if TYPE_CHECKING:
    from playwright.sync_api import Browser

DAY = datetime(2026, 11, 4, 12, tzinfo=UTC)
AT = DAY.timestamp()
MODEL = "claude-sonnet-4-5"


def info(**changed: Any) -> SessionInfo:
    heading = Heading(
        title="Read every file",
        dialect="anthropic",
        model=MODEL,
        last_seq=40,
        context_tokens=900,
        total_tokens=9_000,
        cost_usd=0.5,
        compression_count=1,
    )
    made = SessionInfo(id="5e55104d", created_at=AT, updated_at=AT + 600, heading=heading)
    return replace(made, **changed)


def call(number: int, seq: int, tokens: int = 1_000, **changed: Any) -> StoredCall:
    """Return a call of the loop, priced as the tracker prices it."""
    values: dict[str, Any] = {
        "number": number,
        "seq": seq,
        "at": AT + number,
        "model": MODEL,
        "purpose": "agent",
        "input_tokens": tokens,
        "output_tokens": 20,
        "cache_read_tokens": 0,
        "cache_write_tokens": 0,
        "cache_write_1h_tokens": 0,
        "reasoning_tokens": 0,
        "is_estimate": False,
        "price_is_default": False,
    } | changed
    cost = TokenTracker().calculate_cost(
        values["model"],
        values["input_tokens"],
        values["output_tokens"],
        cache_read_tokens=values["cache_read_tokens"],
        cache_write_tokens=values["cache_write_tokens"],
        at=DAY,
    )
    return StoredCall(**{"cost_usd": cost} | values)


def compression(number: int = 1, seq: int = 20, summary: str = "They read a file.", **event: Any) -> StoredCompression:
    told: dict[str, Any] = {
        "trigger": "threshold",
        "strategy": "sliding_window",
        "method": "model",
        "tokens_before": 5_000,
        "tokens_after": 1_500,
        "summary_tokens": 300,
        "cost_usd": 0.004,
        "saved_usd_per_request": 0.001,
    } | event
    plan = [
        {"refs": "r2-r3", "action": "summarised", "reason": "old", "tokens_before": 700, "tokens_after": 0},
        {"refs": "r4-r5", "action": "summarised", "reason": "old", "tokens_before": 800, "tokens_after": 0},
        {"refs": "r6-r7", "action": "masked", "reason": "a long result", "tokens_before": 900, "tokens_after": 100},
    ]
    return StoredCompression(
        number=number,
        seq=seq,
        at=AT + 10,
        first_ref="r2",
        last_ref="r7",
        summary=summary,
        event=json.dumps(told),
        plan=json.dumps(plan),
        digest="",
    )


def expense(key: str = "r3", excerpt: str = "value_1 = 1", **changed: Any) -> Expense:
    cost = Cost(key=key, tokens=700, requests=9, sent_tokens=6_300, usd=0.0189)
    return replace(Expense(cost=cost, role="tool", tools=("read_file",), excerpt=excerpt), **changed)


def account(calls: Sequence[StoredCall] | None = None, compressions: Sequence[StoredCompression] = ()) -> Account:
    made = (
        [call(n, 2 * n, 1_000 * (n % 5 + 1), cache_read_tokens=600) for n in range(1, 21)] if calls is None else calls
    )
    return account_of(info(), made, compressions, [expense()])


def written(found: Account) -> str:
    return page(found, made_at=DAY)


# --- The account ------------------------------------------------------------------------------------------------------


def test_dollars_so_far_hold_the_summaries_that_came_before() -> None:
    calls = [call(1, 1), call(2, 3, purpose="summary"), call(3, 5)]

    found = account(calls)

    assert [one.number for one in found.requests] == [1, 2]
    assert found.requests[1].usd_so_far == pytest.approx(sum(one.cost_usd for one in calls))
    assert found.summary_cost_usd == calls[1].cost_usd
    assert found.cost_usd == pytest.approx(found.requests[-1].usd_so_far)


def test_a_compression_saves_in_each_request_that_followed_it() -> None:
    found = account([call(n, 2 * n) for n in range(1, 21)], [compression(seq=20)])

    one = found.compressions[0]
    assert (one.after_request, one.requests_after, one.taken_tokens) == (9, 11, 3_500)
    assert one.saved_usd == pytest.approx(3_500 * 11 * 3 / 1e6)


def test_what_a_compression_saves_is_worth_the_cached_price_where_requests_read_from_the_cache() -> None:
    found = account([call(n, 2 * n, cache_read_tokens=500) for n in range(1, 21)], [compression(seq=20)])

    rates = TokenTracker().rates(MODEL, at=DAY)
    assert found.compressions[0].saved_usd == pytest.approx(3_500 * 11 * rates.cache_read / 1e6)


def test_a_compression_that_was_taken_back_saves_until_then() -> None:
    found = account_of(info(), [call(n, 2 * n) for n in range(1, 21)], [compression(seq=20)], undone={1: 30})

    assert (found.compressions[0].requests_after, found.compressions[0].is_undone) == (5, True)


def test_what_was_taken_back_is_the_newest_compression_that_still_stands() -> None:
    reasons = ["edit", "compression", "compression", "undo", "compression", "undo", "undo"]
    layouts = [
        StoredLayout(number=n, after_seq=10 * n, reason=reason, body="{}")  # type: ignore[arg-type] # from a list
        for n, reason in enumerate(reasons, start=1)
    ]

    assert undone(layouts) == {2: 40, 3: 60, 1: 70}


def test_a_call_sent_what_came_before_its_answer() -> None:
    roles = ["user", "assistant", "tool", "assistant", "assistant"]
    messages = [
        StoredMessage(seq=seq, role=role, body="{}", tokens=1, at=AT)  # type: ignore[arg-type] # from a list
        for seq, role in enumerate(roles, start=1)
    ]

    assert [one.seq for one in sent([call(1, 2), call(2, 3), call(3, 5)], messages)] == [1, 3, 3]


# --- What messages cost -----------------------------------------------------------------------------------------------


def places(*sizes: int) -> list[tuple[int, Place]]:
    return [(seq, Place(key=f"r{seq}", tokens=size)) for seq, size in enumerate(sizes, start=1)]


def by_key(costs: Sequence[Cost]) -> dict[str, Cost]:
    return {cost.key: cost for cost in costs}


def input_usd(calls: Sequence[StoredCall]) -> float:
    bare = [replace(one, output_tokens=0) for one in calls]
    return sum(
        TokenTracker().calculate_cost(
            one.model,
            one.input_tokens,
            0,
            cache_read_tokens=one.cache_read_tokens,
            cache_write_tokens=one.cache_write_tokens,
            at=DAY,
        )
        for one in bare
    )


def test_the_dollars_of_all_messages_are_those_of_the_input() -> None:
    calls = [
        call(1, 1, 500),
        call(2, 3, 1_300, cache_read_tokens=450, cache_write_tokens=800),
        call(3, 5, 2_000, cache_read_tokens=1_250),
        call(4, 7, 1_100, cache_read_tokens=333),
    ]
    standings = [Standing(after_seq=6, places=(Place(key="r1-r4", tokens=200), Place(key="r5", tokens=120)))]

    found = costs_of(calls, standings, places(100, 20, 300, 20, 400, 20, 100), beside_tokens=150)

    assert sum(cost.usd for cost in found) == pytest.approx(input_usd(calls))
    assert sum(cost.sent_tokens for cost in found) == 250 + 570 + 990 + 570


def test_a_message_is_charged_for_each_request_in_which_it_stood() -> None:
    calls = [call(1, 1, 100), call(2, 2, 300), call(3, 3, 350)]
    standings = [Standing(after_seq=3, places=(Place(key="r1", tokens=100), Place(key="r2-r3", tokens=250)))]

    found = by_key(costs_of(calls, standings, places(100, 200, 50)))

    assert {key: cost.requests for key, cost in found.items()} == {"r1": 3, "r2": 1, "r2-r3": 1}
    assert found["r1"].usd == pytest.approx(300 * 3 / 1_000_000)


def test_the_beginning_of_a_request_is_charged_at_the_cached_price() -> None:
    found = by_key(costs_of([call(1, 3, 300, cache_read_tokens=150)], [], places(100, 100, 100)))

    rates = TokenTracker().rates(MODEL, at=DAY)
    assert found["r1"].usd == pytest.approx(100 * rates.cache_read / 1e6)
    assert found["r2"].usd == pytest.approx(50 * (rates.cache_read + rates.input) / 1e6)
    assert found["r3"].usd == pytest.approx(100 * rates.input / 1e6)


def test_what_travels_beside_the_messages_has_its_own_row() -> None:
    found = by_key(costs_of([call(1, 1, 400), call(2, 1, 400)], [], places(100), beside_tokens=300))

    assert (found[BESIDE].sent_tokens, found["r1"].sent_tokens) == (600, 200)
    assert found[BESIDE].usd == pytest.approx(3 * found["r1"].usd)


def test_a_session_priced_by_its_own_table_is_charged_by_that() -> None:
    found = costs_of([call(1, 1, 1_000, output_tokens=0, cost_usd=7.0)], [], places(100))

    assert found[0].usd == pytest.approx(7.0)


# --- What stands on the page ------------------------------------------------------------------------------------------


def test_the_page_loads_nothing_runs_nothing_and_says_so_to_the_browser() -> None:
    reader = Reader(written(account(compressions=[compression()])))

    assert {(tag, value) for tag, name, value in reader.attributes if name in {"src", "href"}} == {("link", "data:,")}
    assert [value for _, name, value in reader.attributes if name == "content" and "script-src 'none'" in value]
    assert not [name for _, name, _ in reader.attributes if name == "style" or name.startswith("on")]
    assert reader.all_texts("script") == []


@pytest.mark.parametrize(
    "junk", ["<script>alert(1)</script>", '"><img src=x onerror=y>', "&amp;&lt;", "\ud800\x00\x1b"]
)
def test_markup_and_junk_in_texts_stays_text(junk: str) -> None:
    known = {tag for tag, _, _ in Reader(written(account(compressions=[compression()]))).attributes}
    heading = replace(info().heading, title=junk, model=junk)
    calls = [call(1, 1), call(2, 3, model=junk)]

    html = written(
        account_of(info(heading=heading, id=junk), calls, [compression(summary=junk)], [expense(excerpt=junk)])
    )

    html.encode()
    reader = Reader(html)
    assert {tag for tag, _, _ in reader.attributes} <= known
    assert "\x00" not in html
    if junk.isprintable():
        assert junk in reader.all_texts("pre")
        assert junk in reader.all_texts("h1")
        assert junk in reader.all_texts("td")


def test_a_compression_tells_what_it_took_out_what_stands_for_it_and_what_it_saved() -> None:
    html = written(account([call(n, 2 * n) for n in range(1, 21)], [compression()]))

    told = html[html.index('id="compressions"') : html.index('id="expenses"')]
    shown = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", told)[7:14]
    assert shown == ["1", "9", "5.0k", "1.5k", "$0.00400", "$0.115", "r2-r7"]
    cells = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", told)[20:]
    assert cells[:6] == ["r2-r5", "summarised", "2", "1.5k", "0", "old"]
    assert cells[6:] == ["r6-r7", "masked", "1", "900", "100", "a long result"]
    assert "They read a file." in Reader(html).all_texts("pre")
    assert "$0.00400" in told
    assert "$0.115 over the 11 requests that followed" in told


def test_each_compression_is_marked_in_both_plots() -> None:
    html = written(account(compressions=[compression(1, 10), compression(2, 20)]))

    assert html.count('class="event"') == 4


def test_an_expensive_message_says_which_it_is_and_how_it_begins() -> None:
    html = written(account())

    row = html[html.index('id="expenses"') :]
    assert re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)[6:12] == [
        "r3 tool read_file",
        "700",
        "9",
        "6.3k",
        "$0.0189",
        "value_1 = 1",
    ]


def test_the_totals_hold_what_it_would_have_cost_without_the_memory() -> None:
    calls = [call(1, 1, cost_usd=0.25), call(2, 3, purpose="summary", cost_usd=0.5), call(3, 5, cost_usd=0.25)]

    html = written(account_of(info(), calls, [], saved_usd=1.5))

    assert "<dt>cost</dt><dd>$1.00</dd>" in html
    assert "<dt>without memory</dt><dd>$2.00, prompt cache counted</dd>" in html


def test_a_session_without_any_request_still_makes_a_page() -> None:
    html = written(account_of(info(), [], []))

    assert "No request was made yet." in html
    assert "Nothing was taken out of the context." in html
    Reader(html)


def test_a_page_of_a_long_session_is_below_two_megabytes() -> None:
    calls = [call(n, 2 * n) for n in range(1, 10_001)]
    compressions = [compression(n, 100 * n, "word " * 4_000) for n in range(1, 201)]

    html = written(account_of(info(), calls, compressions, [expense() for _ in range(15)]))

    assert len(html.encode()) < 2_000_000
    assert "The newest 300 of 10,000." in html
    assert "The 60 of 200 that took out most:" in html


def printed(found: Account) -> list[str]:
    out = io.StringIO()
    print_account(Console(file=out, width=80), found)
    return out.getvalue().splitlines()


def test_in_a_terminal_long_lines_of_a_summary_are_wrapped() -> None:
    lines = printed(account(compressions=[compression(summary="word " * 400 + "\n\nand more")]))

    quoted = [line for line in lines if line.startswith("  |")]
    assert max(map(len, quoted)) <= 80
    assert "".join(quoted).count("word") == 400
    assert quoted[-2:] == ["  |", "  | and more"]


def test_in_a_terminal_a_table_that_leaves_requests_out_says_so() -> None:
    few, many = (printed(account([call(n, 2 * n) for n in range(1, count + 1)])) for count in (20, 41))

    assert "20 of 41 requests, first to last; --json has all" in many
    assert not [line for line in few if " requests, first to last" in line]


def test_a_session_without_requests_tells_of_no_cache() -> None:
    lines = printed(account([]))

    assert "input:               0 tokens; no requests" in lines


# --- In a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched_browser() as launched:
        yield launched


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "page.html"
    summary = "<script>document.title = 'taken over'</script> " + "a_long_identifier_" * 40
    found = account(compressions=[compression(n, 8 * n, summary) for n in range(1, 6)])
    path.write_text(written(found), encoding="utf-8")
    return path


@pytest.mark.parametrize("has_script", [True, False])
def test_a_browser_shows_tables_and_plots_and_asks_nobody_for_anything(
    browser: Browser, path: Path, has_script: bool
) -> None:
    opened = Opened(browser, path, java_script_enabled=has_script)

    assert opened.page.title() == "Session Read every file"
    assert opened.page.locator("table:visible").count() == 2 + 3
    assert opened.page.locator("#compressions > .wide tbody tr").count() == 5
    for name in ("context", "dollars"):
        box = opened.page.locator(f"#{name}").bounding_box()
        assert box is not None
        assert min(box["width"] / 3, box["height"]) > 100
    assert opened.complaints == []
    assert opened.requests == [path.as_uri()]


def test_in_print_nothing_is_folded(browser: Browser, path: Path) -> None:
    opened = Opened(browser, path)

    opened.page.emulate_media(media="print")

    assert opened.page.locator("#requests tbody tr").last.is_visible()
    assert opened.page.locator("pre").last.is_visible()


def test_folded_parts_open_by_the_keyboard(browser: Browser, path: Path) -> None:
    opened = Opened(browser, path)

    opened.page.locator("#requests summary").focus()
    opened.page.keyboard.press("Enter")

    assert opened.page.locator("#requests tbody tr").first.is_visible()


def test_what_scrolls_within_the_page_can_be_reached_by_the_keyboard(browser: Browser, path: Path) -> None:
    opened = Opened(browser, path)
    opened.page.set_viewport_size({"width": 375, "height": 800})

    unreachable = opened.page.evaluate(
        """() => [...document.querySelectorAll("body *")].filter(one => {
            const style = getComputedStyle(one);
            const scrolls = one.scrollWidth > one.clientWidth + 1 && style.overflowX === "auto"
                || one.scrollHeight > one.clientHeight + 1 && style.overflowY === "auto";
            return scrolls && one.tabIndex < 0;
        }).map(one => one.outerHTML.slice(0, 80))"""
    )

    assert unreachable == []


@pytest.mark.parametrize("width", [320, 375, 1200])
def test_the_page_never_scrolls_sideways_as_a_whole(browser: Browser, path: Path, width: int) -> None:
    opened = Opened(browser, path)

    opened.page.set_viewport_size({"width": width, "height": 800})

    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_dark_scheme_is_followed_on_screen_and_not_in_print(browser: Browser, path: Path) -> None:
    opened = Opened(browser, path, color_scheme="dark")
    back = "getComputedStyle(document.body).backgroundColor"

    on_screen = opened.page.evaluate(back)
    opened.page.emulate_media(media="print", color_scheme="dark")

    assert (on_screen, opened.page.evaluate(back)) == ("rgb(19, 23, 27)", "rgb(255, 255, 255)")
