"""Reads pages as a browser would, and opens them in one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


class Reader(HTMLParser):
    """Reads a page as a browser would; tags that are never closed are an error."""

    VOID = frozenset({"meta", "link", "br", "input"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.open[-1] if self.open else "", data))

    def all_texts(self, tag: str) -> list[str]:
        return [text for where, text in self.texts if where == tag]


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@contextmanager
def launched_browser() -> Iterator[Browser]:
    """A Chromium or Chrome of this machine; without one the test is skipped, in CI it fails."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _absent("playwright is not installed")
    with sync_playwright() as playwright:
        path = next(filter(None, map(shutil.which, BROWSERS)), playwright.chromium.executable_path)
        if not Path(path).exists():
            _absent("no Chromium or Chrome is installed")
        launched = playwright.chromium.launch(executable_path=path, timeout=20_000)
        yield launched
        launched.close()


def _absent(reason: str) -> NoReturn:
    (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{reason}: the page cannot be looked at")


class Opened:
    """A page in a browser, with what it asked for and complained of."""

    def __init__(self, browser: Browser, path: Path, **options: Any) -> None:
        self.context = browser.new_context(viewport={"width": 1200, "height": 900}, **options)
        self.context.set_default_timeout(5_000)
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page: Page = self.context.new_page()
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(path.as_uri())

    def shown_plots(self) -> list[str]:
        """Return the ids of the plots that take up room and have a curve, a bar or a point with an extent."""
        found: list[str] = self.page.evaluate(
            """() => [...document.querySelectorAll("svg.plot")].filter(plot => {
                const box = plot.getBoundingClientRect();
                const ink = [...plot.querySelectorAll(".line, .part, .marker")];
                const isDrawn = ink.some(one => one.getBoundingClientRect().width > 0);
                return box.width > 300 && box.height > 100 && isDrawn;
            }).map(plot => plot.id)"""
        )
        return found
