"""Embeddings from an endpoint, through the real `openai` SDK and a loopback server."""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import Sequence
from typing import Any

import pytest

from memory.embedders import AsyncEmbedder, EmbeddingCall, EmbeddingError, OpenAIEmbedder, Vector, aembed
from memory.errors import ConfigError

from .served import Served, serving

openai = pytest.importorskip("openai")

KEY = "sk-very-secret"
MODEL = "text-embedding-3-small"


def answer(*vectors: Sequence[float], tokens: int | None = 7) -> dict[str, Any]:
    """What a server says: one embedding each, in no particular order."""
    items = [{"object": "embedding", "index": index, "embedding": list(v)} for index, v in enumerate(vectors)]
    usage = {} if tokens is None else {"usage": {"prompt_tokens": tokens, "total_tokens": tokens}}
    return {"object": "list", "model": MODEL, "data": items[::-1], **usage}


def embedder(server: Served, *, model: str = MODEL, **options: Any) -> OpenAIEmbedder:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0)
    return OpenAIEmbedder(client, model=model, **options)


def numbers(vector: Vector) -> tuple[float, ...]:
    return struct.unpack(f"<{len(vector) // 4}f", vector)


def test_vectors_come_in_the_order_of_the_texts_and_at_unit_length() -> None:
    with serving(answer([3, 4], [0, 2])) as server:
        asking = embedder(server)
        found = asking.embed(["first", "second"])

    assert [numbers(vector) for vector in found] == [pytest.approx((0.6, 0.8)), (0.0, 1.0)]
    assert (asking.name, asking.dimensions) == (MODEL, 2)
    assert server.bodies == [{"model": MODEL, "input": ["first", "second"], "encoding_format": "float"}]
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"


def test_dimensions_are_asked_for_and_part_of_the_name() -> None:
    with serving(answer([1, 0])) as server:
        asking = embedder(server, dimensions=2)
        asking.embed(["text"])

    assert server.bodies[0]["dimensions"] == 2
    assert asking.name == f"{MODEL}@2"
    assert embedder(server, name="mine").name == "mine"


def test_many_texts_go_in_requests_of_128() -> None:
    with serving(answer(*[[1, 0]] * 128), answer(*[[0, 1]] * 2)) as server:
        found = embedder(server).embed([f"text {number}" for number in range(130)])

    assert [len(body["input"]) for body in server.bodies] == [128, 2]
    assert server.bodies[1]["input"] == ["text 128", "text 129"]
    assert [numbers(vector) for vector in found] == [(1, 0)] * 128 + [(0, 1)] * 2


def test_a_text_of_bytes_that_could_be_too_many_tokens_is_cut_and_large_ones_share_no_request() -> None:
    long = "é" * 100_000
    with serving(answer([1, 0], [1, 0]), answer([1, 0])) as server:
        embedder(server, max_text_bytes=99_999).embed([long, long, long])
        embedder(server).embed([long])

    assert [len(body["input"]) for body in server.bodies] == [2, 1, 1]
    assert [len(body["input"][0].encode()) for body in server.bodies] == [99_998, 99_998, 8_000]


def test_what_openai_refuses_as_a_text_is_not_sent() -> None:
    with serving(answer([1, 0], [1, 0], [1, 0])) as server:
        embedder(server).embed(["", " \n", "half a pair \ud83d"])

    assert server.bodies[0]["input"] == ["(empty)", "(empty)", "half a pair ?"]


def test_nothing_is_asked_for_no_texts() -> None:
    with serving(answer([1, 0])) as server:
        assert embedder(server).embed([]) == []

    assert server.bodies == []


def test_each_request_is_reported_with_its_tokens_and_dollars() -> None:
    told: list[EmbeddingCall] = []
    with serving(answer(*[[1, 0]] * 128, tokens=1_000_000), answer([1, 0], tokens=500_000)) as server:
        embedder(server, on_usage=told.append).embed(["text"] * 129)

    assert [(call.model, call.texts, call.input_tokens) for call in told] == [
        (MODEL, 128, 1_000_000),
        (MODEL, 1, 500_000),
    ]
    assert [call.cost_usd for call in told] == [pytest.approx(0.02), pytest.approx(0.01)]


@pytest.mark.parametrize(
    ("model", "tokens", "pricing", "cost"),
    [
        ("nomic-embed-text", 1_000, None, None),
        (MODEL, None, None, None),
        (MODEL, 1_000_000, {MODEL: {"input": 7.0, "output": 0.0}}, 7.0),
        (f"openai/{MODEL}", 1_000_000, None, 0.02),
    ],
)
def test_a_price_that_nobody_knows_is_none_and_not_zero(
    model: str, tokens: int | None, pricing: dict[str, dict[str, float]] | None, cost: float | None
) -> None:
    told: list[EmbeddingCall] = []
    with serving(answer([1, 0], tokens=tokens)) as server:
        embedder(server, model=model, pricing=pricing, on_usage=told.append).embed(["text"])

    assert told == [EmbeddingCall(model=model, texts=1, input_tokens=tokens, cost_usd=cost)]


def test_an_answer_that_cannot_be_used_was_billed_all_the_same() -> None:
    told: list[EmbeddingCall] = []
    with serving(answer([0, 0], tokens=5)) as server, pytest.raises(EmbeddingError, match="no usable embedding"):
        embedder(server, on_usage=told.append).embed(["text"])

    assert [call.input_tokens for call in told] == [5]


@pytest.mark.parametrize("status", [400, 401, 429, 500])
def test_a_refusal_is_one_error_without_key_or_text(status: int) -> None:
    refusal = {"error": {"message": f"no, {KEY} sent: private matter", "type": "invalid_request_error"}}
    with serving(refusal, status=status) as server, pytest.raises(EmbeddingError) as raised:
        embedder(server).embed(["private matter"])

    assert str(status) in str(raised.value)
    assert KEY not in str(raised.value)
    assert "private matter" not in str(raised.value)
    assert isinstance(raised.value.__cause__, openai.APIStatusError)


def test_a_server_that_is_not_there_is_the_same_error() -> None:
    with serving(answer([1, 0])) as server:
        pass

    with pytest.raises(EmbeddingError, match="APIConnectionError"):
        embedder(server).embed(["text"])


@pytest.mark.parametrize(
    "nonsense",
    [
        "<html>welcome</html>",
        {"data": None},
        {"data": []},
        {"data": [{"index": 0, "embedding": None}]},
        {"data": [{"index": 0, "embedding": ["x"]}]},
        {"data": [{"index": 0, "embedding": []}]},
        {"data": [{"index": 0, "embedding": [math.inf]}]},
        {"data": [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [1.0]}]},
        {},
        [],
    ],
    ids=str,
)
def test_an_answer_without_a_vector_for_each_text_is_an_error(nonsense: object) -> None:
    with serving(nonsense) as server, pytest.raises(EmbeddingError):
        embedder(server).embed(["text"])


def test_vectors_of_another_size_than_before_are_an_error() -> None:
    with serving(answer([1, 0]), answer([1, 0, 0])) as server:
        asking = embedder(server)
        asking.embed(["text"])
        with pytest.raises(EmbeddingError, match=r"\[3\] dimensions, not 2"):
            asking.embed(["text"])


async def test_an_asynchronous_client_is_awaited() -> None:
    with serving(answer([1, 0])) as server:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as client:
            asking = OpenAIEmbedder(client, model=MODEL)
            found = await asyncio.gather(*(aembed(asking, ["text"]) for _ in range(3)))
            with pytest.raises(ConfigError, match="asynchronously"):
                asking.embed(["text"])

    assert [[numbers(vector) for vector in vectors] for vectors in found] == [[(1, 0)]] * 3


async def test_a_failure_of_an_asynchronous_client_is_the_same_error() -> None:
    with serving({"error": {"message": KEY}}, status=401) as server:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as client:
            with pytest.raises(EmbeddingError, match="401"):
                await OpenAIEmbedder(client, model=MODEL).aembed(["text"])


async def test_a_synchronous_client_is_awaited_in_a_thread() -> None:
    with serving(answer([1, 0])) as server:
        asking: AsyncEmbedder = embedder(server)
        assert [numbers(vector) for vector in await asking.aembed(["text"])] == [(1, 0)]


@pytest.mark.parametrize("options", [{"dimensions": 0}, {"max_text_bytes": 0}, {"max_text_bytes": 300_000}])
def test_numbers_out_of_range_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        OpenAIEmbedder(openai.OpenAI(api_key=KEY), model=MODEL, **options)  # type: ignore[arg-type]  # a table of them
