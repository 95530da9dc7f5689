"""How `aloop run` reaches its model: with which key, how patiently, and in which words it says what went wrong."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from config import AgentSettings, LoadedAgent
from config.agent import is_elsewhere
from memory.errors import ConfigError
from memory.events import OverBudget

from .llm import ProviderModel, connect
from .llm.connecting import PROVIDERS
from .llm.errors import CredentialsError, MissingKeyError, ProviderUnavailableError
from .llm.retrying import RetryPolicy

_KEY_VARIABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "openai": ("OPENAI_API_KEY",),
    "openai-responses": ("OPENAI_API_KEY",),
    "anthropic": ("ANTHROPIC_API_KEY",),
    "gemini": ("GOOGLE_API_KEY", "GEMINI_API_KEY"),
    "google-generativeai": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
}
"""Under which names a key may stand in a file. LiteLLM looks in the environment for whichever provider it asks."""

_PHRASES: Final[Mapping[str, str]] = {
    "max_context_tokens is ": "--max-context is ",
    "Raise max_context_tokens, shorten these messages, or unpin some.": "Raise --max-context or give a shorter task.",
    "(or base_url is not": "(or --base-url is not",
    "raise timeout_seconds or": "raise ALOOP_TIMEOUT_SECONDS or",
}
"""What errors say to a programmer, and what that is on the command line. Whole phrases: a provider's words stay."""


def connected(loaded: LoadedAgent) -> ProviderModel:
    """Return the model that the settings name.

    Raises:
        ConfigError: They name none, or one that cannot be asked.
        MissingDependencyError: The provider's SDK is not installed.
    """
    settings = loaded.agent
    if not settings.provider or not settings.model:
        raise _unnamed(loaded)
    try:
        return connect(
            settings.provider,
            settings.model,
            api_key=loaded.api_key(*_KEY_VARIABLES.get(settings.provider, ())),
            base_url=settings.base_url,
            timeout_seconds=settings.timeout_seconds,
            retries=RetryPolicy(max_retries=settings.max_retries, sleep=_waiting_for(settings)),
        )
    except MissingKeyError as error:
        advice = f"{_key_advice(settings)}; `aloop demo` (make demo) needs none"
        raise ConfigError(f"no key for {settings.provider}: {advice}", field="api_key") from error
    except CredentialsError as error:
        raise ConfigError(str(error), field="api_key") from error
    except ConfigError as error:
        source = "argument" if error.field != "provider" else loaded.source_of("provider")
        if source == "argument":
            raise
        raise ConfigError(f"ALOOP_PROVIDER from {source}: {error}", field=error.field) from error


def problem_of(error: Exception, loaded: LoadedAgent) -> str:
    """Say why a run ended, by the names that settings have on the command line."""
    settings = loaded.agent
    match error:
        case CredentialsError():
            at = f" at {loaded.shown('base_url')}" if settings.base_url else ""
            status = f" (status {error.status})" if error.status else ""
            return (
                f"{settings.provider}{at} does not accept the key, or the key has no right to {error.model!r}{status}: "
                f"{_key_advice(settings)}"
            )
        case ProviderUnavailableError() if error.status is None and _is_refused(settings.base_url):
            return _nothing_listens(settings)
    sentence = str(error)
    for phrase, ours in _PHRASES.items():
        sentence = sentence.replace(phrase, ours)
    return sentence


def budget_problem(event: OverBudget) -> str:
    """Say that the run's budget ended it."""
    spent = f"${event.spent_usd:.4f} of ${event.limit_usd:g}"
    return (
        f"the next call would cost about ${event.next_call_usd:.4f}, and {spent} are spent; "
        "raise --max-cost (MEMORY_MAX_COST_DOLLARS) to let it go on"
    )


class Remarks(logging.Handler):
    """Keeps what is logged of the model's requests, in words, and passes it on."""

    def __init__(self, settings: AgentSettings, tell: Callable[[str], None], *, is_for_summary: Callable[[], bool]):
        super().__init__(logging.WARNING)
        self.texts: list[str] = []
        self._settings = settings
        self._tell = tell
        self._is_for_summary = is_for_summary

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Listen while the block runs."""
        logger = logging.getLogger("agent.llm")
        logger.addHandler(self)
        try:
            yield
        finally:
            logger.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Tell of one thing that was logged."""
        fields, _, sentence = record.getMessage().rpartition(" | ")
        values = dict(re.findall(r"(\w+)=(\S+)", fields))
        text = self._repeated(values) if sentence == "asking again" else sentence
        self.texts.append(text)
        self._tell(text)

    def _repeated(self, values: Mapping[str, str]) -> str:
        purpose = " for a summary" if self._is_for_summary() else ""
        attempt = f"attempt {int(values['attempt']) + 1} of {self._settings.max_retries + 1}"
        return f"asking again{purpose} in {values['wait_seconds']} s ({attempt}): {self._reason(values['status'])}"

    def _reason(self, status: str) -> str:
        if status.isdecimal():
            known = {str(one.value): f" ({one.phrase})" for one in HTTPStatus}
            return f"status {status}{known.get(status, '')}"
        return "connection refused" if _is_refused(self._settings.base_url) else "no answer, or one that broke off"


def _waiting_for(settings: AgentSettings) -> Callable[[float], Awaitable[None]]:
    """Return how to wait before a request is repeated: no further time where a server was not even started."""

    async def wait(seconds: float) -> None:
        await asyncio.sleep(seconds)
        if _is_refused(settings.base_url):
            raise ProviderUnavailableError(
                _nothing_listens(settings), provider=settings.provider or "", model=settings.model or ""
            )

    return wait


def _is_refused(base_url: str | None) -> bool:
    """Whether an address of this machine refuses connections. Others are not tried: that takes time."""
    if base_url is None or is_elsewhere(base_url):
        return False
    try:
        socket.create_connection(_host_and_port(base_url), timeout=0.5).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def _host_and_port(base_url: str) -> tuple[str, int]:
    parts = urlsplit(base_url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _nothing_listens(settings: AgentSettings) -> str:
    host, port = _host_and_port(settings.base_url or "")
    at = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return f"nothing listens at {at} (connection refused): does the server run, and is that its port?"


def _key_advice(settings: AgentSettings) -> str:
    variables = " or ".join(_KEY_VARIABLES.get(settings.provider or "", ()))
    if not variables:
        return "set the variable of the model's provider in the environment"
    return f"set {variables} in the environment, or write it into ~/.aloop/config as a line"


def _unnamed(loaded: LoadedAgent) -> ConfigError:
    """Return the error for a model that nobody has named, with the ways to name it."""
    settings = loaded.agent
    lacking = [name for name in ("provider", "model") if not getattr(settings, name)]
    provider = settings.provider or "openai"
    options = f"--provider {provider} --model MODEL"
    keys = f"ALOOP_PROVIDER={provider} ALOOP_MODEL={settings.model or 'MODEL'}"
    return ConfigError(
        f"no {' and no '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} named. Three ways to name one:\n"
        f'  an option:   aloop run {options} --task "..."\n'
        f"  a file:      {' and '.join(keys.split())}, a line each, in .aloop/config or ~/.aloop/config\n"
        f"  a variable:  export {keys}\n"
        f"Providers: {', '.join(PROVIDERS)}.\n"
        "A server of your own (Ollama, LM Studio, vLLM): --provider openai --base-url http://localhost:11434/v1\n"
        "Without a key and a model, `aloop demo` (make demo) shows the memory at work.",
        field=lacking[0],
    )
