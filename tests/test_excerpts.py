from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from memory.extract import Source, excerpts
from memory.messages import Reading, ToolResult


def said(n: int, text: str, *, role: str = "user") -> Source:
    return Source(ref=f"r{n}", reading=Reading(role=role, text=text), tokens=len(text) // 4)  # type: ignore[arg-type]


def words(text: str) -> int:
    return len(text.split())


def test_a_plain_talk_is_quoted_message_by_message_in_order() -> None:
    talk = [said(1, "I like long walks by the river."), said(2, "So do I.", role="assistant")]
    text = excerpts(talk, before="", target_tokens=100, count=words)
    assert text == '## Said\n- r1 user: "I like long walks by the river."\n- r2 assistant: "So do I."'


def test_what_the_summary_quotes_already_is_not_quoted_again() -> None:
    text = excerpts(
        [said(1, "I like walks."), said(2, "And rain.")],
        before="",
        target_tokens=100,
        count=words,
        known="I like walks.",
    )
    assert "walks" not in text
    assert "rain" in text


def test_the_oldest_go_first_when_room_is_scarce_and_results_before_what_was_said() -> None:
    result = Source(
        ref="r9", reading=Reading(role="tool", results=(ToolResult(call_id="c", name=None, text="a result"),)), tokens=2
    )
    talk = [*(said(n, f"message number {n} of the talk") for n in range(1, 9)), result]
    text = excerpts(talk, before="", target_tokens=30, count=words)
    assert "number 8" in text
    assert "number 1 " not in text
    assert "a result" not in text


def test_the_excerpts_of_an_older_summary_are_carried_on() -> None:
    before = '## Found\n- x\n## Said\n- r1 user: "the first words"\n## Open\n- y'
    text = excerpts([said(5, "newer words")], before=before, target_tokens=100, count=words)
    assert text.split("\n") == ["## Said", '- r1 user: "the first words"', '- r5 user: "newer words"']


def test_a_long_message_ends_at_a_sentence() -> None:
    text = excerpts([said(1, "One short sentence. " * 40)], before="", target_tokens=200, count=words)
    assert text.endswith('sentence."')
    assert len(text) < 300


@given(
    texts=st.lists(st.text(max_size=400), max_size=30),
    target=st.integers(min_value=0, max_value=120),
    before=st.text(max_size=200),
)
def test_the_target_is_never_exceeded(texts: list[str], target: int, before: str) -> None:
    sources = [said(n, text) for n, text in enumerate(texts, start=1)]
    text = excerpts(sources, before=before, target_tokens=target, count=words)
    assert words(text) <= target
