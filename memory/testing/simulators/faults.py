"""Failures that a provider can be told to have, and schedules that spread them over a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from threading import Lock
from typing import Literal, TypeAlias, get_args

from .turns import Request

FaultKind: TypeAlias = Literal[
    "rate_limit",
    "server_error",
    "unavailable",
    "overloaded",
    "context_length",
    "empty_answer",
    "malformed_json",
    "stream_error",
    "cut_stream",
    "hang",
]
FAULT_KINDS: tuple[FaultKind, ...] = get_args(FaultKind)


@dataclass(frozen=True, slots=True)
class Fault:
    """One failure in place of an answer. The answer is not lost: the next request gets it.

    | kind | what the client sees |
    |---|---|
    | `rate_limit` | 429, with `Retry-After` if `retry_after_seconds` is given |
    | `server_error` | 500 |
    | `unavailable` | 503 |
    | `overloaded` | 529 from Anthropic, 503 from the others |
    | `context_length` | the provider's error for a request beyond its context window |
    | `empty_answer` | 200, and an answer with nothing in it |
    | `malformed_json` | 200, and half a JSON text (in a stream: an event that holds one) |
    | `stream_error` | an error event amid the stream; not streamed: like `overloaded` |
    | `cut_stream` | the connection closes in the middle of the body |
    | `hang` | nothing more comes until the client goes or the simulator closes |
    """

    kind: FaultKind
    retry_after_seconds: float | None = None
    after_events: int = 3
    """Of a stream: how many events are sent before it breaks (`stream_error`, `cut_stream`, `hang`). A `hang` at 0
    does not even answer with a status."""


FaultAt: TypeAlias = Callable[[Request], Fault | FaultKind | None]
Faults: TypeAlias = Mapping[int, Fault | FaultKind] | Sequence[Fault | FaultKind] | FaultAt
"""By request number (from 1); a sequence, for the first requests in order; or a callable that decides each time."""


class RandomFaults:
    """Fails a share of the requests, the same ones for a seed; each kind comes once before any comes again.

    For `faults=`. A request right after a failed one is spared, so that a client that retries gets on.
    """

    def __init__(self, seed: int, *, share: float = 0.2, faults: Sequence[Fault | FaultKind] = FAULT_KINDS) -> None:
        self._random = Random(seed)
        self._share = share
        self._faults = list(faults)
        self._deck: list[Fault | FaultKind] = []
        self._has_just_failed = False
        self._lock = Lock()

    def __call__(self, request: Request) -> Fault | FaultKind | None:
        """Decide for one request; several threads may ask."""
        with self._lock:
            # Drawn every time, so that what comes later does not hang on what was spared.
            is_due = self._random.random() < self._share
            self._has_just_failed = is_due and not self._has_just_failed
            return self._draw() if self._has_just_failed else None

    def _draw(self) -> Fault | FaultKind:
        if not self._deck:
            self._deck = self._random.sample(self._faults, len(self._faults))
        return self._deck.pop()


def fault_for(request: Request, faults: Faults) -> Fault | None:
    """Return the fault that a request meets, None for most."""
    found = _chosen(request, faults)
    return Fault(found) if isinstance(found, str) else found


def _chosen(request: Request, faults: Faults) -> Fault | FaultKind | None:
    if isinstance(faults, Mapping):
        return faults.get(request.number)
    if isinstance(faults, Sequence):
        return faults[request.number - 1] if request.number <= len(faults) else None
    return faults(request)
