"""Estimates become true within a few turns, whatever we were not told of."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.tokens import Calibration

SCALES = st.floats(0.7, 1.6)
OFFSETS = st.integers(0, 20_000)
NOISE = st.floats(-0.01, 0.01)


def learn(pairs: list[tuple[int, int]]) -> Calibration:
    calibration = Calibration()
    for estimated, reported in pairs:
        calibration.observe(estimated_tokens=estimated, reported_tokens=reported)
    return calibration


def test_nothing_known_changes_nothing() -> None:
    assert Calibration().apply(12_345) == 12_345


def test_first_surplus_is_taken_for_what_we_were_not_told_of() -> None:
    calibration = learn([(1_000, 5_000)])

    assert calibration.scale == pytest.approx(1.0)
    assert calibration.offset_tokens == 4_000


def test_first_shortfall_is_taken_for_the_tokenizer() -> None:
    calibration = learn([(10_000, 8_000)])

    assert calibration.offset_tokens == 0
    assert calibration.apply(10_000) == pytest.approx(8_000, rel=0.01)


@given(
    scale=SCALES,
    offset=OFFSETS,
    start=st.integers(500, 40_000),
    steps=st.lists(st.floats(0.2, 1.0), min_size=4, max_size=4),
    noise=st.lists(NOISE, min_size=4, max_size=4),
)
def test_the_next_estimate_is_within_three_per_cent_after_four_growing_requests(
    scale: float, offset: int, start: int, steps: list[float], noise: list[float]
) -> None:
    sizes = list(itertools.accumulate(steps, lambda size, step: round(size * (1 + step)), initial=start))
    pairs = [(size, round((scale * size + offset) * (1 + n))) for size, n in zip(sizes[:4], noise, strict=True)]

    truth = scale * sizes[4] + offset

    assert learn(pairs).apply(sizes[4]) == pytest.approx(truth, rel=0.03)


@given(scale=SCALES, offset=OFFSETS, noise=st.lists(NOISE, min_size=10, max_size=10))
def test_a_compression_is_estimated_well_once_sizes_have_spread(scale: float, offset: int, noise: list[float]) -> None:
    sizes = range(5_000, 45_000, 4_000)
    pairs = [(size, round((scale * size + offset) * (1 + n))) for size, n in zip(sizes, noise, strict=True)]

    # Back to a quarter of the last size, well inside of what was seen.
    assert learn(pairs).apply(11_000) == pytest.approx(scale * 11_000 + offset, rel=0.05)


@given(pairs=st.lists(st.tuples(st.integers(-5, 10**7), st.integers(-5, 10**7)), max_size=30))
def test_any_history_leaves_a_usable_line(pairs: list[tuple[int, int]]) -> None:
    calibration = learn(pairs)

    assert 0.5 <= calibration.scale <= 2.5
    assert calibration.offset_tokens >= 0
    assert calibration.apply(2_000) >= calibration.apply(1_000) >= 0


def test_a_change_of_content_is_followed() -> None:
    prose = [(size, round(1.2 * size) + 3_000) for size in range(5_000, 40_000, 3_000)]
    # What was sent before is sent again: only what is new is denser.
    code = [(38_000 + n * 1_000, 48_600 + n * 1_600) for n in range(1, 8)]

    assert learn(prose + code[:-1]).apply(code[-1][0]) == pytest.approx(code[-1][1], rel=0.02)


def test_requests_of_one_size_do_not_move_the_scale() -> None:
    calibration = learn([(10_000, 14_000), (10_000, 14_100), (10_000, 13_900)])

    assert calibration.scale == pytest.approx(1.0)
    assert calibration.apply(10_000) == pytest.approx(14_000, rel=0.01)
