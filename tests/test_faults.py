"""Providers that fail: behind every model of ours and behind `with_memory`, nothing is lost, doubled or refused."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.llm.retrying import RetryPolicy
from memory.errors import AgentMemoryError
from memory.integrations import with_memory
from memory.messages import DialectName
from memory.testing.simulators import FAULT_KINDS, Fault, FaultKind, Playback, ProviderSimulator, Request

from .callers import Connections, ask
from .conversations import DIALECT_NAMES, builder_for
from .corpus import Recorded
from .playback import (
    KEY,
    LARGEST_CONTEXT_TOKENS,
    SDK_DOOR,
    Outcome,
    Run,
    agent_for,
    caller_for,
    connected,
    doors,
    manager,
    native_recordings,
    play,
    play_now,
    played_by,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*google.generativeai:FutureWarning")
ALL_DOORS = [(dialect, door) for dialect in DIALECT_NAMES for door in doors(dialect)]
MODELS_OF_OURS = [(dialect, door) for dialect, door in ALL_DOORS if door != SDK_DOOR]
PATIENCE_SECONDS = 1.5
"""Long for a server on this machine, however busy that is: an answer that comes later is one that is lost."""
RECORDED_WINDOW_TOKENS = 22_000
every_door = pytest.mark.parametrize(("dialect", "door"), ALL_DOORS)
every_model = pytest.mark.parametrize(("dialect", "door"), MODELS_OF_OURS)
both_ways = pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "streamed"])


def made_up(dialect: DialectName, rounds: int = 14, words: int = 120) -> Recorded:
    """A task, pages that are read one or two at a time, a word of the user in between, and an answer."""
    build = builder_for(dialect)
    log = [*build.user("Which valve opens at 9 bar? Read all pages, then say.")]
    for number in range(rounds):
        ids = [f"call_{number}_{position}" for position in range(1 + number % 2)]
        pages = [(id_, "read_page", {"page": f"{number}.{position}"}) for position, id_ in enumerate(ids)]
        texts = [(id_, "read_page", f"Page {id_}. " + f"Valve V-{number} opens late. " * words) for id_ in ids]
        log += [*build.assistant(f"I read on, {number}.", pages), *build.results(texts)]
        if number == rounds // 2:
            log += [*build.assistant("Half of it is read."), *build.user("Go on.")]
    log += build.assistant("V-21 opens at 9 bar.")
    header = {"tokens_est": rounds * words * 10}
    return Recorded(id=f"made-up-{dialect}", dialect=dialect, messages=log, header=header)


class EachKindOnce:
    """A schedule: every second request fails, in one kind after the other, the long context last.

    Only then is there something to take out; a kind that needs a stream fails as the simulator says for whole answers.
    """

    def __init__(self, kinds: Sequence[FaultKind] = FAULT_KINDS) -> None:
        self._left = sorted(kinds, key=lambda kind: kind == "context_length")
        self._next_number = 2

    def __call__(self, request: Request) -> Fault | None:
        if not self._left or request.number < self._next_number:
            return None
        kind = self._left.pop(0)
        self._next_number = request.number + 2
        return Fault(kind, retry_after_seconds=0.001 if kind == "rate_limit" else None)


def run_of(dialect: DialectName, door: str, **options: Any) -> Run:
    settings = {"threshold_tokens": 40_000, "timeout_seconds": PATIENCE_SECONDS, **options}
    recorded = settings.pop("recorded", None) or made_up(dialect)
    return Run(recorded=played_by(door, recorded), door=door, **settings)


# --- Every kind in one run --------------------------------------------------------------------------------------------


@every_door
@both_ways
async def test_a_run_that_meets_every_failure_ends_with_the_right_answer(
    dialect: DialectName, door: str, is_streamed: bool
) -> None:
    outcome = await play(run_of(dialect, door, is_streamed=is_streamed, faults=EachKindOnce()))

    assert outcome.ended_by == ""
    assert outcome.problems == ()
    assert outcome.rejected == 0
    assert outcome.faulty == len(FAULT_KINDS)
    assert outcome.learned_tokens < LARGEST_CONTEXT_TOKENS


@pytest.mark.usefixtures("corpus_dir")
@pytest.mark.parametrize("dialect", DIALECT_NAMES)
async def test_a_recorded_run_that_meets_every_failure_ends_with_the_recorded_answer(dialect: DialectName) -> None:
    recordings = [one for one in native_recordings() if one.dialect == dialect]
    recorded = min(recordings, key=lambda one: abs(int(one.header["tokens_est"]) - 30_000))
    for number, door in enumerate(doors(dialect)[:2]):
        run = run_of(
            dialect,
            door,
            recorded=recorded,
            threshold_tokens=40_000,
            is_streamed=number % 2 == 0,
            # A real limit, so that the longest turn of the recording fits it.
            faults=EachKindOnce([kind for kind in FAULT_KINDS if kind != "context_length"]),
            context_window_tokens=RECORDED_WINDOW_TOKENS,
        )
        outcome = await play(run)

        assert (outcome.ended_by, outcome.problems) == ("", ())
        assert outcome.faulty == len(FAULT_KINDS) - 1
        assert outcome.rejected > 0
        assert outcome.compressions > 0


# --- The context window -----------------------------------------------------------------------------------------------


@every_door
@both_ways
async def test_the_limit_of_a_model_is_found_out_by_few_refusals_and_then_remembered(
    dialect: DialectName, door: str, is_streamed: bool
) -> None:
    recorded = made_up(dialect, rounds=30)
    run = run_of(
        dialect,
        door,
        recorded=recorded,
        threshold_tokens=100_000,
        is_streamed=is_streamed,
        timeout_seconds=60.0,
        context_window_tokens=9_000,
    )
    outcome = await play(run)

    assert (outcome.ended_by, outcome.problems) == ("", ())
    assert 1 <= outcome.rejected <= 3
    assert outcome.learned_tokens < 12_000


@every_door
async def test_after_an_error_about_length_a_strictly_smaller_list_is_sent(dialect: DialectName, door: str) -> None:
    seen: list[Request] = []

    def fails_late(request: Request) -> FaultKind | None:
        seen.append(request)
        return "context_length" if len(seen) == 12 else None

    outcome = await play(run_of(dialect, door, faults=fails_late, timeout_seconds=60.0))

    assert (outcome.ended_by, outcome.problems) == ("", ())
    assert _size(seen[12]) < _size(seen[11])
    assert outcome.learned_tokens < LARGEST_CONTEXT_TOKENS


def _size(request: Request) -> int:
    return len(json.dumps(request.body))


# --- Failures that do not pass ----------------------------------------------------------------------------------------


@every_model
@pytest.mark.parametrize("kind", [kind for kind in FAULT_KINDS if kind not in ("hang", "context_length")])
async def test_a_failure_that_does_not_pass_is_an_error_of_ours_and_the_run_can_go_on(
    dialect: DialectName, door: str, kind: FaultKind
) -> None:
    recorded = made_up(dialect, rounds=4, words=10)
    playback = Playback(recorded.messages, dialect)
    failing: list[FaultKind] = []
    run = run_of(dialect, door, recorded=recorded, retries=_retries(2), faults=lambda request: _last(failing))
    with ProviderSimulator(dialect, {KEY: playback}, faults=run.faults) as server:
        async with connected(door, run.model, server, retries=run.retries) as llm:
            agent = agent_for(run, llm, playback)
            failing.append(kind)
            with pytest.raises(AgentMemoryError) as caught:
                await agent.run()
            failing.clear()
            await agent.run()

    assert agent.answers[-1] == "V-21 opens at 9 bar."
    assert len(agent.answers) == playback.turn_count
    assert "Valve" not in str(caught.value)
    assert KEY not in str(caught.value).split()


def _last(failing: Sequence[FaultKind]) -> FaultKind | None:
    return failing[-1] if failing else None


def _retries(count: int, waits: list[float] | None = None) -> RetryPolicy:
    async def note(seconds: float) -> None:
        if waits is not None:
            waits.append(seconds)

    return RetryPolicy(max_retries=count, sleep=note)


@every_model
async def test_the_wait_that_a_provider_asks_for_is_the_wait_before_the_next_request(
    dialect: DialectName, door: str
) -> None:
    waits: list[float] = []
    faults = [Fault("rate_limit", retry_after_seconds=17)]
    recorded = made_up(dialect, rounds=2, words=5)
    outcome = await play(run_of(dialect, door, recorded=recorded, faults=faults, retries=_retries(2, waits)))

    assert outcome.problems == ()
    assert len(waits) == 1
    assert waits[0] >= 17


@pytest.mark.parametrize("dialect", ["openai_chat", "openai_responses", "anthropic"])
async def test_under_with_memory_the_sdk_repeats_by_itself_and_its_errors_reach_the_caller(
    dialect: DialectName,
) -> None:
    run = run_of(dialect, SDK_DOOR)
    faults: Mapping[int, Fault] = {
        1: Fault("rate_limit", retry_after_seconds=0.01),
        2: Fault("overloaded", retry_after_seconds=0.01),
        4: Fault("server_error"),
    }
    caller, connections, memory = caller_for(run, ["read_page"]), Connections(), manager(run)
    messages: list[Any] = builder_for(dialect).user("Hello")
    with ProviderSimulator(dialect, {KEY: ["Hello.", "You are welcome."]}, faults=faults) as server:
        client = with_memory(connections.open(caller, "ask", server, KEY), memory)
        messages += await ask(caller, "ask", client.with_options(max_retries=2), messages)
        messages += builder_for(dialect).user("Thanks")
        with pytest.raises(Exception, match="500") as caught:
            await ask(caller, "ask", client, messages)
        messages += await ask(caller, "ask", client, messages)
        await connections.close()
        statuses = [one.status for one in server.requests]

    assert statuses[0] == 429
    assert statuses[2:] == [200, 500, 200]
    assert type(caught.value).__module__.split(".")[0] in ("openai", "anthropic")
    assert memory.get_stats()["request_count"] == 2


# --- Any schedule -----------------------------------------------------------------------------------------------------

QUICK_KINDS = [kind for kind in FAULT_KINDS if kind != "hang"]
schedules = st.dictionaries(st.integers(1, 24), st.sampled_from(QUICK_KINDS), max_size=12)


@every_door
@settings(max_examples=12)
@given(schedule=schedules, is_streamed=st.booleans())
def test_whatever_fails_and_when_the_run_ends_right_or_with_an_error_of_ours(
    dialect: DialectName, door: str, schedule: Mapping[int, FaultKind], is_streamed: bool
) -> None:
    run = run_of(
        dialect,
        door,
        recorded=made_up(dialect, rounds=6, words=80),
        threshold_tokens=2_000,
        timeout_seconds=60.0,
        is_streamed=is_streamed,
        faults=schedule,
        retries=_retries(1),
    )
    outcome: Outcome = play_now(run)

    assert outcome.problems == ()
    assert outcome.rejected == 0
    assert outcome.ended_by in ("", *_OURS)


_OURS = (
    "BrokenAnswerError",
    "ContextOverflowError",
    "ProviderUnavailableError",
    "RateLimitError",
    "RequestRefusedError",
)
