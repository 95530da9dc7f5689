"""The embedder that the settings name, made with what the environment has for it."""

from __future__ import annotations

from memory import MemoryConfig
from memory.embedders import Embedder


def embedder_for(config: MemoryConfig | None) -> Embedder | None:
    """Return the embedder that needs a client and a key; None where the memory makes its own, or none is wanted.

    Raises:
        CredentialsError: There is no key for it.
        MissingDependencyError: Its package is not installed.
    """
    kind, _, model = (config.embedder or "").partition(":") if config is not None else ("", "", "")
    if kind != "openai":
        return None
    from .llm.openai_client import openai_embedder  # as with a model: only who asks a provider loads what it needs

    return openai_embedder(model.strip())
