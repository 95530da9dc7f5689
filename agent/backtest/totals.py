"""What a policy came to over all runs at one model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from .outcome import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """Sums of the outcomes of one policy at one model; the fields are those of `Outcome`."""

    policy: str
    model: str
    runs: int
    requests: int
    input_tokens: int
    cached_tokens: int
    written_tokens: int
    output_tokens: int
    summary_tokens: int
    usd: float
    usd_input: float
    usd_cached: float
    usd_written: float
    usd_output: float
    usd_summaries: float
    prefix_changes: int
    invalid_requests: int
    oversized_requests: int
    probes: int
    retained: int
    lost_first_task: int
    is_price_known: bool

    @property
    def mean_context_tokens(self) -> float:
        """Of a request, over all runs."""
        return self.input_tokens / self.requests if self.requests else 0.0

    @property
    def cached_share(self) -> float:
        """Part of the input that was read from the cache (0-1)."""
        return self.cached_tokens / self.input_tokens if self.input_tokens else 0.0

    @property
    def retained_share(self) -> float | None:
        """Part of all probes that were in context when they were needed (0-1); None without probes."""
        return self.retained / self.probes if self.probes else None

    @property
    def refused_requests(self) -> int:
        """Requests that the provider would refuse: against its rules, or too long. One may be both."""
        return self.invalid_requests + self.oversized_requests

    @property
    def usd_per_run(self) -> float:
        return self.usd / self.runs


def totals(outcomes: Iterable[Outcome]) -> list[Total]:
    """Return a total for each model and policy: models in the order of the outcomes, policies the cheapest first."""
    groups: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        groups[outcome.model, outcome.policy].append(outcome)
    models = list(dict.fromkeys(model for model, _ in groups))
    found = [_total(policy, model, group) for (model, policy), group in groups.items()]
    return sorted(found, key=lambda total: (models.index(total.model), total.usd_per_run, total.policy))


_SUMMED = tuple(
    field.name for field in fields(Total) if field.name not in {"policy", "model", "runs", "is_price_known"}
)


def _total(policy: str, model: str, outcomes: Sequence[Outcome]) -> Total:
    return Total(
        policy=policy,
        model=model,
        runs=len(outcomes),
        is_price_known=all(one.is_price_known for one in outcomes),
        **{name: sum(getattr(one, name) for one in outcomes) for name in _SUMMED},
    )
