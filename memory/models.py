"""What a model's name says: who made it, and what it is called behind the prefixes of gateways.

Gateways, clouds and fine-tuning all write around a model's own name. Counting and pricing both need the bare one.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal, TypeAlias

Family: TypeAlias = Literal["openai", "anthropic", "gemini", "other"]
"""Who made the model; decides the tokenizer and how attachments are billed."""

_PROVIDERS: dict[str, Family] = {
    "openai": "openai",
    "openai_chat": "openai",
    "openai_responses": "openai",
    "azure": "openai",
    "anthropic": "anthropic",
    "claude": "anthropic",
    "gemini": "gemini",
    "google": "gemini",
    "vertex_ai": "gemini",
    "vertexai": "gemini",
}

_BEDROCK_VENDOR = re.compile(r"^(?:[a-z-]{2,6}\.)?(?:anthropic|amazon|meta|mistral|cohere|ai21|deepseek|openai|qwen)\.")
_BEDROCK_VERSION = re.compile(r"-v\d+(?::\d+)?(?::\d+k)?$")
_ROUTE = re.compile(r":(?:free|beta|nitro|floor|online|exacto|thinking)$")


@lru_cache(maxsize=1024)
def bare_name(model: str) -> str:
    """Return the model's own name, lower case: no gateway prefix, region, Bedrock version or route.

    `openrouter/anthropic/claude-3.5-sonnet:beta` gives `claude-3.5-sonnet`;
    `us.anthropic.claude-3-5-sonnet-20241022-v2:0` gives `claude-3-5-sonnet-20241022`;
    `claude-sonnet-4@20250514` (Vertex AI) gives `claude-sonnet-4-20250514`. A date stays: it names another model.
    Fine-tuned models (`ft:gpt-4o:org::id`) keep their mark, since they have prices of their own.
    """
    name = model.strip().lower().rsplit("/", 1)[-1]
    vendor = _BEDROCK_VENDOR.match(name)
    if vendor:
        name = _BEDROCK_VERSION.sub("", name[vendor.end() :])
    return _ROUTE.sub("", name).replace("@", "-")


def family_of(model: str | None, provider: str | None = None) -> Family:
    """Return the model's family by its name, by the provider's where the name does not say.

    The name comes first: Claude is served by Bedrock and Vertex AI, GPT by Azure, everything by gateways.
    """
    name = bare_name(model) if model else ""
    if "claude" in name:
        return "anthropic"
    if "gemini" in name:
        return "gemini"
    if re.match(r"(?:ft:)?(?:chatgpt|gpt-|o[134](?:-|$)|codex|computer-use)", name):
        return "openai"
    if name and provider is None:
        return "other"
    return _PROVIDERS.get((provider or "").lower(), "other")


def is_since_opus_4_7(bare: str) -> bool:
    """Whether a Claude, by its bare name, is Opus 4.7 or later: another tokenizer, and larger images.

    Source: https://platform.claude.com/docs/en/about-claude/models/migration-guide (2026-06).
    """
    return _SINCE_OPUS_4_7.match(bare) is not None


def binds_thinking(model: str | None) -> bool:
    """Whether a Claude takes a thinking block back only behind the very conversation that it was made in.

    Fable and Mythos since 5.1, the others since 5.5, and what is newer: the check is announced for every later model.
    Of the first ones it is enforced for accounts made since 2026-08-31 alone, and not at all by Mythos 5.1 on Bedrock;
    whose account it is does not show here, and a refused request costs more than some reasoning.

    Source: https://platform.claude.com/docs/en/build-with-claude/preserved-thinking and, for the models, its page
    fix-bound-to-a-different-conversation (2026-11);
    https://docs.aws.amazon.com/bedrock/latest/userguide/claude-messages-thinking-block-binding.html.
    """
    version = _CLAUDE_VERSION.search(bare_name(model)) if model else None
    if version is None:
        return False
    family, major, minor = version.groups()
    return (int(major), int(minor or 0)) >= ((5, 1) if family in ("fable", "mythos") else (5, 5))


# A date is no minor version: claude-opus-5-20260901 is Opus 5.
_CLAUDE_VERSION = re.compile(r"claude-([a-z]+)-(\d{1,2})(?!\d)(?:[-.](\d{1,2})(?!\d))?")
_SINCE_OPUS_4_7 = re.compile(r"claude-(?:opus-4[-.][7-9]|[a-z]+-(?:[5-9]|\d\d)(?!\d))")
