"""Fakes and contract checks for tests of your own: counters, summarisers, strategies, archives.

The fakes are deterministic and need no network. The checks raise `AssertionError` with a sentence; call them from
any test runner. `memory.testing.simulators` has whole providers that run on this machine.
"""

from __future__ import annotations

from .contracts import check_archive, check_strategy, check_summarizer
from .fakes import FailingSummarizer, FixedSummarizer, ScriptedLLM, WordCounter, situation_of

__all__ = [
    "FailingSummarizer",
    "FixedSummarizer",
    "ScriptedLLM",
    "WordCounter",
    "check_archive",
    "check_strategy",
    "check_summarizer",
    "situation_of",
]
