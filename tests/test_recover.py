"""A provider refuses a request: what its error says, and what the memory makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from memory import (
    Compressed,
    CompressionStrategy,
    ContextOverflowError,
    InvalidMessagesError,
    MemoryConfig,
    MemoryManager,
)
from memory.events import Event
from memory.messages import DialectName
from memory.refusals import Refusal, read_refusal
from memory.testing import ScriptedLLM, WordCounter

from .conversations import DIALECT_NAMES, builder_for


class ApiError(Exception):
    """As the SDKs raise them: a sentence, a status, a body."""

    def __init__(self, message: str = "", *, status_code: int = 400, body: object = None) -> None:
        self.status_code = status_code
        self.body = body
        super().__init__(message)


def overflow(limit: int | None = None, requested: int | None = None) -> Refusal:
    return Refusal(kind="context_overflow", limit_tokens=limit, requested_tokens=requested)


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        (
            "This model's maximum context length is 128000 tokens. However, your messages resulted in 204308 tokens.",
            overflow(128_000, 204_308),
        ),
        (
            "This model's maximum context length is 6048 tokens. However, you requested 6616 tokens (568 in the "
            "messages, 6000 in the completion). Please reduce the length of the messages or completion.",
            overflow(48, 616),
        ),
        (
            "This model's maximum context length is 4097 tokens, however you requested 4322 tokens (4066 in your "
            "prompt; 256 for the completion).",
            overflow(3841, 4066),
        ),
        (
            "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens (8000 "
            "in the messages, 1000 in the functions). Please reduce the length of the messages or functions.",
            overflow(8192, 9000),
        ),
        (
            "This model's maximum context length is 8192 tokens. However, you requested 10000 tokens (8000 in the "
            "messages, 800 in the functions, and 1200 in the completion).",
            overflow(6992, 8800),
        ),
        (
            "This endpoint's maximum context length is 131072 tokens. However, you requested about 150000 tokens "
            "(138000 of text input, 2000 of tool input, 10000 in the output).",
            overflow(121_072, 140_000),
        ),
        (
            "'max_tokens' or 'max_completion_tokens' is too large: 4096. This model's maximum context length is 32768 "
            "tokens and your request has 29000 input tokens (4096 > 32768 - 29000).",
            overflow(28_672, 29_000),
        ),
        (
            "This model's maximum context length is 32768 tokens. However, you requested 8192 output tokens and your "
            "prompt contains at least 24577 input tokens, for a total of at least 32769 tokens.",
            overflow(24_576),
        ),
        ("prompt is too long: 208310 tokens > 200000 maximum", overflow(200_000, 208_310)),
        (
            "input length and `max_tokens` exceed context limit: 178959 + 64000 > 200000, decrease input length or "
            "`max_tokens` and try again",
            overflow(136_000, 178_959),
        ),
        (
            "The input token count (1200293) exceeds the maximum number of tokens allowed (1048576).",
            overflow(1_048_576, 1_200_293),
        ),
        (
            "{'code': 400, 'type': 'exceed_context_size_error', 'n_prompt_tokens': 14429, 'n_ctx': 8192}",
            overflow(8192, 14_429),
        ),
        (
            "Trying to keep the first 10136 tokens when context the overflows. However, the model is loaded with "
            "context length of only 7866 tokens, which is not enough.",
            overflow(7866, 10_136),
        ),
        ("Your input exceeds the context window of this model. Please adjust your input and try again.", overflow()),
        ("Context size has been exceeded.", overflow()),
        ("Input is too long for requested model.", overflow()),
        (
            "messages.3.content.8: `thinking` or `redacted_thinking` blocks in the latest assistant message cannot "
            "be modified.",
            Refusal(kind="malformed"),
        ),
        ("messages.1.content.0: The block is bound to a different conversation", Refusal(kind="stale_reasoning")),
        ("messages: roles must alternate", Refusal(kind="malformed")),
    ],
)
def test_a_refusal_is_read_from_the_providers_sentence(sentence: str, expected: Refusal) -> None:
    assert read_refusal(ApiError(sentence)) == expected


def test_a_refusal_is_read_from_the_code_in_the_body_and_from_what_caused_an_error() -> None:
    inner = ApiError("Error code: 400", body={"error": {"code": "context_length_exceeded", "message": "…"}})
    outer = RuntimeError("the call failed")
    outer.__cause__ = inner

    assert read_refusal(outer) == overflow()


def test_what_came_before_a_providers_answer_is_not_taken_for_it() -> None:
    later = ApiError("Rate limit reached", status_code=429)
    later.__context__ = ApiError("prompt is too long: 208310 tokens > 200000 maximum")

    assert read_refusal(later) is None


@pytest.mark.parametrize(
    "error",
    [
        ApiError("Rate limit reached: Limit 30000, Requested 40000 tokens per min", status_code=429),
        ApiError("Overloaded", status_code=529),
        ApiError("no such model", status_code=404),
        ConnectionError("reset by peer"),
        ValueError("anything"),
    ],
)
def test_other_failures_do_not_concern_the_memory(error: Exception) -> None:
    assert read_refusal(error) is None


def filled(
    dialect: DialectName,
    *,
    strategy: CompressionStrategy = CompressionStrategy.SLIDING_WINDOW,
    llm: object | None = None,
    on_event: Callable[[Event], None] | None = None,
    **options: Any,
) -> MemoryManager:
    config = MemoryConfig(
        max_context_tokens=100_000, compression_threshold=50_000, compression_strategy=strategy, **options
    )
    memory = MemoryManager(config, llm, dialect=dialect, counter=WordCounter(), on_event=on_event)
    build = builder_for(dialect)
    for message in build.user("find the valve that leaks"):
        memory.add_message_sync(message)
    for number in range(30):
        call = (f"c{number}", "read_page", {"number": number})
        for message in [*build.assistant(calls=[call]), *build.results([(call[0], "read_page", "a word " * 200)])]:
            memory.add_message_sync(message)
    return memory


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
@pytest.mark.parametrize("strategy", tuple(CompressionStrategy))
def test_a_context_that_is_too_long_becomes_strictly_smaller_and_fits(
    dialect: DialectName, strategy: CompressionStrategy
) -> None:
    memory = filled(dialect, strategy=strategy)
    before, size = memory.get_context_for_llm(), memory.current_tokens

    assert memory.recover_sync(ApiError(f"prompt is too long: {size} tokens > {size // 2} maximum"))

    assert memory.current_tokens <= size // 2
    assert memory.get_context_for_llm() != before
    # Two counts of one text differ, so not all of what the provider allows is used.
    assert memory.get_stats()["max_context_tokens"] == pytest.approx(size / 2 * 0.95, abs=2)


def test_the_limit_that_was_learned_holds_from_then_on() -> None:
    events: list[Event] = []
    memory = filled("openai_chat", on_event=events.append)
    size = memory.current_tokens
    memory.recover_sync(ApiError(f"prompt is too long: {size} tokens > {size // 2} maximum"))
    for number in range(60):
        memory.add_message_sync({"role": "user", "content": f"page {number} " + "a word " * 100})
        memory.add_message_sync({"role": "assistant", "content": "read"})
        assert memory.current_tokens <= size // 2

    triggers = [event.trigger for event in events if isinstance(event, Compressed)]
    assert triggers[0] == "refusal"
    assert len(triggers) > 1


def test_a_limit_that_the_provider_does_not_name_is_taken_to_be_below_what_it_refused() -> None:
    memory = filled("openai_responses")
    size = memory.current_tokens

    assert memory.recover_sync(ApiError("Your input exceeds the context window of this model."))

    assert memory.current_tokens < size
    assert memory.get_stats()["max_context_tokens"] == int(size * 0.9)


def test_nothing_to_take_out_means_the_error_is_the_callers() -> None:
    memory = MemoryManager(counter=WordCounter())
    memory.add_message_sync({"role": "user", "content": "a word " * 300})

    assert not memory.recover_sync(ApiError("prompt is too long: 600 tokens > 500 maximum"))
    with pytest.raises(ContextOverflowError):
        memory.get_context_for_llm()


def test_with_compression_off_a_refusal_changes_nothing() -> None:
    memory = filled("openai_chat", enable_compression=False)
    before = memory.messages

    assert not memory.recover_sync(ApiError("prompt is too long: 600 tokens > 500 maximum"))
    assert memory.messages == before


class _SlowModel:
    """Writes a summary when it is told to."""

    model = "slow"

    def __init__(self) -> None:
        self.asked, self.may_answer = asyncio.Event(), asyncio.Event()

    async def call_async(self, messages: object, tools: object = None, max_tokens: int = 0) -> Any:
        self.asked.set()
        await self.may_answer.wait()
        return await asyncio.to_thread(ScriptedLLM("a summary of what was said, in a few words"), "")


def too_long(memory: MemoryManager) -> ApiError:
    size = memory.current_tokens
    return ApiError(f"prompt is too long: {size} tokens > {size // 2} maximum")


async def test_a_context_that_grew_while_it_was_made_smaller_may_still_be_sent_again() -> None:
    model = _SlowModel()
    memory = filled("openai_chat", llm=model)
    recovering = asyncio.create_task(memory.recover(too_long(memory)))
    await asyncio.wait_for(model.asked.wait(), 5)
    await memory.add_message({"role": "user", "content": "word " * 6000})
    model.may_answer.set()

    assert await asyncio.wait_for(recovering, 5)


async def test_a_cancelled_recovery_leaves_the_context_and_may_be_repeated() -> None:
    model = _SlowModel()
    memory = filled("openai_chat", llm=model)
    before, error = memory.messages, too_long(memory)
    recovering = asyncio.create_task(memory.recover(error))
    await asyncio.wait_for(model.asked.wait(), 5)
    recovering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await recovering
    assert memory.messages == before

    model.may_answer.set()
    assert await memory.recover(error)
    assert memory.get_context_for_llm() != before


async def test_a_refusal_during_a_compression_teaches_the_limit_too() -> None:
    model = _SlowModel()
    memory = filled("openai_chat", llm=model)
    error = too_long(memory)
    compressing = asyncio.create_task(memory.compress())
    await asyncio.wait_for(model.asked.wait(), 5)

    assert not await memory.recover(error)
    assert memory.get_stats()["max_context_tokens"] < 100_000
    model.may_answer.set()
    await asyncio.wait_for(compressing, 5)


async def test_a_malformed_list_is_diagnosed_with_the_rule_that_it_breaks() -> None:
    memory = MemoryManager(dialect="anthropic", counter=WordCounter())
    await memory.add_message({"role": "user", "content": "hello"})
    call = {"type": "tool_use", "id": "t1", "name": "f", "input": {}}
    await memory.add_message({"role": "assistant", "content": [call]})
    refused = ApiError("messages.2: `tool_use` ids were found without `tool_result` blocks immediately after: t1.")

    with pytest.raises(InvalidMessagesError, match="AN-1") as raised:
        await memory.recover(refused)

    assert raised.value.__cause__ is refused
    assert raised.value.issues[0].path


async def test_a_400_that_the_list_is_not_to_blame_for_is_the_callers() -> None:
    memory = MemoryManager(dialect="openai_chat", counter=WordCounter())
    await memory.add_message({"role": "user", "content": "hello"})

    assert not await memory.recover(ApiError("Invalid value for 'temperature'"))
