"""The one policy by which a request is repeated, for all providers.

The SDKs' own retries are switched off (`max_retries=0`), so that this is the only count. A provider hands its request
to `Attempts.run` as a function; that function tells the `Attempt` it is given what a repetition must know: that
something was shown, that the provider has begun to answer and will bill, that an answer is of no use.

    async def ask(attempt: Attempt) -> LLMResponse:
        async for event in await client.stream(...):
            attempt.show("text", event.text)
            attempt.note_usage(event.usage)
        if not finished:
            raise attempt.broken("the stream ended before the answer did")
        return LLMResponse(...)

    return await Attempts(endpoint, policy, on_delta).run(ask)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from tenacity import AsyncRetrying, RetryCallState
from tenacity.retry import retry_if_exception
from tenacity.stop import stop_after_attempt, stop_before_delay
from tenacity.wait import wait_exponential_jitter

from memory.errors import ConfigError, MessageError
from memory.usage import Usage, read_usage

from .access import Endpoint
from .errors import BrokenAnswerError, ProviderUnavailableError, note_wasted
from .failures import Failure, read_failure, to_error
from .protocol import Delta, LLMResponse, OnDelta

logger = logging.getLogger(__name__)

Ask: TypeAlias = Callable[["Attempt"], Awaitable[LLMResponse]]
"""One attempt at a request; what the SDK raises goes through it untouched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how patiently a request is repeated whose failure may pass.

    Those are: 408, 409, 429 (but for a used-up quota), 5xx, 529, a time limit, a connection that fails or breaks off,
    an answer with nothing in it.
    """

    max_retries: int = 4
    """Repetitions after the first attempt; 0 for none."""
    first_wait_seconds: float = 0.5
    """Before the first repetition, and twice as long before each further one, plus up to half a second by chance."""
    max_wait_seconds: float = 120.0
    """Longest wait before one attempt. A provider that asks for a longer one (`Retry-After`) is not asked again."""
    max_total_seconds: float = 1_800.0
    """The whole call at most, with all its attempts and waits."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    """How to wait; tests pass one that does not."""

    def __post_init__(self) -> None:
        if self.max_retries < 0:
            raise ConfigError(f"max_retries must be at least 0, got {self.max_retries!r}", field="max_retries")
        for name in ("first_wait_seconds", "max_wait_seconds", "max_total_seconds"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be greater than 0, got {getattr(self, name)!r}", field=name)


class Attempt:
    """One attempt while it runs: passes pieces on, and notes what its failure would cost."""

    def __init__(self, endpoint: Endpoint, on_delta: OnDelta | None) -> None:
        self._endpoint = endpoint
        self._on_delta = on_delta
        self.has_begun = False
        """Whether the provider had begun to answer, so that it will bill."""
        self.has_shown = False
        self.is_reader_at_fault = False
        """Whether `on_delta` raised: that is no failure of the provider, even if it is a broken pipe."""
        self.usage: Usage | None = None
        """What the provider has reported so far."""

    def show(self, kind: Literal["text", "reasoning", "tool_call"], text: str) -> None:
        """Pass a piece on to `on_delta`, where there is one; an empty piece is nothing."""
        self.has_begun = True
        if self._on_delta is not None and text:
            self.has_shown = True
            self.is_reader_at_fault = True
            self._on_delta(Delta(kind=kind, text=text))
            self.is_reader_at_fault = False

    def note_usage(self, usage: Usage | None = None) -> None:
        """Note that the provider has begun to answer, and what it reports; the last report counts."""
        self.has_begun = True
        self.usage = usage or self.usage

    def read_usage(self, response: object) -> Usage | None:
        """Return what a response or chunk reports, None where it reports nothing, and note it.

        Numbers that cannot be true count as no report: an answer that is there and paid for is not thrown away.
        """
        try:
            usage = read_usage(response)
        except MessageError as error:
            logger.warning("provider=%s model=%s | %s", self._endpoint.provider, self._endpoint.model, error)
            usage = None
        self.note_usage(usage)
        return usage

    def broken(self, sentence: str) -> BrokenAnswerError:
        """Return the error to raise for an answer that is empty or was cut: another attempt is made."""
        return BrokenAnswerError(sentence, provider=self._endpoint.provider, model=self._endpoint.model)


class Attempts:
    """The attempts at one request. Made for each call, used once."""

    def __init__(self, endpoint: Endpoint, policy: RetryPolicy, on_delta: OnDelta | None = None) -> None:
        self._endpoint = endpoint
        self._policy = policy
        self._on_delta = on_delta
        self._attempt: Attempt | None = None
        self._failure: Failure | None = None
        self._wasted: list[Usage | None] = []
        self._made = 0

    async def run(self, ask: Ask) -> LLMResponse:
        """Return the answer of the first attempt that succeeds, with what the others cost in `wasted`.

        Raises:
            ProviderError: The provider refused, or failed in every attempt; from the SDK's error.

        Whatever it raises, a cancellation too, tells by `wasted_by` what the attempts had cost.
        """
        try:
            response = await self._answer_in_time(ask)
        except BaseException as error:
            note_wasted(error, tuple(self._wasted))
            raise
        return replace(response, wasted=tuple(self._wasted))

    async def _answer_in_time(self, ask: Ask) -> LLMResponse:
        try:
            async with asyncio.timeout(self._policy.max_total_seconds) as limit:
                response: LLMResponse = await self._retrying()(self._once, ask)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise self._out_of_time() from error
        return response

    def _retrying(self) -> AsyncRetrying:
        policy = self._policy
        return AsyncRetrying(
            sleep=policy.sleep,
            stop=stop_after_attempt(policy.max_retries + 1) | stop_before_delay(policy.max_total_seconds),
            wait=self._wait,
            retry=retry_if_exception(self._may_pass),
            before_sleep=self._announce,
            reraise=True,
        )

    async def _once(self, ask: Ask) -> LLMResponse:
        attempt = self._attempt = Attempt(self._endpoint, self._on_delta)
        self._failure = None
        self._made += 1
        try:
            return await ask(attempt)
        except BaseException as error:
            if attempt.has_begun:
                self._wasted.append(attempt.usage)
            if isinstance(error, Exception) and not attempt.is_reader_at_fault:
                self._failure = read_failure(error)
            if self._failure is None:
                raise
            raise to_error(self._failure, self._endpoint, attempts=self._made) from _root(error)

    def _may_pass(self, _error: BaseException) -> bool:
        failure = self._failure
        return failure is not None and failure.may_pass and self._told_wait() <= self._policy.max_wait_seconds

    def _told_wait(self) -> float:
        return (self._failure and self._failure.retry_after_seconds) or 0.0

    def _wait(self, state: RetryCallState) -> float:
        policy = self._policy
        backoff = wait_exponential_jitter(policy.first_wait_seconds, policy.max_wait_seconds, jitter=0.5)
        return self._told_wait() or backoff(state)

    def _announce(self, state: RetryCallState) -> None:
        """Say that another attempt follows: to the log, and to whoever was shown pieces of the broken answer."""
        status = self._failure.status if self._failure else None
        logger.warning(
            "provider=%s model=%s status=%s attempt=%d wait_seconds=%.1f | asking again",
            self._endpoint.provider,
            self._endpoint.model,
            status,
            self._made,
            state.upcoming_sleep,
        )
        if self._on_delta is not None and self._attempt is not None and self._attempt.has_shown:
            self._on_delta(Delta(kind="restart"))

    def _out_of_time(self) -> ProviderUnavailableError:
        return ProviderUnavailableError(
            f"{self._endpoint} gave no answer within {self._policy.max_total_seconds:g} seconds in all "
            f"({self._made} attempts)",
            provider=self._endpoint.provider,
            model=self._endpoint.model,
        )


def _root(error: BaseException) -> BaseException | None:
    """Return what our error is raised from: the SDK's own, and nothing where ours is the first."""
    return error.__cause__ if isinstance(error, BrokenAnswerError) else error
