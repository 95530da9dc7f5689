"""A Pydantic AI agent with a memory. The memory is the lines marked with <--; no key, no network.

Put your model in the place of `FunctionModel(...)`: "openai:gpt-5-mini", say.

Run it from the root of the repository, after `pip install 'aloop-memory[pydantic-ai]'`:
`.venv/bin/python examples/pydantic_ai_agent.py`
"""

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from memory import MemoryConfig, MemoryManager, format_stats
from memory.integrations.pydantic_ai import ManagedMemory

PAGES = 30
sizes: list[int] = []


def read_page(number: int) -> str:
    """Read a page of the manual."""
    valve = f"Page {number}: valve V-{number * 7} opens at {number * 3} bar. "
    return valve + "The text goes on and on. " * 60


def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Play the model: read every page, then answer."""
    sizes.append(len(messages))
    if len(sizes) > PAGES:
        return ModelResponse([TextPart("I have read all pages: V-21 opens at 9 bar.")])
    return ModelResponse([ToolCallPart("read_page", {"number": len(sizes)})])


def main() -> None:
    config = MemoryConfig(max_context_tokens=8_000, compression_threshold=4_000, short_term_size=6)
    memory = MemoryManager(config)  # <--
    agent = Agent(
        FunctionModel(answer, model_name="gpt-4o-mini"),
        tools=[read_page],
        capabilities=[ManagedMemory(memory)],  # <--
    )
    result = agent.run_sync("Read the manual. Which valve opens at 9 bar?")

    print(result.output)
    print(f"\nMessages in the run's history: {len(result.all_messages())}, all of them.")
    print(f"Sent to the model at most: {max(sizes)}.")
    print(f"Page 3, from the archive: {memory.recall('V-21')[0].excerpt[:40]}\n")
    print(format_stats(memory.get_stats()))


if __name__ == "__main__":
    main()
