"""The page of a backtest: what stands in it, and that a real browser shows it with and without its script."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from importlib.resources import files
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agent.backtest.outcome import Compression, Outcome, Step
from agent.backtest.page import page
from agent.backtest.page_runs import without_hidden_steps

from .pages_read import Opened, Reader, launched_browser

if TYPE_CHECKING:
    from playwright.sync_api import Browser

DAY = datetime(2026, 3, 4, 12, tzinfo=UTC)


def outcome(policy: str = "none", run: str = "run-a", *, steps: int = 6, usd: float = 0.02, **changed: Any) -> Outcome:
    """Return an outcome whose steps each cost the same and whose summaries cost as much as one of them."""
    made: dict[str, Any] = {field.name: 0 for field in fields(Outcome)}
    per_step = usd / (steps + 1)
    made |= {
        "transcript_id": run,
        "source": f"{run}.jsonl",
        "policy": policy,
        "model": "claude-sonnet-4-5",
        "message_count": steps * 2,
        "history_tokens": steps * 1000,
        "requests": steps,
        "input_tokens": sum(range(steps)) * 1000,
        "usd": usd,
        "usd_output": usd - per_step,
        "usd_summaries": per_step,
        "probes": 10,
        "retained": 9,
        "mean_context_tokens": 500.0,
        "steps": tuple(step(2 * index + 1, 1000 * (index % 4 + 1), per_step) for index in range(steps)),
        "compressions": (compression(5),),
        "is_price_known": True,
    }
    return Outcome(**made | changed)


def step(index: int, sent: int, usd: float) -> Step:
    return Step(
        index=index, sent_tokens=sent, cached_tokens=0, written_tokens=0, output_tokens=1, usd=usd, prefix_changed=False
    )


def compression(index: int) -> Compression:
    return Compression(
        index=index,
        tokens_before=9000,
        tokens_after=3000,
        removed_count=7,
        added_count=1,
        removed_tokens={"tool": 5500, "assistant": 700, "user": 0},
        added_tokens=200,
    )


def several() -> list[Outcome]:
    """Return two runs under three policies, one of which the provider would refuse."""
    return [
        outcome(policy, run, steps=steps, usd=usd, retained=retained, invalid_requests=invalid)
        for run, steps in (("run-a", 6), ("run-b", 9))
        for policy, usd, retained, invalid in (("none", 0.04, 10, 0), ("masking", 0.02, 9, 0), ("window", 0.01, 3, 2))
    ]


def written(outcomes: Sequence[Outcome]) -> str:
    return page(outcomes, made_at=DAY)


# --- What stands in it ------------------------------------------------------------------------------------------------


def test_the_table_has_a_row_for_each_policy_the_cheapest_first() -> None:
    html = written(several())

    table = html[html.index("<table>") : html.index("</table>")]
    assert re.findall(r'<th scope="row">(\w+)</th>', table) == ["window", "masking", "none"]
    assert [text in table for text in ("$0.0200", "−75.0%", "30.0% of 20", "90.0% of 20", "100% of 20")] == [True] * 5


def test_the_verdict_names_the_cheapest_policy_at_each_quality_but_none_that_would_be_refused() -> None:
    html = written(several())

    verdict = html[html.index('class="verdict"') : html.index("<table>")]
    assert re.findall(r"<b>(.*?)</b>(\w+)", verdict) == [("100%: ", "none"), ("90.0%: ", "masking")]


def test_the_page_loads_nothing_and_says_so_to_the_browser() -> None:
    reader = Reader(written(several()))

    assert {(tag, value) for tag, name, value in reader.attributes if name in {"src", "href"}} == {("link", "data:,")}
    assert [value for _, name, value in reader.attributes if name == "content" and "default-src 'none'" in value]
    assert "url(" not in "".join(reader.all_texts("style"))
    assert not [name for _, name, _ in reader.attributes if name == "style" or name.startswith("on")]


@pytest.mark.parametrize(
    "junk", ["<script>alert(1)</script>", '"><img src=x onerror=y>', "&amp;&lt;", "\ud800\x00\x1b"]
)
def test_markup_and_junk_in_names_stays_text(junk: str) -> None:
    known = {tag for tag, _, _ in Reader(written(several())).attributes}

    html = written([outcome(junk, junk, source=junk, model=junk), outcome("none", junk, source=junk, model=junk)])

    html.encode()
    reader = Reader(html)
    assert {tag for tag, _, _ in reader.attributes} <= known
    assert len(reader.all_texts("script")) == 1
    assert "\x00" not in html
    if junk.isprintable():
        assert junk in reader.all_texts("summary")[0]


@pytest.mark.parametrize(("count", "shown"), [(4, 24), (20, 8)])
def test_a_page_of_many_long_runs_is_below_a_megabyte(count: int, shown: int) -> None:
    policies = [f"policy-{number}" for number in range(count)]
    big = outcome(steps=200, compressions=tuple(compression(index) for index in range(1, 100)))
    outcomes = [replace(big, policy=policy, transcript_id=f"run-{run}") for run in range(30) for policy in policies]

    html = written(outcomes)

    assert len(html.encode()) < 1_000_000
    assert f"The {shown} longest of 30." in html


def test_a_page_is_the_same_without_the_steps_of_runs_that_it_does_not_show() -> None:
    outcomes = [
        outcome(policy, f"run-{number}", history_tokens=1_000 + number)
        for number in range(40)
        for policy in ("none", "window@20")
    ]

    lighter = without_hidden_steps(outcomes)

    assert sum(bool(one.steps) for one in lighter) == 2 * 24
    assert page(lighter, made_at=datetime(2026, 11, 1, tzinfo=UTC)) == page(
        outcomes, made_at=datetime(2026, 11, 1, tzinfo=UTC)
    )


def test_a_long_curve_keeps_its_peaks_and_its_end() -> None:
    tall = outcome(steps=2_000)
    tall = replace(tall, steps=(*tall.steps[:700], step(1_401, 90_000, 0.0), *tall.steps[701:]))

    html = written([tall])

    plot = html[html.index('id="run-0-tokens"') :]
    points = re.search(r'class="line" points="([^"]*)"', plot)
    assert points is not None
    heights = [float(point.split(",")[1]) for point in points[1].split()]
    assert len(heights) < 130
    assert heights.count(min(heights)) == 1
    assert min(heights) < 60


def test_the_dollars_along_a_run_end_at_its_cost_summaries_included() -> None:
    html = written([outcome(usd=0.07)])

    assert "<title>none: $0.0700 at message 11</title>" in html[html.index('id="run-0-dollars"') :]


def test_each_compression_is_told_with_what_it_took_out() -> None:
    html = written([outcome("masking")])

    rows = html[html.index("Compressions by masking") :]
    cells = re.findall(r"<td[^>]*>(.*?)</td>", rows)[:6]
    assert cells == ["5", "9.0k", "3.0k", "7", "tool 5.5k · assistant 700", "1 (200 tokens)"]


def test_only_the_greatest_compressions_are_told_where_there_are_many() -> None:
    small = [replace(compression(index), tokens_before=3001) for index in range(1, 40)]

    html = written([outcome(steps=40, compressions=(*small, compression(70)))])

    rows = html[html.index("Compressions by none. The 12 that took out most.") :]
    assert rows.count("<tr>") == 1 + 12
    assert "<td>70</td>" in rows


def test_the_assumptions_name_day_prices_cache_and_the_callers_own() -> None:
    html = page(several(), made_at=DAY, assumptions={"Answers were": "<recorded>"})

    assert "2026-03-04 12:00 UTC" in html
    assumed = html[html.index("What this assumes") :]
    assert "$3.00 for a million tokens of fresh input" in assumed
    assert "prefixes of at least 1,024 tokens, for 5 minutes" in assumed
    assert "<dt>Answers were</dt><dd>&lt;recorded&gt;</dd>" in assumed


def test_what_is_not_known_is_said() -> None:
    html = written([outcome("none", probes=0, retained=0, is_price_known=False, model="mystery"), outcome("own", "b")])

    assert "price is not known" in html
    assert "so retention cannot be told" in html
    assert "–" in html


def test_outcomes_without_steps_or_cost_still_make_a_page() -> None:
    bare = replace(outcome(usd=0.0), steps=(), compressions=())

    html = written([bare])

    assert "No policy took anything out of this run." in html
    Reader(html)


def test_a_page_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one outcome"):
        page([])


def test_every_plot_has_a_title_and_a_description() -> None:
    reader = Reader(written(several()))
    ids = {value for _, name, value in reader.attributes if name == "id"}

    labelled = [value.split() for tag, name, value in reader.attributes if (tag, name) == ("svg", "aria-labelledby")]
    assert len(labelled) == 2 + 2 * 2
    assert all(set(names) <= ids for names in labelled)


# --- Colours ----------------------------------------------------------------------------------------------------------


def schemes() -> list[dict[str, str]]:
    style = files("agent.pages").joinpath("assets", "page.css").read_text(encoding="utf-8")
    light, dark = (
        dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in re.findall(r":root \{(.*?)\}", style, re.S)[:2]
    )
    return [light, light | dark]


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of WCAG 2 (https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio)."""
    bright, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("colours", schemes(), ids=["light", "dark"])
def test_texts_can_be_read_and_neighbouring_parts_told_apart(colours: dict[str, str]) -> None:
    texts = ["text", "faint", "accent", "bad", *(f"s{number}" for number in range(8))]

    for text, back in ((text, back) for text in texts for back in ("back", "card")):
        assert contrast(colours[text], colours[back]) >= 4.5, (text, back)
    assert contrast(colours["text"], colours["good"]) >= 4.5
    assert len({colours[f"s{number}"] for number in range(8)}) == 8
    assert all(colours[f"p{a}"] != colours[f"p{b}"] for a, b in combinations(range(5), 2))


# --- In a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched_browser() as launched:
        yield launched


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "page.html"
    path.write_text(written(several()), encoding="utf-8")
    return path


OF_THE_MODEL = ["model-0-retention", "model-0-parts"]


def test_a_browser_shows_the_table_and_the_plots_and_asks_nobody_for_anything(browser: Browser, path: Path) -> None:
    opened = Opened(browser, path)

    assert opened.page.locator("#model-0 tbody tr").count() == 3
    assert opened.page.locator("#model-0 caption").is_visible()
    assert opened.shown_plots() == [*OF_THE_MODEL, "run-0-tokens", "run-0-dollars"]
    assert opened.complaints == []
    assert opened.requests == [path.as_uri()]


def test_choosing_a_run_shows_its_plots_instead(browser: Browser, path: Path) -> None:
    opened = Opened(browser, path)

    opened.page.get_by_label("Run", exact=True).select_option(index=1)

    assert opened.shown_plots() == [*OF_THE_MODEL, "run-1-tokens", "run-1-dollars"]
    assert opened.page.locator("details.run:visible > summary").all_inner_texts() == ["run-a · 6.0k tokens"]
    assert opened.complaints == []


def test_without_script_the_table_and_the_plots_are_there_and_runs_can_be_unfolded(
    browser: Browser, path: Path
) -> None:
    opened = Opened(browser, path, java_script_enabled=False)

    assert opened.page.locator("#model-0 tbody tr").count() == 3
    assert not opened.page.locator(".choice").is_visible()
    for name in [*OF_THE_MODEL, "run-0-tokens"]:
        box = opened.page.locator(f"#{name}").bounding_box()
        assert box is not None
        assert min(box["width"] / 3, box["height"]) > 100
    opened.page.locator("details.run > summary").nth(1).click()
    assert opened.page.locator("#run-1-tokens").is_visible()


@pytest.mark.parametrize("width", [360, 1200])
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
