"""The policy by which a request is repeated, and what the errors of all providers mean."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from email.utils import formatdate
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.llm import Delta, LLMResponse
from agent.llm.access import Endpoint
from agent.llm.errors import (
    BrokenAnswerError,
    CredentialsError,
    ModelNotFoundError,
    ProviderError,
    ProviderUnavailableError,
    RateLimitError,
    RequestRefusedError,
    wasted_by,
)
from agent.llm.retrying import Attempt, Attempts, RetryPolicy
from memory.errors import ConfigError
from memory.usage import Usage

ENDPOINT = Endpoint(provider="acme", model="big-1", key_variables=("ACME_API_KEY",))
ANSWER = LLMResponse(content="done", stop_reason="end_turn", usage=None, message={"role": "assistant"})


class StatusError(Exception):
    """In the shape of the errors of openai and anthropic."""

    def __init__(self, status: int, body: Mapping[str, Any] | None = None, **headers: Any) -> None:
        self.status_code = status
        self.body = body or {}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.response = SimpleNamespace(headers=named)
        super().__init__(f"status {status}")


class TransportError(Exception):
    """In the shape of the errors of httpx, which openai 2 uses, and of httpx2, which openai 3 uses."""


class ReadError(TransportError):
    pass


class TimeoutException(TransportError):  # noqa: N818 - httpx's name
    pass


class Sleeps(list[float]):
    """Waits that are recorded and take no time."""

    async def __call__(self, seconds: float) -> None:
        self.append(seconds)


class Provider:
    """Fails as told, one failure for each attempt, then answers."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.asked = 0

    async def __call__(self, attempt: Attempt) -> LLMResponse:
        self.asked += 1
        if self.failures:
            raise self.failures.pop(0)
        return ANSWER


@pytest.fixture
def sleeps() -> Sleeps:
    return Sleeps()


def attempts(sleeps: Sleeps, **settings: Any) -> Attempts:
    return Attempts(ENDPOINT, RetryPolicy(sleep=sleeps, **settings))


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529])
async def test_a_status_that_may_pass_is_asked_again(status: int, sleeps: Sleeps) -> None:
    response = await attempts(sleeps).run(Provider(StatusError(status)))

    assert (response, len(sleeps)) == (ANSWER, 1)


@pytest.mark.parametrize(
    "failure",
    [
        ReadError(),
        TimeoutException(),
        ConnectionResetError(),
        TimeoutError(),
    ],
    ids=lambda failure: type(failure).__name__,
)
async def test_a_connection_that_fails_is_tried_again(failure: Exception, sleeps: Sleeps) -> None:
    assert await attempts(sleeps).run(Provider(failure, failure)) == ANSWER


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (StatusError(400), RequestRefusedError),
        (StatusError(402), RequestRefusedError),
        (StatusError(413), RequestRefusedError),
        (StatusError(422), RequestRefusedError),
        (StatusError(401), CredentialsError),
        (StatusError(403), CredentialsError),
        (StatusError(404), ModelNotFoundError),
        (StatusError(403, {"code": "model_not_found"}), ModelNotFoundError),
        (StatusError(429, {"code": "insufficient_quota"}), RateLimitError),
        (StatusError(429, {"error": {"type": "insufficient_quota"}}), RateLimitError),
        (StatusError(500, {"message": "the request exceeds the available context size"}), RequestRefusedError),
        (StatusError(503, x_should_retry="false"), ProviderUnavailableError),
    ],
)
async def test_what_cannot_pass_is_asked_once(failure: Exception, kind: type[ProviderError], sleeps: Sleeps) -> None:
    provider = Provider(failure)

    with pytest.raises(kind) as caught:
        await attempts(sleeps).run(provider)

    assert (provider.asked, sleeps, caught.value.__cause__) == (1, [], failure)


async def test_a_mistake_of_the_caller_comes_out_as_it_is(sleeps: Sleeps) -> None:
    with pytest.raises(KeyError):
        await attempts(sleeps).run(Provider(KeyError("messages")))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({"retry_after": "7"}, 7.0), ({"retry_after": "0.5"}, 0.5), ({"retry_after_ms": "250", "retry_after": "9"}, 0.25)],
)
async def test_the_wait_is_the_one_that_the_provider_asks_for(
    headers: dict[str, Any], seconds: float, sleeps: Sleeps
) -> None:
    await attempts(sleeps).run(Provider(StatusError(429, **headers)))

    assert sleeps == [seconds]


async def test_retry_after_may_be_a_date(sleeps: Sleeps) -> None:
    date = formatdate(time.time() + 30, usegmt=True)
    await attempts(sleeps).run(Provider(StatusError(503, retry_after=date)))

    assert 25 < sleeps[0] <= 30


async def test_googles_retry_delay_in_the_body_is_honoured(sleeps: Sleeps) -> None:
    details = {"error": {"code": 429, "details": [{"@type": "…RetryInfo", "retryDelay": "3.5s"}]}}
    await attempts(sleeps).run(Provider(StatusError(429, details)))

    assert sleeps == [3.5]


async def test_a_longer_wait_than_allowed_is_not_waited_for(sleeps: Sleeps) -> None:
    with pytest.raises(RateLimitError, match="asks to wait 3600 seconds") as caught:
        await attempts(sleeps, max_wait_seconds=60).run(Provider(StatusError(429, retry_after="3600")))

    assert (sleeps, caught.value.retry_after_seconds) == ([], 3600)


@given(failures=st.integers(0, 8), max_retries=st.integers(0, 5))
def test_waits_grow_and_attempts_are_bounded(failures: int, max_retries: int) -> None:
    sleeps, provider = Sleeps(), Provider(*[StatusError(500)] * failures)
    run = attempts(sleeps, max_retries=max_retries, max_wait_seconds=3).run(provider)

    if failures <= max_retries:
        assert asyncio.run(run) == ANSWER
    else:
        with pytest.raises(ProviderUnavailableError):
            asyncio.run(run)
    assert provider.asked == min(failures, max_retries) + 1
    assert all(min(3, 0.5 * 2**turn) <= wait <= 3 for turn, wait in enumerate(sleeps))


async def test_no_wait_goes_beyond_the_time_of_the_whole_call(sleeps: Sleeps) -> None:
    with pytest.raises(RateLimitError):
        await attempts(sleeps, max_total_seconds=10).run(Provider(StatusError(429, retry_after="11")))

    assert sleeps == []


async def test_an_attempt_that_never_ends_is_ended_by_the_time_of_the_whole_call(sleeps: Sleeps) -> None:
    async def hang(attempt: Attempt) -> LLMResponse:
        attempt.note_usage(Usage(input_tokens=3, output_tokens=1))
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(ProviderUnavailableError, match=r"within 0\.01 seconds") as caught:
        await attempts(sleeps, max_total_seconds=0.01).run(hang)
    assert caught.value.wasted == (Usage(input_tokens=3, output_tokens=1),)


async def test_cancelling_ends_the_attempts(sleeps: Sleeps) -> None:
    async def hang(attempt: Attempt) -> LLMResponse:
        await asyncio.Event().wait()
        raise AssertionError

    task = asyncio.create_task(attempts(sleeps).run(hang))
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancelled_call_tells_what_its_attempts_had_used(sleeps: Sleeps) -> None:
    known = Usage(input_tokens=10, output_tokens=2)
    reports = [known, None]
    hangs = asyncio.Event()

    async def ask(attempt: Attempt) -> LLMResponse:
        attempt.note_usage(reports.pop(0))
        if reports:
            raise ReadError()
        hangs.set()
        await asyncio.Event().wait()
        raise AssertionError

    task = asyncio.create_task(attempts(sleeps).run(ask))
    await hangs.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert wasted_by(caught.value) == (known, None)


async def test_an_answer_whose_reader_fails_tells_what_it_had_used() -> None:
    def fail(_delta: Delta) -> None:
        raise BrokenPipeError

    async def ask(attempt: Attempt) -> LLMResponse:
        attempt.show("text", "half")
        raise AssertionError

    with pytest.raises(BrokenPipeError) as caught:
        await Attempts(ENDPOINT, RetryPolicy(), fail).run(ask)
    assert wasted_by(caught.value) == (None,)


@pytest.mark.parametrize("key", ["sk-1\n", "sk-\u00fc"])
def test_a_key_that_cannot_be_sent_is_refused_and_not_quoted(key: str) -> None:
    with pytest.raises(CredentialsError, match="a character in it that no key has") as caught:
        ENDPOINT.require_key(key)
    assert "sk-" not in str(caught.value)


async def test_what_broken_attempts_had_used_is_reported(sleeps: Sleeps) -> None:
    known = Usage(input_tokens=10, output_tokens=2)
    reports = [known, None]

    async def ask(attempt: Attempt) -> LLMResponse:
        if reports:
            attempt.note_usage(reports.pop(0))
            raise ReadError()
        return ANSWER

    assert (await attempts(sleeps).run(ask)).wasted == (known, None)


async def test_an_attempt_that_failed_before_the_answer_began_wasted_nothing(sleeps: Sleeps) -> None:
    assert (await attempts(sleeps).run(Provider(StatusError(500)))).wasted == ()


async def test_a_reader_is_told_that_what_it_was_shown_is_void() -> None:
    shown: list[Delta] = []
    failures = [ReadError()]

    async def ask(attempt: Attempt) -> LLMResponse:
        attempt.show("text", "half")
        if failures:
            raise failures.pop()
        return ANSWER

    await Attempts(ENDPOINT, RetryPolicy(sleep=Sleeps()), shown.append).run(ask)

    assert [delta.kind for delta in shown] == ["text", "restart", "text"]


async def test_a_reader_that_went_away_ends_the_call_and_is_no_failure_of_the_provider(sleeps: Sleeps) -> None:
    def gone(delta: Delta) -> None:
        raise BrokenPipeError

    async def ask(attempt: Attempt) -> LLMResponse:
        attempt.show("text", "half")
        return ANSWER

    with pytest.raises(BrokenPipeError):
        await Attempts(ENDPOINT, RetryPolicy(sleep=sleeps), gone).run(ask)
    assert sleeps == []


async def test_an_address_is_named_without_its_secrets(sleeps: Sleeps) -> None:
    endpoint = Endpoint(provider="acme", model="big-1", base_url="https://me:secret@acme.test:8080/v1?key=secret")

    with pytest.raises(RequestRefusedError, match=r"acme at https://acme\.test:8080/v1 refuses") as caught:
        await Attempts(endpoint, RetryPolicy(sleep=sleeps)).run(Provider(StatusError(400)))
    assert "secret" not in str(caught.value)


async def test_nothing_is_void_where_nothing_was_shown() -> None:
    shown: list[Delta] = []
    await Attempts(ENDPOINT, RetryPolicy(sleep=Sleeps()), shown.append).run(Provider(StatusError(500)))

    assert shown == []


async def test_an_answer_of_no_use_is_asked_for_again_and_then_an_error(sleeps: Sleeps) -> None:
    async def ask(attempt: Attempt) -> LLMResponse:
        raise attempt.broken("the answer is empty")

    with pytest.raises(BrokenAnswerError, match="no usable answer of acme after 3 attempts: the answer is empty"):
        await attempts(sleeps, max_retries=2).run(ask)


@pytest.mark.parametrize(
    ("failure", "sentence"),
    [
        (StatusError(401), "acme does not accept the key.*check the key that was given, or else ACME_API_KEY"),
        (StatusError(404), "acme does not know the model 'big-1'"),
        (
            StatusError(400, {"error": {"message": "max_tokens is too large"}}),
            r"\(status 400\): max_tokens is too large",
        ),
        (StatusError(429, {"code": "insufficient_quota"}), "quota of this acme account is used up"),
        (StatusError(529, {"error": {"message": "Overloaded"}}), r"acme cannot answer \(status 529\): Overloaded"),
        (TimeoutException(), "did not answer in time.*raise timeout_seconds"),
    ],
)
async def test_the_error_says_what_happened_and_what_to_do(failure: Exception, sentence: str, sleeps: Sleeps) -> None:
    with pytest.raises(ProviderError, match=sentence) as caught:
        await attempts(sleeps, max_retries=0).run(Provider(failure))

    assert (caught.value.provider, caught.value.model) == ("acme", "big-1")


async def test_a_key_that_the_provider_quotes_is_not_in_the_error(sleeps: Sleeps) -> None:
    said = {"error": {"message": "Incorrect API key provided: sk-proj-abc***wxyz. Bearer tok_123 is wrong too."}}

    for status in (400, 401, 403, 500):
        with pytest.raises(ProviderError) as caught:
            await attempts(sleeps, max_retries=0).run(Provider(StatusError(status, said)))
        assert "wxyz" not in str(caught.value)
        assert "tok_123" not in str(caught.value)


async def test_a_long_sentence_of_the_provider_is_shortened(sleeps: Sleeps) -> None:
    with pytest.raises(RequestRefusedError) as caught:
        await attempts(sleeps).run(Provider(StatusError(400, {"message": "too long " * 1_000})))

    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"type": "overloaded_error", "message": "Overloaded"}, ProviderUnavailableError),
        ({"type": "rate_limit_error", "message": "Slow down"}, RateLimitError),
        ({"type": "invalid_request_error", "message": "no"}, RequestRefusedError),
        ({"code": 502, "message": "upstream"}, ProviderUnavailableError),
    ],
)
async def test_an_error_amid_a_stream_is_read_by_its_type_and_not_by_the_streams_status(
    body: dict[str, Any], kind: type[ProviderError], sleeps: Sleeps
) -> None:
    with pytest.raises(kind):
        await attempts(sleeps, max_retries=0).run(Provider(StatusError(200, {"error": body})))


@pytest.mark.parametrize("field", ["max_retries", "first_wait_seconds", "max_wait_seconds", "max_total_seconds"])
def test_a_setting_out_of_range_is_an_error(field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        RetryPolicy(**{field: -1})  # type: ignore[arg-type] # the name is a parameter
