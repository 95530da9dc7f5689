"""The economy of one run: what waiting has cost so far, what the future looks like, and whether a plan pays now."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

from .accounts import Accounts
from .config import MemoryConfig
from .economics import DEAD, Appraisal, Outlook, appraise
from .request_size import RequestSize
from .strategies import Plan
from .window import Window

logger = logging.getLogger(__name__)


class Economy:
    """Decides by money when one window is compressed.

    Waiting costs too: each request carries the tokens that a compression would have taken out. A compression is due
    once that has come to as much as the compression itself costs: earlier would break the cache too often, later would
    carry too much. Whatever the future brings, this rule costs at most twice what the best moment would have.
    """

    def __init__(self, config: MemoryConfig, window: Window, size: RequestSize, accounts: Accounts) -> None:
        self.edges: tuple[int, ...] = ()
        """Sizes of a request beyond which the model is dearer, ascending."""
        self._config = config
        self._window = window
        self._size = size
        self._accounts = accounts
        self._carried = 0.0
        self._lean_tokens = int(config.compression_threshold * _LEAN_SHARE)
        self._not_before_tokens = 0
        self._failed_until_tokens = 0
        self._was_dead = False
        """The plan that was declined was judged by an expired cache already."""

    def note_request(self) -> None:
        """A request was made with the window as it stands: it carried what a compression would have taken out."""
        if self._alive() >= DEAD:
            self._was_dead = False
        if self._tokens > self._lean_tokens:
            self._carried += self._outlook().carry * (self._tokens - self._lean_tokens)

    def note_compressed(self) -> None:
        """The context is as lean now as it gets."""
        self._carried, self._not_before_tokens, self._failed_until_tokens = 0.0, 0, 0
        self._lean_tokens = self._tokens

    def is_worth_a_look(self, tokens: int, *, growth_tokens: int) -> bool:
        """Whether a plan should be made and appraised. O(1), while a plan costs as much as the window is long."""
        if tokens <= self._lean_tokens or tokens < self._failed_until_tokens:
            return False
        has_expired = not self._was_dead and self._alive() < DEAD
        return tokens >= self._not_before_tokens or has_expired or self.is_at_edge(tokens, growth_tokens)

    def is_at_edge(self, tokens: int, growth_tokens: int) -> bool:
        """Whether the step to come may bring a request of this size to a dearer tier."""
        return any(tokens <= edge < tokens + growth_tokens for edge in self.edges)

    def appraise(self, plan: Plan, *, summary_usd: float, growth_tokens: int) -> Appraisal:
        """Judge whether a plan pays now, and tell the log what it was judged by.

        Args:
            plan: What would be done.
            summary_usd: What writing its summary would cost.
            growth_tokens: What a step of the loop adds.
        """
        base = self._accounts.base_usd_per_token(self._window)
        allowance = self._accounts.allowance_usd(self._config.max_overspend) / base
        share = self._size.share  # what is carried and spent is in tokens as the provider counts them
        found = appraise(
            removed_tokens=share(plan.removed_tokens),
            summary_tokens=share(plan.summary_target_tokens),
            suffix_tokens=share(self._rewritten(plan)),
            summary_cost=summary_usd / base,
            outlook=self._outlook(),
            carried=self._carried,
            allowance=allowance if self._config.expected_requests is None else math.inf,
            is_at_edge=self.is_at_edge(self._tokens, growth_tokens),
        )
        _log(found)
        return found

    def note_declined(self, plan: Plan) -> None:
        """A plan was made and not carried out: make the next when the context has grown a little."""
        self._lean_tokens = self._size.whole(plan.tokens_after)
        self._not_before_tokens = self._grown()
        self._was_dead = self._alive() < DEAD

    def note_failed(self) -> None:
        """A plan was carried out and came to nothing: the same again would, and be paid for again."""
        self._failed_until_tokens = self._grown()

    def state(self) -> dict[str, Any]:
        """Return what waiting has cost and what was tried, as JSON values."""
        return {
            "edges": list(self.edges),
            "carried": self._carried,
            "lean_tokens": self._lean_tokens,
            "not_before_tokens": self._not_before_tokens,
            "failed_until_tokens": self._failed_until_tokens,
            "was_dead": self._was_dead,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Know what was known when `state` was taken."""
        self.edges = tuple(state["edges"])
        self._carried = state["carried"]
        self._lean_tokens = state["lean_tokens"]
        self._not_before_tokens = state["not_before_tokens"]
        self._failed_until_tokens = state["failed_until_tokens"]
        self._was_dead = state["was_dead"]

    @property
    def _tokens(self) -> int:
        """Size of the next request, as its provider counts."""
        return self._size.whole(self._window.tokens)

    def _grown(self) -> int:
        return self._tokens + self._tokens // _LOOK_SHARE

    def _rewritten(self, plan: Plan) -> int:
        """Return what of the kept messages must be sent uncached: those behind the first edit, by most rules.

        Where a cache finds a prefix only where an earlier request ended, it is all of them.
        """
        if self._accounts.ledger.cache_rules.is_exact:
            return plan.tokens_after - plan.summary_target_tokens
        return plan.suffix_tokens

    def _alive(self) -> float:
        given = self._config.cache_alive
        return self._accounts.cache_alive if given is None else given

    def _outlook(self) -> Outlook:
        expected, made = self._config.expected_requests, self._accounts.request_count
        return self._accounts.outlook(
            self._window,
            remaining_requests=made if expected is None else max(0, expected - made),
            cache_alive=self._config.cache_alive,
        )


def _log(found: Appraisal) -> None:
    logger.log(
        logging.INFO if found.pays else logging.DEBUG,
        "reason=%s saving=%.0f cost=%.0f carried=%.0f removed=%d summary=%d suffix=%d remaining=%.0f alive=%.2f "
        "read=%.3f write=%.3f | appraised",
        *(found.reason, found.saving, found.cost, found.carried),
        *(found.removed_tokens, found.summary_tokens, found.suffix_tokens),
        *(found.outlook.remaining_requests, found.outlook.cache_alive, found.outlook.read, found.outlook.write),
    )


_LEAN_SHARE = 0.25
"""Of the threshold: what a compression leaves, until the first plan says it."""

_LOOK_SHARE = 25
"""A plan that was declined is made anew when the context has grown by a twenty-fifth."""
