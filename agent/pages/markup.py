"""Elements of a page. Texts and attributes are escaped when the page is written: markup in a name stays a name."""

from __future__ import annotations

import re
from typing import Final, TypeAlias
from xml.etree.ElementTree import Element, tostring

Child: TypeAlias = "Element | str | None"

_NO_CHARACTER: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
"""Control characters and lone surrogates, which names in transcripts hold and no page may."""
_SYMBOLS: Final = {"class_": "class", "for_": "for"}


def el(tag: str, /, *children: Child, **attributes: str | float | None) -> Element:
    """Return an element; a child or attribute that is None is left out.

    `class_` and `for_` lose their underscore, others get a hyphen for it; numbers are written to one decimal.
    """
    element = Element(tag)
    for name, value in attributes.items():
        if value is not None:
            element.set(_SYMBOLS.get(name, name.replace("_", "-")), value if isinstance(value, str) else number(value))
    return fill(element, *children)


def fill(element: Element, *children: Child) -> Element:
    """Append children and return the element."""
    for child in children:
        if isinstance(child, str):
            _append_text(element, child)
        elif child is not None:
            element.append(child)
    return element


def number(value: float) -> str:
    """Return a coordinate to one decimal, the shortest way."""
    return f"{value:.1f}".removesuffix(".0")


def written(page: Element) -> str:
    """Return the page as HTML."""
    for element in page.iter():
        element.text = _clean(element.text)
        element.tail = _clean(element.tail)
        for name, value in element.attrib.items():
            element.set(name, _clean(value) or "")
    return "<!doctype html>\n" + tostring(page, encoding="unicode", method="html") + "\n"


def _append_text(element: Element, text: str) -> None:
    if len(element):
        element[-1].tail = (element[-1].tail or "") + text
    else:
        element.text = (element.text or "") + text


def _clean(text: str | None) -> str | None:
    return _NO_CHARACTER.sub("\N{REPLACEMENT CHARACTER}", text) if text else text
