"""Fakes and contract checks for tests of your own: counters, summarisers, strategies, archives, session stores.

The fakes are deterministic and need no network. The checks raise `AssertionError` with a sentence; call them from
any test runner, or subclass `SessionStoreContract`. `memory.testing.simulators` has whole providers that run on this
machine.
"""

from __future__ import annotations

from .contracts import check_archive, check_strategy, check_summarizer
from .fakes import FailingSummarizer, FixedSummarizer, ScriptedLLM, WordCounter, situation_of
from .session_contract import SessionStoreContract

__all__ = [
    "FailingSummarizer",
    "FixedSummarizer",
    "ScriptedLLM",
    "SessionStoreContract",
    "WordCounter",
    "check_archive",
    "check_strategy",
    "check_summarizer",
    "situation_of",
]
