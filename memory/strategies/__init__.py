"""What to take out of the window: each strategy is one pure method from a situation to a plan.

A strategy reads units and sizes and answers with one decision per unit. It stores nothing, asks no model and
writes no message, so it needs no mock in a test, and a plan that is not run is a preview.
"""

from __future__ import annotations

from ..config import CompressionStrategy
from .builtin import Deletion, Masking, Selective, ShouldPreserve, SlidingWindow
from .older import NEWEST, OLDER, OLDER_SUMMARY, SHORT_TERM, recent_units
from .placeholders import (
    CHARACTERS_PER_TOKEN,
    brief_arguments,
    is_whole,
    maskable_results,
    masked_results,
    masked_size,
    placeholder,
    result_share,
)
from .plan import Action, Decision, Plan, Situation, Strategy
from .sizing import MIN_SUMMARY_TOKENS, UNTOUCHABLE
from .tiered import Tiered

__all__ = [
    "CHARACTERS_PER_TOKEN",
    "MIN_SUMMARY_TOKENS",
    "NEWEST",
    "OLDER",
    "OLDER_SUMMARY",
    "SHORT_TERM",
    "UNTOUCHABLE",
    "Action",
    "CompressionStrategy",
    "Decision",
    "Deletion",
    "Masking",
    "Plan",
    "Selective",
    "ShouldPreserve",
    "Situation",
    "SlidingWindow",
    "Strategy",
    "Tiered",
    "brief_arguments",
    "is_whole",
    "maskable_results",
    "masked_results",
    "masked_size",
    "placeholder",
    "recent_units",
    "result_share",
]
