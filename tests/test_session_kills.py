"""A writer that is killed loses nothing of what it was told is kept, and leaves no state between two."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from benchmarks.kills import Outcome, kill_postgres, kill_sqlite

pytestmark = pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "darwin", reason="kills forked writers")


def test_kills_at_random_moments_break_no_law_of_a_file(tmp_path: Path) -> None:
    assert_nothing_is_lost(kill_sqlite(tmp_path / "sessions.db", kills=25, seed=1))


def test_kills_at_random_moments_break_no_law_of_a_database(postgres_server: str) -> None:
    assert_nothing_is_lost(kill_postgres(postgres_server, kills=10, seed=1))


def assert_nothing_is_lost(outcome: Outcome) -> None:
    assert outcome.broken == []
    assert outcome.lost == 0
    assert outcome.acknowledged > 2 * outcome.kills // 3
