"""What an exception out of a provider's SDK means: read by its status and names, without importing any SDK.

One place for all of them, because they agree on little: `status_code` (openai, anthropic, litellm) or `code`
(google-genai, google-api-core), the provider's words under `body` or `details`, and beneath them whatever the HTTP
library raises when a connection breaks.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Literal, TypeAlias

from memory.refusals import read_refusal

from .access import Endpoint
from .errors import (
    BrokenAnswerError,
    CredentialsError,
    ModelNotFoundError,
    ProviderError,
    ProviderUnavailableError,
    RateLimitError,
    RequestRefusedError,
)

FailureKind: TypeAlias = Literal[
    "credentials", "unknown_model", "refused", "quota", "rate_limit", "unavailable", "timeout", "broken"
]


class ReportedError(Exception):
    """An error that the provider reported in the place of an answer, with status 200 or in the middle of a stream."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        self.body = body
        """The provider's own error object."""
        super().__init__(str(body.get("message") or "the provider reported an error"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What went wrong in one attempt."""

    kind: FailureKind
    status: int | None = None
    sentence: str = ""
    """The provider's own words, shortened, without anything that looks like a key."""
    retry_after_seconds: float | None = None
    """How long the provider asks to wait."""
    may_pass: bool = False
    """Whether the same request may succeed later."""


def read_failure(error: Exception) -> Failure | None:
    """Say what an exception of an attempt means; None if it is none of a provider's, but a mistake of the caller's."""
    if isinstance(error, BrokenAnswerError):
        return Failure(kind="broken", sentence=str(error), may_pass=True)
    if isinstance(error, ProviderError):
        return None
    status = _status(error)
    if _concerns_the_context(error, status):
        return Failure(kind="refused", status=status, sentence=_sentence(error))
    if status is None:
        return _read_lost_connection(error)
    headers = _headers(error)
    kind = _kind(status, error)
    return Failure(
        kind=kind,
        status=status,
        sentence=_sentence(error),
        retry_after_seconds=_retry_after(headers, error),
        may_pass=_may_pass(kind, headers),
    )


def to_error(failure: Failure, endpoint: Endpoint, *, attempts: int) -> ProviderError:
    """Return the error that tells the user what happened and what to do; `attempts` were made in all."""
    where = {"provider": endpoint.provider, "model": endpoint.model}
    message = _message(failure, endpoint, attempts)
    if failure.kind in ("quota", "rate_limit"):
        return RateLimitError(message, **where, status=failure.status, retry_after_seconds=failure.retry_after_seconds)
    return _CLASSES[failure.kind](message, **where, status=failure.status)


_CLASSES: Mapping[FailureKind, type[ProviderError]] = {
    "credentials": CredentialsError,
    "unknown_model": ModelNotFoundError,
    "refused": RequestRefusedError,
    "unavailable": ProviderUnavailableError,
    "timeout": ProviderUnavailableError,
    "broken": BrokenAnswerError,
}

_TIMEOUTS = frozenset({"TimeoutError", "TimeoutException", "APITimeoutError", "Timeout"})
_LOST = frozenset(
    {
        "APIConnectionError",  # openai, anthropic, litellm
        "TransportError",  # httpx, httpx2: refused, reset, cut in the middle of an answer
        "ConnectionError",  # Python's own, and requests'
        "ChunkedEncodingError",  # requests
        "ClientConnectionError",  # aiohttp
        "ClientPayloadError",
        "JSONDecodeError",  # the line of a stream that was cut
        "UnknownApiResponseError",  # the same, as google-genai says it
    }
)
"""Names of exception classes that mean "no connection" or "cut short", theirs or of a class they derive from."""


def _read_lost_connection(error: Exception) -> Failure | None:
    """Read a failure without a status; beneath an SDK's own exception lies the HTTP library's."""
    names = {base.__name__ for base in type(error).__mro__}
    if names & _TIMEOUTS:
        return Failure(kind="timeout", may_pass=True)
    if names & _LOST:
        return Failure(kind="unavailable", sentence="the connection failed or broke off", may_pass=True)
    if names & {"APIError", "ReportedError"}:
        # The provider reported, in the middle of a stream, something that has no status of its own.
        return Failure(kind="broken", sentence=_sentence(error), may_pass=True)
    return None


def _concerns_the_context(error: Exception, status: int | None) -> bool:
    """Whether the request itself is at fault: several local servers say with 500, or amid a stream, it is too long."""
    refusal = None if status in (401, 403, 429) else read_refusal(error)
    return refusal is not None and refusal.kind != "malformed"


def _kind(status: int, error: Exception) -> FailureKind:
    marks = set(_marks(error))
    if "model_not_found" in marks:
        return "unknown_model"
    if marks & _NO_QUOTA:
        return "quota"
    if status in (401, 403) or "API_KEY_INVALID" in marks:
        return "credentials"
    if status in (408, 504):
        return "timeout"
    kinds: Mapping[int, FailureKind] = {404: "unknown_model", 409: "unavailable", 429: "rate_limit"}
    return kinds.get(status, "unavailable" if status >= 500 else "refused")


_NO_QUOTA = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
"""OpenAI sends 429 for these too, and waiting does not help: https://platform.openai.com/docs/guides/error-codes."""


def _may_pass(kind: FailureKind, headers: Mapping[str, str]) -> bool:
    """Decide as the SDKs of OpenAI and Anthropic do: 408, 409, 429 and 5xx, but for what the server says itself.

    Source: `_should_retry` in `openai/_base_client.py` of openai 2.54, the same in anthropic 2.12.
    """
    told = headers.get("x-should-retry")
    if kind == "quota" or told in ("true", "false"):
        return told == "true"
    return kind in ("rate_limit", "unavailable", "timeout", "broken")


def _status(error: Exception) -> int | None:
    """Return the HTTP status, or the one that an error reported in the middle of a stream stands for."""
    for name in ("status_code", "code"):
        value = getattr(error, name, None)
        # A stream that began well has status 200, whatever it reports later.
        if isinstance(value, int) and not isinstance(value, bool) and value >= 300:
            return int(value)
    for mark in _marks(error):
        if mark in _STATUS_OF_MARK:
            return _STATUS_OF_MARK[mark]
        if mark.isdecimal() and 400 <= int(mark) < 600:
            return int(mark)
    return None


_STATUS_OF_MARK: Mapping[str, int] = {
    "invalid_prompt": 400,
    "bio_policy": 400,
    "image_content_policy_violation": 400,
    "context_length_exceeded": 400,
    "model_not_found": 404,
    "insufficient_quota": 429,
    "rate_limit_exceeded": 429,
    "server_error": 500,
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""Codes of OpenAI (`ResponseError.code` in `openai/types/responses/response_error.py`) and types of Anthropic
(https://docs.anthropic.com/en/api/errors)."""


def _marks(error: Exception) -> Iterator[str]:
    """Yield the words by which the provider classifies its error, the most precise first."""
    bodies = list(_bodies(error))
    for name in ("code", "type", "status"):
        for source in (error, *bodies):
            value = source.get(name) if isinstance(source, Mapping) else getattr(source, name, None)
            if isinstance(value, str | int) and not isinstance(value, bool):
                yield str(value)
    for detail in _google_details(bodies):
        if isinstance(reason := detail.get("reason"), str):
            yield reason


def _bodies(error: Exception) -> Iterator[Mapping[str, Any]]:
    """Yield what the provider sent, and the `error` in it."""
    for name in ("body", "details"):
        body = getattr(error, name, None)
        if isinstance(body, list | tuple):
            yield {"details": body}  # google-api-core has taken them out of the body
        if isinstance(body, Mapping):
            yield body
            if isinstance(inner := body.get("error"), Mapping):
                yield inner


def _google_details(bodies: list[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yield Google's typed details (https://cloud.google.com/apis/design/errors)."""
    for body in bodies:
        details = body.get("details")
        yield from (detail for detail in details or () if isinstance(detail, Mapping))


def _headers(error: Exception) -> Mapping[str, str]:
    """Return the response's headers, with names in lower case."""
    # LiteLLM makes up a response of its own, and keeps the provider's headers beside it.
    sources = ((error, "litellm_response_headers"), (getattr(error, "response", None), "headers"), (error, "headers"))
    headers = next((found for source, name in sources if (found := getattr(source, name, None))), None)
    items = headers.items() if headers is not None and callable(getattr(headers, "items", None)) else ()
    return {str(name).lower(): str(value) for name, value in items}


def _retry_after(headers: Mapping[str, str], error: Exception) -> float | None:
    """Return how many seconds the provider asks to wait: by header, or in the body as Google does.

    Sources: RFC 9110 section 10.2.3 (seconds or a date); `retry-after-ms` is OpenAI's; `RetryInfo` is Google's.
    """
    if (milliseconds := _seconds(headers.get("retry-after-ms"))) is not None:
        return milliseconds / 1000
    if (told := headers.get("retry-after")) is not None:
        return _seconds(told) if _seconds(told) is not None else _seconds_until(told)
    delays = (detail.get("retryDelay") for detail in _google_details(list(_bodies(error))))
    return next((_seconds(delay.removesuffix("s")) for delay in delays if isinstance(delay, str)), None)


def _seconds(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _seconds_until(date: str) -> float | None:
    try:
        return max(0.0, parsedate_to_datetime(date).timestamp() - time.time())
    except ValueError:
        return None


_KEY = re.compile(r"\b(?:sk|pk|gsk|xai|key|AIza)[-_\w*.]{6,}|\bBearer \S+", re.ASCII)
_LONGEST_SENTENCE = 300


def _sentence(error: Exception) -> str:
    """Return the provider's words in one line."""
    said = (body.get("message") for body in reversed(list(_bodies(error))))
    text = next((words for words in said if isinstance(words, str) and words), None)
    words = _KEY.sub("[key]", " ".join((text or str(getattr(error, "message", None) or error)).split()))
    return words if len(words) <= _LONGEST_SENTENCE else f"{words[: _LONGEST_SENTENCE - 1]}…"


def _message(failure: Failure, endpoint: Endpoint, attempts: int) -> str:
    tried = f" after {attempts} attempts" if attempts > 1 else ""
    quoted = f": {failure.sentence}" if failure.sentence else ""
    match failure.kind:
        case "credentials":
            # A provider quotes the key in its own sentence, in part; so ours stands alone.
            return (
                f"{endpoint} does not accept the key, or the key has no right to {endpoint.model!r} "
                f"(status {failure.status}): check the key that was given, or else {endpoint.key_place}"
            )
        case "unknown_model":
            also = " (or base_url is not the address of its API)" if endpoint.base_url else ""
            return f"{endpoint} does not know the model {endpoint.model!r}{also}{quoted}"
        case "refused":
            status = f" (status {failure.status})" if failure.status else ""
            return f"{endpoint} refuses the request{status}{quoted}"
        case "quota":
            return f"the quota of this {endpoint.provider} account is used up{quoted}"
        case "rate_limit":
            return f"{endpoint} allows no more requests for now{tried}{_wait_advice(failure)}{quoted}"
        case "timeout":
            return f"{endpoint} did not answer in time{tried}{quoted}; raise timeout_seconds or try again later"
        case "unavailable":
            status = f" (status {failure.status})" if failure.status else ""
            return f"{endpoint} cannot answer{tried}{status}{quoted}"
        case "broken":
            return f"no usable answer of {endpoint}{tried}{quoted}"


def _wait_advice(failure: Failure) -> str:
    wait = failure.retry_after_seconds
    return f"; it asks to wait {wait:g} seconds" if wait is not None else ""
