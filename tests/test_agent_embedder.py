"""The embedder that the settings name: agents make it from what the environment has."""

from __future__ import annotations

import pytest

from agent import ReActAgent, Reply, ScriptedModel
from agent.embedding import embedder_for
from agent.llm.errors import CredentialsError
from memory import MemoryConfig

ENDPOINT = MemoryConfig(embedder="openai:text-embedding-3-small")


@pytest.mark.parametrize("config", [None, MemoryConfig(), MemoryConfig(embedder="local")])
def test_what_needs_no_client_is_left_to_the_memory(config: MemoryConfig | None) -> None:
    assert embedder_for(config) is None


def test_an_endpoint_is_asked_with_the_key_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openai", reason="the SDK of the endpoint")
    monkeypatch.setenv("OPENAI_API_KEY", "test")

    embedder = embedder_for(ENDPOINT)
    agent = ReActAgent(ScriptedModel([Reply("done")]), memory_config=ENDPOINT)

    assert embedder is not None
    assert embedder.name == "text-embedding-3-small"
    assert agent.memory.config.embedder == ENDPOINT.embedder


def test_without_a_key_it_says_which_one_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)

    with pytest.raises(CredentialsError, match="OPENAI_API_KEY"):
        embedder_for(ENDPOINT)
