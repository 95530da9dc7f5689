"""A tool that fetches what was compressed away, by its reference or by words."""

from __future__ import annotations

from collections.abc import Callable

from memory import MemoryManager
from memory.archive import searchable_text
from memory.dialects import dialect_named
from memory.errors import UnknownReferenceError
from memory.native import to_wire

from .tool import Tool, ToolError

_MOST_HITS = 20


def recall_tool(memory: MemoryManager | Callable[[], MemoryManager], *, page_characters: int = 8_000) -> Tool:
    """Return the tool `recall`, with which a model finds earlier messages again.

    Args:
        memory: Where to look. A function that returns it, where the memory is made after the tools are.
        page_characters: Of a longer message one page is shown at a time. Keep it below `max_result_tokens`, else
            what is fetched would be archived again at once.
    """
    recall = _Recall(memory if callable(memory) else lambda: memory, page_characters)
    return Tool.from_function(recall.recall)


class _Recall:
    def __init__(self, memory: Callable[[], MemoryManager], page_characters: int) -> None:
        self._memory = memory
        self._page_characters = page_characters

    # Asynchronous, to run where the memory does: one manager belongs to one event loop.
    async def recall(
        self, reference: str | None = None, words: str | None = None, offset: int = 0, limit: int = 5
    ) -> str:
        """Fetch earlier messages of this conversation that have left your sight.

        Give a reference as it stands in summaries and placeholders, to read that message; or words, to find messages.

        Args:
            reference: For example `r17`.
            words: What the messages should contain; names and numbers find best.
            offset: With a reference: the character at which to begin, to read on in a long message.
            limit: With words: how many messages to show.
        """
        if reference and reference.strip():
            return self._page(reference.strip().strip("[]"), max(0, offset))
        if words and words.strip():
            return self._found(words, min(max(1, limit), _MOST_HITS))
        raise ToolError("give a reference, for example r17, or words to look for")

    def _page(self, reference: str, offset: int) -> str:
        text = self._text(reference)
        page = text[offset : offset + self._page_characters]
        if not page:
            raise ToolError(f"{reference} has {len(text):,} characters; offset {offset:,} is behind its end")
        stop = offset + len(page)
        more = f"; go on with offset={stop}" if stop < len(text) else ""
        return f"[{reference}: characters {offset:,} to {stop:,} of {len(text):,}{more}]\n{page}"

    def _text(self, reference: str) -> str:
        memory = self._memory()
        try:
            message = memory.original(reference)
        except UnknownReferenceError as error:
            raise ToolError(f"{error}; recall with words finds references") from error
        reading = dialect_named(memory.dialect or "openai_chat").read(to_wire(message))
        shown = [f"({attachment.kind}, not shown)" for attachment in reading.attachments]
        return "\n".join([searchable_text(reading), *shown]).strip() or "(empty)"

    def _found(self, words: str, limit: int) -> str:
        memory = self._memory()
        hits = memory.recall(words, limit=limit)
        if not hits:
            return f"None of the {len(memory.archive)} archived messages contains {words!r}. Try fewer or other words."
        lines = [f"{hit.ref}: {' '.join(hit.excerpt.split())}" for hit in hits]
        return "\n".join([*lines, f"[recall with reference={hits[0].ref} shows that message whole]"])
