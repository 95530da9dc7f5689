"""Turning texts into vectors, so that recall finds what was meant and not only what was said. None unless you pass one.

`LocalEmbedder` runs all-MiniLM-L6-v2 on the processor, `OpenAIEmbedder` asks any endpoint that speaks OpenAI's format,
and whatever has the three members of `Embedder` will do. Importing this loads none of their packages.
"""

from ..errors import EmbeddingError
from .endpoint import EmbeddingCall, OpenAIEmbedder
from .local import LocalEmbedder
from .protocol import AsyncEmbedder, Embedder, Vector, aembed, unit_vector

__all__ = [
    "AsyncEmbedder",
    "Embedder",
    "EmbeddingCall",
    "EmbeddingError",
    "LocalEmbedder",
    "OpenAIEmbedder",
    "Vector",
    "aembed",
    "unit_vector",
]
