"""The one door to a model, and the two drivers that run a generator through it.

The core does no I/O: whatever needs a model is a generator that yields a `ModelCall` and is sent a `ModelReply`.
`drive` and `adrive` run such a generator; `Llm` (asking.py) turns what the user passed as `llm` into answers.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar, cast

from .errors import SummaryError
from .started import StartedCall, TooSlowError

if TYPE_CHECKING:
    from .asking import Llm

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """The context that the agent's model has just been sent, to be sent once more with an instruction behind it."""

    messages: tuple[object, ...] = field(repr=False)
    """The very objects of the loop, in its model's format."""
    instruction: object = field(repr=False)
    system: str | None = field(repr=False)
    tools: Sequence[Mapping[str, Any]] | None = field(repr=False)
    tokens: int
    """Size of the request without the instruction."""
    cached_tokens: int
    """What of it the provider's cache is expected to hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCall:
    """A request to a model: bounded output, bounded time, and no tools but those of a prefix."""

    instructions: str
    prompt: str
    max_output_tokens: int
    timeout_seconds: float
    prefix: Prefix | None = None
    """Set: the agent's own model is asked, behind this context; the prompt is what its instruction says."""
    meanwhile: Callable[[], object] | None = field(default=None, repr=False, compare=False)
    """What the caller will have to work out besides; where nobody waits for the answer, a thread does it meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReply:
    """What the model answered."""

    text: str
    stop_reason: str | None = None
    response: object | None = None
    """The model's own response object, where it has one: its usage is read from here."""
    has_calls: bool = False
    """The model calls tools."""


Steps: TypeAlias = Generator[ModelCall, ModelReply, Result]
"""Work that may ask a model; its return value is the result."""

Work: TypeAlias = Generator[ModelCall | StartedCall, ModelReply, Result]
"""The same, and it may wait for the answer to a call that was started before."""


class Meter(Protocol):
    """Is told of every call to a model, and may refuse it."""

    def before(self, call: ModelCall, model: str | None) -> None:
        """Raise `SummaryError` to refuse the call."""
        ...

    def after(self, call: ModelCall, reply: ModelReply | None, model: str | None) -> None:
        """Take note of a call that was made; no reply: it ran out of time."""
        ...


def drive(run: Work[Result], llm: Llm | None, *, meter: Meter | None = None) -> Result:
    """Run a generator to its end, answering each call it yields; a failed call is raised inside it."""
    with closing(run):
        step: Callable[[], ModelCall | StartedCall] = partial(next, run)
        while True:
            try:
                call = step()
            except StopIteration as stop:
                return cast(Result, stop.value)
            try:
                step = partial(run.send, _answer(call, llm, meter))
            except SummaryError as error:
                step = partial(run.throw, error)


def _answer(call: ModelCall | StartedCall, llm: Llm | None, meter: Meter | None) -> ModelReply:
    if isinstance(call, StartedCall):
        call.wait()
        return call.take()
    with _metered(call, llm, meter) as answered:
        answered.reply = required(llm).answer(call)
    return answered.reply


async def adrive(run: Work[Result], llm: Llm | None, *, meter: Meter | None = None) -> Result:
    """Run a generator to its end like `drive`, awaiting each answer."""
    with closing(run):  # a cancelled task must not leave the generator's `finally` to the garbage collector
        step: Callable[[], ModelCall | StartedCall] = partial(next, run)
        while True:
            try:
                call = step()
            except StopIteration as stop:
                return cast(Result, stop.value)
            try:
                step = partial(run.send, await _aanswer(call, llm, meter))
            except SummaryError as error:
                step = partial(run.throw, error)


async def _aanswer(call: ModelCall | StartedCall, llm: Llm | None, meter: Meter | None) -> ModelReply:
    if isinstance(call, StartedCall):
        await call.wait_async()
        return call.take()
    with _metered(call, llm, meter) as answered:
        answered.reply = await required(llm).aanswer(call)
    return answered.reply


@dataclass(slots=True)
class _Answered:
    reply: ModelReply = field(default_factory=lambda: ModelReply(text=""))


@contextmanager
def _metered(call: ModelCall, llm: Llm | None, meter: Meter | None) -> Iterator[_Answered]:
    """Ask the meter before a call and tell it after; a call that ran out of time was billed, one refused was not."""
    answered = _Answered()
    model = llm.model_for(call) if llm is not None else None
    if meter is not None:
        meter.before(call, model)
    try:
        yield answered
    except SummaryError as error:
        if meter is not None and isinstance(error, TooSlowError):
            meter.after(call, None, model)
        raise
    if meter is not None:
        meter.after(call, answered.reply, model)


def required(llm: Llm | None) -> Llm:
    """Return the model.

    Raises:
        SummaryError: There is none, but a summariser of the user's own asks for one.
    """
    if llm is None:
        raise SummaryError("the summariser asks for a model, and the memory was given none (llm=None)")
    return llm
