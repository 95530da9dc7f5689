"""What a provider's refusal means for the memory: the context is too long, its reasoning is stale, or it is malformed.

Works on the SDKs' own exceptions without importing an SDK, by status, error code and the providers' sentences.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from .patterns import Pattern

RefusalKind: TypeAlias = Literal["context_overflow", "stale_reasoning", "malformed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a provider refused a request."""

    kind: RefusalKind
    limit_tokens: int | None = None
    """What the model accepts as input, where the provider said so; a requested output is deducted already."""
    requested_tokens: int | None = None
    """What the provider counted of the input, where it said so."""


def read_refusal(error: BaseException) -> Refusal | None:
    """Return why a provider refused, None if the error says nothing that concerns the memory.

    Looks at the error and at what caused it. `malformed` is any other 400 or 422: whether the list is to blame,
    `validate` can say.
    """
    chain = list(_chain(error))
    for one in chain:
        text = _text(one)
        if overflow := _overflow(one, text):
            return overflow
        if _STALE_REASONING.compiled.search(text):
            return Refusal(kind="stale_reasoning")
    is_malformed = any(_status(one) in (400, 422) for one in chain)
    return Refusal(kind="malformed") if is_malformed else None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or _context(current)


def _context(error: BaseException) -> BaseException | None:
    """Return what was being handled when the error came.

    Not of a provider's answer: that was about a request before it, which may have been recovered from already.
    """
    return None if error.__suppress_context__ or _status(error) is not None else error.__context__


def _overflow(error: BaseException, text: str) -> Refusal | None:
    for pattern in _SIZES:
        if found := pattern.compiled.search(text):
            sizes = {name: int(size.replace(",", "")) for name, size in found.groupdict().items() if size}
            return _sized(sizes)
    if _code(error) in _OVERFLOW_CODES or type(error).__name__ in _OVERFLOW_TYPES or _OVERFLOW.compiled.search(text):
        return Refusal(kind="context_overflow")
    return None


def _sized(sizes: Mapping[str, int]) -> Refusal:
    limit = sizes["limit"] - sizes.get("output", 0)
    requested = sizes.get("input", sizes.get("whole", 0) - sizes.get("output", 0))
    return Refusal(
        kind="context_overflow",
        limit_tokens=limit if limit > 0 else None,
        requested_tokens=requested if requested > 0 else None,
    )


_N = r"(?P<{}>\d[\d,]*)"
_SIZES = tuple(
    Pattern(pattern, re.IGNORECASE | re.DOTALL)
    for pattern in (
        # OpenAI, OpenRouter and vLLM: messages, perhaps functions, and the answer where one was asked for
        # (vllm-project/vllm#20409).
        rf"maximum context length is {_N.format('limit')} tokens.{{0,80}}?(?:requested|resulted in)(?: about| over)? "
        rf"{_N.format('whole')} tokens(?: \([^)]*?[,;] (?:and )?{_N.format('output')} (?:in|for) the "
        r"(?:completion|output))?",
        # vLLM since then; of the second the size of the input is only a lower bound, where it stopped counting.
        rf"maximum context length is {_N.format('limit')} tokens and your request has {_N.format('input')} input "
        rf"tokens \({_N.format('output')} >",
        rf"maximum context length is {_N.format('limit')} tokens.{{0,40}}?requested {_N.format('output')} output "
        r"tokens and your prompt contains at least",
        # Anthropic, the prompt alone (anthropics/claude-code#12186) and with the answer (docker/docker-agent#569).
        rf"prompt is too long: {_N.format('input')} tokens > {_N.format('limit')}",
        rf"exceed context limit: {_N.format('input')} \+ {_N.format('output')} > {_N.format('limit')}",
        # Gemini (google-gemini/gemini-cli#6678).
        rf"input token count \({_N.format('input')}\) exceeds the maximum number of tokens allowed "
        rf"\({_N.format('limit')}",
        # llama.cpp (ggml-org/llama.cpp#15780) and LM Studio (lmstudio-bug-tracker#546).
        rf"n_prompt_tokens['\"]?: ?{_N.format('input')}.{{0,40}}?n_ctx['\"]?: ?{_N.format('limit')}",
        rf"keep the first {_N.format('input')} tokens.{{0,120}}?context length of only {_N.format('limit')}",
    )
)
_OVERFLOW = Pattern(
    # OpenAI Responses; Anthropic's stop by size (413); Bedrock; LM Studio on MLX (lmstudio-bug-tracker#2339).
    r"exceeds the context window|context_length_exceeded|request_too_large|input is too long for requested model"
    r"|prompt is too long|exceeds? the (?:available |maximum )?context (?:size|length|window)"
    r"|context (?:size|length|window) (?:has been |was )?exceeded|maximum context length"
    r"|input token count.{0,40}exceeds|exceed context limit",
    re.IGNORECASE,
)
_OVERFLOW_CODES = frozenset({"context_length_exceeded", "exceed_context_size_error", "request_too_large"})
_OVERFLOW_TYPES = frozenset({"ContextWindowExceededError", "ContextWindowOverflowException"})
"""LiteLLM's and Strands' own names for it."""

_STALE_REASONING = Pattern(
    # Anthropic's words for a block that stands behind other messages than those it was made behind
    # (pydantic/pydantic-ai#7989, anomalyco/opencode#48637). "… cannot be modified" is something else: models that do
    # not bind their thinking want the latest of it back, and taking it out cures nothing.
    r"bound to a different conversation|invalid [`'\"]?signature[`'\"]? in [`'\"]?thinking",
    re.IGNORECASE | re.DOTALL,
)


def _text(error: BaseException) -> str:
    """Return all that the error says: its own sentence, and the provider's body where the SDK keeps it apart."""
    body = next((value for name in _BODIES if (value := getattr(error, name, None)) is not None), "")
    return f"{error} {body}"[:_MOST_CHARACTERS]


_BODIES = ("body", "details", "response_json")
_MOST_CHARACTERS = 20_000
"""A body may quote the whole request; the sentence that matters stands at its beginning."""


def _status(error: BaseException) -> int | None:
    """Return the HTTP status, under the names that the SDKs and our own errors give it."""
    for name in ("status_code", "code", "status"):
        value = getattr(error, name, None)
        if isinstance(value, int) and not isinstance(value, bool):
            return int(value)
    return None


def _code(error: BaseException) -> str | None:
    """Return the provider's word for the error: OpenAI's `code`, or the `type` in the body."""
    body = getattr(error, "body", None)
    inner = body.get("error", body) if isinstance(body, Mapping) else {}
    words = [getattr(error, "code", None)]
    words += [inner.get("code"), inner.get("type")] if isinstance(inner, Mapping) else []
    return next((word for word in words if isinstance(word, str) and word in _OVERFLOW_CODES), None)
