"""A whole page, and the blocks that stand in every one."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from importlib.resources import files
from xml.etree.ElementTree import Element

from .markup import el, fill, written


def document(title: str, body: Element, *, script: str | None = None) -> str:
    """Return a page as HTML, in UTF-8 when it is written.

    It carries its style and its script; its policy lets it load nothing and run no script but that one.
    """
    if script is not None:
        fill(body, el("script", script))
    style = files(__package__).joinpath("assets", "page.css").read_text(encoding="utf-8")
    return written(el("html", _head(title, style, script), body, lang="en"))


def figure(title: str, words: str, plot: Element, key: Element | None = None) -> Element:
    """Return a plot with what it shows and how to read it; where it is too wide, it scrolls within itself."""
    caption = el("figcaption", el("strong", title), el("span", words))
    return el("figure", caption, key, scrolling(plot, title))


def scrolling(content: Element, label: str) -> Element:
    """Return what may be wider than the page: it scrolls within itself, by the keyboard too.

    Source: WCAG 2.1.1, https://www.w3.org/TR/WCAG22/#keyboard
    """
    return el("div", content, class_="wide", tabindex="0", role="region", aria_label=label)


def counted(count: int, what: str) -> str:
    """Return a count with its noun."""
    many = f"{what[:-1]}ies" if what.endswith("y") else f"{what}s"
    return f"{count:,} {what if count == 1 else many}"


def _head(title: str, style: str, script: str | None) -> Element:
    runs = f"script-src '{_digest(script)}'" if script is not None else "script-src 'none'"
    allowed = f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; {runs}"
    return el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=allowed),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("title", title),
        el("link", rel="icon", href="data:,"),
        el("style", style),
    )


def _digest(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"
