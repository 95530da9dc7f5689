"""Memory under an agent of the OpenAI Agents SDK. The memory is the lines marked with <--; no key, no network.

The model is played; leave `model=` out, or name one there, and the agent asks OpenAI.

Needs `pip install 'aloop-memory[openai-agents]'`. Run it from the root of the repository:
`.venv/bin/python examples/openai_agents_session.py`
"""

import asyncio
import json
from typing import Any

from agents import Agent, Model, ModelResponse, Runner, Usage, function_tool, set_tracing_disabled
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

from memory import MemoryConfig, MemoryManager, format_stats
from memory.integrations.openai_agents import MemorySession

PAGES = 30


@function_tool
def read_page(number: int) -> str:
    """Read a page of the manual."""
    return f"Page {number}: valve V-{number * 7} opens at {number * 3} bar. " + "The text goes on and on. " * 60


class PlayedModel(Model):
    """Reads every page, then answers."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    async def get_response(self, system_instructions: Any, input: Any, *others: Any, **more: Any) -> ModelResponse:
        self.sizes.append(len(json.dumps(input)))
        number = len(self.sizes)
        tokens = self.sizes[-1] // 4
        usage = Usage(requests=1, input_tokens=tokens, output_tokens=20, total_tokens=tokens + 20)
        return ModelResponse(output=[self.answer(number)], usage=usage, response_id=None)

    def answer(self, number: int) -> Any:
        if number <= PAGES:
            arguments = json.dumps({"number": number})
            return ResponseFunctionToolCall(
                type="function_call", id=f"fc_{number}", call_id=f"call_{number}", name="read_page", arguments=arguments
            )
        text = ResponseOutputText(type="output_text", text="It is valve V-21.", annotations=[])
        return ResponseOutputMessage(
            type="message", id=f"msg_{number}", role="assistant", status="completed", content=[text]
        )

    def stream_response(self, *others: Any, **more: Any) -> Any:
        raise NotImplementedError("this example does not stream")


async def main() -> None:
    set_tracing_disabled(True)
    model = PlayedModel()
    agent = Agent(name="reader", instructions="Answer briefly.", model=model, tools=[read_page])
    config = MemoryConfig(max_context_tokens=8_000, compression_threshold=4_000, short_term_size=6)
    memory = MemoryManager(config, dialect="openai_responses", model="gpt-5-mini")  # <--
    session = MemorySession(memory)  # <--
    task = "Read the manual. Which valve opens at 9 bar?"
    result = await Runner.run(agent, task, max_turns=40, **session.for_run())  # <--
    print(result.final_output)
    print(f"\nCharacters in the longest of {len(model.sizes)} requests: {max(model.sizes):,}")
    print(f"In all that was said: {len(json.dumps(result.to_input_list())):,}\n")
    print(format_stats(memory.get_stats()))


if __name__ == "__main__":
    asyncio.run(main())
