"""A compression that is being carried out: how far it is, and which answer of a model it waits for.

While the loop goes on, only the model's answer is waited for elsewhere, in a task of the event loop or in a thread. All
else is done by whoever calls the memory, in the call in which the answer is found to have come: the core stays
single-threaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

from .compressor import Compaction, View
from .economics import Appraisal
from .errors import SummaryError
from .events import Trigger
from .llm import ModelCall, Steps, Work
from .started import CallLostError, StartedCall
from .strategies import Plan

Start: TypeAlias = Callable[[ModelCall], StartedCall]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A compression that was decided on: what is to be done, to which window, and why."""

    plan: Plan
    view: View
    trigger: Trigger
    appraisal: Appraisal | None = None
    spent_usd: float = 0.0
    """What summaries had cost before it."""


@dataclass(slots=True, kw_only=True)
class Execution:
    """One order that is being carried out. It changes nothing; whoever gave the order puts the result in place.

    Raises:
        SummaryError: From each method that goes on with it: no step of the ladder gave a usable result.
        CallLostError: Likewise: the event loop that waited for the model is gone.
    """

    order: Order
    run: Steps[Compaction] = field(repr=False)
    result: Compaction | None = None
    _asked: ModelCall | StartedCall | None = None
    _is_dropped: bool = False

    def begin(self) -> None:
        """Go as far as the first question to a model; to the end, if there is none."""
        self._go(partial(next, self.run))

    def advance(self) -> None:
        """Take the model's answer, if it has come, and go on to the next question or to the end."""
        if not isinstance(self._asked, StartedCall) or not self._asked.is_done:
            return
        try:
            step = partial(self.run.send, self._asked.take())
        except SummaryError as error:
            step = partial(self._fail, error)
        self._go(step)

    def complete(self) -> Work[None]:
        """Wait for the model until there is a result, or until somebody else drops it."""
        while (asked := self._asked) is not None:
            try:
                step = partial(self.run.send, (yield asked))
            except SummaryError as error:
                step = partial(self._fail, error)
            if not self._is_dropped:
                self._go(step)

    def start(self, start: Start) -> None:
        """Ask the model what is to be asked next, if it was not asked yet."""
        if isinstance(self._asked, ModelCall):
            self._asked = start(self._asked)

    def book(self) -> None:
        """Book what the model has used by now."""
        if isinstance(self._asked, StartedCall):
            self._asked.book()

    def drop(self) -> StartedCall | None:
        """Let go of it. Return the call that is under way: it may take a moment to end."""
        asked, self._asked, self._is_dropped = self._asked, None, True
        self.run.close()
        if not isinstance(asked, StartedCall):
            return None
        asked.drop()
        return asked

    def _fail(self, error: SummaryError) -> ModelCall:
        if isinstance(error, CallLostError):  # nobody failed, so nobody else is to be asked instead
            self.run.close()
            raise error
        return self.run.throw(error)

    def _go(self, step: Callable[[], ModelCall]) -> None:
        self._asked = None
        try:
            self._asked = step()
        except StopIteration as stop:
            self.result = stop.value
