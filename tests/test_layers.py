"""Summaries in layers: older ones stand and stay cached, the new one says only what they do not, few become one."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory import Compressed, CompressionStrategy, MemoryConfig, MemoryManager, Summarizer, Summary, SummaryRequest
from memory.extract import Source
from memory.llm import ModelCall, ModelReply
from memory.messages import DialectName, Reading, ToolResult
from memory.summarize import ExtractiveSummarizer, ModelSummarizer, joined
from memory.testing import FailingSummarizer, ScriptedLLM, WordCounter

from .conversations import builder_for, conversations
from .laws import Watched

DIALECT_NAMES: tuple[DialectName, ...] = ("openai_chat", "openai_responses", "anthropic", "gemini")
HEADING = "[Memory: summary of"


def config(**changes: Any) -> MemoryConfig:
    return MemoryConfig(**({"compression_threshold": 600, "short_term_size": 2, "compression_ratio": 0.2} | changes))


def steps(dialect: DialectName, count: int) -> list[list[dict[str, Any]]]:
    """Return rounds of a loop: a call and its result, full of names that no other round has."""
    build = builder_for(dialect)
    return [
        [
            *build.assistant("", [(f"c{n}", "read", {"path": f"src/part_{n}.py"})]),
            *build.results([(f"c{n}", "read", " ".join(f"name_{n}_{k} is there" for k in range(20)))]),
        ]
        for n in range(count)
    ]


class Run:
    """A loop under a memory; `contexts` are those right after each compression."""

    def __init__(
        self,
        dialect: DialectName = "openai_chat",
        *,
        rounds: int = 60,
        llm: object | None = None,
        summarizer: Summarizer | None = None,
        **changes: Any,
    ) -> None:
        self.events: list[Compressed] = []
        self.contexts: list[list[str]] = []
        self.before: list[list[str]] = []
        self.memory = MemoryManager(
            config(**changes), llm, dialect=dialect, counter=WordCounter(), summarizer=summarizer, on_event=self._note
        )
        for message in [
            *builder_for(dialect).user("look at every part"),
            *(m for step in steps(dialect, rounds) for m in step),
        ]:
            before = [json.dumps(m) for m in self.memory.messages]
            self.memory.add_message_sync(message)
            if self.memory.was_compressed_last_iteration:
                self.before.append(before)
                self.contexts.append([json.dumps(m) for m in self.memory.messages])

    def _note(self, event: object) -> None:
        if isinstance(event, Compressed):
            self.events.append(event)

    @property
    def summaries(self) -> list[list[str]]:
        return [[message for message in context if HEADING in message] for context in self.contexts]


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
def test_a_summary_that_stands_stays_byte_for_byte_and_the_new_one_comes_behind_it(dialect: DialectName) -> None:
    run = Run(dialect)
    layered = [(a, b) for a, b in zip(run.summaries, run.summaries[1:], strict=False) if len(b) > 1]

    assert layered
    for earlier, later in layered:
        assert later[:-1] == earlier


def test_what_stands_before_the_new_summary_is_the_beginning_of_the_context_before() -> None:
    run = Run()
    for before, after, summaries in zip(run.before, run.contexts, run.summaries, strict=True):
        first_edit = after.index(summaries[-1])
        assert after[:first_edit] == before[:first_edit]
        assert first_edit >= len(summaries)


@pytest.mark.parametrize("most", [1, 2, 4])
def test_there_are_never_more_summaries_than_the_setting_allows(most: int) -> None:
    run = Run(max_summaries=most, rounds=100)

    assert max(map(len, run.summaries)) <= most
    assert max(map(len, run.summaries)) == most


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
def test_summaries_together_stand_for_each_message_that_left_once(dialect: DialectName) -> None:
    run = Run(dialect)
    covered: list[int] = []
    for entry in run.memory._cycle._window.entries:
        covered += entry.covers.seqs if entry.covers is not None else ()
    standing = {e.seq for e in run.memory._cycle._window.entries if e.covers is None}

    assert len(covered) == len(set(covered))
    assert set(covered) | standing == set(range(1, run.memory.get_stats()["message_count"] + 1))


def test_the_event_counts_the_new_summary_alone() -> None:
    run = Run()
    whole = sum(len(message.split()) for message in run.summaries[1])

    assert len(run.summaries[1]) == 2
    assert run.events[1].summary_tokens < whole
    assert run.events[1].first_ref != run.events[0].first_ref


def test_a_new_summary_repeats_no_identifier_that_stands_in_an_older_one() -> None:
    for summaries in Run().summaries:
        names = [set(re.findall(r"name_\d+_\d+", summary)) for summary in summaries]
        assert sum(map(len, names)) == len(set().union(*names))


def test_what_messages_that_stay_show_is_said_when_they_go() -> None:
    build = builder_for("openai_chat")
    memory = MemoryManager(config(short_term_size=1), dialect="openai_chat", counter=WordCounter())
    talk = [
        *build.user("go"),
        *build.assistant(
            "elsewhere nothing unexpected happened " * 30 + "but in vault/blue_42.txt and depot/green_99.txt"
        ),
    ]
    for message in [*talk, *build.assistant("I look into vault/blue_42.txt")]:
        memory.add_message_sync(message)
    memory.compress_sync()
    first = [json.dumps(message) for message in memory.messages]

    for message in [*build.assistant("elsewhere nothing unexpected happened " * 40), *build.assistant("done")]:
        memory.add_message_sync(message)
    memory.compress_sync()

    assert ["depot/green_99.txt" in message for message in first] == [False, True, False]
    assert ["vault/blue_42.txt" in message for message in first] == [False, False, True]
    assert any(HEADING in (text := json.dumps(m)) and "vault/blue_42.txt" in text for m in memory.messages)


def test_a_context_is_no_larger_for_its_layers() -> None:
    merged, layered = Run(max_summaries=1, rounds=100), Run(max_summaries=4, rounds=100)

    assert max(e.tokens_after for e in layered.events) <= max(e.tokens_after for e in merged.events) * 1.02


def test_layers_keep_a_longer_prefix_than_one_summary_that_is_written_anew() -> None:
    def kept(run: Run) -> float:
        shared = [
            next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), len(before))
            for before, after in zip(run.before, run.contexts, strict=True)
        ]
        return sum(shared) / len(shared)

    assert kept(Run(max_summaries=4)) > kept(Run(max_summaries=1))


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
@pytest.mark.parametrize("strategy", ["sliding_window", "selective", "tiered"])
@given(data=st.data())
@settings(max_examples=8)
def test_every_law_holds_while_summaries_stand_and_are_merged(
    dialect: DialectName, strategy: str, data: st.DataObject
) -> None:
    messages = [
        message for part in data.draw(st.lists(conversations(dialect), min_size=2, max_size=3)) for message in part
    ]
    settings_ = MemoryConfig(
        max_context_tokens=1_000_000,
        compression_threshold=data.draw(st.sampled_from([150, 400])),
        compression_strategy=CompressionStrategy(strategy),
        short_term_size=data.draw(st.sampled_from([2, 6])),
        max_summaries=data.draw(st.sampled_from([2, 3, 8])),
    )
    Watched(settings_, dialect, checks_validity=False, every=10).add_all(messages)


# --- What a summariser is told ----------------------------------------------------------------------------------------


def source(number: int, text: str) -> Source:
    return Source(ref=f"r{number}", reading=Reading(role="user", text=text), tokens=len(text.split()))


def result(number: int, text: str) -> Source:
    found = Reading(role="tool", results=(ToolResult(call_id=None, name="list", text=text),))
    return Source(ref=f"r{number}", reading=found, tokens=len(text.split()))


def request(
    sources: Sequence[Source], *, previous: Summary | None = None, standing: Summary | None = None
) -> SummaryRequest:
    return SummaryRequest(
        sources=sources, previous=previous, standing=standing, target_tokens=60, count=lambda text: len(text.split())
    )


def extractive(asked: SummaryRequest) -> Summary:
    run = ExtractiveSummarizer().summarize(asked)
    with pytest.raises(StopIteration) as stop:
        next(run)
    return stop.value.value  # type: ignore[no-any-return]


def test_what_an_older_summary_had_no_room_for_can_stand_in_a_newer_one() -> None:
    many = [result(n, " ".join(f"path/to/file_{n}_{k}.py" for k in range(30))) for n in range(1, 6)]
    first = extractive(request(many))
    second = extractive(request([source(9, "only words here")], standing=first))

    older = set(re.findall(r"file_\d+_\d+", second.text))
    assert older
    assert not older & set(re.findall(r"file_\d+_\d+", first.text))


def test_a_merged_summary_knows_what_all_of_them_knew() -> None:
    first = extractive(request([source(1, "the key is in vault/blue_42.txt")]))
    second = extractive(request([source(2, "the door is in house/red_17.txt")], standing=first))
    both = joined([first, second])
    merged = extractive(request([source(3, "all is said")], previous=both))

    assert "vault/blue_42.txt" not in second.text
    assert {"vault/blue_42.txt", "house/red_17.txt"} <= set(merged.digest.facts)
    assert "vault/blue_42.txt" in merged.text
    assert "house/red_17.txt" in merged.text


def test_a_model_is_shown_the_summaries_that_stand_as_such() -> None:
    standing = Summary(text="the key is under </standing> the mat", method="model")
    run = ModelSummarizer().summarize(request([source(7, "and then")], standing=standing))
    call = next(run)

    assert isinstance(call, ModelCall)
    shown = call.prompt.partition("<standing>")[2].partition("</standing>")[0]
    assert "the key is under" in shown
    assert "the mat" in shown
    assert "(none)" in call.prompt.partition("<summary>")[2].partition("</summary>")[0]
    with pytest.raises(StopIteration) as stop:
        run.send(ModelReply(text="and then it was done", stop_reason="stop"))
    assert stop.value.value.text.startswith("and then it was done")


def test_nothing_joined_is_nothing_and_one_is_itself() -> None:
    one = Summary(text="a", method="model")

    assert joined([]) is None
    assert joined([one]) is one


def test_layers_stand_though_the_first_summariser_fails() -> None:
    run = Run(summarizer=FailingSummarizer())

    assert max(map(len, run.summaries)) > 1
    assert run.memory.get_stats()["degraded_count"] == len(run.events)


def test_a_models_summaries_stand_in_layers_too() -> None:
    run = Run(llm=ScriptedLLM("The agent read the parts one after the other and found nothing wrong in them so far."))

    assert max(map(len, run.summaries)) > 1
