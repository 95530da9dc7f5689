"""The compressor alone: a list of old messages in, a smaller one that is as valid out."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory import (
    Action,
    CompressedMemory,
    CompressionStrategy,
    Decision,
    Degraded,
    LLMMessage,
    MemoryConfig,
    MemoryManager,
    Plan,
    Situation,
    ToolPolicy,
    WorkingMemoryCompressor,
    validate,
)
from memory.messages import DialectName
from memory.testing import FailingSummarizer, FixedSummarizer, ScriptedLLM, WordCounter

from .conversations import DIALECT_NAMES, Builder, GeminiBuilder, builder_for, conversations

CHAT = builder_for("openai_chat")
RESULT = "".join(f"src/part_{n}.py:{n * 7}: a warning about the value {n * 13}\n" for n in range(60))


def rounds(build: Builder, count: int = 6) -> list[Any]:
    """A task, then rounds of a remark, a call and a long result."""
    messages = build.user("Find out why the nightly build fails.")
    for n in range(count):
        messages += build.assistant(f"Looking at step {n}.", [(f"c{n}", "read_log", {"path": f"logs/{n}.txt"})])
        messages += build.results([(f"c{n}", "read_log", f"run {n}\n{RESULT}")])
    return [*messages, *build.assistant("The linker fails."), *build.user("Fix it."), *build.assistant("Done.")]


def compressor(
    llm: object | None = None, *, strategy: str = "sliding_window", **settings: Any
) -> WorkingMemoryCompressor:
    config = MemoryConfig(compression_strategy=CompressionStrategy(strategy), **settings)
    return WorkingMemoryCompressor(llm, config, counter=WordCounter())


def wires(messages: Sequence[object]) -> list[Any]:
    return [message.to_wire() if isinstance(message, LLMMessage) else message for message in messages]


# --- In every format --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
def test_a_list_is_compressed_to_a_summary_of_about_the_ratio(dialect: DialectName) -> None:
    messages = rounds(builder_for(dialect))
    result = compressor(compression_ratio=0.3).compress_sync(messages)

    assert isinstance(result, CompressedMemory)
    assert (result.strategy, result.method) == ("sliding_window", "extractive")
    assert 0 < result.compression_ratio <= 0.33
    assert result.compression_ratio == result.compressed_tokens / result.original_tokens
    assert result.token_savings == result.original_tokens - result.compressed_tokens > 0
    assert result.original_message_count == len(messages)
    assert validate(wires(result.messages), dialect) == []


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
@pytest.mark.parametrize("strategy", CompressionStrategy)
@given(data=st.data())
@settings(max_examples=10)
def test_any_list_is_compressed_validly_and_nothing_is_mutated(
    dialect: DialectName, strategy: str, data: st.DataObject
) -> None:
    messages = data.draw(conversations(dialect))
    before = copy.deepcopy(messages)
    result = compressor(strategy=strategy).compress_sync(messages)

    assert messages == before
    assert result.compressed_tokens <= result.original_tokens
    if result.messages:  # a deletion may leave nothing of what is old
        assert [i for i in validate(wires(result.messages), dialect) if i.severity == "error"] == []


def test_async_gives_the_same() -> None:
    messages = rounds(CHAT)

    assert asyncio.run(compressor().compress(messages)) == compressor().compress_sync(messages)


def test_llm_messages_stay_llm_messages() -> None:
    messages = [LLMMessage(**message) for message in rounds(CHAT)]
    result = compressor().compress_sync(messages)

    assert {type(message) for message in result.messages} == {LLMMessage}
    assert validate(wires(result.messages), "openai_chat") == []


SAID = "The linker failed. The agent then read the build files one after another and found nothing."


def test_the_summary_is_the_text_and_stands_in_the_messages() -> None:
    result = compressor(ScriptedLLM(SAID)).compress_sync(rounds(CHAT))

    assert result.method == "model"
    assert result.summary.startswith("The linker failed.")
    assert result.summary in result.messages[0]["content"]  # type: ignore[index]  # a chat dict


def test_a_model_that_is_asked_by_the_loop_writes_the_summary_of_a_list() -> None:
    class AgentModel:
        async def call_async(self, messages: Any, tools: Any = None, max_tokens: int = 0) -> Any:
            return SimpleNamespace(content=SAID, stop_reason="stop")

    result = asyncio.run(compressor(AgentModel()).compress(rounds(CHAT)))

    assert (result.method, result.degraded) == ("model", ())


def test_without_a_loop_the_same_model_degrades_visibly() -> None:
    async def model(prompt: str) -> str:
        return "never asked"

    result = compressor(model).compress_sync(rounds(CHAT))

    assert result.method == "extractive"
    assert "await add_message" in result.degraded[0]


# --- What stays -------------------------------------------------------------------------------------------------------


def test_kept_messages_are_the_callers_own_objects() -> None:
    messages = [*CHAT.system("be kind"), *rounds(CHAT)]
    result = compressor(strategy="selective", compression_ratio=0.5).compress_sync(messages)
    own = {id(message) for message in messages}

    assert result.messages[0] is messages[0]
    assert sum(id(message) in own for message in result.messages) > 1


@pytest.mark.parametrize(("preserve", "kept"), [(True, ["first", "second"]), (False, ["first"])])
def test_system_messages_stay_and_the_first_one_always(preserve: bool, kept: list[str]) -> None:
    messages = [*CHAT.system("first"), *rounds(CHAT), *CHAT.system("second"), *CHAT.assistant("and so on " * 30)]
    result = compressor(preserve_system_prompts=preserve).compress_sync(messages)

    assert [m["content"] for m in wires(result.messages) if m["role"] == "system"] == kept


def test_an_open_call_stays() -> None:
    messages = [*rounds(CHAT), *CHAT.assistant("", [("open", "read_log", {})])]

    assert compressor().compress_sync(messages).messages[-1] is messages[-1]


@pytest.mark.parametrize("strategy", CompressionStrategy)
def test_calls_of_a_protected_tool_stay_as_they_are(strategy: str) -> None:
    config: dict[str, Any] = {"protected_tools": ["contract"]}
    contract = [*CHAT.assistant("", [("x", "contract", {})]), *CHAT.results([("x", "contract", "sign here " * 50)])]
    result = compressor(strategy=strategy, **config).compress_sync([*rounds(CHAT), *contract, *rounds(CHAT, 2)])

    assert all(any(message is one for one in result.messages) for message in contract)


@pytest.mark.parametrize(
    ("policy", "shown", "told"),
    [(ToolPolicy.MASK, "[result of read_log(path=logs/0.txt): 61 lines", False), (ToolPolicy.DROP, None, False)],
)
def test_a_tools_policy_is_carried_out(policy: ToolPolicy, shown: str | None, told: bool) -> None:
    result = compressor(tool_policies={"read_log": policy}, compression_ratio=0.9).compress_sync(rounds(CHAT))

    assert (str(shown) in str(result.messages)) is (shown is not None)
    assert ("src/part_3.py" in str(result.messages)) is told


class KeepsPorts(WorkingMemoryCompressor):
    """Knows what matters to its user; reads the user's own object."""

    def _should_preserve(self, message: Any) -> bool:
        return "port" in str(message.get("content")) or super()._should_preserve(message)


def test_a_subclass_says_what_selective_keeps_verbatim() -> None:
    ports, never = CHAT.assistant("the port is 4711")[0], CHAT.user("never touch prod")[0]
    chat = [*CHAT.user("go"), ports, never, *(CHAT.assistant("some filler words " * 20)[0] for _ in range(10))]
    config = MemoryConfig(compression_strategy=CompressionStrategy.SELECTIVE)
    result = KeepsPorts(None, config, counter=WordCounter()).compress_sync(chat)

    assert any(message is ports for message in result.messages)
    assert any(message is never for message in result.messages)
    assert result.compression_ratio < 0.6


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (CHAT.user("This is IMPORTANT: keep it."), True),
        (CHAT.assistant("We must not deploy."), True),
        (CHAT.user("Das ist wichtig."), True),
        (CHAT.user("unimportant mustard"), False),
        (CHAT.system("important"), False),
        (CHAT.results([("c", "f", "important")]), False),
        (builder_for("anthropic").results([("c", "f", "boom")], errors=frozenset({0})), True),
        (builder_for("gemini").results([("c", "f", "boom")], errors=frozenset({0})), True),
        ([LLMMessage("user", "remember the port")], True),
    ],
)
def test_what_matters_is_an_error_or_says_so(message: Sequence[Any], expected: bool) -> None:
    assert WorkingMemoryCompressor()._should_preserve(message[0]) is expected


# --- What cannot shrink, and what fails -------------------------------------------------------------------------------


@pytest.mark.parametrize("messages", [[], CHAT.user("hi"), [*CHAT.user("hi"), *CHAT.assistant("hello")]])
@pytest.mark.parametrize("strategy", ["sliding_window", "masking", "selective"])
def test_a_list_that_cannot_shrink_comes_back_as_it_was(messages: list[Any], strategy: str) -> None:
    result = compressor(strategy=strategy).compress_sync(messages)

    assert list(result.messages) == messages
    assert (result.compression_ratio, result.summary, result.method) == (1.0, "", "none")
    assert result.original_message_count == len(messages)


def test_when_no_summary_is_to_be_had_results_are_masked() -> None:
    failing = WorkingMemoryCompressor(None, summarizer=FixedSummarizer(text="word " * 5_000), counter=WordCounter())
    failing._summarizers = failing._summarizers[:1]
    result = failing.compress_sync(rounds(CHAT))

    assert (result.summary, result.method) == ("", "none")
    assert len(result.degraded) == 1
    assert str(result.messages).count("[result of read_log(") == 6
    assert validate(wires(result.messages), "openai_chat") == []


def test_the_archive_has_what_went_out() -> None:
    small = compressor()
    messages = rounds(CHAT)
    small.compress_sync(messages)

    assert [record.message for record in small.archive] == messages


def test_a_history_that_arrived_broken_is_compressed_and_gets_no_worse() -> None:
    orphan = CHAT.results([("nobody", "read_log", "lost")])
    messages = [*CHAT.user("go"), *orphan, *rounds(CHAT)]
    result = compressor(strategy="masking").compress_sync(messages)

    assert result.compressed_tokens < result.original_tokens
    assert len(validate(wires(result.messages), "openai_chat")) <= len(validate(messages, "openai_chat"))


def test_placeholders_name_the_call_that_they_answer_also_without_ids() -> None:
    build = GeminiBuilder(with_ids=False)
    calls: list[tuple[str, str, Mapping[str, Any]]] = [("", "read", {"path": "a.py"}), ("", "search", {"q": "b"})]
    messages = [
        *build.user("go"),
        *build.assistant("", calls),
        *build.results([("", "read", RESULT), ("", "search", RESULT)]),
        *build.user("so?"),
    ]
    shown = str(compressor(strategy="masking").compress_sync(messages).messages)

    assert "result of read(path=a.py)" in shown
    assert "result of search(q=b)" in shown


# --- Strategies of the user's own -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reckless:
    """A strategy with a mistake."""

    mistake: str
    name: str = "reckless"

    def plan(self, situation: Situation) -> Plan:
        decisions = [
            Decision(unit=unit, action=Action.DROP, reason="why not", tokens_after=0) for unit in situation.units
        ]
        if self.mistake == "forgets a unit":
            del decisions[len(decisions) // 2]
        return Plan(strategy=self.name, decisions=tuple(decisions))


@pytest.mark.parametrize("mistake", ["forgets a unit", "takes out the protected"])
def test_a_plan_that_would_break_the_laws_is_refused_and_told(mistake: str) -> None:
    events: list[Any] = []
    config = MemoryConfig(compression_threshold=400)
    memory = MemoryManager(config, strategy=Reckless(mistake), counter=WordCounter(), on_event=events.append)
    messages = rounds(CHAT)
    for message in messages:
        memory.add_message_sync(message)

    assert memory.get_context_for_llm() == messages
    assert "reckless" in next(event.reason for event in events if isinstance(event, Degraded))


@dataclass(frozen=True)
class InParts:
    """Summarises what was never summarised, and now and then everything."""

    name: str = "in parts"

    def plan(self, situation: Situation) -> Plan:
        summaries = sum(unit.is_summary for unit in situation.units)
        decisions = [
            Decision(unit=unit, action=Action.KEEP, reason="kept", tokens_after=unit.tokens)
            if index in situation.protected or index == situation.newest or (unit.is_summary and summaries < 2)
            else Decision(unit=unit, action=Action.SUMMARISE, reason="old", tokens_after=0)
            for index, unit in enumerate(situation.units)
        ]
        return Plan(strategy=self.name, decisions=tuple(decisions), summary_target_tokens=150)


def test_a_summary_absorbs_all_summaries_that_it_replaces() -> None:
    memory = MemoryManager(MemoryConfig(), strategy=InParts(), counter=WordCounter())
    memory.add_message_sync(CHAT.user("go")[0])
    for part in ("alpha/one.py", "beta/two.py", "gamma/three.py"):
        for n in range(4):
            memory.add_message_sync(CHAT.assistant(f"I edit {part} line {n}, " + "and so on and on " * 20)[0])
        memory.add_message_sync(CHAT.user("yes")[0])
        assert memory.compress_sync()
    assert memory.compressed_memory is not None
    summary = memory.compressed_memory.summary

    assert all(part in summary for part in ("alpha/one.py", "beta/two.py", "gamma/three.py")), summary


def test_a_failing_summariser_of_the_users_own_is_named_in_what_is_told() -> None:
    own = FailingSummarizer(method="my own")
    result = WorkingMemoryCompressor(None, summarizer=own, counter=WordCounter()).compress_sync(rounds(CHAT))

    assert result.method == "extractive"
    assert result.degraded == ("my own: the provider answered 503",)
