"""The reference agent: tools are plain functions, and several run() calls are one conversation.

Run it from the root of the repository, after `make demo`: `.venv/bin/python examples/react_agent.py`
"""

import asyncio
from collections.abc import Sequence
from textwrap import fill
from typing import Any

from agent import ReActAgent, Reply, ScriptedModel, Step, call
from memory import MemoryConfig, format_stats

STOCK = {"bolts": 1_200, "nuts": 80, "washers": 0}


def stock_of(part: str) -> int:
    """Tell how many pieces of a part are in stock.

    Args:
        part: Name of the part, in the plural.
    """
    return STOCK[part]


async def order(part: str, pieces: int = 100) -> str:
    """Order pieces of a part."""
    return f"ordered {pieces} {part}"


def policy(messages: Sequence[Any], tools: Sequence[Any]) -> Reply:
    """Play the model: it sees the same messages as a real one and decides by them."""
    last = messages[-1]
    if last["role"] == "user" and "stock" in last["content"]:
        return Reply("I look all of them up at once.", [call("stock_of", part=part) for part in [*STOCK, "screws"]])
    if last["role"] == "user":
        return Reply(calls=[call("order", part="washers", pieces="many"), call("order", part="washers")])
    results = [message["content"] for message in messages[-4:] if message["role"] == "tool"]
    return Reply("The tools said: " + "; ".join(results))


def show(step: Step) -> None:
    for made, result in zip(step.response.tool_calls, step.results, strict=True):
        print(f"  {made.name}({made.arguments})")
        print(fill(result.text, 80, initial_indent="    -> ", subsequent_indent="       "))


async def main() -> None:
    agent = ReActAgent(
        llm=ScriptedModel(policy),
        max_iterations=20,
        tools=[stock_of, order],
        memory_config=MemoryConfig(compression_threshold=10_000),
        on_step=show,
    )
    for task in ("What is in stock?", "Order what is missing."):
        print(f"> {task}")
        result = await agent.run(task)
        print(fill(str(result), 80))
        print(f"  ({result.end_reason} after {result.iterations} iterations)\n")
    print(format_stats(agent.memory.get_stats()))


if __name__ == "__main__":
    asyncio.run(main())
