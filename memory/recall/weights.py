"""How much each signal counts. None was fitted to data: each is a round number behind a reason.

`benchmarks/recall.py --section weights` halves and doubles each, and chooses them anew without the talk it measures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The signals' weights; factors of 1 and shares of 0 leave a signal out."""

    k1: float = 0.9
    b: float = 0.4
    """BM25 with the constants that Anserini takes for texts of mixed kinds (Trotman, Puurula & Burgess, "Improvements
    to BM25 and language models examined", 2014): a long tool result is not worse for being long."""
    sharpness: float = 1.5
    """Power of a word's rarity: of thirty words of a query the many common ones must not outweigh the one name."""
    coverage: float = 0.5
    """So much of a score is for having the query's words together, the rest for having them at all."""
    calls: float = 0.3
    """Factor of an assistant's calls: they repeat what was known; what they brought stands in their results."""
    system: float = 0.5
    """Factor of system prompts: they name everything a little, and never leave the context."""
    near: float = 0.5
    """Share of a neighbour's score that a message gets; half of it two messages away. An answer seldom repeats its
    question's words, nor a result its call's."""
    answers: float = 1.5
    """Factor of what the message before lends, if that one asks a question or calls a tool."""
    speaker: float = 1.3
    """Factor where the query names the speaker: who is named more often said it than was told it."""
    told: float = 1.5
    """Factor for a message of the time that the query speaks of."""
    newest: float = 1.5
    """Factor of the newest candidate where the query asks for what is latest; the oldest gets 1."""
    origin: float = 2.0
    """Times a word's weight, for the message that had it first: the others had it from there."""
    burst: float = 0.3
    """Share of the weights of all words of the query that a stretch of talk has anywhere, for each of its messages."""
    meaning: float = 0.5
    """Weight of vectors beside words, where both are there: what was said is known, what was meant is guessed."""
    copy: float = 0.5
    """Factor of what stands above already, in as many words: a file that was read twice."""


WEIGHTS: Final = Weights()
