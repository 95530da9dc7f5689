"""What a request used, read from any SDK's response into one shape whose numbers include their parts.

Providers disagree on what "input" means: OpenAI's contains what came from the cache, Anthropic's leaves it out,
Gemini keeps thoughts apart from the answer. Here input and output are always the whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .errors import MessageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one request. Input contains the cached tokens, output the reasoning.

    Raises:
        MessageError: A number is negative or no integer, or a part is larger than its whole.
    """

    input_tokens: int
    output_tokens: int
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    """Written to a cache for five minutes (Anthropic), or for as long as the provider's ordinary price says."""
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if type(value) is not int or value < 0:  # True is an int too
                raise MessageError(f"usage: {name} must be an integer >= 0, got {value!r}")
        cached = self.cache_read_tokens + self.cache_write_tokens + self.cache_write_1h_tokens
        if cached > self.input_tokens:
            raise MessageError(f"usage: {cached} cached tokens are more than the {self.input_tokens} of the input")
        if self.reasoning_tokens > self.output_tokens:
            raise MessageError(
                f"usage: {self.reasoning_tokens} reasoning tokens are more than the {self.output_tokens} of the output"
            )

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens


def read_usage(response_or_usage: object) -> Usage | None:
    """Return what a response says it used, or None where it says nothing.

    Takes a response or its usage, an SDK's object or a dict: OpenAI chat and Responses, Anthropic, both Gemini SDKs
    (snake and camel case), Bedrock Converse, LiteLLM, DeepSeek, xAI, LangChain messages, any object with
    `input_tokens` and `output_tokens`, and `{"input": …, "output": …}`. No SDK is imported: fields are looked for by
    name, in the order of the functions below.

    Raises:
        MessageError: A token count is negative, no whole number, or smaller than its parts.
    """
    if response_or_usage is None or isinstance(response_or_usage, Usage):
        return response_or_usage
    fields = _Fields(response_or_usage)
    if (inner := _carried(fields)) is not None and (carried := read_usage(inner)) is not None:
        return carried
    if fields.has("prompt_tokens"):
        return _openai_chat(fields)
    if fields.has("prompt_token_count", "promptTokenCount", "candidates_token_count", "candidatesTokenCount"):
        return _gemini(fields)
    if fields.has("input_tokens", "inputTokens"):
        return _input_output(fields)
    if fields.has("input", "output"):
        return _plain(fields)
    return None


def carried_usage(message: object) -> Usage | None:
    """Return the usage that travels on a response, None for a bare message.

    Looks at the response's `usage` (or Gemini's `usage_metadata`) alone: a message has fields named `input` and
    `output` that count no tokens.
    """
    return read_usage(_carried(_Fields(message)))


def carrier(response_or_usage: object) -> object:
    """Return the very object that holds the counts: a response's usage, else what was given."""
    inner = _carried(_Fields(response_or_usage))
    return response_or_usage if inner is None else inner


def _carried(response: _Fields) -> object | None:
    for name in ("usage", "usage_metadata", "usageMetadata"):
        inner = response.get(name)
        if inner is not None and not callable(inner):
            return inner
    return None


def read_model(response: object) -> str | None:
    """Return the model that a response says it came from, or None."""
    fields = _Fields(response)
    for name in ("model", "model_version", "modelVersion", "model_name"):
        value = fields.get(name)
        if isinstance(value, str) and value:
            return value
    return None


def _openai_chat(fields: _Fields) -> Usage:
    """Read OpenAI's chat completions and what imitates them.

    Sources: `openai/types/completion_usage.py` of openai 3.52; LiteLLM's `Usage` (litellm/types/utils.py), which adds
    Anthropic's names; DeepSeek's `prompt_cache_hit_tokens` (https://api-docs.deepseek.com/guides/kv_cache); xAI leaves
    reasoning out of `completion_tokens` (https://docs.x.ai/docs/guides/reasoning).
    """
    details = fields.inner("prompt_tokens_details")
    prompt = fields.count("prompt_tokens")
    reads = details.count("cached_tokens") or fields.count("cache_read_input_tokens", "prompt_cache_hit_tokens")
    writes = details.count("cache_write_tokens", "cache_creation_tokens") or fields.count("cache_creation_input_tokens")
    hour = details.inner("cache_creation_token_details").count("ephemeral_1h_input_tokens")
    if reads + writes > prompt and fields.has("cache_read_input_tokens", "cache_creation_input_tokens"):
        # Older LiteLLM passed Anthropic's numbers through as they were, its input without the cache.
        prompt += reads + writes
    answer = fields.count("completion_tokens")
    reasoning = fields.inner("completion_tokens_details").count("reasoning_tokens")
    if reasoning > answer or (reasoning and fields.count("total_tokens") == prompt + answer + reasoning):
        answer += reasoning
    return _usage(prompt, answer, reads=reads, writes=writes, hour=hour, reasoning=reasoning)


def _gemini(fields: _Fields) -> Usage:
    """Read Gemini's usage metadata: thoughts and the prompts of built-in tools stand apart, any field may be None.

    Source: `GenerateContentResponseUsageMetadata` in `google/genai/types.py` of google-genai 3.4; the older
    google-generativeai has the same names without thoughts.
    """
    prompt = fields.count("prompt_token_count", "promptTokenCount")
    prompt += fields.count("tool_use_prompt_token_count", "toolUsePromptTokenCount")
    reads = fields.count("cached_content_token_count", "cachedContentTokenCount")
    thoughts = fields.count("thoughts_token_count", "thoughtsTokenCount")
    answer = fields.count("candidates_token_count", "candidatesTokenCount") + thoughts
    return _usage(prompt, answer, reads=reads, reasoning=thoughts)


_ANTHROPIC = (
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "cacheReadInputTokens",
    "cacheWriteInputTokens",
)
"""Only providers whose input leaves out the cache use these names beside `input_tokens`."""


def _input_output(fields: _Fields) -> Usage:
    """Read `input_tokens` and `output_tokens`, a pair that means two things.

    Anthropic's and Bedrock's input leaves out the cache; OpenAI Responses' and LangChain's contains it. Sources:
    `openai/types/responses/response_usage.py` of openai 3.52; `anthropic/types/usage.py` and `cache_creation.py` of
    anthropic 2.11; https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html; LangChain's
    `UsageMetadata` (langchain_core/messages/ai.py).
    """
    whole = fields.count("input_tokens", "inputTokens")
    answer = fields.count("output_tokens", "outputTokens")
    thinking = fields.inner("output_tokens_details", "output_token_details")
    reasoning = thinking.count("reasoning_tokens", "thinking_tokens", "reasoning") or fields.count("reasoning_tokens")
    if fields.has(*_ANTHROPIC) or fields.inner("cache_creation").has("ephemeral_5m_input_tokens"):
        return _anthropic(fields, whole, answer, reasoning)
    details = fields.inner("input_tokens_details", "input_token_details")
    return _usage(
        whole,
        answer,
        reads=details.count("cached_tokens", "cache_read") or fields.count("cache_read_tokens"),
        writes=details.count("cache_write_tokens", "cache_creation") or fields.count("cache_write_tokens"),
        reasoning=reasoning,
    )


def _anthropic(fields: _Fields, fresh: int, answer: int, reasoning: int) -> Usage:
    by_lifetime = fields.inner("cache_creation")
    hour = by_lifetime.count("ephemeral_1h_input_tokens")
    reads = fields.count("cache_read_input_tokens", "cacheReadInputTokens")
    writes = fields.count("cache_creation_input_tokens", "cacheWriteInputTokens")
    writes = max(writes, hour + by_lifetime.count("ephemeral_5m_input_tokens"))
    return _usage(fresh + reads + writes, answer, reads=reads, writes=writes, hour=hour, reasoning=reasoning)


def _plain(fields: _Fields) -> Usage:
    return Usage(
        input_tokens=fields.count("input"),
        output_tokens=fields.count("output"),
        cache_read_tokens=fields.count("cache_read", "cached"),
        cache_write_tokens=fields.count("cache_write"),
        reasoning_tokens=fields.count("reasoning"),
    )


def _usage(whole: int, answer: int, *, reads: int = 0, writes: int = 0, hour: int = 0, reasoning: int = 0) -> Usage:
    """Build a usage from a provider's numbers; `writes` contains `hour`.

    Parts are cut to their whole: OpenAI reports written tokens "unadjusted", Vertex AI has reported more cached than
    sent. The whole is what is billed, and a run should not end over the breakdown.
    """
    reads = min(reads, whole)
    writes = min(writes, whole - reads)
    hour = min(hour, writes)
    return Usage(
        input_tokens=whole,
        output_tokens=answer,
        cache_read_tokens=reads,
        cache_write_tokens=writes - hour,
        cache_write_1h_tokens=hour,
        reasoning_tokens=min(reasoning, answer),
    )


class _Fields:
    """Token counts of an object or a mapping, by name; what is missing or None counts 0."""

    __slots__ = ("get",)

    def __init__(self, source: object) -> None:
        self.get = _getter(source)
        """Returns what has a name, None where nothing has it."""

    def has(self, *names: str) -> bool:
        """Whether one of these is set. Containers and methods that happen to have the name are not counts."""
        for name in names:
            value = self.get(name)
            if not (value is None or callable(value) or isinstance(value, (dict, list, Mapping))):
                return True
        return False

    def count(self, *names: str) -> int:
        """Return the first of these that is set and not 0, else 0.

        Raises:
            MessageError: One is no whole number >= 0.
        """
        for name in names:
            value = self.get(name)
            if value is not None and (count := _whole_number(name, value)):
                return count
        return 0

    def inner(self, *names: str) -> _Fields:
        for name in names:
            if (found := self.get(name)) is not None:
                return _Fields(found)
        return _NOTHING


def _whole_number(name: str, value: object) -> int:
    if type(value) is int and value >= 0:
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf and value == int(value):
        return int(value)
    raise MessageError(f"usage: {name} must be a whole number of tokens >= 0, got {value!r}")


def _getter(source: object) -> Callable[[str], object]:
    if isinstance(source, (dict, Mapping)):  # dict first: asking an abstract class is ten times slower
        return source.get
    if not hasattr(type(source), "__pydantic_extra__"):
        return lambda name: getattr(source, name, None)
    extra = getattr(source, "__pydantic_extra__", None) or {}

    def get(name: str) -> object:
        # Most names that are asked for are missing, and a Pydantic model, which SDKs' responses are, takes its time
        # to say so. This is its own order: what Python finds, then the fields that came without being declared.
        try:
            return object.__getattribute__(source, name)
        except AttributeError:
            return extra.get(name)

    return get


_NOTHING = _Fields({})
