"""Usage: every SDK's numbers in one shape whose input and output are the whole."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.errors import MessageError
from memory.usage import Usage, read_model, read_usage

OPENAI_CHAT = {
    "prompt_tokens": 1_000,
    "completion_tokens": 200,
    "total_tokens": 1_200,
    "prompt_tokens_details": {"cached_tokens": 600, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 150},
}
RESPONSES = {
    "input_tokens": 1_000,
    "output_tokens": 200,
    "total_tokens": 1_200,
    "input_tokens_details": {"cached_tokens": 600, "cache_write_tokens": 300},
    "output_tokens_details": {"reasoning_tokens": 150},
}
ANTHROPIC = {
    "input_tokens": 100,
    "output_tokens": 200,
    "cache_read_input_tokens": 600,
    "cache_creation_input_tokens": 300,
    "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 100},
}
GEMINI = {
    "prompt_token_count": 900,
    "cached_content_token_count": 600,
    "candidates_token_count": 50,
    "thoughts_token_count": 150,
    "tool_use_prompt_token_count": 100,
    "total_token_count": 1_200,
}


def usage(**changes: int) -> Usage:
    return Usage(**{"input_tokens": 1_000, "output_tokens": 200, "cache_read_tokens": 600, **changes})


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        (OPENAI_CHAT, usage(reasoning_tokens=150)),
        (RESPONSES, usage(reasoning_tokens=150, cache_write_tokens=300)),
        (ANTHROPIC, usage(cache_write_tokens=200, cache_write_1h_tokens=100)),
        (GEMINI, usage(reasoning_tokens=150)),
        (
            {
                "promptTokenCount": 1_000,
                "cachedContentTokenCount": 600,
                "candidatesTokenCount": 50,
                "thoughtsTokenCount": 150,
            },
            usage(reasoning_tokens=150),
        ),
        # Bedrock Converse: its input leaves out the cache, like Anthropic's.
        (
            {"inputTokens": 100, "outputTokens": 200, "cacheReadInputTokens": 600, "cacheWriteInputTokens": 300},
            usage(cache_write_tokens=300),
        ),
        # LiteLLM on Anthropic: OpenAI's names and Anthropic's, the input already whole.
        (
            {
                "prompt_tokens": 1_000,
                "completion_tokens": 200,
                "prompt_tokens_details": {"cached_tokens": 600, "cache_creation_tokens": 300},
                "cache_read_input_tokens": 600,
                "cache_creation_input_tokens": 300,
            },
            usage(cache_write_tokens=300),
        ),
        # An older LiteLLM, which passed Anthropic's input through as it was.
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 200,
                "cache_read_input_tokens": 600,
                "cache_creation_input_tokens": 300,
            },
            usage(cache_write_tokens=300),
        ),
        # LiteLLM today: a zero beside the name that carries the number.
        (
            {
                "prompt_tokens": 1_000,
                "completion_tokens": 200,
                "prompt_tokens_details": {
                    "cached_tokens": 600,
                    "cache_write_tokens": 0,
                    "cache_creation_tokens": 300,
                    "cache_creation_token_details": {"ephemeral_1h_input_tokens": 100},
                },
            },
            usage(cache_write_tokens=200, cache_write_1h_tokens=100),
        ),
        # DeepSeek
        (
            {
                "prompt_tokens": 1_000,
                "completion_tokens": 200,
                "prompt_cache_hit_tokens": 600,
                "prompt_cache_miss_tokens": 400,
            },
            usage(),
        ),
        # xAI leaves reasoning out of the completion.
        (
            {
                "prompt_tokens": 1_000,
                "completion_tokens": 50,
                "total_tokens": 1_200,
                "prompt_tokens_details": {"cached_tokens": 600},
                "completion_tokens_details": {"reasoning_tokens": 150},
            },
            usage(reasoning_tokens=150),
        ),
        # LangChain's usage_metadata
        (
            {
                "input_tokens": 1_000,
                "output_tokens": 200,
                "total_tokens": 1_200,
                "input_token_details": {"cache_read": 600, "cache_creation": 300},
                "output_token_details": {"reasoning": 150},
            },
            usage(cache_write_tokens=300, reasoning_tokens=150),
        ),
        ({"input": 1_000, "output": 200, "cached": 600}, usage()),
        ({"input": 1_000, "output": 200}, usage(cache_read_tokens=0)),
        ({"output": 200}, Usage(input_tokens=0, output_tokens=200)),
        ({"input_tokens": 1_000.0, "output_tokens": 200, "cache_read_tokens": 600}, usage()),
    ],
    ids=lambda case: None if isinstance(case, Usage) else "-".join(list(case)[:4]),
)
def test_every_shape_is_read_into_whole_buckets(reported: dict[str, Any], expected: Usage) -> None:
    assert read_usage(reported) == expected
    assert read_usage({"usage": reported, "model": "m"}) == expected
    assert read_usage(SimpleNamespace(**reported)) == expected


def test_openai_chat_response_object_is_read() -> None:
    openai = pytest.importorskip("openai.types.chat")
    response = openai.ChatCompletion.model_validate(
        {"id": "1", "object": "chat.completion", "created": 1, "model": "gpt-4o", "choices": [], "usage": OPENAI_CHAT}
    )

    assert read_usage(response) == read_usage(response.usage) == usage(reasoning_tokens=150)
    assert read_model(response) == "gpt-4o"


def test_openai_responses_usage_object_is_read() -> None:
    module = pytest.importorskip("openai.types.responses.response_usage")

    assert read_usage(module.ResponseUsage.model_validate(RESPONSES)) == usage(
        reasoning_tokens=150, cache_write_tokens=300
    )


def test_anthropic_response_object_is_read() -> None:
    anthropic = pytest.importorskip("anthropic.types")
    message = {"id": "1", "type": "message", "role": "assistant", "content": [], "model": "claude-sonnet-4-5"}
    response = anthropic.Message.model_validate(
        {**message, "stop_reason": "end_turn", "stop_sequence": None, "usage": ANTHROPIC}
    )

    assert read_usage(response) == usage(cache_write_tokens=200, cache_write_1h_tokens=100)
    assert read_model(response) == "claude-sonnet-4-5"


def test_anthropic_usage_without_any_cache_is_read() -> None:
    anthropic = pytest.importorskip("anthropic.types")

    assert read_usage(anthropic.Usage(input_tokens=10, output_tokens=5)) == Usage(input_tokens=10, output_tokens=5)


def test_gemini_response_object_is_read() -> None:
    genai = pytest.importorskip("google.genai.types")
    response = genai.GenerateContentResponse(
        usage_metadata=genai.GenerateContentResponseUsageMetadata(**GEMINI), model_version="gemini-2.5-pro"
    )

    assert read_usage(response) == usage(reasoning_tokens=150)
    assert read_model(response) == "gemini-2.5-pro"


def test_gemini_fields_that_are_none_count_nothing() -> None:
    fields = dict.fromkeys(GEMINI, None) | {"prompt_token_count": 12}

    assert read_usage(fields) == Usage(input_tokens=12, output_tokens=0)


@pytest.mark.parametrize(
    "silent",
    [
        None,
        {},
        "text",
        42,
        {"usage": None},
        {"usage": {}},
        {"input": [{"role": "user"}], "model": "gpt-5"},
        {"type": "tool_use", "input": {"path": "a"}},
        dict.fromkeys(GEMINI, None),
        SimpleNamespace(content="hi"),
    ],
)
def test_a_response_that_says_nothing_of_usage_gives_none(silent: object) -> None:
    assert read_usage(silent) is None


@pytest.mark.parametrize(
    "nonsense",
    [
        {"input": -1, "output": 2},
        {"input": float("nan"), "output": 2},
        {"input": float("inf"), "output": 2},
        {"input": 1.5, "output": 2},
        {"input": "12", "output": 2},
        {"input": True, "output": 2},
        {"input": 10, "output": 2, "cached": 11},
        {"prompt_tokens": -5, "completion_tokens": 1},
        {"prompt_token_count": "many"},
        {"input_tokens": 5, "output_tokens": float("nan")},
    ],
)
def test_nonsense_is_refused_in_a_sentence(nonsense: dict[str, Any]) -> None:
    with pytest.raises(MessageError, match=r"^usage: "):
        read_usage(nonsense)


@pytest.mark.parametrize(
    "contradiction",
    [
        {"prompt_token_count": 10, "cached_content_token_count": 15, "candidates_token_count": 1},
        {"input_tokens": 10, "output_tokens": 1, "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 8}},
        {"input_tokens": 10, "output_tokens": 1, "output_tokens_details": {"reasoning_tokens": 4}},
    ],
)
def test_a_provider_that_contradicts_itself_does_not_end_the_run(contradiction: dict[str, Any]) -> None:
    found = read_usage(contradiction)

    assert found is not None
    assert (found.input_tokens, found.output_tokens) == (10, 1)


COUNTS = st.integers(0, 10**9)


@given(whole=COUNTS, answer=COUNTS, parts=st.lists(COUNTS, min_size=4, max_size=4))
def test_parts_never_exceed_their_whole(whole: int, answer: int, parts: list[int]) -> None:
    names = ("cache_read_tokens", "cache_write_tokens", "cache_write_1h_tokens", "reasoning_tokens")
    fits = sum(parts[:3]) <= whole and parts[3] <= answer
    try:
        built = Usage(input_tokens=whole, output_tokens=answer, **dict(zip(names, parts, strict=True)))
    except MessageError:
        assert not fits
    else:
        assert fits
        assert built.total_tokens == whole + answer


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.dictionaries(
                st.sampled_from([*OPENAI_CHAT, *RESPONSES, *ANTHROPIC, *GEMINI, "usage", "input", "output"]), inner
            )
            | st.lists(inner, max_size=2)
        ),
        max_leaves=12,
    )
)
def test_any_object_is_read_refused_or_silent(anything: object) -> None:
    try:
        found = read_usage(anything)
    except MessageError:
        return
    assert found is None or isinstance(found, Usage)
