"""Summaries without a model: what was asked, done, found, decided and is open, with every identifier word for word."""

from __future__ import annotations

from .evidence import Digest, Source, digest
from .excerpts import excerpts
from .writer import missing_identifiers, render

__all__ = ["Digest", "Source", "digest", "excerpts", "missing_identifiers", "render"]
