"""Doors into the memory for code that is written already: provider clients, and one module for each framework.

    client = with_memory(OpenAI(), memory)

Importing this package loads no SDK and no framework. A module for a framework (`memory.integrations.langchain`, …)
loads it, and where it is missing says how to install it.
"""

from __future__ import annotations

from .clients import memory_of, with_memory

__all__ = ["memory_of", "with_memory"]
