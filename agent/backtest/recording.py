"""A transcript made ready: repaired, read once, with its requests, their times and its probes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from memory import validate
from memory.dialects import dialect_named
from memory.messages import DialectName, Reading
from memory.native import to_wire
from memory.repair import repair

from ..transcripts import Transcript
from .outcome import Probe
from .probes import find_probes
from .ruler import without_marks

SECONDS_PER_STEP = 15.0
"""Between two requests, where the recording tells no times: a tool runs and a model writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request of the recorded run: `messages[:index]` was sent for `messages[index:stop]`."""

    index: int
    stop: int
    """End of the response, which is several messages in some formats."""
    at_seconds: float
    """Since the first request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What all policies and models have in common about one transcript."""

    transcript: Transcript
    """With its history repaired and its own cache marks taken out: where those go is the policy's matter."""
    readings: tuple[Reading, ...]
    requests: tuple[Request, ...]
    times: tuple[float, ...]
    """When each message came, in seconds since the first request; an answer counts from when it was asked for."""
    probes: tuple[Probe, ...]
    errors: Counter[str]
    """The rules that the whole repaired history still breaks, and how often."""


def recording_of(transcript: Transcript, *, seconds_per_step: float = SECONDS_PER_STEP) -> Recording:
    """Return a transcript ready to be run under policies."""
    mended = _mended(transcript)
    dialect = dialect_named(mended.dialect)
    readings = tuple(dialect.read(message) for message in mended.messages)
    starts = _response_starts(readings, splits_responses=dialect.splits_responses)
    requests = _requests(readings, starts, mended.times, seconds_per_step)
    return Recording(
        transcript=mended,
        readings=readings,
        requests=tuple(requests),
        times=tuple(_message_times(len(readings), requests)),
        probes=tuple(find_probes(readings, system=mended.system, tools=mended.tools)),
        errors=errors_of(mended.messages, mended.dialect),
    )


def probes_of(transcript: Transcript) -> list[Probe]:
    """Return a transcript's probes, as `find_probes` does; indices are of the repaired messages."""
    return list(recording_of(transcript).probes)


def errors_of(messages: Sequence[object], dialect: DialectName) -> Counter[str]:
    """Return how often a list breaks each of its provider's rules."""
    return Counter(issue.code for issue in validate(messages, dialect) if issue.severity == "error")


def _mended(transcript: Transcript) -> Transcript:
    messages = [to_wire(one) for one in repair(transcript.messages, transcript.dialect).messages]
    read = dialect_named(transcript.dialect).read
    return replace(
        transcript,
        messages=tuple(without_marks(one) if read(one).has_cache_breakpoint else one for one in messages),
        system=without_marks(transcript.system),
        tools=without_marks(list(transcript.tools)) if transcript.tools else None,
        times=_times(transcript, messages),
    )


def _times(transcript: Transcript, messages: Sequence[object]) -> tuple[float, ...]:
    """Return a time for each repaired message: its own, or that of the one before it."""
    if len(transcript.times) != len(transcript.messages):
        return ()
    known = {id(message): time for message, time in zip(transcript.messages, transcript.times, strict=True)}
    times, latest = [], transcript.times[0]
    for message in messages:
        latest = max(latest, known.get(id(message), latest))  # clocks of recorders run backwards at times
        times.append(latest)
    return tuple(times)


def _response_starts(readings: Sequence[Reading], *, splits_responses: bool) -> list[int]:
    before = [None, *readings][: len(readings)]
    return [
        index
        for index, (previous, reading) in enumerate(zip(before, readings, strict=True))
        if reading.role == "assistant"
        and not (splits_responses and previous is not None and previous.role == "assistant")
    ]


def _requests(
    readings: Sequence[Reading], starts: Sequence[int], times: Sequence[float], seconds_per_step: float
) -> list[Request]:
    found = []
    for number, (start, following) in enumerate(pairwise([*starts, len(readings)])):
        stop = next((i for i in range(start, following) if readings[i].role != "assistant"), following)
        # A request goes out when the last message before it has come.
        at = times[max(0, start - 1)] - times[max(0, starts[0] - 1)] if times else number * seconds_per_step
        found.append(Request(index=start, stop=stop, at_seconds=at))
    return found


def _message_times(count: int, requests: Sequence[Request]) -> Iterator[float]:
    """Yield a time for each message: an answer has its request's, what follows it that of the request it goes into."""
    now = 0.0
    following = {request.stop: later.at_seconds for request, later in pairwise(requests)}
    starting = {request.index: request.at_seconds for request in requests}
    for index in range(count):
        now = following.get(index, starting.get(index, now))
        yield now
