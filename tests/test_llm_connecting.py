"""`connect`: which model a provider's name stands for, and what it says where something is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from agent.llm import ProviderModel, connect
from agent.llm.anthropic import AnthropicModel
from agent.llm.connecting import PROVIDERS
from agent.llm.errors import CredentialsError
from agent.llm.gemini import GeminiModel
from agent.llm.google_generativeai import GoogleGenerativeAIModel
from agent.llm.litellm import LiteLLMModel
from agent.llm.openai_chat import OpenAIChatModel
from agent.llm.openai_responses import OpenAIResponsesModel
from memory.errors import ConfigError, MissingDependencyError
from memory.messages import LLMMessage
from memory.testing.simulators import ProviderSimulator

MODELS: dict[str, type[ProviderModel]] = {
    "openai": OpenAIChatModel,
    "openai-responses": OpenAIResponsesModel,
    "anthropic": AnthropicModel,
    "gemini": GeminiModel,
    "google-generativeai": GoogleGenerativeAIModel,
    "litellm": LiteLLMModel,
}
"""The type checker sees here that each satisfies the protocol."""


@pytest.mark.parametrize("provider", PROVIDERS)
def test_each_name_stands_for_its_model(provider: str) -> None:
    try:
        model = connect(provider, "some-model", api_key="test")
    except MissingDependencyError as error:
        pytest.skip(str(error))

    assert (type(model), model.model) == (MODELS[provider], "some-model")


def test_a_compatible_server_needs_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    assert connect("openai", "llama3", base_url="http://localhost:11434/v1").dialect == "openai_chat"


@pytest.mark.parametrize("provider", ["openai", "openai-responses"])
@pytest.mark.parametrize("base_url", [None, "https://api.openai.com/v1", "https://mine.openai.azure.com/openai/v1"])
def test_openai_itself_needs_a_key_and_says_so_before_any_request(
    provider: str, base_url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)

    with pytest.raises(CredentialsError, match="no key for openai: set OPENAI_API_KEY in the environment, or pass"):
        connect(provider, "gpt-4.1", base_url=base_url)


async def test_the_address_and_key_of_the_environment_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with ProviderSimulator("openai_chat", ["Sunny."], api_keys={"from-environment"}) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "from-environment")
        response = await connect("openai", "m").call_async([LLMMessage("user", "How is the weather?")])

    assert response.content == "Sunny."


def test_an_unknown_provider_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(
        ConfigError, match=r"'OpenAI_Responses'; known are: openai, .*Did you mean 'openai-responses'\?"
    ):
        connect("OpenAI_Responses", "gpt-4.1")


def test_a_model_must_be_named() -> None:
    with pytest.raises(ConfigError, match="name a model of openai: there is no default"):
        connect("openai", "")


@pytest.mark.parametrize(
    ("provider", "package"), [("openai", "openai"), ("openai-responses", "openai"), ("litellm", "litellm")]
)
def test_a_missing_sdk_is_an_error_with_the_command_that_installs_it(provider: str, package: str) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from agent.llm import connect\n"
        "from memory.errors import MissingDependencyError\n"
        "try:\n"
        f"    connect({provider!r}, 'm', api_key='test')\n"
        "except MissingDependencyError as error:\n"
        "    print(error)\n"
    )
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)

    assert f"pip install 'aloop-memory[{package}]'" in done.stdout


def test_connecting_loads_no_sdk_before_a_model_is_made() -> None:
    code = "import sys, agent.llm; print(sorted({'openai', 'anthropic', 'litellm', 'google.genai'} & set(sys.modules)))"
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
