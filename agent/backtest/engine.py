"""Replays a recorded run under a policy.

What would have been sent, what the provider's cache would have made of it, what that would have cost, and what the
agent would have missed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from memory.prices import PriceBook
from memory.prompt_cache import Block, PromptCache, cache_rules
from memory.request_size import RequestSize
from memory.tokens import TiktokenCounter, TokenCounter
from memory.usage import Usage

from ..transcripts import Transcript
from .bill import Bill
from .outcome import Attentive, Compression, Extending, Outcome, Policy, Probe, Step
from .recording import SECONDS_PER_STEP, Recording, Request, errors_of, recording_of
from .ruler import Piece, RememberingCounter, Ruler, digest


def backtest(
    transcript: Transcript,
    policy: Policy,
    *,
    model: str,
    counter: TokenCounter | None = None,
    seconds_per_step: float = SECONDS_PER_STEP,
) -> Outcome:
    """Return what a recorded run would have cost and kept under a policy. No model is called.

    Before each recorded response a request is made of what the policy would send then; what it took out stays out of
    the steps that follow. The first request finds the provider's cache empty.

    Args:
        transcript: Its history is repaired first.
        policy: What decides what is sent.
        model: Requests are counted, cached and priced as this one's.
        counter: How tokens are counted; None: tiktoken with the model's family factor.
        seconds_per_step: Time between two requests where the recording tells none; caches expire by it.
    """
    recording = recording_of(transcript, seconds_per_step=seconds_per_step)
    return Bench(recording, model=model, counter=counter).outcome(policy)


class Bench:
    """Runs policies over one recording at one model; each message is read, counted and hashed once for all of them."""

    def __init__(self, recording: Recording, *, model: str, counter: TokenCounter | None = None) -> None:
        self.recording = recording
        self.model = model
        self.ruler = Ruler(recording.transcript.dialect, RememberingCounter(counter or TiktokenCounter(model)))
        self.prices = PriceBook()
        self.front = _front(recording.transcript, self.ruler)
        """Tools and system prompt that travel beside the messages."""
        self.front_tokens = sum(block.tokens for block in self.front)

    def outcome(self, policy: Policy) -> Outcome:
        """Return what came of one policy, as `backtest` does."""
        return _Run(self, policy).played()


def _front(transcript: Transcript, ruler: Ruler) -> tuple[Block, ...]:
    tools, system = RequestSize(ruler.counter), RequestSize(ruler.counter)
    tools.set_beside(None, transcript.tools)
    system.set_beside(transcript.system, None)
    blocks = (
        Block(key=("tools", digest(transcript.tools)), tokens=tools.beside_tokens),
        Block(key=("system", digest(transcript.system)), tokens=system.beside_tokens),
    )
    return tuple(block for block in blocks if block.tokens)


class _Run:
    """One policy on its way through one transcript."""

    def __init__(self, bench: Bench, policy: Policy) -> None:
        self._bench = bench
        self._recording, self._ruler = bench.recording, bench.ruler
        self._messages = bench.recording.transcript.messages
        self._policy = policy
        self._session = policy.open(self._recording.transcript, model=bench.model, counter=self._ruler.counter)
        self._cache = PromptCache(cache_rules(bench.model, dialect=self._recording.transcript.dialect))
        self._bill = Bill(bench.prices, model=bench.model)
        self._before: list[Piece] = []
        self._before_index = 0
        self._steps: list[Step] = []
        self._compressions: list[Compression] = []
        self._retained = self._invalid = self._lost_first_task = 0
        self._first_task = next((i for i, one in enumerate(self._recording.readings) if one.role == "user"), None)
        self._probes: dict[int, list[Probe]] = {}
        for probe in self._recording.probes:
            request = next(one for one in self._recording.requests if one.index <= probe.reuse_index < one.stop)
            self._probes.setdefault(request.index, []).append(probe)

    def played(self) -> Outcome:
        """Go through the transcript and return what came of it."""
        requests = {request.index: request for request in self._recording.requests}
        for index, (message, at_seconds) in enumerate(zip(self._messages, self._recording.times, strict=True)):
            if index in requests:
                self._request(requests[index])
            if isinstance(self._session, Attentive):
                self._session.tell_time(at_seconds)
            self._session.add(message)
        self._add_prefix_calls()
        self._bill.add_summaries(self._session.summary_calls())
        return self._outcome()

    def _request(self, request: Request) -> None:
        context = self._session.context()
        self._add_prefix_calls()
        pieces = self._ruler.measure(context)
        has_changed = _common(self._before, pieces) < len(self._before)
        answer = self._ruler.measure(self._messages[request.index : request.stop])
        output_tokens = sum(piece.tokens for piece in answer)
        usage = self._send(pieces, output_tokens=output_tokens, at_seconds=request.at_seconds)
        usd = self._bill.add_request(usage)
        self._steps.append(_step(request, usage, usd, has_changed=has_changed and bool(self._steps)))
        if has_changed:
            self._note_compression(request, pieces, usage.input_tokens)
        self._note_quality(request, context, pieces)
        if isinstance(self._session, Attentive):
            self._session.record_usage(usage)
        self._before, self._before_index = pieces, request.index

    # --- Money --------------------------------------------------------------------------------------------------------

    def _add_prefix_calls(self) -> None:
        for call in self._session.take_prefix_calls() if isinstance(self._session, Extending) else ():
            pieces = self._ruler.measure(call.messages)
            usage = self._send(pieces, output_tokens=call.output_tokens, at_seconds=call.at_seconds)
            self._bill.add_prefix_summary(usage)

    def _send(self, pieces: Sequence[Piece], *, output_tokens: int, at_seconds: float) -> Usage:
        """Send a request through the provider's cache."""
        blocks = [*self._bench.front, *(block for piece in pieces for block in piece.blocks)]
        use = self._cache.send(self._marked(blocks, pieces), at_seconds=at_seconds)
        return Usage(
            input_tokens=sum(block.tokens for block in blocks),
            output_tokens=output_tokens,
            cache_read_tokens=use.read_tokens,
            cache_write_tokens=use.written_tokens,
            cache_write_1h_tokens=use.written_1h_tokens,
        )

    def _marked(self, blocks: list[Block], pieces: Sequence[Piece]) -> list[Block]:
        """Ask the provider to cache what a good client would: system and tools, what stood before, this request.

        Where the request before is no beginning of this one, the second mark goes to the end of what both have in
        common. A policy that marks messages itself has system and tools marked for it, and nothing else. Providers
        that cache by themselves ignore all of it.
        """
        if not self._cache.rules.max_breakpoints:
            return blocks
        leading = next((i for i, one in enumerate(pieces) if one.reading.role != "system"), len(pieces))
        ends = {self._end(pieces, leading)}
        if not any(piece.is_marked for piece in pieces):
            ends |= {self._end(pieces, _common(self._before, pieces)), len(blocks)}
        for end in ends - {0}:
            blocks[end - 1] = replace(blocks[end - 1], breakpoint="5m")
        return blocks

    def _end(self, pieces: Sequence[Piece], count: int) -> int:
        return len(self._bench.front) + sum(len(piece.blocks) for piece in pieces[:count])

    # --- What was done to the context, and what that did --------------------------------------------------------------

    def _note_compression(self, request: Request, pieces: Sequence[Piece], sent: int) -> None:
        """Compare with the request as it would have been: the one before, and what was recorded since."""
        expected = [*self._before, *self._ruler.measure(self._messages[self._before_index : request.index])]
        removed, added = _difference(expected, pieces), _difference(pieces, expected)
        by_role: Counter[str] = Counter()
        for piece in removed:
            by_role[piece.reading.role] += piece.tokens
        self._compressions.append(
            Compression(
                index=request.index,
                tokens_before=self._bench.front_tokens + sum(piece.tokens for piece in expected),
                tokens_after=sent,
                removed_count=len(removed),
                added_count=len(added),
                removed_tokens=dict(sorted(by_role.items())),
                added_tokens=sum(piece.tokens for piece in added),
            )
        )

    def _note_quality(self, request: Request, context: Sequence[object], pieces: Sequence[Piece]) -> None:
        self._retained += sum(_stands(probe.fact, pieces) for probe in self._probes.get(request.index, ()))
        self._lost_first_task += self._has_lost_task(request, pieces)
        self._invalid += self._is_invalid(request, context)

    def _has_lost_task(self, request: Request, pieces: Sequence[Piece]) -> bool:
        if self._first_task is None or self._first_task >= request.index:
            return False
        (task,) = self._ruler.measure([self._messages[self._first_task]])
        text = task.reading.text
        return all(piece.key != task.key for piece in pieces) and not (text and _stands(text, pieces))

    def _is_invalid(self, request: Request, context: Sequence[object]) -> bool:
        """Whether the request breaks a rule more often than the history does, whole and up to here."""
        history = self._messages[: request.index]
        if len(context) == len(history) and all(one is other for one, other in zip(context, history, strict=True)):
            return False
        dialect = self._recording.transcript.dialect
        new = errors_of(context, dialect) - self._recording.errors
        return bool(new) and bool(new - errors_of(history, dialect))

    def _outcome(self) -> Outcome:
        recording, bill, model = self._recording, self._bill, self._bench.model
        window = self._bench.prices.context_window(model)
        sent = [step.sent_tokens for step in self._steps]
        whole = self._bench.front_tokens + sum(piece.tokens for piece in self._ruler.measure(self._messages))
        return Outcome(
            transcript_id=recording.transcript.id,
            source=recording.transcript.source,
            policy=self._policy.name,
            model=model,
            message_count=len(self._messages),
            history_tokens=whole,
            requests=len(self._steps),
            input_tokens=sum(sent),
            cached_tokens=sum(step.cached_tokens for step in self._steps),
            written_tokens=sum(step.written_tokens for step in self._steps),
            output_tokens=sum(step.output_tokens for step in self._steps),
            summary_tokens=bill.summary_tokens,
            usd=bill.usd,
            usd_input=bill.usd_input,
            usd_cached=bill.usd_cached,
            usd_written=bill.usd_written,
            usd_output=bill.usd_output,
            usd_summaries=bill.usd_summaries,
            prefix_changes=sum(step.prefix_changed for step in self._steps),
            invalid_requests=self._invalid,
            oversized_requests=sum(tokens > window for tokens in sent) if window is not None else 0,
            probes=len(recording.probes),
            retained=self._retained,
            mean_context_tokens=sum(sent) / len(sent) if sent else 0.0,
            lost_first_task=self._lost_first_task,
            steps=tuple(self._steps),
            compressions=tuple(self._compressions),
            is_price_known=not self._bench.prices.rates(model).is_default,
        )


def _step(request: Request, usage: Usage, usd: float, *, has_changed: bool) -> Step:
    return Step(
        index=request.index,
        sent_tokens=usage.input_tokens,
        cached_tokens=usage.cache_read_tokens,
        written_tokens=usage.cache_write_tokens + usage.cache_write_1h_tokens,
        output_tokens=usage.output_tokens,
        usd=usd,
        prefix_changed=has_changed,
    )


def _common(before: Sequence[Piece], now: Sequence[Piece]) -> int:
    """Return how many messages two requests have in common at their beginning."""
    pairs = enumerate(zip(before, now, strict=False))
    same = min(len(before), len(now))
    return next((index for index, (old, new) in pairs if old is not new and old.key != new.key), same)


def _difference(these: Sequence[Piece], others: Sequence[Piece]) -> list[Piece]:
    """Return the pieces that the others lack, equal ones counted."""
    there = Counter(piece.key for piece in others)
    missing = []
    for piece in these:
        if there[piece.key]:
            there[piece.key] -= 1
        else:
            missing.append(piece)
    return missing


def _stands(text: str, pieces: Sequence[Piece]) -> bool:
    """Whether a text stands in one of the messages, as it is or escaped as inside JSON."""
    forms = {text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}
    return any(piece.says(*forms) for piece in pieces)
