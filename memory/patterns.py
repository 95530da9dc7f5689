"""Regular expressions that are compiled when they are first used: importing the package should not pay for them."""

from __future__ import annotations

import re
from functools import cached_property


class Pattern:
    """A regular expression of a module, written down; `compiled` is what searches."""

    def __init__(self, pattern: str, flags: re.RegexFlag = re.NOFLAG) -> None:
        self._pattern = pattern
        self._flags = flags

    @cached_property
    def compiled(self) -> re.Pattern[str]:
        return re.compile(self._pattern, self._flags)
