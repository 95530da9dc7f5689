"""Every Python block of the README and the docs runs, and every link between them leads somewhere."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

# Besides the blocks that readers see, `<!-- run ... -->` holds what a page needs first and nobody wants to read.
_BLOCK = re.compile(r"^(?:```python\n(?P<shown>.*?)^```|<!-- run\n(?P<hidden>.*?)^-->)", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\((?!\w+:|#)(?P<path>[^)#\s]+)")


def blocks(page: Path) -> list[tuple[int, str]]:
    """Each block's first line number and its code."""
    text = page.read_text(encoding="utf-8")
    return [(text.count("\n", 0, m.start()) + 2, m["shown"] or m["hidden"] or "") for m in _BLOCK.finditer(text)]


def run(code: str, *, page: Path, first_line: int, namespace: dict[str, Any]) -> None:
    """Run one block; `await` may stand at its top level."""
    # Blank lines in front, so that an error names the line of the page.
    padded = "\n" * (first_line - 1) + code
    waiting = eval(compile(padded, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), namespace)
    if inspect.iscoroutine(waiting):
        asyncio.run(waiting)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_python_blocks_of_a_page_run_from_top_to_bottom(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(name, "test")  # an SDK's client cannot be made without one
    namespace: dict[str, Any] = {"__name__": "__page__"}

    for first_line, code in blocks(page):
        run(code, page=page, first_line=first_line, namespace=namespace)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    links = [match["path"] for match in _LINK.finditer(page.read_text(encoding="utf-8"))]

    assert [link for link in links if not (page.parent / link).exists()] == []
