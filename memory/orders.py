"""Orders for compressions: carried out while the caller waits, or while the loop goes on."""

from __future__ import annotations

from collections.abc import Callable

from .accounts import Accounts
from .compressor import WorkingMemoryCompressor
from .config import MemoryConfig
from .errors import SummaryError
from .execution import Execution, Order, Start
from .llm import Work
from .placing import changed_end, stands
from .results import Results
from .started import CallLostError, StartedCall
from .window import Window


class Orders:
    """Carries out one order at a time; whichever way, the window changes only when a result is put there."""

    def __init__(
        self,
        config: MemoryConfig,
        window: Window,
        compressor: WorkingMemoryCompressor,
        accounts: Accounts,
        results: Results,
        *,
        note: Callable[[bool], None],
    ) -> None:
        """Take what orders are carried out with.

        Args:
            config: Says whether the loop may go on meanwhile.
            window: What is compressed.
            compressor: Makes the results.
            accounts: Know whether a request is under way.
            results: Puts them in place.
            note: Told True when the context has become smaller, False when nothing came of an order in the background.
        """
        self.is_running = False
        """Somebody waits for a summary."""
        self._may_be_in_background = config.background
        self._window = window
        self._compressor = compressor
        self._accounts = accounts
        self._results = results
        self._note = note
        self._background: Execution | None = None
        self._was_lost = False
        """The last compression in the background was lost with its event loop: the next one is waited for."""

    @property
    def is_in_background(self) -> bool:
        """Whether a compression goes on while the loop does."""
        return self._background is not None

    def carry_out(self, order: Order) -> Work[bool]:
        """Carry out an order, or begin with it. Return whether anything came of it."""
        job = Execution(order=order, run=self._compressor.run(order.plan, order.view))
        try:
            job.begin()
            if job.result is None and self._may_go_on(order):
                self._background = job
                return True
            self.is_running = True
            yield from job.complete()
        except SummaryError as error:
            self._results.give_up(order, error)
            return False
        finally:
            self.is_running = False
            if self._background is not job:
                job.run.close()
        return self._put(job)

    def take_over(self, *, is_forced: bool = False) -> bool:
        """Put in place what was made in the background, if it is done and this is the moment. Return whether it was.

        Not while a request is under way: it is booked as what it was when its answer comes. Not while a call is open:
        no other compression happens then either.
        """
        job = self._background
        if job is None or self.is_running:
            return False
        try:
            job.advance()
        except SummaryError as error:
            self._give_up_background(job, error)
            return False
        is_moment = not self._window.has_open_calls and not self._accounts.awaits_answer
        if job.result is None or not (is_moment or is_forced):
            return False
        self._background = None
        if not self._put(job, in_background=True):
            self._note(False)
            return False
        return True

    def finish(self, *, is_forced: bool = False) -> Work[bool]:
        """Wait for the compression in the background, if any. Return whether the context was changed.

        It is not, and the result stays ready for the next turn, where `take_over` would not put it in place.
        """
        if self._background is None or self.is_running:
            return False
        yield from self._complete(self._background)
        return self.take_over(is_forced=is_forced)

    def drop(self) -> StartedCall | None:
        """Let go of the compression in the background. Return the model call that is still under way."""
        dropped, self._background = self._background, None
        return dropped.drop() if dropped is not None else None

    def start(self, start: Start) -> None:
        """Ask the model what the compression in the background has to ask next."""
        if self._background is not None and not self.is_running:
            self._background.start(start)

    def book(self) -> None:
        """Book what the compression in the background has used by now."""
        if self._background is not None:
            self._background.book()

    def note_withdrawn(self) -> None:
        """Messages were taken out of the window: a summary of any of them is not wanted any more."""
        if self._background is None:
            return
        order = self._background.order
        if not stands(order.view.entries, self._window.entries, stop=changed_end(order.plan)):
            self.drop()

    def _may_go_on(self, order: Order) -> bool:
        """Whether the loop may go on while the summary is written."""
        was_lost, self._was_lost = self._was_lost, False
        return self._may_be_in_background and not was_lost and order.trigger in ("threshold", "economic")

    def _complete(self, job: Execution) -> Work[None]:
        """Wait for what goes on in the background. What went wrong is found when it is taken over."""
        self.is_running = True
        try:
            yield from job.complete()
        except SummaryError as error:
            self._give_up_background(job, error)
        finally:
            self.is_running = False

    def _give_up_background(self, job: Execution, error: SummaryError) -> None:
        if self._background is job:
            self._background = None
            self._was_lost = isinstance(error, CallLostError)
            self._results.give_up(job.order, error)
            self._note(False)

    def _put(self, job: Execution, *, in_background: bool = False) -> bool:
        assert job.result is not None
        is_put = self._results.put(job.order, job.result, in_background=in_background)
        if is_put:
            self._note(True)
        return is_put
