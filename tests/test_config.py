"""`MemoryConfig`: every bad value is one clear error, every good one is kept."""

from __future__ import annotations

import copy
import math
import pickle
from dataclasses import FrozenInstanceError, asdict, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.config import FIELD_NAMES, PRESETS, CompressionStrategy, MemoryConfig, ToolPolicy, allowed, nearest
from memory.errors import AgentMemoryError, ConfigError

FLAGS = ("enable_compression", "preserve_system_prompts", "preserve_tool_calls")
COUNTS = ("max_context_tokens", "compression_threshold", "short_term_size", "summary_input_tokens")
NUMBERS = ("compression_ratio", "max_cost_dollars", "summary_timeout_seconds")

NO_COUNTS: tuple[Any, ...] = (0, -1, True, 1.5, math.nan, math.inf, "40000", None)
NO_NUMBERS: tuple[Any, ...] = (0, -0.1, True, math.nan, math.inf, -math.inf, "0.3", [])
NO_FLAGS: tuple[Any, ...] = (1, 0, "true", None)

BAD_VALUES: list[tuple[str, Any]] = [
    *((name, value) for name in FLAGS for value in NO_FLAGS),
    *((name, value) for name in COUNTS for value in NO_COUNTS),
    *((name, value) for name in NUMBERS for value in NO_NUMBERS),
    ("compression_ratio", 1),
    ("compression_ratio", 1.0),
    ("compression_ratio", None),
    ("summary_timeout_seconds", None),
    ("max_context_tokens", 99),
    ("compression_threshold", 49),
    ("summary_input_tokens", 99),
    ("compression_strategy", "slide"),
    ("compression_strategy", ""),
    ("compression_strategy", None),
    ("compression_model", ""),
    ("compression_model", 4),
    ("protected_tools", "bash"),
    ("protected_tools", ("bash", "")),
    ("protected_tools", (1,)),
    ("protected_tools", None),
    ("tool_policies", {"bash": "burn"}),
    ("tool_policies", {"bash": None}),
    ("tool_policies", {"": "keep"}),
    ("tool_policies", [("bash", "keep")]),
]


@pytest.mark.parametrize(("field", "value"), BAD_VALUES, ids=repr)
def test_a_bad_value_is_refused_by_name_value_and_what_is_allowed(field: str, value: Any) -> None:
    with pytest.raises(ConfigError) as refused:
        MemoryConfig(**{field: value})

    shown = "burn" if value == {"bash": "burn"} else value
    assert refused.value.field == field
    assert field in str(refused.value)
    assert "must be" in str(refused.value)
    assert repr(shown) in str(refused.value)


def test_the_defaults_are_the_documented_ones() -> None:
    config = MemoryConfig()

    assert (config.enable_compression, config.max_context_tokens, config.compression_threshold) == (
        True,
        100_000,
        40_000,
    )
    assert (config.short_term_size, config.compression_ratio) == (20, 0.3)
    assert config.compression_strategy is CompressionStrategy.SLIDING_WINDOW
    assert (config.preserve_system_prompts, config.preserve_tool_calls) == (True, True)
    assert (config.compression_model, config.max_cost_dollars) == (None, None)


def test_the_contract_example_is_accepted() -> None:
    config = MemoryConfig(max_context_tokens=100_000, compression_threshold=40_000, enable_compression=True)

    assert config == MemoryConfig()


@pytest.mark.parametrize("name", list(CompressionStrategy))
def test_a_strategy_is_accepted_by_its_name(name: str) -> None:
    assert MemoryConfig(compression_strategy=str(name)).compression_strategy is CompressionStrategy(name)  # type: ignore[arg-type]  # what users write


@pytest.mark.parametrize(
    ("values", "suggestion"),
    [
        ({"compression_strategy": "sliding-window"}, "sliding_window"),
        ({"compression_strategy": "mask"}, "masking"),
        ({"tool_policies": {"bash": "summarize"}}, "summarise"),
    ],
)
def test_the_nearest_name_is_suggested(values: dict[str, Any], suggestion: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean '{suggestion}'"):
        MemoryConfig(**values)


def test_a_threshold_that_was_not_given_follows_a_smaller_window() -> None:
    assert MemoryConfig(max_context_tokens=20_000).compression_threshold == 16_000
    assert MemoryConfig(max_context_tokens=45_000).compression_threshold == 36_000
    assert MemoryConfig(max_context_tokens=1_000_000).compression_threshold == 40_000


def test_a_threshold_that_was_given_never_moves() -> None:
    assert MemoryConfig(max_context_tokens=41_000, compression_threshold=40_000).compression_threshold == 40_000
    with pytest.raises(ConfigError, match=r"compression_threshold must be at most max_context_tokens \(30000\)"):
        MemoryConfig(max_context_tokens=30_000, compression_threshold=40_000)


def test_replace_lets_a_default_threshold_follow_down_and_up_again() -> None:
    small = replace(MemoryConfig(), max_context_tokens=10_000)

    assert small.compression_threshold == 8_000
    assert replace(small, max_context_tokens=200_000) == MemoryConfig(max_context_tokens=200_000)


def test_replace_is_checked_as_construction_is() -> None:
    with pytest.raises(ConfigError):
        replace(MemoryConfig(compression_threshold=40_000), max_context_tokens=20_000)


@pytest.mark.parametrize("strategy", [CompressionStrategy.SLIDING_WINDOW, CompressionStrategy.SELECTIVE])
def test_a_summary_of_less_than_one_token_is_refused(strategy: CompressionStrategy) -> None:
    with pytest.raises(ConfigError, match="shorter than one token"):
        MemoryConfig(compression_threshold=50, compression_ratio=0.01, compression_strategy=strategy)


def test_the_ratio_is_nothing_to_a_strategy_without_summaries() -> None:
    MemoryConfig(compression_threshold=50, compression_ratio=0.01, compression_strategy=CompressionStrategy.DELETION)


def test_a_tool_is_not_both_protected_and_given_away() -> None:
    with pytest.raises(ConfigError, match="'bash', which stands in protected_tools"):
        MemoryConfig(protected_tools=("bash",), tool_policies={"bash": ToolPolicy.DROP})
    assert MemoryConfig(protected_tools=("bash",), tool_policies={"bash": ToolPolicy.KEEP}).policy_for("bash") == "keep"


def test_policy_for_knows_protected_named_and_other_tools() -> None:
    config = MemoryConfig(protected_tools=("plan",), tool_policies={"bash": ToolPolicy.MASK})

    assert [config.policy_for(tool) for tool in ("plan", "bash", "read")] == [ToolPolicy.KEEP, ToolPolicy.MASK, None]


def test_a_later_change_of_the_callers_mapping_does_not_reach_the_config() -> None:
    policies = {"bash": ToolPolicy.MASK}
    config = MemoryConfig(tool_policies=policies)
    policies["read"] = ToolPolicy.DROP

    assert config.policy_for("read") is None


@pytest.mark.parametrize(
    ("name", "threshold", "ratio", "size", "strategy"),
    [
        ("aggressive", 30_000, 0.2, 10, "sliding_window"),
        ("balanced", 40_000, 0.3, 20, "sliding_window"),
        ("conservative", 60_000, 0.5, 30, "selective"),
    ],
)
def test_a_preset_has_its_documented_values(name: str, threshold: int, ratio: float, size: int, strategy: str) -> None:
    config = MemoryConfig.preset(name)

    assert (config.compression_threshold, config.compression_ratio) == (threshold, ratio)
    assert (config.short_term_size, config.compression_strategy) == (size, strategy)


def test_overrides_beat_a_preset_and_its_threshold_follows_the_window() -> None:
    config = MemoryConfig.preset("conservative", short_term_size=5, max_context_tokens=50_000)

    assert (config.short_term_size, config.compression_threshold) == (5, 40_000)


@pytest.mark.parametrize("name", ["agressive", "", "AGGRESSIVE"])
def test_an_unknown_preset_names_those_that_exist(name: str) -> None:
    with pytest.raises(ConfigError, match=f"one of {', '.join(PRESETS)}"):
        MemoryConfig.preset(name)


def test_an_unknown_override_suggests_the_nearest_setting() -> None:
    with pytest.raises(ConfigError, match="did you mean compression_threshold"):
        MemoryConfig.preset("balanced", treshold=40_000)


def test_a_config_is_a_value() -> None:
    one, other = MemoryConfig(tool_policies={"a": ToolPolicy.MASK}), MemoryConfig(tool_policies={"a": ToolPolicy.MASK})

    assert one == other
    assert hash(one) == hash(other)
    assert one != MemoryConfig()
    assert copy.deepcopy(one) == pickle.loads(pickle.dumps(one)) == one
    assert asdict(MemoryConfig())["compression_threshold"] == 40_000
    assert "compression_threshold=40000" in repr(MemoryConfig())
    with pytest.raises(FrozenInstanceError):
        one.short_term_size = 3  # type: ignore[misc]  # the claim


def test_every_field_says_what_it_allows() -> None:
    assert all(allowed(name) for name in FIELD_NAMES)


def test_a_config_error_is_both_ours_and_a_value_error() -> None:
    assert issubclass(ConfigError, AgentMemoryError)
    assert issubclass(ConfigError, ValueError)


def test_a_name_far_from_all_others_has_no_suggestion() -> None:
    assert nearest("zzzz", FIELD_NAMES) is None


def test_a_huge_value_is_shortened_in_the_message() -> None:
    with pytest.raises(ConfigError) as refused:
        MemoryConfig(compression_strategy="x" * 10_000)  # type: ignore[arg-type]  # the claim

    assert len(str(refused.value)) < 300


@given(
    window=st.integers(100, 10**7),
    ratio=st.floats(0.05, 0.99),
    size=st.integers(1, 10**6),
    strategy=st.sampled_from(CompressionStrategy),
)
def test_a_default_threshold_never_makes_good_settings_bad(
    window: int, ratio: float, size: int, strategy: CompressionStrategy
) -> None:
    config = MemoryConfig(
        max_context_tokens=window, compression_ratio=ratio, short_term_size=size, compression_strategy=strategy
    )

    assert 50 <= config.compression_threshold <= window
