"""What a backtest works with and what it finds: policies, their sessions, and the figures of one run.

Policies of other libraries implement `Policy` and `Session`; everything here is plain values without message text,
except for `Probe.fact`, which never leaves the process that read the transcript.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, runtime_checkable

from memory.tokens import TokenCounter
from memory.usage import Usage

from ..transcripts import Transcript


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryCall:
    """A call of a model that the policy itself made."""

    input_tokens: int
    """All of them, those read from a cache included."""
    cached_tokens: int
    output_tokens: int
    model: str


class Session(Protocol):
    """One policy at work on one transcript, from its beginning."""

    def add(self, message: Any) -> None:
        """Take the next recorded message, in its native format."""
        ...

    def context(self) -> Sequence[Any]:
        """Return the messages that this policy would send now. Unchanged messages are the very objects added."""
        ...

    def summary_calls(self) -> Sequence[SummaryCall]:
        """Return all model calls that the policy made so far, but for those of `Extending`."""
        ...


@runtime_checkable
class Attentive(Protocol):
    """A session that wants to know what a real loop would know; others need none of these methods."""

    def tell_time(self, at_seconds: float) -> None:
        """Take the time since the first request, before each message is added."""
        ...

    def record_usage(self, usage: Usage) -> None:
        """Take the usage that the provider would have reported for the last request, before its answer is added."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixCall:
    """A summary call that extends the run's own context: same model, system prompt and tools, so it finds its cache."""

    messages: Sequence[Any] = field(repr=False)
    """Those of the run, and the instruction behind them."""
    output_tokens: int
    at_seconds: float
    """On the clock that the session is told."""


@runtime_checkable
class Extending(Protocol):
    """A session that writes summaries behind the run's own context; others need not have this method."""

    def take_prefix_calls(self) -> Sequence[PrefixCall]:
        """Return those made since this was last asked: before each request, and at the end."""
        ...


class Policy(Protocol):
    """A way to decide what of a conversation is sent. It is pickled to other processes, so it holds only settings."""

    @property
    def name(self) -> str:
        """As it stands in tables; the same name, the same policy."""
        ...

    def open(self, transcript: Transcript, *, model: str, counter: TokenCounter) -> Session:
        """Begin a run over a transcript whose history was repaired.

        Args:
            transcript: Its system prompt and tools travel beside the messages of every request.
            model: Counted and priced as this one.
            counter: The counter of the measurement; it remembers what it has counted.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One request of the run."""

    index: int
    """How many recorded messages came before it: it asks for the answer that is `messages[index]`."""
    sent_tokens: int
    """The whole input, system prompt and tools included; what follows are parts of it."""
    cached_tokens: int
    """Read from the provider's cache."""
    written_tokens: int
    """Written to it at a price of its own."""
    output_tokens: int
    usd: float
    """This request's; summaries are not in it."""
    prefix_changed: bool
    """The request before is no beginning of this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compression:
    """What left a context between two requests, and what came for it. New messages of the run are in neither."""

    index: int
    """As in `Step`: the first request that was made without it."""
    tokens_before: int
    """The request as it would have been without this change."""
    tokens_after: int
    removed_count: int
    """Messages of the request before that do not stand in this one as they were."""
    added_count: int
    """Messages in their place: placeholders, shortened copies, summaries."""
    removed_tokens: Mapping[str, int]
    """By role: user, assistant, tool, system. Copies count too: 900 tokens removed, 40 added."""
    added_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A fact that was seen in a tool result or a user message and that the agent itself wrote again much later."""

    fact: str
    first_index: int
    """Message in which it was first seen."""
    reuse_index: int
    """Message of the agent that uses it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One transcript under one policy, at one model's prices.

    Tokens are counted by the model's counter; a request's input includes what was read from and written to the
    cache. `usd` is the sum of the five parts.
    """

    transcript_id: str
    source: str
    """The file, with the line where it holds several."""
    policy: str
    model: str
    message_count: int
    history_tokens: int
    """The whole recorded history at its end, system prompt and tools included."""
    requests: int
    input_tokens: int
    """Of all requests together, as `cached_tokens` and `written_tokens`, which are parts of it."""
    cached_tokens: int
    written_tokens: int
    output_tokens: int
    summary_tokens: int
    """Input and output of the policy's own model calls."""
    usd: float
    usd_input: float
    """For input that was neither read from a cache nor written to it."""
    usd_cached: float
    usd_written: float
    usd_output: float
    usd_summaries: float
    prefix_changes: int
    """How often a request did not begin with the whole request before it."""
    invalid_requests: int
    """Requests that break a rule of their provider which the history itself does not break."""
    oversized_requests: int
    """Requests longer than the model's context window, where that is known: they would be refused."""
    probes: int
    retained: int
    """Probes whose fact stands in the very request whose answer uses it."""
    mean_context_tokens: float
    """Of a request."""
    lost_first_task: int
    """Requests without the words of the first user message."""
    steps: tuple[Step, ...]
    compressions: tuple[Compression, ...]
    is_price_known: bool
    """False: nobody knows the model's price, and the dollars are by the default one."""

    @property
    def cached_share(self) -> float:
        """Part of the input that was read from the cache (0-1)."""
        return self.cached_tokens / self.input_tokens if self.input_tokens else 0.0

    @property
    def retained_share(self) -> float | None:
        """Part of the probes that were in context when they were needed (0-1); None without probes."""
        return self.retained / self.probes if self.probes else None

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values, steps and compressions included."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Outcome:
        """Build an outcome from what `as_dict` returned, also after a way through JSON."""
        steps = tuple(Step(**step) for step in values["steps"])
        compressions = tuple(Compression(**one) for one in values["compressions"])
        return cls(**{**values, "steps": steps, "compressions": compressions})
