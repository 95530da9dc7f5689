"""Signed reasoning: a compression takes out what it makes invalid, whole, and prefers cuts where none is lost."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory import (
    Compressed,
    CompressionStrategy,
    MemoryConfig,
    MemoryManager,
    WorkingMemoryCompressor,
    validate,
)
from memory.compressor import View
from memory.copies import entry_of
from memory.dialects import DIALECTS
from memory.llm import drive
from memory.messages import DialectName
from memory.strategies import Action
from memory.testing import FixedSummarizer, WordCounter
from memory.testing.simulators.anthropic_thinking import Thinking
from memory.window import Entry, Kind

from .conversations import SIGNATURE, builder_for, conversations
from .laws import Watched

BINDING = "claude-opus-5-5"
CLAUDE = builder_for("anthropic")
STRATEGIES = tuple(CompressionStrategy)
RESULT = "".join(f"src/part_{n}.py:{n * 7}: a warning about the value {n * 13}\n" for n in range(20))


def small(strategy: str = "sliding_window", *, threshold: int = 150, **changes: Any) -> MemoryConfig:
    return MemoryConfig(
        **{"max_context_tokens": 1_000_000, "short_term_size": 6} | changes,
        compression_threshold=threshold,
        compression_strategy=CompressionStrategy(strategy),
    )


def thinking_loop(rounds: int = 8, *, last: str = "") -> list[dict[str, Any]]:
    """A task, then rounds of thinking, a call and a result; then what the user says last."""
    messages = CLAUDE.user("Find out why the nightly build fails.")
    for n in range(rounds):
        messages += CLAUDE.assistant("", [(f"c{n}", "read_log", {"path": f"{n}.txt"})], reasoning=f"Step {n} is next.")
        messages += CLAUDE.results([(f"c{n}", "read_log", f"run {n}\n{RESULT}")])
    return messages + (CLAUDE.assistant("The linker fails.") + CLAUDE.user(last) if last else [])


def managed(messages: Sequence[object], *, model: str | None = BINDING, **settings: Any) -> MemoryManager:
    memory = MemoryManager(small(**{"threshold": 100_000} | settings), model=model, counter=WordCounter())
    for message in messages:
        memory.add_message_sync(message)
    return memory


def thinks(message: Any) -> bool:
    content = message["content"]
    return isinstance(content, list) and any(block["type"] in ("thinking", "redacted_thinking") for block in content)


# --- Which models -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [
        "claude-fable-5-1",
        "claude-mythos-5-2",
        "claude-opus-5-5",
        "claude-haiku-5-5",
        "claude-sonnet-5-5-20261001",
        "claude-opus-6",
        "claude-saga-7-1",
        "claude-fable-10",
        "us.anthropic.claude-opus-5-5-v1:0",
        "anthropic/claude-opus-5.5",
        "openrouter/anthropic/claude-fable-5.1:beta",
        "vertex_ai/claude-sonnet-5-5@20261001",
    ],
)
def test_newer_claudes_bind_their_thinking(model: str) -> None:
    assert DIALECTS["anthropic"].binds_reasoning(model)
    assert DIALECTS["openai_chat"].binds_reasoning(model)


@pytest.mark.parametrize(
    "model",
    [
        None,
        "",
        "gpt-5.5",
        "claude-fable-5",
        "claude-mythos-preview",
        "claude-opus-5",
        "claude-opus-5-20260901",
        "claude-opus-4-8",
        "claude-3-7-sonnet-20250219",
        "us.anthropic.claude-3-5-sonnet-20241022-v2:0",
        "my-deployment",
    ],
)
def test_older_and_unknown_models_do_not(model: str | None) -> None:
    assert not DIALECTS["anthropic"].binds_reasoning(model)


@pytest.mark.parametrize("dialect", ["openai_responses", "gemini"])
def test_other_formats_bind_reasoning_to_what_follows_it(dialect: DialectName) -> None:
    assert not DIALECTS[dialect].binds_reasoning(BINDING)


# --- The law ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(data=st.data())
def test_no_thinking_stands_behind_a_changed_prefix(strategy: str, data: st.DataObject) -> None:
    messages = data.draw(conversations("anthropic", thinks=True, max_turns=14))
    threshold = data.draw(st.sampled_from([60, 150, 400]))
    Watched(small(strategy, threshold=threshold), "anthropic", model=BINDING).add_all(messages)


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(data=st.data())
@settings(max_examples=25)
def test_the_simulated_provider_refuses_none_of_the_thinking_that_it_signed(strategy: str, data: st.DataObject) -> None:
    messages = data.draw(conversations("anthropic", thinks=True, max_turns=14))
    provider = Thinking(is_bound=True)
    memory = MemoryManager(small(strategy), dialect="anthropic", model=BINDING, counter=WordCounter())
    for message in messages:
        if message["role"] == "assistant":
            request = {"model": BINDING, "messages": memory.messages}
            assert provider.refusal(request, frozenset()) is None
            message = {**message, "content": provider.signed(message["content"], request)}
        memory.add_message_sync(message)


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(data=st.data())
@settings(max_examples=25)
def test_for_an_older_model_every_kept_message_keeps_its_thinking(strategy: str, data: st.DataObject) -> None:
    messages = data.draw(conversations("anthropic", thinks=True, max_turns=14))
    watched = Watched(small(strategy), "anthropic", model="claude-opus-4-5")
    watched.add_all(messages)
    kinds = {entry.kind for entry in watched.memory._window.entries}
    assert Kind.STRIPPED not in kinds
    added = {id(message) for message in messages}
    assert all(id(m) in added for m in watched.memory.messages if m["role"] == "assistant")


@given(data=st.data())
@settings(max_examples=25)
def test_a_limit_that_forces_masking_and_clamping_strips_too(data: st.DataObject) -> None:
    messages = data.draw(conversations("anthropic", thinks=True, max_turns=14))
    config = small(max_context_tokens=3_000, threshold=2_000)
    Watched(config, "anthropic", model=BINDING).add_all(messages)


# --- What is taken out ------------------------------------------------------------------------------------------------


def test_a_compression_strips_the_thinking_that_it_invalidates_whole_and_the_archive_has_it() -> None:
    messages = thinking_loop()
    before = copy.deepcopy(messages)
    events: list[Any] = []
    memory = MemoryManager(small(threshold=100_000), model=BINDING, counter=WordCounter(), on_event=events.append)
    for message in messages:
        memory.add_message_sync(message)
    assert memory.compress_sync()

    context = memory.get_context_for_llm()
    assert context[0] is messages[0]
    assert not any(thinks(message) for message in context)
    assert context[-2] == {"role": "assistant", "content": messages[-2]["content"][1:]}
    assert context[-1] is messages[-1]
    assert memory.original(f"r{len(messages) - 1}") is messages[-2]
    assert messages == before
    assert validate(context) == []
    kept = sum(message["role"] == "assistant" for message in context)
    compressed = next(event for event in events if isinstance(event, Compressed))
    assert memory.compressed_memory is not None
    assert compressed.stripped_count == memory.compressed_memory.stripped_count == kept > 0


def test_thinking_before_the_first_edit_and_after_the_compression_stays() -> None:
    memory = managed(thinking_loop(4), strategy="masking", short_term_size=2)
    assert memory.compress_sync()
    first, newest = memory.messages[1], thinking_loop(5)[-2]
    # The first edit is the first result: the thinking that led to its call stands before it.
    assert first is memory.original("r2")
    assert thinks(first)
    assert not any(map(thinks, memory.messages[2:]))

    memory.add_message_sync(newest)
    assert memory.messages[-1] is newest
    assert thinks(newest)


def test_a_message_of_thinking_alone_leaves_altogether() -> None:
    messages = thinking_loop(6)
    messages += [{"role": "assistant", "content": [{"type": "redacted_thinking", "data": SIGNATURE}]}]
    messages += CLAUDE.user("Go on.")
    memory = managed(messages, short_term_size=4)
    # Held, so that the cut does not fall behind it.
    memory.pin("r14")
    assert memory.compress_sync()
    assert all(message["content"] for message in memory.messages)
    assert memory.original("r14") is messages[13]


def test_pinned_messages_lose_their_thinking_too() -> None:
    messages = thinking_loop()
    memory = managed(messages)
    memory.pin(messages[5])
    assert memory.compress_sync()
    assert {"role": "assistant", "content": messages[5]["content"][1:]} in memory.messages
    memory.unpin(messages[5])


def test_chat_messages_for_a_claude_behind_a_gateway_lose_their_thinking_blocks() -> None:
    chat = builder_for("openai_chat")
    messages = chat.user("Find the bug.")
    for n in range(6):
        block = {"type": "thinking", "thinking": f"Step {n}.", "signature": SIGNATURE}
        [message] = chat.assistant("", [(f"c{n}", "read_log", {})])
        messages += [{**message, "thinking_blocks": [block], "reasoning_content": f"Step {n}."}]
        messages += chat.results([(f"c{n}", "read_log", RESULT)])
    memory = managed(messages, model="openrouter/anthropic/claude-opus-5.5")
    assert memory.compress_sync()
    assert not any("thinking_blocks" in message or "reasoning_content" in message for message in memory.messages)
    assert memory.compressed_memory is not None
    assert memory.compressed_memory.stripped_count > 0


def test_a_preview_tells_what_would_be_stripped_and_counts_it() -> None:
    memory = managed(thinking_loop())
    plan = memory.preview()
    stripped = plan.with_action(Action.STRIP)
    assert stripped
    assert all(d.tokens_after == d.tokens_before - d.stripped_tokens < d.tokens_before for d in stripped)
    older = managed(thinking_loop(), model="claude-opus-4-5").preview()
    assert plan.tokens_after == older.tokens_after - sum(d.stripped_tokens for d in plan.decisions)
    assert memory.apply_sync(plan)


def test_what_follows_a_stripped_call_is_masked_later_with_the_calls_arguments() -> None:
    memory = managed(thinking_loop(), short_term_size=8, strategy="masking")
    assert memory.compress_sync()
    assert "run 5" in str(memory.messages)
    for message in thinking_loop(14)[17:]:
        memory.add_message_sync(message)
    assert memory.compress_sync()
    assert "run 5" not in str(memory.messages)
    assert "[result of read_log(path=5.txt): 21 lines" in str(memory.messages)
    assert validate(memory.messages) == []


# --- Where to cut -----------------------------------------------------------------------------------------------------


def test_the_recent_part_begins_behind_the_last_thinking_if_half_of_it_is_left() -> None:
    messages = thinking_loop(6)
    for n in range(4):
        messages += CLAUDE.assistant(f"Report {n}. {RESULT}") + CLAUDE.user(f"And then? {RESULT}")
    memory = managed(messages, short_term_size=10)
    assert memory.compress_sync()
    assert memory.compressed_memory is not None
    assert memory.compressed_memory.stripped_count == 0
    assert [m for m in memory.messages if any(m is one for one in messages)] == [messages[0], *messages[13:]]
    older = managed(messages, short_term_size=10, model="claude-opus-4-5")
    assert older.compress_sync()
    assert len(older.messages) > len(memory.messages)


@given(data=st.data())
@settings(max_examples=60)
def test_no_thinking_is_lost_where_a_cut_keeps_half_and_all_of_it(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.tuples(st.booleans(), st.integers(1, 40)), min_size=6, max_size=20))
    messages = CLAUDE.user("Find the bug.")
    for n, (has_thinking, words) in enumerate(sizes):
        messages += CLAUDE.assistant(f"{n} " + "word " * words, reasoning="hm" if has_thinking else "")
        messages += CLAUDE.user("Go on.")
    memory, usual = managed(messages, threshold=500), managed(messages, threshold=500, model="claude-opus-4-5")
    if memory.get_stats()["compression_count"] or not memory.compress_sync() or not usual.compress_sync():
        return
    recent = _behind_the_summary(usual)
    cuts = [recent[i:] for i in range(len(recent)) if not any(map(thinks, recent[i:]))]
    total = WordCounter()
    sized = [sum(_tokens(total, m) for m in cut) * 2 >= sum(_tokens(total, m) for m in recent) for cut in cuts]
    assert memory.compressed_memory is not None
    if any(sized):
        assert memory.compressed_memory.stripped_count == 0


def _behind_the_summary(memory: MemoryManager) -> list[Any]:
    entries = memory._window.entries
    start = next(index for index, entry in enumerate(entries) if entry.kind is Kind.SUMMARY)
    return [entry.message for entry in entries[start + 1 :]]


def _tokens(counter: WordCounter, message: Any) -> int:
    return counter.count_reading(DIALECTS["anthropic"].read(message))


# --- The compressor's own doors ---------------------------------------------------------------------------------------


def entries_of(messages: Sequence[Any], dialect: DialectName = "anthropic") -> list[Entry]:
    return [entry_of(m, seq, DIALECTS[dialect], WordCounter()) for seq, m in enumerate(messages, start=1)]


def test_refused_reasoning_is_stripped_everywhere_and_archived_first() -> None:
    compressor = WorkingMemoryCompressor(counter=WordCounter())
    entries = entries_of(thinking_loop(3))
    left = compressor.stripped(entries, DIALECTS["anthropic"])
    assert [entry.kind for entry in left] == [Kind.ORIGINAL, *[Kind.STRIPPED, Kind.ORIGINAL] * 3]
    assert [record.ref for record in compressor.archive] == ["r2", "r4", "r6"]
    assert compressor.stripped(left, DIALECTS["anthropic"]) == left


def test_a_model_that_nobody_named_is_learned_from_its_refusal() -> None:
    refusal = RuntimeError(
        "messages.1.content.0: Invalid `signature` in `thinking` block. The block is bound to a different conversation."
    )
    memory = managed(thinking_loop(4), model=None)
    assert memory.recover_sync(refusal)
    assert not any(map(thinks, memory.messages))
    assert not memory.recover_sync(refusal)
    for message in thinking_loop(10)[9:]:
        memory.add_message_sync(message)
    assert thinks(memory.messages[-2])
    assert memory.compress_sync()
    assert not any(map(thinks, memory.messages))


def test_messages_that_came_while_a_model_was_asked_lose_what_was_made_behind_the_old_messages() -> None:
    done = FixedSummarizer(text="Done.")
    compressor = WorkingMemoryCompressor(config=small(), counter=WordCounter(), summarizer=done)
    dialect = DIALECTS["anthropic"]
    entries = entries_of(thinking_loop(8))
    view = View(
        entries=entries[:-2],
        dialect=dialect,
        protected={},
        summaries={},
        threshold_tokens=200,
        limit_tokens=10_000,
        strips_reasoning=True,
    )
    compaction = drive(compressor.run(compressor.plan(view), view), None)
    late = compressor.late(compaction, entries[-2:], dialect)
    assert [entry.kind for entry in late] == [Kind.STRIPPED, Kind.ORIGINAL]


def test_responses_reasoning_goes_with_the_ids_that_are_not_valid_without_it() -> None:
    dialect = DIALECTS["openai_responses"]
    call = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": "{}"}
    assert dialect.without_reasoning({"type": "reasoning", "id": "rs_1", "summary": []}) is None
    assert dialect.without_reasoning(call) == {key: value for key, value in call.items() if key != "id"}
    result = {"type": "function_call_output", "call_id": "c1", "output": "x", "id": "o1"}
    assert dialect.without_reasoning(result) is result


# --- OpenAI Responses and Gemini --------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(data=st.data())
@settings(max_examples=40)
def test_a_reasoning_item_stays_the_same_object_before_the_same_item_or_leaves_with_it(
    strategy: str, data: st.DataObject
) -> None:
    messages = data.draw(conversations("openai_responses", thinks=True, max_turns=14))
    watched = Watched(small(strategy, threshold=data.draw(st.sampled_from([60, 150, 400]))), "openai_responses")
    watched.add_all(messages)
    context = watched.memory.messages
    following = {id(one): other for one, other in pairwise(messages)}
    items = [message for message in context if message.get("type") == "reasoning"]
    for item in items:
        assert any(item is message for message in messages)
        assert item["encrypted_content"] == SIGNATURE
        assert context[context.index(item) + 1] is following[id(item)]
    kept = {id(message) for message in context}
    produced = [following[id(m)] for m in messages if m.get("type") == "reasoning"]
    made = {id(following[id(m)]): id(m) for m in messages if m.get("type") == "reasoning"}
    assert all(made[id(product)] in kept for product in produced if id(product) in kept)


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(data=st.data())
@settings(max_examples=40)
def test_gemini_keeps_every_signature_of_the_contents_that_stay(strategy: str, data: st.DataObject) -> None:
    messages = data.draw(conversations("gemini", thinks=True, max_turns=14))
    watched = Watched(small(strategy, threshold=data.draw(st.sampled_from([60, 150, 400]))), "gemini", model=BINDING)
    watched.add_all(messages)
    context = watched.memory.messages
    added = {id(message) for message in messages}
    assert all(id(content) in added for content in context if content["role"] == "model")
    if validate(messages, "gemini") == []:
        assert [issue for issue in validate(context, "gemini") if issue.code != "GE-6"] == []


def test_a_summary_directly_before_the_kept_steps_of_geminis_current_turn_is_legal() -> None:
    gemini = builder_for("gemini")
    messages = gemini.user("Find the bug.")
    for n in range(8):
        messages += gemini.assistant("", [(f"c{n}", "read_log", {"path": f"{n}"})], reasoning=f"Step {n}.")
        messages += gemini.results([(f"c{n}", "read_log", RESULT)])
    memory = managed(messages, short_term_size=4)
    assert memory.compress_sync()
    context = memory.messages
    assert context[0] is messages[0]
    assert context[1]["role"] == "user"
    kept = context[2:]
    assert all(one is other for one, other in zip(kept, messages[-len(kept) :], strict=True))
    assert validate(context, "gemini") == []


# --- Results that are shown in part at once ---------------------------------------------------------------------------

LONG = "".join(f"line {n}\n" for n in range(2_000))


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_long_result_is_archived_and_shown_in_part_at_once(dialect: DialectName, strategy: str) -> None:
    build = builder_for(dialect)
    messages = [
        *build.user("Find the bug."),
        *build.assistant("", [("c1", "read_log", {"path": "a"}), ("c2", "read_log", {"path": "b"})]),
        *build.results([("c1", "read_log", LONG), ("c2", "read_log", "short")]),
    ]
    memory = MemoryManager(
        small(strategy, threshold=100_000, max_result_tokens=300), dialect=dialect, counter=WordCounter()
    )
    for message in messages:
        memory.add_message_sync(message)

    shown = str(memory.get_context_for_llm())
    assert "line 0" in shown
    assert "line 1999" in shown
    assert "line 1000" not in shown
    assert "short" in shown
    assert "characters cut, ref r" in shown
    assert memory.current_tokens < 700
    [record] = memory.archive
    assert record.message is next(message for message in messages if "line 1000" in str(message))
    assert validate(memory.messages, dialect) == []


@given(data=st.data())
@settings(max_examples=40)
def test_the_laws_hold_with_a_limit_to_results(data: st.DataObject) -> None:
    dialect = data.draw(st.sampled_from(sorted(DIALECTS)))
    strategy = data.draw(st.sampled_from(STRATEGIES))
    messages = data.draw(conversations(dialect, thinks=True, max_turns=12))
    watched = Watched(small(strategy, threshold=600, max_result_tokens=200), dialect, model=BINDING)
    watched.add_all(messages)


@pytest.mark.parametrize("settings", [{"protected_tools": ("read_log",)}, {"tool_policies": {"read_log": "keep"}}])
def test_results_of_protected_tools_stay_whole(settings: dict[str, Any]) -> None:
    messages = [*thinking_loop(0), *CLAUDE.assistant("", [("c1", "read_log", {})]), *CLAUDE.results([("c1", "", LONG)])]
    memory = managed(messages, max_result_tokens=300, **settings)
    assert memory.messages[-1] is messages[-1]


def test_an_image_is_no_long_result_and_disabled_compression_cuts_nothing() -> None:
    call = CLAUDE.assistant("", [("c1", "screenshot", {})])
    picture = [*thinking_loop(0), *call, *CLAUDE.results([("c1", "screenshot", "here")], image=True)]
    assert managed(picture, max_result_tokens=200).messages[-1] is picture[-1]
    long = [*thinking_loop(0), *call, *CLAUDE.results([("c1", "screenshot", LONG)])]
    assert managed(long, max_result_tokens=200, enable_compression=False).messages[-1] is long[-1]


def test_what_was_cut_is_masked_and_summarised_later_like_an_original() -> None:
    call = CLAUDE.assistant("", [("c1", "read_log", {"path": "a"})])
    messages = [*thinking_loop(0), *call, *CLAUDE.results([("c1", "read_log", LONG)]), *thinking_loop(5)[1:]]
    masking = managed(messages, max_result_tokens=300, strategy="masking", short_term_size=2)
    assert masking.compress_sync()
    assert "[result of read_log(path=a): 2,000 lines, 4,00" in str(masking.messages[2])

    seen = []

    def model(prompt: str) -> str:
        seen.append(prompt)
        return "The log was read."

    memory = MemoryManager(small(threshold=100_000, max_result_tokens=300), model, counter=WordCounter(), model=BINDING)
    for message in messages:
        memory.add_message_sync(message)
    assert memory.compress_sync()
    assert "line 1000" in "".join(seen)
    assert memory.compressed_memory is not None
    assert memory.compressed_memory.original_tokens > 4_000


def test_savings_count_what_never_entered_the_context() -> None:
    messages = [*thinking_loop(0), *CLAUDE.assistant("", [("c1", "f", {})]), *CLAUDE.results([("c1", "f", LONG)])]
    memory = managed([*messages, *CLAUDE.assistant("Done.")], max_result_tokens=300)
    assert memory.get_stats()["total_savings"] > 3_000
