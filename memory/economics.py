"""When a compression pays: what the requests to come save against what breaking the prompt cache costs now.

Everything is counted in tokens at the base input price, so that a model's price falls out of the comparison: only the
price of a cached token (`read`) and of one that is written to the cache (`write`), each as a share of the base price,
matter. docs/decisions/0011-when-a-compression-pays.md derives the rule.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from .prices import Rates

Reason: TypeAlias = Literal["pays", "no_cache", "tier_edge", "too_little", "too_early", "too_risky"]
"""Why an appraisal is for a compression: it pays, the provider's cache holds nothing that it could break, or the next
request would be billed at a dearer tier. Or why it is against it: the savings do not reach the cost; they do, but
waiting has cost less so far than compressing would; or the run may end before it has earned its cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What is known of the requests to come."""

    remaining_requests: float
    cache_alive: float
    """The probability that the next request finds the prefix of the last one in the provider's cache (0-1)."""
    read: float
    """Price of a token that is read from the cache, as a share of the base input price."""
    carry: float
    """Price of a token that the requests to come repeat: that of a read, or more by what was missed so far."""
    write: float
    """Price of a token that must be sent uncached, likewise; above 1 where providers bill writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Appraisal:
    """What a compression would cost and save, and what was decided; sizes are tokens, costs those at the base price."""

    reason: Reason
    outlook: Outlook
    removed_tokens: int
    """D: what leaves the context."""
    summary_tokens: int
    """m: what comes into it."""
    suffix_tokens: int
    """S: what is kept behind the first edit, and must be sent uncached once."""
    summary_cost: float
    """What writing the summary costs."""
    carried: float
    """What carrying the removable tokens has cost since the last compression."""

    @property
    def gain_tokens(self) -> int:
        """D-m: what the context is smaller by."""
        return self.removed_tokens - self.summary_tokens

    @property
    def saving(self) -> float:
        """What the requests to come save: R·r·(D-m), r with the misses seen so far."""
        return self.outlook.remaining_requests * self.outlook.carry * self.gain_tokens

    @property
    def cost(self) -> float:
        """What breaking the cache and writing the summary cost: a·(w-r)·(m+S) - (1-a)·(w-r)·(D-m) + summary.

        With a dead cache everything is written anew in any case, and less of it after a compression: a gain.
        """
        broken = max(0.0, self.outlook.write - self.outlook.read)
        alive, rewritten = self.outlook.cache_alive, self.summary_tokens + self.suffix_tokens
        return alive * broken * rewritten - (1 - alive) * broken * self.gain_tokens + self.summary_cost

    @property
    def pays(self) -> bool:
        """Whether to compress now."""
        return self.reason in ("pays", "no_cache", "tier_edge")


def appraise(
    *,
    removed_tokens: int,
    summary_tokens: int,
    suffix_tokens: int,
    summary_cost: float,
    outlook: Outlook,
    carried: float,
    allowance: float,
    is_at_edge: bool,
) -> Appraisal:
    """Judge a compression of these sizes. Costs are tokens at the base price.

    Args:
        removed_tokens: What it takes out of the context.
        summary_tokens: What it puts into it.
        suffix_tokens: What it keeps behind its first edit.
        summary_cost: What writing the summary costs.
        outlook: What is known of the requests to come.
        carried: What carrying the removable tokens has cost so far.
        allowance: The most that it may cost: what the run may be dearer for it, should it end now.
        is_at_edge: The next request would be billed at a dearer tier.
    """
    found = Appraisal(
        reason="too_little",
        outlook=outlook,
        removed_tokens=removed_tokens,
        summary_tokens=summary_tokens,
        suffix_tokens=suffix_tokens,
        summary_cost=summary_cost,
        carried=carried,
    )
    return replace(found, reason=_reason(found, allowance=allowance, is_at_edge=is_at_edge))


def _reason(found: Appraisal, *, allowance: float, is_at_edge: bool) -> Reason:
    if is_at_edge and found.gain_tokens > 0:
        return "tier_edge"
    if found.gain_tokens <= 0 or found.saving <= found.cost:
        return "too_little"
    if found.outlook.cache_alive < DEAD:
        return "no_cache"
    if found.carried < found.cost:
        return "too_early"
    # The most it can turn out dearer: the cache was alive, and the run ends with the next request.
    sure = replace(found, outlook=replace(found.outlook, cache_alive=1.0))
    return "pays" if sure.cost - found.outlook.read * found.gain_tokens <= allowance else "too_risky"


def outlook_of(
    rates: Rates, *, remaining_requests: float, cache_alive: float, hit_share: float, caches: bool
) -> Outlook:
    """Return the outlook under a model's prices.

    Args:
        rates: The model's prices, USD per million tokens.
        remaining_requests: How many requests are expected to come.
        cache_alive: The probability that the next one finds its prefix cached.
        hit_share: The share of what could be read from the cache that was read (0-1).
        caches: Whether the provider caches these requests at all.
    """
    if not caches:
        return Outlook(remaining_requests=remaining_requests, cache_alive=0.0, read=1.0, carry=1.0, write=1.0)
    base = rates.input or 1.0  # what costs nothing is not dearer anywhere else
    read, write = rates.cache_read / base, rates.cache_write / base
    return Outlook(
        remaining_requests=remaining_requests,
        cache_alive=cache_alive,
        read=read,
        carry=hit_share * read + (1 - hit_share) * write,  # what is missed will be written anew
        write=write,
    )


DEAD = 0.05
"""Probability below which a cache counts as expired."""
