"""The parts of a memory whose state a session keeps, read as one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..accounts import Accounts
from ..auto_recall import AutoRecall
from ..cycle import CompressionCycle
from ..intake import Intake
from ..request_size import RequestSize
from ..window import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a memory is made of, as far as it must be the same after a resume."""

    window: Window
    intake: Intake
    size: RequestSize
    accounts: Accounts
    cycle: CompressionCycle
    recall: AutoRecall

    def state(self) -> dict[str, Any]:
        """Return everything small as JSON values. Costs the same in every turn, however long the conversation."""
        return {
            "version": STATE_VERSION,
            "dialect": self.intake.dialect_name,
            "window": self.window.state(),
            "followed": self.intake.followed.state(),
            "recent": list(self.intake.recent.seqs),
            "size": self.size.state(),
            "accounts": self.accounts.state(),
            "cycle": self.cycle.state(),
            "recall": self.recall.state(),
        }


STATE_VERSION = 1
"""Of `Parts.state`. A change that an older state cannot be read with raises it, and `resuming` then knows both."""
