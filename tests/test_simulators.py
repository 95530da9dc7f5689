"""The simulated providers through their real SDKs: answers, streams, usage, caches, faults, several conversations."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import httpx
import pytest
from anthropic import Anthropic, APIStatusError
from openai import OpenAI

from memory.errors import ConfigError
from memory.messages import DialectName
from memory.native import to_wire, unwrap
from memory.prompt_cache import cache_rules
from memory.testing.simulators import (
    FAULT_KINDS,
    Call,
    Fault,
    FaultKind,
    ProviderSimulator,
    RandomFaults,
    Request,
    Turn,
)

from .conversations import DIALECT_NAMES, builder_for
from .simulated import MODEL, SDK_ERRORS, Client, Message

LONG = "It is sunny in Paris, and the wind comes from the west; tomorrow it will rain. " * 4
CALLS = (Call("weather", {"city": "Paris", "days": [1, 2]}), Call("time", {"zone": "Europe/Paris"}))
FULL = Turn(LONG, CALLS, reasoning="The user wants two things, so two tools are asked at once. " * 3)


def user(wire: DialectName, text: str = "What is it like in Paris?") -> list[Message]:
    return builder_for(wire).user(text)


# --- Answers


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("wire", DIALECT_NAMES)
def test_text_parallel_calls_and_reasoning_arrive_as_scripted(wire: DialectName, stream: bool) -> None:
    with ProviderSimulator(wire, [FULL]) as server:
        said = Client(server, wire).ask(user(wire), stream=stream)

    assert said.text == LONG
    assert said.calls == [(call.name, call.arguments) for call in CALLS]
    assert said.reasoning == FULL.reasoning
    assert len(said.deltas) > 1 or not stream
    assert "".join(said.deltas) == (LONG if stream else "")


@pytest.mark.parametrize("wire", DIALECT_NAMES)
def test_a_stream_and_a_whole_answer_report_the_same_usage(wire: DialectName) -> None:
    with ProviderSimulator(wire, [FULL, FULL]) as server:
        client = Client(server, wire)
        whole, streamed = client.ask(user(wire)), client.ask(user(wire), stream=True)

    assert whole.input_tokens == streamed.input_tokens > 0
    assert whole.output_tokens == streamed.output_tokens > len(LONG) // 4


@pytest.mark.parametrize("wire", DIALECT_NAMES)
def test_an_answer_with_calls_goes_back_with_its_results(wire: DialectName) -> None:
    builder = builder_for(wire)
    with ProviderSimulator(wire, [FULL, "Sunny, ten o'clock."], binds_thinking=True, checks_signatures=True) as server:
        client = Client(server, wire)
        log = user(wire)
        log += client.ask(log, stream=True).messages
        ids = call_ids(log)
        log += builder.results([(id_, call.name, "done") for id_, call in zip(ids, CALLS, strict=True)])
        said = client.ask(log)

    assert said.text == "Sunny, ten o'clock."
    assert server.rejected == []


def call_ids(log: Sequence[Message]) -> list[str]:
    """The ids of the calls at a list's end, whatever the format; Gemini's calls have none."""
    last = log[-1]
    if "tool_calls" in last:
        return [call["id"] for call in last["tool_calls"]]
    if "call_id" in last:
        return [item["call_id"] for item in log if item.get("type") == "function_call"]
    if "parts" in last:
        return ["", ""]
    return [block["id"] for block in last["content"] if block["type"] == "tool_use"]


def test_an_answer_may_be_given_in_the_providers_own_form() -> None:
    block = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}}
    found = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}
    with ProviderSimulator("anthropic", [[block, found, {"type": "text", "text": "Nothing."}]]) as server:
        said = Client(server, "anthropic").ask(user("anthropic"), stream=True)

    assert [one["type"] for one in said.messages[0]["content"]] == [
        "server_tool_use",
        "web_search_tool_result",
        "text",
    ]


@pytest.mark.parametrize(
    ("wire", "words"),
    [
        ("openai_chat", '"finish_reason":"length"'),
        ("openai_responses", '"reason":"max_output_tokens"'),
        ("anthropic", '"stop_reason":"max_tokens"'),
        ("gemini", '"finishReason":"MAX_TOKENS"'),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_stop_reason_comes_in_the_providers_words(wire: DialectName, words: str, stream: bool) -> None:
    with ProviderSimulator(wire, [Turn("half", stop_reason="max_tokens")]) as server:
        body = {"model": MODEL[wire], "stream": stream, "max_tokens": 9, **list_of(wire, user(wire))}
        answer = httpx.post(server.base_url + path_of(wire), json=body)

    assert words in answer.text


def test_a_callable_sees_the_request_and_answers_it() -> None:
    def echo(request: Request) -> Turn:
        return Turn(f"{request.number}: {request.body['messages'][-1]['content']} for {request.api_key}")

    with ProviderSimulator("openai_chat", echo) as server:
        said = Client(server, "openai_chat", api_key="me").ask(user("openai_chat", "hi"))

    assert said.text == "1: hi for me"


def test_a_script_that_is_over_says_so() -> None:
    with ProviderSimulator("openai_chat", []) as server, pytest.raises(SDK_ERRORS, match="no answer left"):
        Client(server, "openai_chat").ask(user("openai_chat"))


def test_what_is_asked_aside_does_not_use_up_the_script() -> None:
    def summary(request: Request) -> str | None:
        return "a summary" if request.model == "small" else None

    with ProviderSimulator("openai_chat", ["an answer"], aside=summary) as server:
        client = Client(server, "openai_chat")
        assert client.ask(user("openai_chat"), model="small").text == "a summary"
        assert client.ask(user("openai_chat")).text == "an answer"


def test_reasoning_can_be_added_to_every_answer() -> None:
    for wire in DIALECT_NAMES:
        with ProviderSimulator(wire, ["short"], adds_reasoning=True) as server:
            said = Client(server, wire).ask(user(wire))
        assert said.reasoning
        assert said.text == "short"


def test_a_stored_response_can_be_continued_by_its_id() -> None:
    with ProviderSimulator("openai_responses", ["one", "two"]) as server:
        client = OpenAI(base_url=server.base_url, api_key="test", max_retries=0)
        first = client.responses.create(model="gpt-5", input="first question")
        second = client.responses.create(model="gpt-5", input="next", previous_response_id=first.id)

    assert second.output_text == "two"
    assert second.usage is not None
    assert first.usage is not None
    assert second.usage.input_tokens > first.usage.input_tokens


def test_tokens_can_be_counted() -> None:
    with ProviderSimulator("anthropic", []) as server:
        client = Anthropic(base_url=server.base_url, api_key="test", max_retries=0)
        counted = client.messages.count_tokens(model="claude", messages=[{"role": "user", "content": "x" * 400}])

    assert 100 <= counted.input_tokens <= 104


def test_google_generativeai_is_served_over_rest_whole_and_streamed() -> None:
    old: Any = pytest.importorskip("google.generativeai")
    with ProviderSimulator("gemini", [FULL, FULL]) as server:
        old.configure(api_key="test", transport="rest", client_options={"api_endpoint": server.url})
        model = old.GenerativeModel("gemini-1.5-pro")
        whole = model.generate_content("hi")
        streamed = model.generate_content("hi", stream=True)
        parts = [part for chunk in streamed for part in chunk.parts]

    assert [part.function_call.name for part in whole.parts if part.function_call] == ["weather", "time"]
    assert [part.function_call.name for part in parts if part.function_call] == ["weather", "time"]
    assert "".join(part.text for part in parts).endswith(LONG)
    assert streamed.usage_metadata.prompt_token_count == whole.usage_metadata.prompt_token_count


# --- Context window, models, keys


@pytest.mark.parametrize(
    ("wire", "words"),
    [
        ("openai_chat", "maximum context length is 100 tokens"),
        ("openai_responses", "exceeds the context window"),
        ("anthropic", "prompt is too long: .* tokens > 100 maximum"),
        ("gemini", r"exceeds the maximum number of tokens allowed \(100\)"),
    ],
)
def test_a_prompt_beyond_the_window_is_refused_in_the_providers_words(wire: DialectName, words: str) -> None:
    with ProviderSimulator(wire, ["ok"], context_window_tokens=100) as server:
        client = Client(server, wire)
        with pytest.raises(SDK_ERRORS, match=words):
            client.ask(user(wire, "word " * 200))
        assert client.ask(user(wire, "short")).text == "ok"

    assert [one.status for one in server.requests] == [400, 200]
    assert len(server.rejected) == 1


@pytest.mark.parametrize("wire", DIALECT_NAMES)
def test_an_unknown_model_is_404_and_a_wrong_key_is_refused(wire: DialectName) -> None:
    with ProviderSimulator(wire, [], models={"one"}, api_keys={"right"}) as server:
        with pytest.raises(SDK_ERRORS):
            Client(server, wire, api_key="right").ask(user(wire))
        with pytest.raises(SDK_ERRORS):
            Client(server, wire, api_key="wrong").ask(user(wire))

    assert [one.status for one in server.requests] == [404, 400 if wire == "gemini" else 401]
    assert "wrong" not in repr(server.requests)


def test_a_wire_that_does_not_exist_is_an_error_at_once() -> None:
    with pytest.raises(ConfigError, match="openai_chat"):
        ProviderSimulator("cohere", [])  # type: ignore[arg-type] # the point of the test


def test_an_unknown_path_is_404() -> None:
    with ProviderSimulator("openai_chat", []) as server:
        assert httpx.post(f"{server.base_url}/embeddings", json={}).status_code == 404


# --- Prompt caches


def growing(wire: DialectName, steps: int) -> list[list[Message]]:
    """Prompts of which each continues the one before, the first of some 4,800 tokens."""
    builder = builder_for(wire)
    log = builder.user("The manual says: " + "".join(f"line {n} of the manual. " for n in range(800)))
    prompts = []
    for step in range(steps):
        prompts.append(list(log))
        log = log + builder.assistant(f"answer {step} " * 60) + builder.user(f"question {step} " * 60)
    return prompts


@pytest.mark.parametrize("wire", ["openai_chat", "openai_responses", "gemini"])
def test_an_automatic_cache_reads_the_longest_common_beginning(wire: DialectName) -> None:
    with ProviderSimulator(wire, ["ok"] * 4) as server:
        client = Client(server, wire)
        said = [client.ask(prompt) for prompt in growing(wire, 3)]
        other = client.ask(user(wire, "quite another prompt " * 300))

    step = cache_rules(MODEL[wire]).step_tokens
    assert [one.cached_tokens % step for one in said] == [0, 0, 0]
    assert said[0].cached_tokens == other.cached_tokens == 0
    for before, now in pairwise(said):
        assert before.input_tokens - step <= now.cached_tokens <= before.input_tokens


def test_gpt_5_6_reads_where_an_earlier_prompt_ended_and_reports_what_it_writes() -> None:
    with ProviderSimulator("openai_responses", ["ok"] * 3) as server:
        client = Client(server, "openai_responses")
        first, second, _ = growing("openai_responses", 3)
        said = [client.ask(prompt, model="gpt-5.6") for prompt in (first, second, first[:-1] + second[-1:])]

    sizes = [one.input_tokens for one in said]
    assert [read for read, *_ in used(server)] == [0, sizes[0], 0]
    assert [written for _, written, _ in used(server)] == [sizes[0], sizes[1] - sizes[0], 0]


@pytest.mark.parametrize("wire", ["openai_chat", "openai_responses", "gemini"])
def test_prompts_under_1024_tokens_are_not_cached(wire: DialectName) -> None:
    with ProviderSimulator(wire, ["ok"] * 2) as server:
        client = Client(server, wire)
        assert [client.ask(user(wire, "word " * 600)).cached_tokens for _ in range(2)] == [0, 0]


def test_gemini_before_2_5_caches_nothing_by_itself() -> None:
    with ProviderSimulator("gemini", ["ok"] * 2) as server:
        client = Client(server, "gemini")
        prompt = growing("gemini", 1)[0]
        assert [client.ask(prompt, model="gemini-2.0-flash").cached_tokens for _ in range(2)] == [0, 0]


def marked(prompt: Sequence[Message], ttl: str | None = None) -> list[Message]:
    """The prompt with a breakpoint on its last message."""
    mark = {"type": "ephemeral", **({"ttl": ttl} if ttl else {})}
    last = {"role": "user", "content": [{"type": "text", "text": prompt[-1]["content"], "cache_control": mark}]}
    return [*prompt[:-1], last]


def used(server: ProviderSimulator) -> list[tuple[int, int, int]]:
    return [
        (one.used.cache_read_tokens, one.used.cache_write_5m_tokens, one.used.cache_write_1h_tokens)
        for one in server.requests
        if one.used
    ]


def test_anthropic_caches_what_is_marked_and_reads_it_back() -> None:
    with ProviderSimulator("anthropic", ["ok"] * 4) as server:
        client = Client(server, "anthropic")
        prompts = growing("anthropic", 3)
        said = [client.ask(marked(prompt)) for prompt in prompts]
        client.ask(prompts[0])

    sizes = [one.input_tokens for one in said]
    assert used(server) == [
        (0, sizes[0], 0),
        (sizes[0], sizes[1] - sizes[0], 0),
        (sizes[1], sizes[2] - sizes[1], 0),
        (0, 0, 0),
    ]


def test_anthropics_one_hour_writes_are_told_apart() -> None:
    with ProviderSimulator("anthropic", ["ok"]) as server:
        client = Anthropic(base_url=server.base_url, api_key="test", max_retries=0)
        message = client.messages.create(
            model="claude",
            max_tokens=9,
            messages=marked(growing("anthropic", 1)[0], "1h"),  # type: ignore[arg-type] # plain dicts
        )

    assert message.usage.cache_creation is not None
    assert message.usage.cache_creation.ephemeral_1h_input_tokens > 1_024
    assert message.usage.cache_creation.ephemeral_5m_input_tokens == 0
    assert message.usage.input_tokens == 0


def test_anthropic_looks_back_twenty_blocks_and_no_further() -> None:
    builder = builder_for("anthropic")
    prompt = growing("anthropic", 1)[0]

    def longer(count: int) -> list[Message]:
        return marked([*prompt, *(m for n in range(count) for m in [*builder.assistant("a"), *builder.user(str(n))])])

    with ProviderSimulator("anthropic", ["ok"] * 3) as server:
        client = Client(server, "anthropic")
        client.ask(marked(prompt))
        client.ask(longer(11))
    with ProviderSimulator("anthropic", ["ok"] * 3) as near:
        client = Client(near, "anthropic")
        client.ask(marked(prompt))
        client.ask(longer(9))

    assert used(server)[1][0] == 0
    assert used(near)[1][0] > 1_024


def test_anthropics_top_level_mark_is_one_on_the_last_block() -> None:
    with ProviderSimulator("anthropic", ["ok"] * 2) as server:
        client = Client(server, "anthropic")
        for _ in range(2):
            client.ask(growing("anthropic", 1)[0], cache_control={"type": "ephemeral"})

    assert used(server)[0][1] == used(server)[1][0] > 1_024


# --- Faults


STATUS: dict[FaultKind, int] = {
    "rate_limit": 429,
    "server_error": 500,
    "unavailable": 503,
    "overloaded": 503,
    "context_length": 400,
}


@pytest.mark.parametrize("kind", STATUS)
@pytest.mark.parametrize("wire", DIALECT_NAMES)
def test_a_fault_with_a_status_raises_the_sdks_error_and_keeps_the_answer(wire: DialectName, kind: FaultKind) -> None:
    with ProviderSimulator(wire, ["the answer"], faults=[kind]) as server:
        client = Client(server, wire)
        with pytest.raises(SDK_ERRORS):
            client.ask(user(wire))
        assert client.ask(user(wire)).text == "the answer"

    expected = 529 if (wire, kind) == ("anthropic", "overloaded") else STATUS[kind]
    assert [one.status for one in server.requests] == [expected, 200]
    assert server.rejected == []
    assert server.requests[0].fault == Fault(kind)


def test_a_rate_limit_says_how_long_to_wait() -> None:
    with (
        ProviderSimulator("anthropic", ["ok"], faults={1: Fault("rate_limit", retry_after_seconds=7)}) as server,
        pytest.raises(APIStatusError) as caught,
    ):
        Client(server, "anthropic").ask(user("anthropic"))

    assert caught.value.status_code == 429
    assert caught.value.response.headers["retry-after"] == "7"
    assert "anthropic-ratelimit-requests-remaining" in caught.value.response.headers


def test_an_sdk_that_retries_gets_the_answer_after_the_faults() -> None:
    with ProviderSimulator(
        "openai_chat", ["ok"], faults=[Fault("rate_limit", retry_after_seconds=0.01), "server_error"]
    ) as server:
        client = OpenAI(base_url=server.base_url, api_key="test", max_retries=3)
        done = client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}])

    assert done.choices[0].message.content == "ok"
    assert [one.status for one in server.requests] == [429, 500, 200]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("kind", ["cut_stream", "malformed_json", "stream_error"])
@pytest.mark.parametrize("wire", DIALECT_NAMES)
def test_a_broken_body_is_an_error_and_keeps_the_answer(wire: DialectName, kind: FaultKind, stream: bool) -> None:
    with ProviderSimulator(wire, [FULL], faults=[kind]) as server:
        client = Client(server, wire)
        with pytest.raises(Exception):  # noqa: B017, PT011 # each SDK has its own, of httpx, json or pydantic too
            client.ask(user(wire), stream=stream)
        assert client.ask(user(wire), stream=stream).text == LONG


@pytest.mark.parametrize("after_events", [0, 2])
@pytest.mark.parametrize("wire", DIALECT_NAMES)
def test_a_hung_stream_ends_when_the_client_gives_up(wire: DialectName, after_events: int) -> None:
    with ProviderSimulator(wire, ["ok"], faults=[Fault("hang", after_events=after_events)]) as server:
        body = {"model": MODEL[wire], "stream": True, "max_tokens": 9, **list_of(wire, user(wire))}
        start = time.monotonic()
        with pytest.raises(httpx.TimeoutException):
            httpx.post(server.base_url + path_of(wire), json=body, timeout=0.1)
        assert time.monotonic() - start < 5
        assert Client(server, wire).ask(user(wire)).text == "ok"


def list_of(wire: DialectName, messages: list[Message]) -> dict[str, Any]:
    return {{"gemini": "contents", "openai_responses": "input"}.get(wire, "messages"): messages}


def path_of(wire: DialectName) -> str:
    return {
        "openai_chat": "/chat/completions",
        "openai_responses": "/responses",
        "anthropic": "/v1/messages",
        "gemini": "/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse",
    }[wire]


def test_closing_a_simulator_ends_hung_connections_and_its_threads() -> None:
    before = threading.active_count()
    server = ProviderSimulator("openai_chat", [], faults=[Fault("hang", after_events=0)])
    body = {"model": "gpt-4o", **list_of("openai_chat", user("openai_chat"))}
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(httpx.post, server.base_url + "/chat/completions", json=body, timeout=10)
        while not server.requests:
            time.sleep(0.001)
        server.close()
        with pytest.raises(httpx.TransportError):
            waiting.result(timeout=5)
    for _ in range(200):
        if threading.active_count() <= before:
            break
        time.sleep(0.005)
    assert threading.active_count() <= before


@pytest.mark.parametrize("wire", DIALECT_NAMES)
def test_an_empty_answer_is_a_200_with_nothing_in_it(wire: DialectName) -> None:
    with ProviderSimulator(wire, ["ok"], faults=["empty_answer"]) as server:
        client = Client(server, wire)
        said = client.ask(user(wire))
        assert (said.text, said.calls) == ("", [])
        assert client.ask(user(wire)).text == "ok"


def test_random_faults_are_the_same_for_a_seed_and_spare_the_retry() -> None:
    def drawn(seed: int) -> list[object]:
        faults = RandomFaults(seed, share=0.4)
        request = Request(number=1, path="", headers={}, body={}, model="", api_key="", is_streamed=False)
        return [faults(request) for _ in range(200)]

    found = drawn(1)
    assert found == drawn(1) != drawn(2)
    assert {one for one in found if one} == set(FAULT_KINDS)
    assert not any(one and two for one, two in pairwise(found))


# --- Several at once


@pytest.mark.parametrize("wire", DIALECT_NAMES)
def test_ten_clients_at_once_each_get_their_own_conversation(wire: DialectName) -> None:
    keys = [f"agent-{n}" for n in range(10)]
    with (
        ProviderSimulator(wire, {key: [f"{key} says {step}" for step in range(5)] for key in keys}) as server,
        ThreadPoolExecutor(10) as pool,
    ):
        answers = list(pool.map(lambda key: talk(server, wire, key), keys))

    assert answers == [[f"{key} says {step}" for step in range(5)] for key in keys]
    assert sorted(one.request.number for one in server.requests) == list(range(1, 51))


def talk(server: ProviderSimulator, wire: DialectName, key: str) -> list[str]:
    client = Client(server, wire, api_key=key)
    builder = builder_for(wire)
    log = builder.user(f"I am {key}.")
    texts = []
    for step in range(5):
        said = client.ask(log, stream=step % 2 == 0)
        texts.append(said.text)
        log = log + said.messages + builder.user("Go on.")
    return texts


def test_a_key_that_has_no_conversation_is_refused() -> None:
    with ProviderSimulator("openai_chat", {"one": ["ok"]}) as server, pytest.raises(SDK_ERRORS, match="API key"):
        Client(server, "openai_chat", api_key="two").ask(user("openai_chat"))


def test_what_the_sdks_return_can_be_added_to_a_memory() -> None:
    with ProviderSimulator("anthropic", [FULL]) as server:
        client = Anthropic(base_url=server.base_url, api_key="test", max_retries=0)
        message = client.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "hi"}])

    assert [to_wire(one)["role"] for one in unwrap(message)] == ["assistant"]
