"""Policies against sending everything, and which of them is the cheapest at which quality."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from .outcome import Outcome
from .policies import EVERYTHING
from .totals import Total, totals


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One policy at one model over all transcripts, and beside it what sending everything costs."""

    total: Total
    relative_usd: float | None
    """Dollars as a share of those of sending everything, on the same transcripts; None where those are not known."""

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values, shares included."""
        total = self.total
        return {
            **asdict(total),
            "mean_context_tokens": total.mean_context_tokens,
            "cached_share": total.cached_share,
            "retained_share": total.retained_share,
            "relative_usd": self.relative_usd,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Cheapest:
    """The cheapest policy of those that keep at least this share of the facts, at one model."""

    retained_share: float
    row: Row


def compared(outcomes: Iterable[Outcome]) -> list[Row]:
    """Return a row for each model and policy: models in the order of the outcomes, policies the cheapest first."""
    outcomes = list(outcomes)
    usd = {(one.model, one.policy, one.source, one.transcript_id): one.usd for one in outcomes}
    bases: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for (model, policy, source, transcript_id), own in usd.items():
        everything = usd.get((model, EVERYTHING, source, transcript_id))
        if everything is not None:
            bases.setdefault((model, policy), []).append((own, everything))
    return [Row(total=one, relative_usd=_ratio(bases.get((one.model, one.policy), []))) for one in totals(outcomes)]


ALL_MODELS: Final = "all models"


def over_all_models(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return the outcomes as those of one model, so that they add up; none where there is but one model.

    For recordings that were each made with a model of its own; one that was tried at several counts at none.
    """
    models: dict[tuple[str, str], set[str]] = {}
    for one in outcomes:
        models.setdefault((one.source, one.transcript_id), set()).add(one.model)
    own = [one for one in outcomes if len(models[one.source, one.transcript_id]) == 1]
    if len({one.model for one in own}) < 2:
        return []
    return [
        replace(one, model=ALL_MODELS, transcript_id=f"{one.transcript_id} ({one.model})", steps=(), compressions=())
        for one in own
    ]


def cheapest(rows: Sequence[Row]) -> list[Cheapest]:
    """Return, of one model's rows, the cheapest policy at each quality, the best quality first.

    Each one keeps less and costs less than the one before. Policies whose requests a provider would refuse are left
    out, as are those that were not run on all transcripts. Without probes every policy counts as keeping everything.
    """
    most = max((row.total.runs for row in rows), default=0)
    usable = [row for row in rows if not row.total.refused_requests and row.total.runs == most]
    found: list[Cheapest] = []
    for row in sorted(usable, key=lambda row: (-_quality(row), row.total.usd, row.total.policy != EVERYTHING)):
        if not found or row.total.usd < found[-1].row.total.usd:
            found.append(Cheapest(retained_share=_quality(row), row=row))
    return found


def _ratio(pairs: Sequence[tuple[float, float]]) -> float | None:
    base = sum(everything for _, everything in pairs)
    return sum(own for own, _ in pairs) / base if base else None


def _quality(row: Row) -> float:
    return 1.0 if row.total.retained_share is None else row.total.retained_share
