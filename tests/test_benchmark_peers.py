"""The comparison with peers: the pipe to a worker, the measuring, and what the figures come to. No peer is needed."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.backtest.engine import Bench
from agent.backtest.outcome import Outcome
from agent.backtest.policies import Everything
from agent.backtest.recording import recording_of
from agent.transcripts import Transcript
from benchmarks.loops import react_loop
from benchmarks.peers import tables
from benchmarks.peers.conversations import with_unique_ids
from benchmarks.peers.environments import PEERS, find_python
from benchmarks.peers.findings import Findings, read_findings
from benchmarks.peers.measuring import Result
from benchmarks.peers.plays import Job, Kept, Play, Request, Summarised, Worker, WorkerError, key_of
from benchmarks.peers.policies import Pace, PeerPolicy, pace_of_memory
from benchmarks.peers.settings import curve_settings, own_settings, peers_settings
from benchmarks.peers.summaries import STUB, summariser
from benchmarks.peers.verdicts import Total, at_mean_context, overhead, totals, verdicts
from memory import MemoryConfig
from memory.dialects import dialect_named
from memory.tokens import TiktokenCounter

ROOT = Path(__file__).resolve().parents[1]
FAKE = f"""
import sys
sys.path.append({str(ROOT)!r})
from benchmarks.peers.workers.desk import serve

def window(desk):
    history = []
    print("noise that must not get into the pipe")
    desk.play(lambda index, message: history.append(message), lambda: history[:1] + history[1:][-desk.options["keep"]:])

def summary(desk):
    history = []
    def request():
        text = desk.summarise(history[1:], prompt="the prompt")
        with desk.clock:
            desk.count_message(history[0])
        return [history[0], {{"role": "user", "content": text}}]
    desk.play(lambda index, message: history.append(message), request)

def broken(desk):
    desk.send(1, desk.messages[:1])
    raise ValueError("it cannot")

def counting(desk):
    for index in sorted(desk.requests):
        desk.send(index, [{{"role": "user", "content": str([desk.count_message(one) for one in desk.messages])}}])

def dying(desk):
    raise SystemExit(3)

serve(dict(window=window, summary=summary, broken=broken, counting=counting, dying=dying))
"""
MESSAGES: list[dict[str, Any]] = react_loop(13, mean_tokens=60, count=TiktokenCounter().count_text)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("peers")


@pytest.fixture(scope="module")
def worker(cache: Path) -> Iterator[Worker]:
    script = cache / "fake.py"
    script.write_text(FAKE, encoding="utf-8")
    with Worker([sys.executable, str(script)], cache=cache) as running:
        yield running


def job(way: str, messages: Sequence[Mapping[str, Any]] = MESSAGES, **options: Any) -> Job:
    requests = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    return Job(way=way, options=options, messages=messages, requests=requests)


def no_summary(messages: Sequence[Mapping[str, Any]]) -> str:
    raise AssertionError("nobody asked for a summary")


def transcript(messages: Sequence[Mapping[str, Any]] = MESSAGES) -> Transcript:
    return Transcript(id="one", source="one", dialect="openai_chat", messages=tuple(messages))


# --- The pipe ---------------------------------------------------------------------------------------------------------


def test_a_window_is_told_as_places_and_comes_back_as_the_very_messages(worker: Worker) -> None:
    play = worker.play(job("window", keep=4), no_summary)
    assert play.failed is None
    assert play.requests[2].runs == [[0, 2]]
    assert play.requests[12].runs == [[0, 1], [8, 12]]
    sent = play.context(12, MESSAGES)
    assert len(sent) == 5
    assert all(one is other for one, other in zip(sent, [MESSAGES[0], *MESSAGES[8:12]], strict=True))


def test_summaries_come_from_the_parent_and_are_written_once(worker: Worker) -> None:
    asked: list[int] = []

    def write(messages: Sequence[Mapping[str, Any]]) -> str:
        asked.append(len(messages))
        assert messages[0] is MESSAGES[1]
        return "always the same"

    play = worker.play(job("summary"), write)
    assert asked == [1, 3, 5, 7, 9, 11]
    assert play.literals == [{"role": "user", "content": "always the same"}]
    assert play.context(12, MESSAGES)[1] == play.literals[0]
    assert [one.request for one in play.summaries] == [0, 1, 2, 3, 4, 5]
    assert play.summaries[0].prompt == "the prompt"


def test_waiting_for_a_summary_is_not_on_the_clock_and_tokenised_bytes_are_counted(worker: Worker) -> None:
    play = worker.play(job("summary"), lambda messages: "short")
    system = len(str(MESSAGES[0]["content"]).encode())
    assert all(request.bytes == system for request in play.requests.values())
    assert all(0 <= request.seconds < 0.5 for request in play.requests.values())


def test_a_peer_that_fails_is_told_with_what_it_sent_before_and_the_worker_goes_on(worker: Worker) -> None:
    play = worker.play(job("broken"), no_summary)
    assert play.failed == "ValueError: it cannot"
    assert list(play.requests) == [1]
    assert worker.play(job("window", keep=2), no_summary).failed is None


def test_the_worker_counts_as_the_library_does(worker: Worker) -> None:
    odd: list[dict[str, Any]] = [
        {"role": "user", "content": "été <|endoftext|> \ud800 end"},
        {"role": "user", "content": ""},
        *MESSAGES,
    ]
    play = worker.play(job("counting", odd), no_summary)
    read, counter = dialect_named("openai_chat").read, TiktokenCounter("gpt-5")
    assert play.literals[0]["content"] == str([counter.count_reading(read(one)) for one in odd])


def test_a_worker_that_dies_is_an_error_not_an_endless_wait(cache: Path, worker: Worker) -> None:
    with (
        Worker([sys.executable, str(cache / "fake.py")], cache=cache) as dying,
        pytest.raises(WorkerError, match=r"ended"),
    ):
        dying.play(job("dying"), no_summary)


def test_a_play_that_is_kept_is_found_again_by_all_it_depends_on(tmp_path: Path) -> None:
    play = Play(
        requests={1: Request(runs=[[0, 1], [-1]], seconds=0.5, bytes=7)},
        literals=[{"role": "user", "content": "x"}],
        summaries=[Summarised(request=0, prompt="p", text="t")],
    )
    kept = Kept(tmp_path)
    key = key_of(job("window", keep=4), "extractive", files=[])
    kept.put(key, play)
    assert kept.find(key) == play
    assert kept.find(key_of(job("window", keep=5), "extractive", files=[])) is None
    assert kept.find(key_of(job("window", keep=4), "stub", files=[])) is None


# --- Conversations and settings ---------------------------------------------------------------------------------------


def test_repeated_call_ids_become_unique_and_results_follow_their_calls() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    turn: list[dict[str, Any]] = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
    ]
    renamed = with_unique_ids(transcript([{"role": "user", "content": "go"}, *turn, *turn])).messages
    assert [one["tool_calls"][0]["id"] for one in renamed if one["role"] == "assistant"] == ["a", "a-2"]
    assert [one["tool_call_id"] for one in renamed if one["role"] == "tool"] == ["a", "a-2"]


def test_every_setting_has_a_name_of_its_own_and_a_peer_that_can_be_installed() -> None:
    names = [one.name for one in peers_settings()] + [one.name for one in (*own_settings(), *curve_settings())]
    assert len(set(names)) == len(names)
    assert {one.peer for one in peers_settings()} == {peer.name for peer in PEERS}
    assert all([*(one.how for one in peers_settings()), *(one.how for one in own_settings())])


def test_every_peer_has_a_worker_and_exact_versions() -> None:
    for peer in PEERS:
        assert peer.worker.is_file()
        assert all("==" in line for line in peer.requirements.read_text(encoding="utf-8").split())
        assert peer.version


def test_a_python_that_is_too_old_is_not_taken() -> None:
    assert find_python(sys.version_info.minor, [sys.executable]) == sys.executable
    assert find_python(99, [sys.executable]) is None


def test_the_summariser_of_all_keeps_to_its_size() -> None:
    counter = TiktokenCounter()
    write = summariser("extractive", most_tokens=100, counter=counter)
    assert 0 < counter.count_text(write(MESSAGES[1:])) <= 100
    assert summariser("stub", most_tokens=100, counter=counter)(MESSAGES[1:]) == STUB


# --- Measuring --------------------------------------------------------------------------------------------------------


def test_a_peer_that_sends_everything_is_measured_as_sending_everything(worker: Worker) -> None:
    recording = recording_of(transcript())
    play = worker.play(job("window", recording.transcript.messages, keep=100), no_summary)
    bench = Bench(recording, model="gpt-5")
    everything, peer = bench.outcome(Everything()), bench.outcome(PeerPolicy("peer", play, "extractive"))
    assert peer.usd == everything.usd
    assert peer.steps == everything.steps
    assert peer.invalid_requests == 0


def test_a_fixed_summary_is_billed_as_a_model_call_and_an_extractive_one_is_not(worker: Worker) -> None:
    recording = recording_of(transcript())
    play = worker.play(job("summary", recording.transcript.messages), lambda messages: "short")
    bench = Bench(recording, model="gpt-5")
    assert bench.outcome(PeerPolicy("peer", play, "extractive")).usd_summaries == 0
    assert bench.outcome(PeerPolicy("peer", play, "stub")).usd_summaries > 0


def test_the_memorys_own_turns_are_timed_with_the_bytes_they_tokenise() -> None:
    pace = pace_of_memory(MemoryConfig(), MESSAGES, [2, 4, 12])
    assert [turn[0] for turn in pace.turns] == [2, 4, 12]
    assert all(seconds > 0 and size > 0 for _, seconds, size in pace.turns)


# --- What the figures come to -----------------------------------------------------------------------------------------


def outcome(usd: float, *, retained: int = 5, policy: str = "p", id_: str = "t", **other: Any) -> Outcome:
    values: dict[str, Any] = {
        "transcript_id": id_, "source": "", "policy": policy, "model": "gpt-5", "message_count": 10,
        "history_tokens": 30_000, "requests": 10, "input_tokens": 1_000, "cached_tokens": 900, "written_tokens": 0,
        "output_tokens": 10, "summary_tokens": 0, "usd": usd, "usd_input": usd, "usd_cached": 0.0, "usd_written": 0.0,
        "usd_output": 0.0, "usd_summaries": 0.0, "prefix_changes": 0, "invalid_requests": 0, "oversized_requests": 0,
        "probes": 5, "retained": retained, "mean_context_tokens": 100.0, "lost_first_task": 0, "steps": (),
        "compressions": (), "is_price_known": True,
    }  # fmt: skip
    return Outcome(**{**values, **other})


def results(*outcomes: Outcome) -> list[Result]:
    return [
        Result(name=one.policy, is_own=one.policy.startswith("ours"), family="summary", outcome=one) for one in outcomes
    ]


def test_totals_are_measured_against_sending_everything_and_tell_the_worst_conversation() -> None:
    found = totals(
        results(
            outcome(2.0, policy="none", id_="a"),
            outcome(2.0, policy="none", id_="b"),
            outcome(1.0, policy="ours", id_="a", retained=3),
            outcome(2.2, policy="ours", id_="b"),
        )
    )
    ours = next(one for one in found if one.is_own)
    assert (ours.cost, ours.worst, ours.retained, ours.probes) == (3.2 / 4.0, 1.1, 8, 10)
    assert ours.cached_share == 0.9


def test_a_cheaper_peer_beats_us_only_where_it_keeps_as_much_and_is_never_refused() -> None:
    def verdict(*peers: Outcome) -> tuple[int, int]:
        found = verdicts(results(outcome(2.0, policy="none"), outcome(1.0, policy="ours", retained=4), *peers))
        return found[0].unbeaten, found[0].cheapest

    assert verdict(outcome(0.5, policy="peer", retained=3)) == (1, 1)
    assert verdict(outcome(0.5, policy="peer", retained=4)) == (0, 0)
    assert verdict(outcome(0.5, policy="peer", retained=5, invalid_requests=1)) == (1, 1)
    assert verdict(outcome(1.0, policy="peer", retained=5)) == (1, 0)


def test_short_conversations_count_for_the_worst_case_only() -> None:
    found = verdicts(
        results(
            outcome(2.0, policy="none", id_="long"),
            outcome(1.0, policy="ours", id_="long"),
            outcome(1.0, policy="none", id_="short", history_tokens=5_000),
            outcome(1.5, policy="ours", id_="short", history_tokens=5_000),
        )
    )
    assert (found[0].conversations, found[0].worst) == (1, 1.5)


def test_cost_at_a_mean_context_is_read_off_between_our_settings() -> None:
    def total(tokens: float, cost: float) -> Total:
        return Total(
            name="ours", is_own=True, family="summary", conversations=1, cost=cost, input_cost=cost,
            mean_context_tokens=tokens, cached_share=1.0, rejected=0, requests=1, lost_first_task=0, retained=0,
            probes=0, worst=1.0,
        )  # fmt: skip

    curve = [total(20_000, 0.5), total(10_000, 0.3)]
    assert at_mean_context(15_000, curve) == pytest.approx(0.4)
    assert at_mean_context(5_000, curve) is None


def test_growth_is_one_for_turns_that_all_cost_the_same_and_two_for_turns_that_cost_their_length() -> None:
    steady = Pace(turns=tuple((index, 1.0, 10) for index in range(1, 401)))
    growing = Pace(turns=tuple((index, float(index), 10) for index in range(1, 401)))
    assert overhead("x", steady, conversation_bytes=4_000, is_own=False).growth == pytest.approx(1.0)
    assert overhead("x", growing, conversation_bytes=4_000, is_own=False).growth == pytest.approx(2.0, abs=0.02)
    assert overhead("x", steady, conversation_bytes=4_000, is_own=False).bytes_per_byte == 1.0


def test_tables_replace_what_stands_between_the_marks_of_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{tables.BEGIN}\nold\n{tables.END}\nafter\n", encoding="utf-8")
    tables.put_between_marks(page, "new")
    assert page.read_text(encoding="utf-8") == f"before\n{tables.BEGIN}\n\nnew\n\n{tables.END}\nafter\n"


def test_findings_come_back_from_their_files_part_by_part(tmp_path: Path) -> None:
    measured = results(outcome(2.0, policy="none"), outcome(1.0, policy="ours"))
    timed = overhead("x", Pace(turns=((1, 0.5, 3),)), conversation_bytes=3, is_own=True)
    Findings(recorded=measured, seconds=1.0, missing=["x"]).save(tmp_path / "recorded.json")
    Findings(overheads=[timed], seconds=2.0).save(tmp_path / "times.json")
    found = read_findings([tmp_path / "recorded.json", tmp_path / "times.json"])
    assert found == Findings(recorded=measured, overheads=[timed], seconds=3.0)
