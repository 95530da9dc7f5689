"""The `openai` SDK's client, as both of its formats are asked through it. Works with openai 2.x and 3.x."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from memory.embedders import OpenAIEmbedder

from .access import Endpoint, missing_package
from .clients import PerLoop

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_NO_KEY = "not-needed"
"""Servers on one's own machine take any key, and the SDK insists on one."""
_OWN_HOSTS = (".openai.com", ".openai.azure.com")
_CONNECT_SECONDS = 15.0
_EMBEDDING_SECONDS = 60.0


def openai_endpoint(model: str, base_url: str | None) -> Endpoint:
    """Return whom the SDK will ask: the given address, else OPENAI_BASE_URL, else OpenAI."""
    address = base_url or os.environ.get("OPENAI_BASE_URL") or None
    return Endpoint(provider="openai", model=model, key_variables=("OPENAI_API_KEY",), base_url=address)


def is_openais_own(endpoint: Endpoint) -> bool:
    """Whether OpenAI (or Azure) answers, and not one of the many servers that speak its format."""
    host = urlsplit(endpoint.base_url).hostname or "" if endpoint.base_url else "api.openai.com"
    return host.endswith(_OWN_HOSTS)


def openai_clients(endpoint: Endpoint, *, api_key: str | None, timeout_seconds: float) -> PerLoop[AsyncOpenAI]:
    """Return the clients of an endpoint, their own retries switched off.

    Raises:
        CredentialsError: There is no key, and the endpoint is OpenAI itself.
        MissingDependencyError: `openai` is not installed.
    """
    key = endpoint.require_key(api_key) if is_openais_own(endpoint) else endpoint.find_key(api_key) or _NO_KEY

    def make() -> AsyncOpenAI:
        try:
            import openai
        except ImportError as error:
            raise missing_package("openai", extra="openai") from error
        timeout = openai.Timeout(timeout_seconds, connect=min(_CONNECT_SECONDS, timeout_seconds))
        return openai.AsyncOpenAI(
            api_key=key,
            base_url=endpoint.base_url,
            timeout=timeout,
            max_retries=0,
            # The one that the SDK makes itself closes itself when it is collected, in whatever loop runs then.
            http_client=openai.DefaultAsyncHttpxClient(timeout=timeout),
        )

    return PerLoop(make, _close)


def openai_embedder(model: str) -> OpenAIEmbedder:
    """Return an embedder behind the endpoint and the key of the environment: OPENAI_BASE_URL, OPENAI_API_KEY.

    Raises:
        CredentialsError: There is no key, and the endpoint is OpenAI itself.
        MissingDependencyError: `openai` is not installed.
    """
    endpoint = openai_endpoint(model, None)
    key = endpoint.require_key(None) if is_openais_own(endpoint) else endpoint.find_key(None) or _NO_KEY
    try:
        import openai
    except ImportError as error:
        raise missing_package("openai", extra="openai") from error
    client = openai.OpenAI(api_key=key, base_url=endpoint.base_url, timeout=_EMBEDDING_SECONDS)
    return OpenAIEmbedder(client, model=model)


def refuses(error: Exception, words: str) -> bool:
    """Whether the server refuses a request because of something that it names in these words, in lower case."""
    said = f"{error} {getattr(error, 'body', None)}".lower()
    return getattr(error, "status_code", None) in (400, 422) and words in said


async def _close(client: AsyncOpenAI) -> None:
    await client.close()
