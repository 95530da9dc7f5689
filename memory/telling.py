"""Who hears of an event: the log of compressions, and whoever asked for all of them."""

from __future__ import annotations

import logging
from collections.abc import Callable

from .events import Compressed, Event

logger = logging.getLogger(__name__)


class Teller:
    """Passes events on. What an observer raises is logged by its type and goes no further.

    It knows nothing of the memory whose events it tells: the parts of a memory hold it, and must not keep that alive.
    """

    def __init__(self, on_event: Callable[[Event], None] | None) -> None:
        self.on_event = on_event

    def tell(self, event: Event) -> None:
        """Tell an event."""
        if isinstance(event, Compressed):
            logger.info(
                "trigger=%s strategy=%s method=%s refs=%s-%s tokens=%d->%d | compressed",
                *(event.trigger, event.strategy, event.method, event.first_ref, event.last_ref),
                *(event.tokens_before, event.tokens_after),
            )
        if self.on_event is not None:
            try:
                self.on_event(event)
            except Exception as error:  # noqa: BLE001 - an observer's failure must not stop the loop it observes
                logger.warning("event=%s error=%s | on_event raised", type(event).__name__, type(error).__name__)
