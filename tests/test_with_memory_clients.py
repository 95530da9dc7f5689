"""What `with_memory` leaves of a client as it was, what it refuses, and how each kind of stream is booked."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from anthropic import Anthropic, AsyncAnthropic
from google import genai
from google.genai import types
from openai import AsyncOpenAI, OpenAI, omit

from memory import BudgetExceededError, ConfigError, ContextOverflowError, Degraded, MemoryConfig, MemoryManager
from memory.dialects import DIALECTS
from memory.integrations import memory_of, with_memory
from memory.native import to_wire
from memory.testing.simulators import Fault, ProviderSimulator, Request, Turn

from .callers import CALLERS, Caller, Connections
from .conversations import builder_for

ROOT = Path(__file__).resolve().parents[1]
CHAT, RESPONSES, ANTHROPIC, GEMINI = CALLERS
HELLO: list[Any] = [{"role": "user", "content": "hello"}]
ASK_CHAT: dict[str, Any] = {"model": "gpt-4o", "messages": HELLO}
ASK_CLAUDE: dict[str, Any] = {"model": "claude-sonnet-4-6", "max_tokens": 99, "messages": HELLO}
every_client = pytest.mark.parametrize("caller", CALLERS, ids=lambda caller: caller.dialect)


@pytest.fixture
async def connections() -> AsyncIterator[Connections]:
    opened = Connections()
    yield opened
    await opened.close()


def calls_booked(memory: MemoryManager) -> int:
    return memory.tracker.by_purpose["agent"].calls


def input_tokens(server: ProviderSimulator) -> int:
    return sum(exchange.used.input_tokens for exchange in server.requests if exchange.used)


# --- The client stays what it was -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "client",
    [
        OpenAI(api_key="test"),
        AsyncOpenAI(api_key="test"),
        Anthropic(api_key="test"),
        AsyncAnthropic(api_key="test"),
        genai.Client(api_key="test"),
    ],
    ids=lambda client: type(client).__name__,
)
def test_a_wrapped_client_looks_and_behaves_like_the_one_inside(client: Any) -> None:
    wrapped = with_memory(client, MemoryManager())

    assert isinstance(wrapped, type(client))
    assert wrapped.__class__ is type(client)
    assert repr(wrapped) == repr(client)
    assert dir(wrapped) == dir(client)
    assert wrapped.files is client.files or type(wrapped.files) is type(client.files)
    wrapped.a_note = "kept"
    assert client.a_note == "kept"
    del wrapped.a_note
    assert not hasattr(client, "a_note")
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = wrapped.no_such_thing


def test_methods_that_send_nothing_are_the_clients_own(connections: Connections) -> None:
    with ProviderSimulator("anthropic", ["fine"]) as server:
        client = with_memory(connections.open(ANTHROPIC, "ask", server), MemoryManager())
        counted = client.messages.count_tokens(model="claude-sonnet-4-6", messages=[*HELLO, *HELLO])

    assert counted.input_tokens > 0
    assert memory_of(client).messages == []


def test_a_with_block_gives_the_wrapped_client_and_closes_the_one_inside() -> None:
    memory = MemoryManager()
    with (
        ProviderSimulator("openai_chat", ["fine"]) as server,
        with_memory(OpenAI(base_url=server.base_url, api_key="test"), memory) as client,
    ):
        client.chat.completions.create(**ASK_CHAT)

    assert memory_of(client) is memory
    assert client.is_closed()
    assert calls_booked(memory) == 1


async def test_an_async_with_block_too() -> None:
    memory = MemoryManager()
    with ProviderSimulator("anthropic", ["fine"]) as server:
        async with with_memory(AsyncAnthropic(base_url=server.base_url, api_key="test"), memory) as client:
            await client.messages.create(**ASK_CLAUDE)

    assert client.is_closed()
    assert calls_booked(memory) == 1


@pytest.mark.parametrize("copy", ["with_options", "copy"])
def test_a_client_with_other_options_has_the_same_memory(copy: str, connections: Connections) -> None:
    memory = MemoryManager()
    with ProviderSimulator("openai_chat", ["fine"]) as server:
        client = with_memory(connections.open(CHAT, "ask", server), memory)
        other = getattr(client, copy)(timeout=7.0)
        other.chat.completions.create(**ASK_CHAT)

    assert (other.timeout, client.timeout != 7.0) == (7.0, True)
    assert memory_of(other) is memory
    assert calls_booked(memory) == 1


def test_the_client_that_was_given_stays_unmanaged(connections: Connections) -> None:
    memory = MemoryManager()
    with ProviderSimulator("openai_chat", ["fine"]) as server:
        client = connections.open(CHAT, "ask", server)
        with_memory(client, memory)
        client.chat.completions.create(**ASK_CHAT)

    assert memory.messages == []
    assert calls_booked(memory) == 0


def test_a_stand_in_with_the_same_methods_is_taken_by_its_shape() -> None:
    asked: list[Any] = []

    def create(**request: Any) -> Any:
        asked.append(request)
        return SimpleNamespace(usage=None)

    memory = MemoryManager()
    client = with_memory(SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create))), memory)

    client.chat.completions.create(messages=HELLO, temperature=0)

    assert asked == [{"messages": HELLO, "temperature": 0}]
    assert memory.messages == HELLO


LOADED = """
import json, sys
before = set(sys.modules)
import memory.integrations
print(json.dumps(sorted({name.split(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names))))
"""


def test_importing_the_integrations_loads_no_sdk() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], cwd=ROOT, capture_output=True, text=True, check=True)

    assert json.loads(done.stdout) == ["memory"]


# --- What is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", [object(), "OpenAI", None, OpenAI(api_key="test").chat.completions, io])
def test_what_is_no_client_is_refused_with_the_names_of_those_that_are(client: object) -> None:
    with pytest.raises(ConfigError, match=r"OpenAI.*Anthropic.*google-genai.*got "):
        with_memory(client, MemoryManager())


def test_a_second_memory_is_refused() -> None:
    client = with_memory(OpenAI(api_key="test"), MemoryManager())

    with pytest.raises(ConfigError, match="has a memory already"):
        with_memory(client, MemoryManager())
    with pytest.raises(ConfigError, match="has a memory already"):
        with_memory(client.with_options(timeout=1), MemoryManager())


def test_a_memory_must_be_one() -> None:
    with pytest.raises(ConfigError, match="must be a MemoryManager, got MemoryConfig"):
        with_memory(OpenAI(api_key="test"), MemoryConfig())  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="has no memory"):
        memory_of(OpenAI(api_key="test"))


@pytest.mark.parametrize("state", [{"previous_response_id": "resp_1"}, {"conversation": "conv_1"}])
async def test_a_conversation_that_the_server_keeps_is_refused(state: Any, connections: Connections) -> None:
    with ProviderSimulator("openai_responses", ["fine"]) as server:
        client = with_memory(connections.open(RESPONSES, "ask", server), MemoryManager())
        aclient = with_memory(connections.open(RESPONSES, "aask", server), MemoryManager())
        with pytest.raises(ConfigError, match=f"with {next(iter(state))} the server keeps this conversation"):
            client.responses.create(model="gpt-4o", input=HELLO, **state)
        with pytest.raises(ConfigError, match="choose one"):
            await aclient.responses.create(model="gpt-4o", input=HELLO, **state)
        client.responses.create(model="gpt-4o", input=HELLO, previous_response_id=None, conversation=omit)

    assert len(server.requests) == 1


def test_a_memory_that_holds_another_format_is_refused(connections: Connections) -> None:
    memory = MemoryManager(dialect="anthropic")
    with (
        ProviderSimulator("openai_chat", ["fine"]) as server,
        pytest.raises(ConfigError, match="in anthropic, and the call is one of openai_chat"),
    ):
        with_memory(connections.open(CHAT, "ask", server), memory).chat.completions.create(**ASK_CHAT)


@every_client
async def test_the_memorys_own_limits_reach_the_caller(caller: Caller, connections: Connections) -> None:
    broke = MemoryManager(MemoryConfig(max_cost_dollars=1e-9), model="gpt-4o")
    small = MemoryManager(MemoryConfig(max_context_tokens=200, compression_threshold=100))
    with ProviderSimulator(caller.dialect, ["fine"]) as server:
        messages = builder_for(caller.dialect).user("a word " * 400)
        with pytest.raises(BudgetExceededError):
            caller.ask(with_memory(connections.open(caller, "ask", server), broke), messages)
        with pytest.raises(ContextOverflowError):
            await caller.aask(with_memory(connections.open(caller, "aask", server), small), messages)

    assert server.requests == []


# --- Forms of a call --------------------------------------------------------------------------------------------------


def test_a_responses_input_may_be_plain_text(connections: Connections) -> None:
    memory = MemoryManager()
    with ProviderSimulator("openai_responses", ["hi", "fine"]) as server:
        client = with_memory(connections.open(RESPONSES, "ask", server), memory)
        first = client.responses.create(model="gpt-4o", input="hello")
        client.responses.create(model="gpt-4o", input=[*HELLO, *first.output, {"role": "user", "content": "and you?"}])

    assert memory.get_stats()["message_count"] == 3
    assert len(memory.archive) == 0


PNG = bytes.fromhex("89504e470d0a1a0a")
PART = types.Part.from_bytes(data=PNG, mime_type="image/png")
CALL = types.Part(function_call=types.FunctionCall(name="read_page", args={"number": 1}, id="c1"))
RESULT = types.Part(function_response=types.FunctionResponse(name="read_page", response={"text": "x"}, id="c1"))


@pytest.mark.parametrize(
    "contents",
    [
        "hello",
        ["hello", "again"],
        [PART, "what is this?"],
        types.Content(role="user", parts=[types.Part(text="hello")]),
        {"role": "user", "parts": [{"text": "hello"}]},
        [types.UserContent("hello"), types.ModelContent("hi"), "what else?"],
        [{"text": "hello"}, PART],
        PART,
        ["read it", CALL, RESULT],
        [["one", "two"], types.ModelContent("three"), ["four"]],
        types.File(uri="https://example.org/f", mime_type="text/plain"),
        [types.File(uri="https://example.org/f", mime_type="text/plain"), "what does it say?"],
        ["hello", {"role": "model", "parts": [{"text": "hi"}]}, "bye"],
    ],
    ids=range(13),
)
def test_gemini_contents_go_over_the_wire_as_the_sdk_writes_them(contents: Any, connections: Connections) -> None:
    with ProviderSimulator("gemini", ["fine"] * 2) as server:
        client = connections.open(GEMINI, "ask", server)
        client.models.generate_content(model="gemini-2.5-flash", contents=contents)
        with_memory(client, MemoryManager()).models.generate_content(model="gemini-2.5-flash", contents=contents)

    bare, managed = (exchange.body["contents"] for exchange in server.requests)
    assert sorted(map(str, managed)) == sorted(map(str, bare))  # google-genai 3.4 puts loose parts behind dicts


def test_messages_may_come_from_an_iterator(connections: Connections) -> None:
    with ProviderSimulator("openai_chat", ["fine"]) as server:
        client = with_memory(connections.open(CHAT, "ask", server), MemoryManager())
        client.chat.completions.create(model="gpt-4o", messages=iter(HELLO))

    assert server.requests[0].body["messages"] == HELLO


def test_parsed_answers_are_the_sdks_own(connections: Connections) -> None:
    memory = MemoryManager()
    with ProviderSimulator("openai_chat", ["fine"]) as server:
        client = with_memory(connections.open(CHAT, "ask", server), memory)
        parsed = client.chat.completions.parse(**ASK_CHAT)

    assert parsed.choices[0].message.content == "fine"
    assert calls_booked(memory) == 1


async def test_responses_with_their_headers_are_managed_too(connections: Connections) -> None:
    memory = MemoryManager()
    with ProviderSimulator("anthropic", ["one", "two", "three", "four"]) as server:
        client = with_memory(connections.open(ANTHROPIC, "ask", server), memory)
        aclient = with_memory(connections.open(ANTHROPIC, "aask", server), memory)
        raw = client.messages.with_raw_response.create(**ASK_CLAUDE)
        assert raw.headers["content-type"] == "application/json"
        assert raw.parse().content[0].text == "one"
        assert raw.parse() is raw.parse()
        events = client.messages.with_raw_response.create(**ASK_CLAUDE, stream=True).parse()
        assert [event.type for event in events][-1] == "message_stop"
        with client.with_streaming_response.messages.create(**ASK_CLAUDE) as response:
            assert response.parse().content[0].text == "three"
        async with aclient.messages.with_streaming_response.create(**ASK_CLAUDE) as aresponse:
            assert (await aresponse.parse()).content[0].text == "four"

    assert calls_booked(memory) == 4
    assert memory.get_stats()["total_input_tokens"] == input_tokens(server)


def test_the_beta_messages_are_the_same_conversation(connections: Connections) -> None:
    memory = MemoryManager()
    with ProviderSimulator("anthropic", ["fine"] * 2) as server:
        client = with_memory(connections.open(ANTHROPIC, "ask", server), memory)
        client.beta.messages.create(**ASK_CLAUDE)
        with client.beta.messages.stream(**ASK_CLAUDE) as stream:
            stream.until_done()

    assert calls_booked(memory) == 2


# --- Streams ----------------------------------------------------------------------------------------------------------


def test_usage_that_we_asked_for_is_booked_and_not_shown(connections: Connections) -> None:
    with ProviderSimulator("openai_chat", ["one two three"] * 3) as server:
        client = with_memory(connections.open(CHAT, "ask", server), MemoryManager())
        hidden = list(client.chat.completions.create(**ASK_CHAT, stream=True))
        shown = list(client.chat.completions.create(**ASK_CHAT, stream=True, stream_options={"include_usage": True}))
        refused = list(client.chat.completions.create(**ASK_CHAT, stream=True, stream_options={"include_usage": False}))

    assert [chunk for chunk in hidden if not chunk.choices] == []
    assert len(shown) == len(hidden) + 1
    assert len(refused) == len(hidden)
    assert calls_booked(memory_of(client)) == 2
    options = [exchange.body["stream_options"]["include_usage"] for exchange in server.requests]
    assert options == [True, True, False]


def test_a_stream_is_the_sdks_own_to_look_at(connections: Connections) -> None:
    with ProviderSimulator("anthropic", ["one"] * 2) as server:
        client = connections.open(ANTHROPIC, "ask", server)
        bare = client.messages.create(**ASK_CLAUDE, stream=True)
        managed = with_memory(client, MemoryManager()).messages.create(**ASK_CLAUDE, stream=True)

        assert isinstance(managed, type(bare))
        assert managed.response.status_code == bare.response.status_code
        assert next(managed).type == "message_start"
        assert [event.type for event in managed][-1] == "message_stop"


@pytest.mark.parametrize("leave", ["close", "block", "forget"])
def test_a_stream_that_is_left_early_books_what_is_known(leave: str, connections: Connections) -> None:
    memory = MemoryManager()
    with ProviderSimulator("anthropic", ["one two three four five"]) as server:
        client = with_memory(connections.open(ANTHROPIC, "ask", server), memory)
        stream = client.messages.create(**ASK_CLAUDE, stream=True)
        if leave == "block":
            with stream:
                next(iter(stream))
        else:
            next(iter(stream))
            assert calls_booked(memory) == 0
            stream.close() if leave == "close" else None
        del stream

    assert calls_booked(memory) == 1
    assert memory.get_stats()["total_input_tokens"] == input_tokens(server)


async def test_an_asynchronous_stream_that_is_left_early_too(connections: Connections) -> None:
    memory = MemoryManager()
    with ProviderSimulator("anthropic", ["one two three four five"] * 2) as server:
        client = with_memory(connections.open(ANTHROPIC, "aask", server), memory)
        async for _ in (stream := await client.messages.create(**ASK_CLAUDE, stream=True)):
            break
        await stream.close()
        async with client.messages.stream(**ASK_CLAUDE) as helper:
            async for _ in helper:
                break

    assert calls_booked(memory) == 2


async def test_a_gemini_stream_can_be_closed(connections: Connections) -> None:
    memory = MemoryManager()
    ask: dict[str, Any] = {"model": "gemini-2.5-flash", "contents": "hello"}
    with ProviderSimulator("gemini", ["one two three four five"] * 2) as server:
        client = with_memory(connections.open(GEMINI, "ask", server), memory)
        stream: Any = client.models.generate_content_stream(**ask)
        next(stream)
        stream.close()
        astream: Any = await client.aio.models.generate_content_stream(**ask)
        await anext(astream)
        await astream.aclose()

    assert calls_booked(memory) <= 2  # the simulator may count in the last chunk alone, as Gemini does now and then


@every_client
def test_a_stream_that_breaks_is_not_sent_twice_and_books_what_is_known(
    caller: Caller, connections: Connections
) -> None:
    memory = MemoryManager()
    with ProviderSimulator(caller.dialect, ["one two three"], faults=[Fault("cut_stream", after_events=2)]) as server:
        client = with_memory(connections.open(caller, "ask", server), memory)
        with pytest.raises(Exception):  # noqa: B017, PT011 - whichever the SDK or its HTTP client raises
            caller.stream(client, builder_for(caller.dialect).user("hello"))

    assert len(server.requests) == 1
    assert calls_booked(memory) <= 1


def test_a_helper_keeps_its_own_ways_to_be_read(connections: Connections) -> None:
    memory = MemoryManager()
    with ProviderSimulator("openai_chat", ["one two three"]) as server:
        client = with_memory(connections.open(CHAT, "ask", server), memory)
        with client.chat.completions.stream(**ASK_CHAT) as stream:
            assert stream.until_done() is stream
            assert stream.current_completion_snapshot.choices[0].message.content == "one two three"

    assert calls_booked(memory) == 1


# --- The memory's own requests, and wrong figures ---------------------------------------------------------------------


@every_client
@pytest.mark.parametrize("is_async", [False, True])
async def test_a_summary_may_be_asked_for_through_the_wrapped_client(
    caller: Caller, is_async: bool, connections: Connections
) -> None:
    build, degraded = builder_for(caller.dialect), list[object]()

    def text_of(answer: list[Any]) -> str:
        return "\n".join(DIALECTS[caller.dialect].read(to_wire(message)).text for message in answer)

    def summarize(prompt: str) -> str:
        return text_of(caller.ask(client, build.user(prompt)))

    async def asummarize(prompt: str) -> str:
        return text_of(await caller.aask(client, build.user(prompt)))

    def note(event: object) -> None:
        if isinstance(event, Degraded):
            degraded.append(event)

    config = MemoryConfig(compression_threshold=600)
    memory = MemoryManager(config, asummarize if is_async else summarize, on_event=note)
    messages = build.user("hello")
    with ProviderSimulator(caller.dialect, ["a word " * 60] * 20, aside=_summary) as server:
        client = with_memory(connections.open(caller, "aask" if is_async else "ask", server), memory)
        for _ in range(8):
            messages += (await caller.aask(client, messages)) if is_async else caller.ask(client, messages)
            messages += build.user("go on")

    assert memory.get_stats()["summary_count"] >= 1
    assert "launch code 4711" in str(memory.messages)
    assert degraded == []
    assert calls_booked(memory) == 8


def _summary(request: Request) -> Turn | None:
    """Answer what asks for a summary, which no message of the conversation itself does."""
    is_summary = "summar" in json.dumps(request.body).lower()
    return Turn("The user was given words; the launch code 4711 was named.") if is_summary else None


def test_usage_that_cannot_be_true_does_not_cost_the_answer(caplog: pytest.LogCaptureFixture) -> None:
    usage = SimpleNamespace(prompt_tokens=-1, completion_tokens=2)
    create: Callable[..., Any] = lambda **request: SimpleNamespace(usage=usage, answer="fine")  # noqa: E731
    memory = MemoryManager()
    client = with_memory(SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create))), memory)

    assert client.chat.completions.create(messages=HELLO).answer == "fine"
    assert calls_booked(memory) == 0
    assert "usage not booked" in caplog.text


def test_each_turn_may_have_an_event_loop_of_its_own() -> None:
    memory = MemoryManager()

    async def turn(server: ProviderSimulator) -> None:
        async with AsyncOpenAI(base_url=server.base_url, api_key="test") as connection:
            bare.chat = connection.chat
            await asyncio.gather(*(client.chat.completions.create(**ASK_CHAT) for _ in range(3)))

    bare = SimpleNamespace(chat=AsyncOpenAI(api_key="test").chat)
    client = with_memory(bare, memory)
    with ProviderSimulator("openai_chat", ["fine"] * 6) as server:
        asyncio.run(turn(server))
        asyncio.run(turn(server))

    assert calls_booked(memory) == 6
