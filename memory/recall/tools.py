"""Which tools a message is about: those that it calls and, by the calls before it, those that it answers for."""

from __future__ import annotations

from ..messages import Reading


class ToolNames:
    """Is shown the messages of one conversation in their order. A result seldom names its tool; its call does."""

    def __init__(self) -> None:
        self._called: dict[str, str] = {}

    def of(self, reading: Reading) -> tuple[str, ...]:
        """Return the names of the tools that the next message calls or answers for."""
        names = [call.name for call in reading.calls]
        self._called.update({call.id: call.name for call in reading.calls if call.id is not None})
        for result in reading.results:
            name = result.name or self._called.get(result.call_id or "")
            if name:
                names.append(name)
        return tuple(dict.fromkeys(names))
