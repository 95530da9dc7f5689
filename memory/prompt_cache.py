"""A provider's prompt cache, simulated by its rules: what each request of a run would read from it and write to it."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from .cache_rules import TTL_SECONDS, CacheRules, Ttl, cache_rules

__all__ = ["Block", "CacheRules", "CacheUse", "PromptCache", "Ttl", "cache_rules"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A piece of a prompt in reading order: a tool, a system text, a message, or one of its content blocks."""

    key: Hashable
    """Equal keys are equal bytes."""
    tokens: int
    breakpoint: Ttl | None = None
    """The provider is asked to cache the prompt up to here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheUse:
    """What one request did with the cache, as its provider would bill it; the rest of it is fresh input."""

    read_tokens: int
    written_tokens: int = 0
    """For five minutes, or for as long as the provider's ordinary write price says; 0 where writing is free."""
    written_1h_tokens: int = 0


_NOTHING = CacheUse(read_tokens=0)


class PromptCache:
    """One provider's cache, simulated exactly by its rules: no chance, no load, no overflow to another machine.

    Prefixes are nodes of a tree, one a block, so that a request costs one look-up a block, however long its texts. A
    use refreshes every cached prefix on its way, since a provider's longer entry holds the shorter ones. A prefix is
    read while it was used at most its life ago: `rules.ttl_seconds`, for Anthropic that of its mark.
    """

    def __init__(self, rules: CacheRules) -> None:
        self.rules = rules
        self._children: dict[tuple[int, Hashable], int] = {}
        self._used_at: dict[int, float] = {}
        self._life: dict[int, float] = {}

    def send(self, blocks: Sequence[Block], *, at_seconds: float = 0.0) -> CacheUse:
        """Read the longest cached prefix, refresh it, cache this prompt, and return what that was. O(len(blocks)).

        Args:
            blocks: The whole prompt: tools, system, messages.
            at_seconds: When it is sent, on any clock that does not run backwards.
        """
        sizes = list(accumulate(block.tokens for block in blocks))
        if not sizes or sizes[-1] < self.rules.min_tokens:
            return _NOTHING  # also not read: a provider looks for no prefix shorter than its minimum
        path = self._path(blocks)
        ends = self._ends(blocks, sizes)
        last = self._longest(path, self._searched(ends, len(path)), at_seconds)
        read = self._counted(sizes[last]) if last is not None else 0
        self._refresh(path, last, at_seconds)
        self._write(blocks, path, ends, last, at_seconds)
        return self._use(blocks, sizes, ends, read)

    def _path(self, blocks: Sequence[Block]) -> list[int]:
        node, path, children = 0, [], self._children
        for block in blocks:
            node = children.setdefault((node, block.key), len(children) + 1)
            path.append(node)
        return path

    def _ends(self, blocks: Sequence[Block], sizes: Sequence[int]) -> list[int]:
        """Return the indices of the blocks at whose end a prefix is cached, ascending."""
        if not self.rules.is_exact:
            return list(range(len(blocks)))
        marked = [index for index, block in enumerate(blocks) if block.breakpoint]
        if not self.rules.is_explicit and (not marked or marked[-1] != len(blocks) - 1):
            marked.append(len(blocks) - 1)
        return [index for index in marked if sizes[index] >= self.rules.min_tokens]

    def _searched(self, ends: Sequence[int], count: int) -> Iterable[int]:
        """Return the indices at which a cached prefix may be found, the longest first."""
        if not self.rules.is_explicit:
            return range(count - 1, -1, -1)
        reach = self.rules.look_back_blocks or count
        return sorted({index for end in ends for index in range(end, max(-1, end - reach), -1)}, reverse=True)

    def _longest(self, path: Sequence[int], searched: Iterable[int], now: float) -> int | None:
        return next((index for index in searched if self._is_alive(path[index], now)), None)

    def _is_alive(self, node: int, now: float) -> bool:
        used_at = self._used_at.get(node)
        return used_at is not None and now - used_at <= self._life[node]

    def _counted(self, tokens: int) -> int:
        counted = tokens // self.rules.step_tokens * self.rules.step_tokens
        return counted if counted >= self.rules.min_tokens else 0

    def _refresh(self, path: Sequence[int], last: int | None, now: float) -> None:
        for node in path[: (last or 0) + 1] if last is not None else ():
            if self._is_alive(node, now):
                self._used_at[node] = now

    def _write(
        self, blocks: Sequence[Block], path: Sequence[int], ends: Sequence[int], last: int | None, now: float
    ) -> None:
        for index in ends:
            node = path[index]
            if last is not None and index <= last and self._is_alive(node, now):
                continue  # it was read, and keeps the life that it was written for
            self._used_at[node] = now
            self._life[node] = self._life_of(blocks[index])

    def _life_of(self, block: Block) -> float:
        if self.rules.is_explicit and block.breakpoint:
            return TTL_SECONDS[block.breakpoint]
        return self.rules.ttl_seconds

    def _use(self, blocks: Sequence[Block], sizes: Sequence[int], ends: Sequence[int], read: int) -> CacheUse:
        """Return what is billed: an hour's part of what is written comes before the five minutes' part."""
        if not self.rules.bills_writes or not ends:
            return CacheUse(read_tokens=read)
        hours = [sizes[index] for index in ends if self.rules.is_explicit and blocks[index].breakpoint == "1h"]
        for_an_hour = max(0, max(hours, default=0) - read)
        return CacheUse(
            read_tokens=read,
            written_tokens=max(0, sizes[ends[-1]] - read - for_an_hour),
            written_1h_tokens=for_an_hour,
        )
