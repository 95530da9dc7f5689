"""The docs show what really happens: outputs, commands and tables are run and made anew, and nothing is left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from memory import MemoryManager
from memory.dialects import RULES

from .pages import PAGES, TABLES, without_times, written_anew
from .test_docs import ROOT

MOST_LINES = 280


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_shows_what_its_code_and_commands_print(page: Path) -> None:
    shown = page.read_text(encoding="utf-8")

    assert without_times(written_anew(page)) == without_times(shown), "write it anew with `python -m tests.pages`"


@pytest.mark.parametrize("name", TABLES)
def test_each_table_that_can_be_made_stands_on_one_page(name: str) -> None:
    marked = [page.name for page in PAGES if f"<!-- table: {name} -->" in page.read_text(encoding="utf-8")]

    assert len(marked) == 1


def test_every_figure_of_the_statistics_is_explained() -> None:
    page = (ROOT / "docs" / "tokens-and-prices.md").read_text(encoding="utf-8")

    assert [key for key in MemoryManager().get_stats() if f"| `{key}` |" not in page] == []


def test_every_rule_of_every_format_is_listed() -> None:
    page = (ROOT / "docs" / "validity.md").read_text(encoding="utf-8")

    assert [rule.code for rules in RULES.values() for rule in rules if f"| {rule.code} |" not in page] == []


def test_every_page_is_reached_from_the_index() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in PAGES if page.name != "index.md"]

    assert [page for page in pages if f"({page})" not in index] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_can_be_read_in_one_go(page: Path) -> None:
    assert len(page.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_each_block_of_a_page_ends_before_the_next_begins(page: Path) -> None:
    fences = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("```")]

    assert all(line != "```" for line in fences[::2])
    assert all(line == "```" for line in fences[1::2])
    assert len(fences) % 2 == 0
