"""Everything that was measured, as a value that goes to a file and comes back, whole or part by part."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from agent.backtest.outcome import Outcome

from .measuring import Failed, Result
from .summaries import Kind
from .verdicts import Overhead


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What one run of the comparison found."""

    loop: dict[Kind, list[Result]] = field(default_factory=dict)
    recorded: list[Result] = field(default_factory=list)
    overheads: list[Overhead] = field(default_factory=list)
    failures: list[Failed] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """Peers that are not installed."""
    seconds: float = 0.0

    def save(self, path: Path) -> None:
        """Write it to a file."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")


def read_findings(paths: Iterable[Path]) -> Findings:
    """Return the findings of some files together; of a part that stands in several, the last one's."""
    whole = Findings()
    for path in paths:
        one = _found(json.loads(path.read_text(encoding="utf-8")))
        whole = Findings(
            loop=one.loop or whole.loop,
            recorded=one.recorded or whole.recorded,
            overheads=one.overheads or whole.overheads,
            failures=whole.failures + one.failures,
            missing=one.missing,
            seconds=whole.seconds + one.seconds,
        )
    return whole


def _found(values: Mapping[str, Any]) -> Findings:
    return Findings(
        loop={kind: _results(results) for kind, results in values["loop"].items()},
        recorded=_results(values["recorded"]),
        overheads=[Overhead(**one) for one in values["overheads"]],
        failures=[Failed(**one) for one in values["failures"]],
        missing=values["missing"],
        seconds=values["seconds"],
    )


def _results(values: Iterable[Mapping[str, Any]]) -> list[Result]:
    return [Result(**{**one, "outcome": Outcome.from_dict(one["outcome"])}) for one in values]
