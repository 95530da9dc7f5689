"""`connect`: from the name of a provider to a model that can be asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import cast

from memory.errors import ConfigError

from .protocol import ProviderModel
from .retrying import RetryPolicy


@dataclass(frozen=True, slots=True)
class _Provider:
    module: str
    """In this package; imported when the provider is asked for, because it imports the SDK."""
    model_class: str


_PROVIDERS: Mapping[str, _Provider] = {
    "openai": _Provider("openai_chat", "OpenAIChatModel"),
    "openai-responses": _Provider("openai_responses", "OpenAIResponsesModel"),
    "anthropic": _Provider("anthropic", "AnthropicModel"),
    "gemini": _Provider("gemini", "GeminiModel"),
    "google-generativeai": _Provider("google_generativeai", "GoogleGenerativeAIModel"),
    "litellm": _Provider("litellm", "LiteLLMModel"),
}

PROVIDERS = tuple(_PROVIDERS)
"""The names that `connect` takes."""


def connect(
    provider: str,
    model: str,
    *,
    api_key: str | None = None,
    base_url: str | None = None,
    timeout_seconds: float = 600.0,
    max_retries: int = 4,
    **options: object,
) -> ProviderModel:
    """Return a model of a provider. Makes no request.

    Args:
        provider: `openai` (chat completions, also of compatible servers), `openai-responses`, `anthropic`, `gemini`,
            `google-generativeai` (retired by its vendor), or `litellm`.
        model: Its name as the provider writes it. There is no default: models come and go, and differ in price.
        api_key: None: from the environment variable that the provider's own SDK reads.
        base_url: Address of another server that speaks this provider's format, such as Ollama's
            `http://localhost:11434/v1`. It needs no key unless you give one.
        timeout_seconds: Longest silence of the provider in one attempt.
        max_retries: Repetitions after a failure that may pass; see `RetryPolicy`, which can be given as `retries=`.
        **options: Passed to the provider with each request under its own names (`temperature`, `reasoning_effort`).

    Raises:
        ConfigError: There is no such provider, or no model is named.
        CredentialsError: There is no key.
        MissingDependencyError: The provider's SDK is not installed; says how to install it.
    """
    known = _provider_named(provider)
    if not model:
        raise ConfigError(f"name a model of {provider}: there is no default", field="model")
    options.setdefault("retries", RetryPolicy(max_retries=max_retries))
    make = cast(
        Callable[..., ProviderModel], getattr(import_module(f".{known.module}", __package__), known.model_class)
    )
    return make(model, api_key=api_key, base_url=base_url, timeout_seconds=timeout_seconds, **options)


def _provider_named(name: str) -> _Provider:
    if name in _PROVIDERS:
        return _PROVIDERS[name]
    close = get_close_matches(name.lower().replace("_", "-"), PROVIDERS, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ConfigError(f"unknown provider {name!r}; known are: {', '.join(PROVIDERS)}.{hint}", field="provider")
