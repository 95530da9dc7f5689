"""What each strategy keeps, masks, summarises and drops, and why; no window, no model, no mock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory import Action, Deletion, Masking, Plan, Selective, SlidingWindow, Strategy, ToolPolicy
from memory.messages import Attachment, Reading, Role, ToolCall, ToolResult
from memory.strategies import NEWEST, SHORT_TERM, brief_arguments, masked_size, placeholder
from memory.testing import check_strategy, situation_of
from memory.units import Unit
from memory.window import FIRST_USER, NEWEST_USER, PINNED, Coverage, Entry, Kind

LONG = "a line of output\n" * 40
CLAMPED = "clamped to fit max_context_tokens"
OLD = "older than the short-term window"


def unit_of(*entries: Entry, is_open: bool = False) -> Unit:
    tokens = sum(entry.tokens for entry in entries)
    return Unit(start=0, stop=len(entries), entries=entries, tokens=tokens, is_open=is_open)


def said(seq: int, tokens: int = 100, *, text: str = "x", role: Role = "assistant") -> Unit:
    return unit_of(Entry(seq=seq, message={}, reading=Reading(role=role, text=text), tokens=tokens))


def summary(seq: int, tokens: int = 100, *, covered_tokens: int = 1_000) -> Unit:
    covers = Coverage(seqs=(seq, seq + 1), tokens=covered_tokens)
    reading = Reading(role="user", text="summary")
    return unit_of(Entry(seq=seq, message={}, reading=reading, tokens=tokens, kind=Kind.SUMMARY, covers=covers))


def tool(
    seq: int,
    tokens: int = 1_000,
    *,
    name: str = "read",
    text: str = LONG,
    arguments: str = "{}",
    is_error: bool = False,
) -> Unit:
    """A call of 20 tokens and its result."""
    call = ToolCall(id=f"c{seq}", name=name, arguments=arguments)
    result = ToolResult(call_id=call.id, name=None, text=text, is_error=is_error)
    return unit_of(
        Entry(seq=seq, message={}, reading=Reading(role="assistant", calls=(call,)), tokens=20),
        Entry(seq=seq + 1, message={}, reading=Reading(role="tool", results=(result,)), tokens=tokens - 20),
    )


def plan_of(strategy: Strategy, units: Sequence[Unit], *, threshold: int = 2_000, **settings: Any) -> Plan:
    situation = replace(situation_of([], threshold_tokens=threshold, **settings), units=tuple(units))
    check_strategy(strategy, situation)
    return strategy.plan(situation)


def actions(plan: Plan) -> list[str]:
    return [str(decision.action) for decision in plan.decisions]


def reasons(plan: Plan) -> list[str]:
    return [decision.reason for decision in plan.decisions]


def nothing_matters(entry: Entry) -> bool:
    return False


def important(entry: Entry) -> bool:
    return "important" in entry.reading.text


ALL: dict[str, Strategy] = {
    "sliding_window": SlidingWindow(),
    "deletion": Deletion(),
    "masking": Masking(),
    "selective": Selective(should_preserve=important),
}
TALK = [said(seq) for seq in range(1, 31)]


# --- What a plan says of itself ---------------------------------------------------------------------------------------


def test_a_plan_says_what_leaves_the_context_and_what_stays_behind_its_first_edit() -> None:
    situation = situation_of(
        [100] * 30, threshold_tokens=2_000, short_term_size=2, protected={0: FIRST_USER, 5: PINNED}
    )
    plan = SlidingWindow().plan(situation)

    assert plan.removed_tokens == 26 * 100
    assert plan.first_edit == 1
    assert plan.suffix_tokens == 3 * 100
    assert plan.tokens_before - plan.tokens_after == plan.removed_tokens - plan.summary_target_tokens


def test_a_plan_that_changes_nothing_has_no_edit_and_breaks_no_prefix() -> None:
    plan = SlidingWindow().plan(situation_of([100, 100], threshold_tokens=2_000))

    assert (plan.first_edit, plan.removed_tokens, plan.suffix_tokens) == (None, 0, 0)


# --- The short-term window --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("short_term_size", "kept"), [(1, 1), (2, 2), (3, 3)])
def test_the_short_term_window_is_limited_by_count(short_term_size: int, kept: int) -> None:
    plan = plan_of(SlidingWindow(), TALK, short_term_size=short_term_size)

    assert actions(plan) == ["summarised"] * (30 - kept) + ["kept"] * kept


@pytest.mark.parametrize(("recent_share", "kept"), [(0.0, 1), (0.1, 2), (0.2, 4), (0.5, 10)])
def test_the_short_term_window_is_limited_by_its_share_of_the_room(recent_share: float, kept: int) -> None:
    plan = plan_of(SlidingWindow(recent_share=recent_share), TALK)

    # The room is 2,000 less the newest message, which stays anyway: 1,900.
    assert actions(plan)[-kept - 1 :] == ["summarised"] + ["kept"] * kept


def test_a_unit_counts_with_all_its_messages() -> None:
    plan = plan_of(SlidingWindow(), [*TALK, tool(40, 100), said(42)], short_term_size=2)

    assert actions(plan)[-2:] == ["summarised", "kept"]


def test_a_protected_unit_among_the_recent_ones_costs_no_room() -> None:
    plan = plan_of(
        SlidingWindow(recent_share=0.2),
        [*TALK, said(40, 5_000), said(41), said(42)],
        threshold=7_000,
        protected={30: PINNED},
    )

    assert actions(plan)[-5:] == ["kept"] * 5
    assert reasons(plan)[-3:] == [PINNED, SHORT_TERM, NEWEST]


def test_where_all_is_old_nothing_is_recent() -> None:
    plan = plan_of(SlidingWindow(), TALK, threshold=3_000, all_is_old=True)

    assert set(actions(plan)) == {"summarised"}


# --- Sliding window and deletion --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("strategy", "action"), [(SlidingWindow(), "summarised"), (Deletion(), "dropped")])
def test_what_is_old_goes_and_what_is_protected_stays(strategy: Strategy, action: str) -> None:
    plan = plan_of(strategy, TALK, short_term_size=2, protected={0: FIRST_USER, 5: PINNED})

    assert actions(plan) == ["kept", *[action] * 4, "kept", *[action] * 22, "kept", "kept"]
    assert [reasons(plan)[index] for index in (0, 1, 5, 28, 29)] == [FIRST_USER, OLD, PINNED, SHORT_TERM, NEWEST]


def test_deletion_writes_no_summary() -> None:
    assert plan_of(Deletion(), TALK).summary_target_tokens == 0


def test_a_new_summary_absorbs_the_older_one() -> None:
    plan = plan_of(SlidingWindow(), [said(1), summary(2), *TALK[5:]], protected={0: FIRST_USER}, short_term_size=1)

    assert actions(plan)[:3] == ["kept", "summarised", "summarised"]


@pytest.mark.parametrize("strategy", [Deletion(), Masking()], ids=["deletion", "masking"])
def test_strategies_without_a_summary_keep_one_that_stands(strategy: Strategy) -> None:
    plan = plan_of(strategy, [summary(1), *TALK[5:], tool(40), said(42)])

    assert (actions(plan)[0], reasons(plan)[0]) == ("kept", "older summary")


@pytest.mark.parametrize(("ratio", "target"), [(0.1, 135), (0.2, 270), (0.25, 337)])
def test_a_summary_aims_at_half_of_what_the_ratio_allows(ratio: float, target: int) -> None:
    plan = plan_of(SlidingWindow(), TALK, short_term_size=4, compression_ratio=ratio)

    assert plan.summary_target_tokens == target


def test_a_summary_of_a_part_that_is_all_old_has_the_whole_ratio() -> None:
    plan = plan_of(SlidingWindow(), TALK, compression_ratio=0.2, all_is_old=True)

    assert plan.summary_target_tokens == int(sum(unit.tokens for unit in TALK) * 0.2)


def test_an_absorbed_summary_counts_as_what_it_stood_for() -> None:
    with_summary = [summary(1, covered_tokens=2_000), *TALK[5:]]
    plan = plan_of(SlidingWindow(), with_summary, short_term_size=1, compression_ratio=0.1)

    assert plan.summary_target_tokens == int((2_000 + 24 * 100) * 0.1 / 2)


def test_a_summary_that_stands_stays_while_there_is_room_for_a_new_one_behind_it() -> None:
    plan = plan_of(SlidingWindow(), [summary(1), *TALK[5:]], short_term_size=1, max_summaries=2)

    assert actions(plan)[:2] == ["kept", "summarised"]
    assert plan.first_edit == plan.decisions[1].unit.start


def test_summaries_are_merged_before_there_are_too_many() -> None:
    plan = plan_of(SlidingWindow(), [summary(1), summary(3), *TALK[5:]], short_term_size=1, max_summaries=2)

    assert actions(plan)[:3] == ["summarised"] * 3


def test_summaries_that_leave_too_little_room_for_what_is_new_are_merged_to_less_than_their_room() -> None:
    full = [summary(1, 700, covered_tokens=20_000), summary(3, 500, covered_tokens=20_000), *TALK[5:]]
    plan = plan_of(SlidingWindow(), full, short_term_size=1, max_summaries=9)

    assert actions(plan)[:3] == ["summarised"] * 3
    assert plan.tokens_after <= plan_of(SlidingWindow(), full, short_term_size=1, max_summaries=1).tokens_after * 0.9


def test_a_summary_leaves_room_to_grow() -> None:
    plan = plan_of(SlidingWindow(after_share=0.5), TALK, compression_ratio=0.9)

    assert plan.tokens_after <= 2_000 * 0.6


def test_a_few_short_messages_are_not_worth_a_summary() -> None:
    plan = plan_of(SlidingWindow(), [said(1, 20), said(2, 20), said(3, 20)], threshold=50, short_term_size=1)

    assert not plan.changes
    assert reasons(plan) == ["too small to gain", "too small to gain", NEWEST]


# --- Masking ----------------------------------------------------------------------------------------------------------


def test_masking_replaces_old_tool_results_and_leaves_what_was_said() -> None:
    plan = plan_of(Masking(), [said(1), tool(2), said(4), tool(5), tool(7)], threshold=1_500)

    assert actions(plan) == ["kept", "masked", "kept", "masked", "kept"]
    assert reasons(plan) == ["nothing to mask", "old tool result", "nothing to mask", "old tool result", NEWEST]


@pytest.mark.parametrize(
    ("unit", "reason"),
    [
        pytest.param(tool(2, text="short"), "nothing to mask", id="a result no longer than its placeholder"),
        pytest.param(
            unit_of(*(replace(entry, kind=Kind.MASKED) for entry in tool(2).entries)),
            "nothing to mask",
            id="masked before",
        ),
    ],
)
def test_masking_leaves_what_it_cannot_shorten(unit: Unit, reason: str) -> None:
    plan = plan_of(Masking(), [unit, *TALK[5:25]], short_term_size=1)

    assert (actions(plan)[0], reasons(plan)[0]) == ("kept", reason)


def test_masking_summarises_only_above_the_hard_limit() -> None:
    assert set(actions(plan_of(Masking(), TALK, limit_tokens=2_500))) == {"kept"}
    forced = plan_of(Masking(), TALK, limit_tokens=2_500, is_forced=True)

    assert "summarised" in actions(forced)
    assert forced.strategy == "masking"


def test_an_old_screenshot_is_masked_though_it_has_no_text() -> None:
    call = ToolCall(id="c", name="screenshot", arguments="{}")
    picture = Reading(
        role="tool",
        results=(ToolResult(call_id="c", name=None, text=""),),
        attachments=(Attachment(kind="image", media_type="image/png"),),
    )
    unit = unit_of(
        Entry(seq=1, message={}, reading=Reading(role="assistant", calls=(call,)), tokens=20),
        Entry(seq=2, message={}, reading=picture, tokens=1_600),
    )
    plan = plan_of(Masking(), [unit, *TALK[5:20]], short_term_size=1)

    assert actions(plan)[0] == "masked"
    assert placeholder(call, unit.entries[1], 0) == "[result of screenshot(): 1 image, 1,600 tokens, ref r2]"


# --- Selective --------------------------------------------------------------------------------------------------------


def test_selective_keeps_in_place_what_matters_and_summarises_the_rest() -> None:
    units = [said(1), said(2, text="important"), said(3), tool(4, 200), *TALK[6:]]
    plan = plan_of(Selective(should_preserve=important), units, threshold=3_000, short_term_size=1)

    assert actions(plan)[:5] == ["summarised", "kept", "summarised", "kept", "summarised"]
    assert reasons(plan)[:4] == [
        "not marked as important",
        "important",
        "not marked as important",
        "tool call with its result",
    ]


def test_selective_values_the_important_above_tool_calls_and_the_newer_above_the_older() -> None:
    units = [said(1, 300, text="important"), tool(2, 300, text="x"), tool(4, 300, text="x"), *TALK[6:]]
    roomy = Selective(should_preserve=important)
    plans = {t: actions(plan_of(roomy, units, threshold=t, short_term_size=1))[:3] for t in (300, 900, 1_600, 2_400)}

    assert plans == {
        300: ["summarised", "summarised", "summarised"],
        900: ["kept", "summarised", "summarised"],
        1_600: ["kept", "summarised", "kept"],
        2_400: ["kept", "kept", "kept"],
    }


def test_selective_masks_what_does_not_fit_before_it_summarises_it() -> None:
    units = [tool(1), tool(3), tool(5), *TALK[8:]]
    plan = plan_of(Selective(should_preserve=nothing_matters), units, threshold=900, short_term_size=1)

    assert actions(plan)[:3] == ["masked", "masked", "masked"]
    assert reasons(plan)[0] == "tool call with its result; masked to fit"


def test_selective_keeps_no_tool_calls_when_told_not_to() -> None:
    plan = plan_of(Selective(should_preserve=nothing_matters, preserve_tool_calls=False), [tool(1, 100), *TALK[4:]])

    assert actions(plan)[0] == "summarised"


def test_selective_makes_progress_when_everything_matters() -> None:
    everything = Selective(should_preserve=lambda entry: True)
    plan = plan_of(everything, [tool(n, 500) for n in range(1, 41, 2)])

    assert plan.tokens_after < 2_000


# --- Tool policies ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "policy", "action", "reason"),
    [
        ("sliding_window", ToolPolicy.MASK, "masked", "masked by its tool's policy"),
        ("sliding_window", ToolPolicy.DROP, "dropped", "dropped by its tool's policy"),
        ("sliding_window", ToolPolicy.SUMMARISE, "summarised", "summarised by its tool's policy"),
        ("deletion", ToolPolicy.DROP, "dropped", "dropped by its tool's policy"),
        ("masking", ToolPolicy.MASK, "masked", "old tool result"),
        ("masking", ToolPolicy.DROP, "dropped", "dropped by its tool's policy"),
        ("selective", ToolPolicy.DROP, "dropped", "dropped by its tool's policy"),
        ("selective", ToolPolicy.MASK, "masked", "masked by its tool's policy"),
        ("selective", ToolPolicy.SUMMARISE, "summarised", "summarised by its tool's policy"),
    ],
)
def test_a_tools_policy_decides_on_its_old_calls(strategy: str, policy: ToolPolicy, action: str, reason: str) -> None:
    policies = {"secret": policy}
    plan = plan_of(ALL[strategy], [tool(1, name="secret"), *TALK[4:]], tool_policies=policies, short_term_size=1)

    assert (actions(plan)[0], reasons(plan)[0]) == (action, reason)


@pytest.mark.parametrize(
    ("strategy", "policy", "action"),
    [
        ("deletion", ToolPolicy.MASK, "masked"),
        ("deletion", ToolPolicy.SUMMARISE, "summarised"),
        ("masking", ToolPolicy.SUMMARISE, "summarised"),
    ],
)
def test_a_policy_is_followed_also_where_the_strategy_would_not_do_that(
    strategy: str, policy: ToolPolicy, action: str
) -> None:
    policies = {"secret": policy}
    plan = plan_of(ALL[strategy], [tool(1, name="secret"), *TALK[4:]], tool_policies=policies, short_term_size=1)

    assert actions(plan)[0] == action


@pytest.mark.parametrize("strategy", ALL.values(), ids=ALL)
def test_a_policy_does_not_reach_recent_or_protected_calls(strategy: Strategy) -> None:
    units = [tool(1, 300, name="secret"), *TALK[4:], tool(40, 300, name="secret")]
    plan = plan_of(strategy, units, tool_policies={"secret": ToolPolicy.DROP}, protected={0: PINNED})

    assert (actions(plan)[0], actions(plan)[-1]) == ("kept", "kept")


def test_parallel_calls_under_different_policies_follow_the_strategy() -> None:
    calls = (ToolCall(id="a", name="secret", arguments="{}"), ToolCall(id="b", name="read", arguments="{}"))
    mixed = unit_of(Entry(seq=1, message={}, reading=Reading(role="assistant", calls=calls), tokens=500))
    plan = plan_of(SlidingWindow(), [mixed, *TALK[4:]], tool_policies={"secret": ToolPolicy.DROP})

    assert actions(plan)[0] == "summarised"


# --- The hard limit ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ALL.values(), ids=ALL)
def test_a_giant_newest_result_is_clamped_at_the_hard_limit(strategy: Strategy) -> None:
    plan = plan_of(strategy, [said(1), tool(2, 50_000, text=LONG * 200)], threshold=2_000, is_forced=True)

    assert (actions(plan)[-1], reasons(plan)[-1]) == ("clamped", CLAMPED)
    assert plan.tokens_after <= 4_000


@pytest.mark.parametrize("strategy", ALL.values(), ids=ALL)
def test_a_giant_newest_result_below_the_hard_limit_stays_whole(strategy: Strategy) -> None:
    plan = plan_of(strategy, [said(1), tool(2, 3_000, text=LONG * 10)], threshold=2_000)

    assert actions(plan)[-1] == "kept"


def test_recent_results_are_masked_before_the_newest_is_clamped() -> None:
    units = [tool(1, 1_500), tool(3, 1_500), tool(5, 1_500)]
    plan = plan_of(SlidingWindow(recent_share=1.0), units, threshold=4_600, limit_tokens=3_200, is_forced=True)

    assert actions(plan) == ["masked", "masked", "kept"]
    assert reasons(plan)[0] == "masked to fit max_context_tokens"


@pytest.mark.parametrize(("why", "action"), [(NEWEST_USER, "clamped"), (PINNED, "kept"), (FIRST_USER, "clamped")])
def test_of_protected_units_results_may_be_clamped_unless_they_are_pinned(why: str, action: str) -> None:
    plan = plan_of(SlidingWindow(), [tool(1, 9_000), said(3)], protected={0: why}, is_forced=True)

    assert actions(plan)[0] == action


# --- Placeholders -----------------------------------------------------------------------------------------------------


def result_line(unit: Unit) -> str:
    return placeholder(next(unit.calls()), unit.entries[1], 0)


@pytest.mark.parametrize(
    ("unit", "line"),
    [
        (
            tool(16, 9_500, name="read_file", arguments='{"path": "a.py"}', text="x\n" * 311 + "y"),
            "[result of read_file(path=a.py): 312 lines, 9,480 tokens, ref r17]",
        ),
        (
            tool(1, 520, name="run", arguments='{"cmd": "make", "n": 2}', text="boom", is_error=True),
            "[error result of run(cmd=make, n=2): 1 line, 500 tokens, ref r2]",
        ),
        (
            tool(1, 120, name="ping", arguments="{}", text="ok\n"),
            "[result of ping(): 1 line, 100 tokens, ref r2]",
        ),
    ],
)
def test_a_placeholder_says_what_it_was_how_big_and_where(unit: Unit, line: str) -> None:
    assert result_line(unit) == result_line(unit) == line


@pytest.mark.parametrize(
    ("arguments", "brief"),
    [
        ("{}", ""),
        ("", ""),
        ('{"path": "a.py", "line": 3}', "path=a.py, line=3"),
        ('{"text": "two\\nlines"}', "text=two lines"),
        ("not json", "not json"),
        ("[1, 2]", "[1, 2]"),
        ('{"a": {"b": [1, true]}}', 'a={"b": [1, true]}'),
        ("[" * 100_000, "[" * 79 + "…"),
        ('{"q": "' + "x" * 200 + '"}', "q=" + "x" * 77 + "…"),
    ],
    ids=["none", "empty", "two", "newline", "no JSON", "a list", "nested", "deep", "long"],
)
def test_arguments_are_told_in_brief(arguments: str, brief: str) -> None:
    assert brief_arguments(arguments) == brief


def test_masking_makes_a_unit_smaller_and_twice_no_smaller() -> None:
    unit = tool(1, 5_000)
    again = unit_of(*(replace(entry, kind=Kind.MASKED) for entry in unit.entries))

    assert masked_size(unit) < 200
    assert masked_size(again) == again.tokens


# --- Every strategy, any situation ------------------------------------------------------------------------------------

_units = st.builds(
    lambda seq, kind, tokens: (
        tool(seq, tokens + 20)
        if kind == "tool"
        else summary(seq, tokens, covered_tokens=tokens * 3)
        if kind == "summary"
        else said(seq, tokens, text="important" if kind == "important" else "x")
    ),
    st.integers(1, 500),
    st.sampled_from(["tool", "summary", "said", "important"]),
    st.integers(1, 20_000),
)


@pytest.mark.parametrize("strategy", ALL.values(), ids=ALL)
@given(data=st.data())
def test_a_plan_keeps_the_contract_in_any_situation(strategy: Strategy, data: st.DataObject) -> None:
    units = data.draw(st.lists(_units, max_size=12))
    situation = situation_of(
        [],
        threshold_tokens=data.draw(st.integers(0, 20_000)),
        limit_tokens=data.draw(st.integers(0, 40_000)),
        short_term_size=data.draw(st.integers(1, 10)),
        compression_ratio=data.draw(st.sampled_from([0.01, 0.3, 0.99])),
        is_forced=data.draw(st.booleans()),
        all_is_old=data.draw(st.booleans()),
        protected=data.draw(
            st.dictionaries(st.integers(0, max(0, len(units) - 1)), st.just(PINNED), max_size=len(units))
        ),
        tool_policies=data.draw(st.dictionaries(st.just("read"), st.sampled_from(ToolPolicy))),
    )
    check_strategy(strategy, replace(situation, units=tuple(units)))


def test_a_plan_sums_its_sizes_and_prices() -> None:
    plan = replace(plan_of(SlidingWindow(), TALK, short_term_size=2), usd_per_token=0.001)

    assert plan.tokens_before == 3_000
    assert plan.tokens_after == 200 + plan.summary_target_tokens
    assert (plan.usd_before, plan.usd_after) == (3.0, plan.tokens_after * 0.001)
    assert plan.with_action(Action.KEEP) == plan.decisions[-2:]
    assert plan.changes == plan.decisions[:-2]
