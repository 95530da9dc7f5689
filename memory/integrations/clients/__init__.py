"""A provider's client with a memory: `with_memory`, and what other wrappers of calls are made of.

Loads no SDK: a client is known by its methods, a response by its fields.
"""

from .calls import Call, Link
from .formats import Arguments, ChatCompletions
from .streams import delivered
from .wrapping import memory_of, with_memory

__all__ = ["Arguments", "Call", "ChatCompletions", "Link", "delivered", "memory_of", "with_memory"]
