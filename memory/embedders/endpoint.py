"""Any endpoint that speaks OpenAI's embeddings format, through the client that the program has."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from ..errors import ConfigError, EmbeddingError
from ..prices import PriceBook, PriceTable
from ..usage import read_usage
from .protocol import Vector, sendable, unit_vector

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI

_PRICES: Final[PriceTable] = {
    "text-embedding-3-small": {"input": 0.02, "output": 0.0},
    "text-embedding-3-large": {"input": 0.13, "output": 0.0},
    "text-embedding-ada-002": {"input": 0.10, "output": 0.0},
}
"""USD per million tokens (https://openai.com/api/pricing, 2026-06); genai-prices knows none of these."""
_MAX_TEXT_BYTES: Final = 8_000
"""A token has at least one byte, so this never exceeds the 8,192 tokens that OpenAI's models take of a text."""
_BATCH_TEXTS: Final = 128
_BATCH_BYTES: Final = 250_000
"""By the same reason below the 300,000 tokens of a request. Both limits: `openai/types/embedding_create_params.py`."""
_EMPTY: Final = "(empty)"
"""Stands in for a text of nothing but blanks, which OpenAI refuses with a 400."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingCall:
    """What one request to an endpoint used."""

    model: str
    texts: int
    input_tokens: int | None
    """None: the server did not say."""
    cost_usd: float | None
    """None: tokens or price are not known."""


class OpenAIEmbedder:
    """Embeds through a client of the `openai` SDK: OpenAI, Azure, or any server with `/v1/embeddings`.

    Imports no SDK: key, address, time limits and retries are the client's. Both kinds of client do: `aembed` runs a
    synchronous one in a thread, `embed` needs one. As safe to share between threads as the client is.

    Args:
        client: `openai.OpenAI(…)` or `openai.AsyncOpenAI(…)`.
        model: As the server calls it.
        dimensions: Asks the server for vectors of this size; its model's own if left out.
        name: Under which the vectors are stored, if another server's model has the same name and other weights.
        max_text_bytes: Of each text this much is sent; less for servers that refuse what their model cannot read.
        pricing: USD per million tokens by model, as in `MemoryConfig.pricing`; wins over the prices known here.
        on_usage: Is told of each request that was answered, in the thread or task that embeds, before its vectors are
            looked at: what cannot be used is billed too.

    Raises:
        ConfigError: A number is out of range, or a price is none.
    """

    def __init__(
        self,
        client: OpenAI | AsyncOpenAI,
        *,
        model: str,
        dimensions: int | None = None,
        name: str | None = None,
        max_text_bytes: int = _MAX_TEXT_BYTES,
        pricing: PriceTable | None = None,
        on_usage: Callable[[EmbeddingCall], object] | None = None,
    ) -> None:
        if dimensions is not None and dimensions < 1:
            raise ConfigError(f"dimensions must be at least 1, or None for the model's own, got {dimensions!r}")
        if not 1 <= max_text_bytes <= _BATCH_BYTES:
            raise ConfigError(f"max_text_bytes must be in [1, {_BATCH_BYTES:,}], got {max_text_bytes!r}")
        self.model = model
        self.name = name or (model if dimensions is None else f"{model}@{dimensions}")
        self.dimensions = dimensions
        # Beyond this type only the one method counts, whose two kinds differ in what they return.
        self._create: Callable[..., Any] = client.embeddings.create
        self._options: Mapping[str, int] = {} if dimensions is None else {"dimensions": dimensions}
        self._max_text_bytes = max_text_bytes
        self._prices = PriceBook(pricing, table=_PRICES)
        self._on_usage = on_usage

    def telling(self, on_usage: Callable[[EmbeddingCall], object]) -> Self:
        """Return the same embedder, which tells of each request to this function too: a memory books it so."""

        def tell(call: EmbeddingCall) -> None:
            if before is not None:
                before(call)
            on_usage(call)

        before, other = self._on_usage, copy.copy(self)
        other._on_usage = tell
        return other

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        """Return a vector for each text. One request for each 128 texts or 250,000 bytes.

        Raises:
            EmbeddingError: A request failed, or its answer holds other than a vector for each text.
            ConfigError: The client is an asynchronous one.
        """
        if inspect.iscoroutinefunction(self._create):
            raise ConfigError("this client answers only asynchronously: use `await aembed(…)`, or pass `openai.OpenAI`")
        vectors: list[Vector] = []
        for batch in self._batches(texts):
            with self._failures():
                response = self._create(**self._request(batch))
            vectors += self._read(response, len(batch))
        return vectors

    async def aembed(self, texts: Sequence[str]) -> list[Vector]:
        """Return what `embed` returns, without blocking the event loop."""
        if not inspect.iscoroutinefunction(self._create):
            import asyncio  # `import memory` leaves it to those who await

            return await asyncio.to_thread(self.embed, texts)
        vectors: list[Vector] = []
        for batch in self._batches(texts):
            with self._failures():
                response = await self._create(**self._request(batch))
            vectors += self._read(response, len(batch))
        return vectors

    def _batches(self, texts: Sequence[str]) -> Iterator[list[str]]:
        batch: list[str] = []
        room = _BATCH_BYTES
        for text in texts:
            sent = sendable(text, max_bytes=self._max_text_bytes)
            size = len(sent.encode())
            if batch and (len(batch) == _BATCH_TEXTS or size > room):
                yield batch
                batch, room = [], _BATCH_BYTES
            batch.append(sent if sent.strip() else _EMPTY)
            room -= size
        if batch:
            yield batch

    def _request(self, batch: Sequence[str]) -> dict[str, Any]:
        # Without a format the SDK asks for base64, which not every server knows.
        return {"model": self.model, "input": list(batch), "encoding_format": "float", **self._options}

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # the user's client: anything may come out of it, with a key or a text inside
            status = getattr(error, "status_code", None)
            said = type(error).__name__ + (f" ({status})" if isinstance(status, int) else "")
            raise EmbeddingError(f"the request for embeddings by {self.model!r} failed with {said}") from error

    def _read(self, response: object, texts: int) -> list[Vector]:
        self._report(response, texts)
        try:
            answers: list[Any] = sorted(response.data, key=lambda one: one.index)  # type: ignore[attr-defined]  # checked
            vectors = [unit_vector(one.embedding) for one in answers]
        except (AttributeError, TypeError) as error:
            raise EmbeddingError(
                f"the answer for {self.model!r} holds no embeddings; is the client's base_url that of an API?"
            ) from error
        if len(vectors) != texts:
            raise EmbeddingError(f"{self.model!r} answered {texts} texts with {len(vectors)} embeddings")
        self._check_dimensions({len(vector) // 4 for vector in vectors})
        return vectors

    def _check_dimensions(self, found: set[int]) -> None:
        if len(found | {self.dimensions or next(iter(found))}) > 1:
            raise EmbeddingError(
                f"{self.model!r} answered with vectors of {sorted(found)} dimensions, not {self.dimensions}"
            )
        (self.dimensions,) = found

    def _report(self, response: object, texts: int) -> None:
        if self._on_usage is None:
            return
        usage = read_usage(response)
        tokens = None if usage is None else usage.input_tokens
        self._on_usage(
            EmbeddingCall(model=self.model, texts=texts, input_tokens=tokens, cost_usd=self._cost_usd(tokens))
        )

    def _cost_usd(self, tokens: int | None) -> float | None:
        if tokens is None:
            return None
        rates = self._prices.rates(self.model, input_tokens=tokens)
        return None if rates.is_default else rates.cost_usd(input_tokens=tokens, output_tokens=0)
