"""Providers' prompt caches: the rules of each model, and the cache that is simulated by them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.messages import DialectName
from memory.prompt_cache import Block, CacheRules, CacheUse, PromptCache, Ttl, cache_rules

CLAUDE = cache_rules("claude-sonnet-4-5")
GPT_4O = cache_rules("gpt-4o")
GPT_5_6 = cache_rules("gpt-5.6")


def prompt(*sizes: int, marks: dict[int, Ttl] | None = None, name: str = "block") -> list[Block]:
    """Blocks of these sizes; those of one name and position are the same bytes."""
    return [
        Block(key=(name, index), tokens=tokens, breakpoint=(marks or {}).get(index))
        for index, tokens in enumerate(sizes)
    ]


# --- The rules of each model


@pytest.mark.parametrize(
    ("model", "min_tokens", "step_tokens"),
    [
        ("gpt-4o-2024-08-06", 1_024, 128),
        ("azure/gpt-4.1", 1_024, 128),
        ("gpt-5.5-pro", 2_048, 2_048),
        ("gpt-5.6-luna", 1_024, 1),
        ("gpt-6-sol", 1_024, 1),
        ("gpt-4-turbo", sys.maxsize, 1),
        ("gpt-3.5-turbo", sys.maxsize, 1),
        ("claude-3-5-haiku-20241022", 2_048, 1),
        ("claude-opus-4-20250514", 1_024, 1),
        ("claude-sonnet-4-5", 1_024, 1),
        ("us.anthropic.claude-opus-4-5-20251101-v1:0", 4_096, 1),
        ("claude-haiku-4-5-20251001", 4_096, 1),
        ("claude-opus-4-7", 2_048, 1),
        ("claude-opus-4-8", 1_024, 1),
        ("claude-opus-5-20260901", 512, 1),
        ("claude-fable-5-2", 512, 1),
        ("gemini-2.5-flash", 2_048, 2_048),
        ("gemini-3.8-flash", 4_096, 2_048),
        ("gemini-2.0-flash", sys.maxsize, 1),
        ("deepseek-chat", 64, 64),
        ("z-ai/glm-5", 1_024, 128),
    ],
)
def test_a_model_is_known_by_its_name(model: str, min_tokens: int, step_tokens: int) -> None:
    rules = cache_rules(model)
    assert (rules.min_tokens, rules.step_tokens) == (min_tokens, step_tokens)


@pytest.mark.parametrize(
    ("model", "dialect", "is_explicit"),
    [
        (None, "anthropic", True),
        ("minimax-m2", "anthropic", True),
        ("glm-5", "anthropic", False),
        ("anthropic/claude-opus-5", "openai_chat", True),
        (None, "openai_chat", False),
        (None, None, False),
    ],
)
def test_the_format_says_whose_cache_it_is_where_the_name_does_not(
    model: str | None, dialect: DialectName | None, is_explicit: bool
) -> None:
    assert cache_rules(model, dialect=dialect).is_explicit is is_explicit


@pytest.mark.parametrize(
    ("model", "idle_seconds", "alive"),
    [
        ("claude-opus-5", 300, 1.0),
        ("claude-opus-5", 301, 0.0),
        ("gpt-5.6", 1800, 1.0),
        ("gpt-5.6", 1801, 0.0),
        ("gpt-4o", 0, 1.0),
        ("gpt-4o", 450, 0.75),
        ("gpt-4o", 600, 0.5),
        ("gpt-4o", 3600, 0.0),
        ("gpt-5", 1800, 0.5),
        ("gpt-5", 90_000, 0.0),
        ("gemini-2.5-pro", 10, 0.8),
    ],
)
def test_a_guaranteed_life_ends_at_once_and_a_range_slopes(model: str, idle_seconds: float, alive: float) -> None:
    assert cache_rules(model).alive(idle_seconds) == pytest.approx(alive)


def test_marks_for_an_hour_live_an_hour_where_marks_are_known() -> None:
    assert cache_rules("claude-opus-5", ttl="1h").alive(3_600) == 1.0
    assert cache_rules("gpt-4o", ttl="1h") is cache_rules("gpt-4o")


@given(model=st.sampled_from(["gpt-4o", "gpt-5", "claude-opus-5", "gemini-2.5-pro", "deepseek-chat", "x"]))
def test_nothing_gets_more_alive_by_waiting(model: str) -> None:
    curve = [cache_rules(model).alive(seconds) for seconds in range(0, 200_000, 97)]
    assert curve == sorted(curve, reverse=True)
    assert 0 <= curve[-1] <= curve[0] <= 1


# --- Caches that fill by themselves


def test_a_longer_prompt_reads_what_it_shares_in_whole_steps() -> None:
    cache = PromptCache(GPT_4O)
    assert cache.send(prompt(1_000, 500)) == CacheUse(read_tokens=0)
    assert cache.send(prompt(1_000, 500, 700)) == CacheUse(read_tokens=1_408)  # 11 steps of 128
    assert cache.send([*prompt(1_000), *prompt(9_999, name="other")]) == CacheUse(read_tokens=0)  # 1,000 shared


def test_prompts_below_the_minimum_are_neither_read_nor_written() -> None:
    cache = PromptCache(GPT_4O)
    cache.send(prompt(1_023))
    assert cache.send(prompt(1_023, 2_000)).read_tokens == 0
    assert cache.send(prompt(1_023)).read_tokens == 0


def test_the_cache_dies_of_disuse_and_lives_on_by_use() -> None:
    cache = PromptCache(GPT_4O)
    blocks = prompt(2_048)
    read = [cache.send(blocks, at_seconds=at).read_tokens for at in (0, 600, 1_200, 1_801)]
    assert read == [0, 2_048, 2_048, 0]


def test_gpt_5_6_finds_only_where_a_request_ended_and_bills_what_it_writes() -> None:
    cache = PromptCache(GPT_5_6)
    assert cache.send(prompt(1_500)) == CacheUse(read_tokens=0, written_tokens=1_500)
    assert cache.send(prompt(1_500, 500, 300)) == CacheUse(read_tokens=1_500, written_tokens=800)
    edited = [*prompt(1_500, 500), *prompt(1, name="other")]
    assert cache.send(edited) == CacheUse(read_tokens=1_500, written_tokens=501)


# --- Anthropic


def test_only_what_is_marked_is_cached() -> None:
    cache = PromptCache(CLAUDE)
    assert cache.send(prompt(2_000, 2_000)) == CacheUse(read_tokens=0)
    assert cache.send(prompt(2_000, 2_000, marks={0: "5m"})) == CacheUse(read_tokens=0, written_tokens=2_000)
    assert cache.send(prompt(2_000, 2_000)) == CacheUse(read_tokens=0)
    assert cache.send(prompt(2_000, 2_000, marks={1: "5m"})) == CacheUse(read_tokens=2_000, written_tokens=2_000)


@pytest.mark.parametrize(("blocks_between", "read"), [(19, 2_000), (20, 0)])
def test_twenty_blocks_are_looked_back_the_marked_one_included(blocks_between: int, read: int) -> None:
    cache = PromptCache(CLAUDE)
    cache.send(prompt(2_000, marks={0: "5m"}))
    sizes = (2_000, *[10] * blocks_between)
    assert cache.send(prompt(*sizes, marks={len(sizes) - 1: "5m"})).read_tokens == read


def test_an_hours_part_comes_before_the_five_minutes_part() -> None:
    cache = PromptCache(CLAUDE)
    marks: dict[int, Ttl] = {0: "1h", 2: "5m"}
    first = cache.send(prompt(2_000, 100, 100, marks=marks))
    assert first == CacheUse(read_tokens=0, written_tokens=200, written_1h_tokens=2_000)
    later = cache.send(prompt(2_000, 100, 100, marks=marks), at_seconds=3_000)
    assert later == CacheUse(read_tokens=2_000, written_tokens=200)


def test_a_use_refreshes_the_shorter_prefixes_on_its_way() -> None:
    cache = PromptCache(CLAUDE)
    marks: dict[int, Ttl] = {0: "5m", 1: "5m"}
    for at in (0, 200, 400):
        cache.send(prompt(2_000, 500, marks=marks), at_seconds=at)
    assert cache.send([*prompt(2_000, marks={0: "5m"}), *prompt(9, name="x")], at_seconds=600).read_tokens == 2_000


# --- Laws

RULES = st.sampled_from([GPT_4O, GPT_5_6, CLAUDE, cache_rules("gemini-2.5-pro"), cache_rules("deepseek-chat")])
BLOCKS = st.lists(
    st.builds(
        lambda key, mark: Block(key=key, tokens=900 + key, breakpoint=mark),
        st.integers(0, 2),
        st.sampled_from([None, None, "5m"]),
    ),
    max_size=6,
)
RUNS = st.lists(st.tuples(BLOCKS, st.sampled_from([0, 100, 400, 700])), max_size=8)


@given(rules=RULES, run=RUNS)
def test_the_tree_of_prefixes_does_what_a_list_of_all_prefixes_would(
    rules: CacheRules, run: Sequence[tuple[list[Block], int]]
) -> None:
    cache, slow, now = PromptCache(rules), SlowCache(rules), 0
    for blocks, pause in run:
        now += pause
        use = cache.send(blocks, at_seconds=now)
        assert use.read_tokens == slow.read(blocks, now)
        assert use.read_tokens + use.written_tokens + use.written_1h_tokens <= sum(block.tokens for block in blocks)


class SlowCache:
    """The same rules written down plainly: every cached prefix with the time of its last use."""

    def __init__(self, rules: CacheRules) -> None:
        self.rules = rules
        self.used_at: dict[tuple[object, ...], float] = {}

    def read(self, blocks: Sequence[Block], now: float) -> int:
        keys = tuple(block.key for block in blocks)
        sizes = {n: sum(block.tokens for block in blocks[:n]) for n in range(len(blocks) + 1)}
        if not blocks or sizes[len(blocks)] < self.rules.min_tokens:
            return 0
        ends = [n for n in self._ends(blocks) if sizes[n] >= self.rules.min_tokens or not self.rules.is_exact]
        alive = [
            n
            for n in range(1, len(blocks) + 1)
            if now - self.used_at.get(keys[:n], -1e9) <= self.rules.ttl_seconds and self._is_searched(n, ends)
        ]
        found = max(alive, default=0)
        for n in range(1, found + 1):
            if now - self.used_at.get(keys[:n], -1e9) <= self.rules.ttl_seconds:
                self.used_at[keys[:n]] = now
        self.used_at |= {keys[:n]: now for n in ends}
        read = sizes[found] // self.rules.step_tokens * self.rules.step_tokens
        return read if read >= self.rules.min_tokens else 0

    def _ends(self, blocks: Sequence[Block]) -> list[int]:
        marked = [n for n, block in enumerate(blocks, start=1) if block.breakpoint]
        if self.rules.is_explicit:
            return marked
        return [*marked, len(blocks)] if self.rules.is_exact else list(range(1, len(blocks) + 1))

    def _is_searched(self, n: int, ends: Sequence[int]) -> bool:
        reach = self.rules.look_back_blocks
        return not self.rules.is_explicit or any(reach is None or end - reach < n <= end for end in ends)


@given(run=RUNS, rules=RULES)
def test_marks_are_no_part_of_what_is_compared(run: Sequence[tuple[list[Block], int]], rules: CacheRules) -> None:
    automatic = replace(rules, is_explicit=False, is_exact=False)
    one, other = PromptCache(automatic), PromptCache(automatic)
    for blocks, pause in run:
        unmarked = [replace(block, breakpoint=None) for block in blocks]
        assert one.send(blocks, at_seconds=pause).read_tokens == other.send(unmarked, at_seconds=pause).read_tokens
