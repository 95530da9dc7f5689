"""Memory under an agent of Strands Agents. The memory is the lines marked with <--; no key, no network.

The model is played; put `BedrockModel(...)`, `AnthropicModel(...)` or another of the framework's in its place.

Needs `pip install 'aloop-memory[strands]'`. Run it from the root of the repository:
`.venv/bin/python examples/strands_agent.py`
"""

import json
from collections.abc import AsyncIterator
from typing import Any

from strands import Agent, tool
from strands.models import Model

from memory import MemoryConfig, MemoryManager, format_stats
from memory.integrations.strands import MemoryConversationManager

PAGES = 30


@tool
def read_page(number: int) -> str:
    """Read a page of the manual."""
    return f"Page {number}: valve V-{number * 7} opens at {number * 3} bar. " + "The text goes on and on. " * 60


class PlayedModel(Model):
    """Reads every page, then answers."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    async def stream(self, messages: Any, *others: Any, **more: Any) -> AsyncIterator[Any]:
        self.sizes.append(len(json.dumps(messages)))
        number = len(self.sizes)
        is_reading = number <= PAGES
        yield {"messageStart": {"role": "assistant"}}
        if is_reading:
            use = {"name": "read_page", "toolUseId": f"call_{number}"}
            yield {"contentBlockStart": {"start": {"toolUse": use}}}
            yield {"contentBlockDelta": {"delta": {"toolUse": {"input": json.dumps({"number": number})}}}}
        else:
            yield {"contentBlockDelta": {"delta": {"text": "It is valve V-21."}}}
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "tool_use" if is_reading else "end_turn"}}
        tokens = self.sizes[-1] // 4
        usage = {"inputTokens": tokens, "outputTokens": 20, "totalTokens": tokens + 20}
        yield {"metadata": {"usage": usage, "metrics": {"latencyMs": 0}}}

    def update_config(self, **model_config: Any) -> None: ...

    def get_config(self) -> dict[str, Any]:
        return {"model_id": "claude-haiku-4-5"}

    def structured_output(self, *others: Any, **more: Any) -> Any:
        raise NotImplementedError("this example asks for none")


def main() -> None:
    model = PlayedModel()
    config = MemoryConfig(max_context_tokens=8_000, compression_threshold=4_000, short_term_size=6)
    memory = MemoryManager(config)  # <--
    agent = Agent(
        model=model,
        tools=[read_page],
        conversation_manager=MemoryConversationManager(memory),  # <--
        callback_handler=None,
    )
    print(agent("Read the manual. Which valve opens at 9 bar?"))
    print(f"Characters in the longest of {len(model.sizes)} requests: {max(model.sizes):,}")
    print("And page 3, which left the list long ago, from the archive:")
    print(f"  {memory.recall('V-21')[0].excerpt[:60]}\n")
    print(format_stats(memory.get_stats()))


if __name__ == "__main__":
    main()
