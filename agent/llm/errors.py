"""What may go wrong between us and a provider, as errors that say what to do.

    ProviderError                  the provider refused or failed; `status`, `provider`, `model`
    ├── CredentialsError           not a valid key, or no right to this model
    │   └── MissingKeyError        no key at all
    ├── ModelNotFoundError         the provider does not know the model
    ├── RequestRefusedError        it refuses this request as it is (400, 413, 422)
    ├── RateLimitError             too many requests, after all retries
    ├── ProviderUnavailableError   500, 503, 529, no connection, time limit, after all retries
    └── BrokenAnswerError          an empty answer, a stream that was cut, after all retries

All are `AgentMemoryError`s; the SDK's own error is their `__cause__`. None of them carries a key or message text.
"""

from __future__ import annotations

from typing import cast

from memory.errors import AgentMemoryError
from memory.usage import Usage


class ProviderError(AgentMemoryError):
    """A provider refused a request or failed to answer it."""

    def __init__(self, message: str, *, provider: str, model: str, status: int | None = None) -> None:
        self.provider = provider
        self.model = model
        self.status = status
        """HTTP status; None where there was no answer."""
        super().__init__(message)

    @property
    def wasted(self) -> tuple[Usage | None, ...]:
        """Of each attempt that broke off after the provider had begun to answer, as in `LLMResponse.wasted`."""
        return wasted_by(self)


class CredentialsError(ProviderError):
    """The provider does not accept the key (401, 403), or it cannot be sent."""


class MissingKeyError(CredentialsError):
    """There is no key."""


class ModelNotFoundError(ProviderError):
    """The provider does not know the model (404)."""


class RequestRefusedError(ProviderError):
    """The provider refuses the request as it is; the same request again would be refused again."""


class RateLimitError(ProviderError):
    """The provider answers 429 even after all retries."""

    def __init__(
        self,
        message: str,
        *,
        provider: str,
        model: str,
        status: int | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        self.retry_after_seconds = retry_after_seconds
        """What the provider asked to wait, where it said so."""
        super().__init__(message, provider=provider, model=model, status=status)


class ProviderUnavailableError(ProviderError):
    """The provider could not be reached, or failed, even after all retries."""


class BrokenAnswerError(ProviderError):
    """The answer was empty or its stream was cut, even after all retries."""


def note_wasted(error: BaseException, wasted: tuple[Usage | None, ...]) -> None:
    """Write on an exception what the attempts before it had cost.

    On any one: a call may also end by `asyncio.CancelledError`, which has to stay the very exception that it was, or by
    what `on_delta` raised.
    """
    vars(error)[_WASTED] = wasted


def wasted_by(error: BaseException) -> tuple[Usage | None, ...]:
    """Return what was noted on an exception that ended a call of a model: see `LLMResponse.wasted`."""
    return cast("tuple[Usage | None, ...]", vars(error).get(_WASTED, ()))


_WASTED = "_wasted_usage"
