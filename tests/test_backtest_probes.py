"""Which facts of a recording count as needed again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.backtest.outcome import Probe
from agent.backtest.probes import GAP_MESSAGES, facts_in
from agent.backtest.recording import probes_of
from agent.transcripts import Transcript, read_transcripts

from .corpus import probes as corpus_probes


def conversation(*messages: dict[str, Any]) -> Transcript:
    return Transcript(id="made up", source="made-up.json", dialect="openai_chat", messages=messages)


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def agent(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def calls(call_id: str, **arguments: str) -> dict[str, Any]:
    function = {"name": "look", "arguments": json.dumps(arguments)}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": call_id, "type": "function", "function": function}],
    }


def result(call_id: str, text: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": text}


def silence(count: int = GAP_MESSAGES) -> list[dict[str, Any]]:
    return [agent("Let me think.") if number % 2 else user("Go on.") for number in range(count)]


@pytest.mark.parametrize(
    "fact",
    [
        "/srv/app/settings.yaml",
        "src/orders/merge_batch.py",
        "https://example.org/docs?page=2",
        "merge_batch_12",
        "parseInlineDirectives",
        "4NQLHD",
        "INV-20493",
        "5172",
        "$32.20",
        "0b7e6a1c-9c53-4b7f-8d6e-2f0a6d7c1e55",
        "9f01955234ab",
        "theme.text.primary",
    ],
)
def test_a_fact_that_is_used_again_after_a_pause_is_a_probe(fact: str) -> None:
    found = probes_of(conversation(user(f"It is about {fact}, see there."), *silence(), agent(f"I take {fact} now.")))

    assert found == [Probe(fact=fact, first_index=0, reuse_index=GAP_MESSAGES + 1)]


def test_a_fact_of_a_tool_result_used_in_a_call_is_a_probe() -> None:
    transcript = conversation(
        user("Find it."),
        calls("c1", where="everywhere"),
        result("c1", "one hit: lib/core/old_name.rs"),
        *silence(),
        calls("c2", path="lib/core/old_name.rs"),
        result("c2", "empty"),
    )

    assert [(one.fact, one.first_index) for one in probes_of(transcript)] == [("lib/core/old_name.rs", 2)]


@pytest.mark.parametrize(
    "text", ["the order of things", "in 2024", "2024-05-15", "1.2.3", "setup.py", "JavaScript", "a.b"]
)
def test_words_that_nobody_must_remember_are_no_facts(text: str) -> None:
    assert facts_in(text) == set()


def test_a_fact_that_somebody_mentioned_in_between_is_none() -> None:
    mentioned = [*silence(5), user("about src/merge_batch.py again"), *silence(5)]

    assert probes_of(conversation(user("See merge_batch."), *mentioned, agent("I take merge_batch now."))) == []


def test_a_fact_that_the_agent_brought_up_is_none() -> None:
    opening = [user("Choose a name."), agent("It shall be merge_batch.")]

    assert probes_of(conversation(*opening, *silence(), agent("I take merge_batch now."))) == []


def test_what_the_system_prompt_says_is_no_fact() -> None:
    system = {"role": "system", "content": "The tool is merge_batch."}

    assert probes_of(conversation(system, user("Use merge_batch."), *silence(), agent("I take merge_batch."))) == []


def test_a_path_is_one_fact_and_each_fact_counts_once() -> None:
    path = "src/orders/merge_batch.py"
    transcript = conversation(user(path), *silence(), agent(path), *silence(), agent(path))

    assert [one.fact for one in probes_of(transcript)] == [path]


def test_nearly_all_probes_of_the_corpus_are_found_here_too(corpus_dir: Path) -> None:
    # Two small files of the corpus; over all of it 369 of 380 are found.
    rows = [
        row for row in corpus_probes() if Path(row["file"]).name in {"tau-bench-airline.jsonl.gz", "deerflow.jsonl.gz"}
    ]
    ours: dict[str, set[str]] = {}
    for name in {row["file"] for row in rows}:
        for transcript in read_transcripts(corpus_dir / name):
            ours[transcript.id] = {one.fact for one in probes_of(transcript)}
    wanted = [(row["id"], probe["fact"]) for row in rows for probe in row["probes"]]

    found = [any(fact in own or own in fact for own in ours[where]) for where, fact in wanted]

    assert len(found) > 30
    assert sum(found) / len(found) > 0.9
