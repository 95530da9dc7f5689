"""A loop of your own on plain OpenAI dicts. The memory is the lines marked with <--; no key, no network.

Put your client in the place of `ask`: `client.chat.completions.create(model=..., messages=..., tools=...)`.

Run it from the root of the repository, after `make demo`: `.venv/bin/python examples/bare_loop.py`
"""

import asyncio
from collections.abc import Sequence
from textwrap import shorten
from typing import Any

from agent import Reply, ScriptedModel, call
from agent.llm import LLMResponse
from memory import MemoryConfig, MemoryManager, format_stats

PAGES = 30


def read_page(number: int) -> str:
    """Stand in for a tool with long results."""
    return f"Page {number}: valve V-{number * 7} opens at {number * 3} bar. " + "The text goes on and on. " * 60


def next_reply(messages: Sequence[Any], tools: Sequence[Any]) -> Reply:
    """Play the model: read every page, then answer."""
    number = len(model.requests) + 1
    return Reply(calls=[call("read_page", number=number)]) if number <= PAGES else Reply("I have read all pages.")


model = ScriptedModel(next_reply)


def ask(messages: list[Any]) -> LLMResponse:
    return asyncio.run(model.call_async(messages))


def main() -> None:
    config = MemoryConfig(max_context_tokens=8_000, compression_threshold=4_000, short_term_size=6)
    memory = MemoryManager(config, model="gpt-4o-mini")
    memory.add_message_sync({"role": "user", "content": "Read the manual. Which valve opens at 9 bar?"})  # <--
    while True:
        response = ask(memory.get_context_for_llm())  # <--
        memory.add_message_sync(response.message, actual_tokens=response.usage)  # <--
        if not response.tool_calls:
            break
        for wanted in response.tool_calls:
            text = read_page(len(model.requests))
            memory.add_message_sync({"role": "tool", "tool_call_id": wanted.id, "content": text})  # <--
    print(response.content)
    print("\nStill in the context, from page 3, which left it long ago:")
    context = "\n".join(str(message) for message in memory.get_context_for_llm())
    print("  V-21" if "V-21" in context else "  nothing")
    print("And the page itself, from the archive:")
    print(f"  {shorten(memory.recall('V-21')[0].excerpt, 70)}")
    print()
    print(format_stats(memory.get_stats()))


if __name__ == "__main__":
    main()
