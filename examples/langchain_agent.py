"""A LangChain agent with a memory. The memory is the lines marked with <--; no key, no network.

Put your model in the place of `Reader()`: `ChatOpenAI(model=...)`, or `ChatAnthropic(model=...)`.

Run it from the root of the repository, after `pip install 'aloop-memory[langchain]'`:
`.venv/bin/python examples/langchain_agent.py`
"""

from collections.abc import Sequence
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.messages.tool import tool_call
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import tool

from memory import MemoryConfig, MemoryManager, format_stats
from memory.integrations.langchain import MemoryMiddleware

PAGES = 30
sizes: list[int] = []


@tool
def read_page(number: int) -> str:
    """Read a page of the manual."""
    valve = f"Page {number}: valve V-{number * 7} opens at {number * 3} bar. "
    return valve + "The text goes on and on. " * 60


class Reader(BaseChatModel):
    """Plays the model: reads every page, then answers."""

    @property
    def _llm_type(self) -> str:
        return "reader"

    def bind_tools(self, tools: Sequence[Any], **_: Any) -> Runnable[LanguageModelInput, AIMessage]:
        return self

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        sizes.append(len(messages))
        number = len(sizes)
        answer = AIMessage("I have read all pages: V-21 opens at 9 bar.")
        if number <= PAGES:
            call = tool_call(name="read_page", args={"number": number}, id=f"page-{number}")
            answer = AIMessage("", tool_calls=[call])
        return ChatResult(generations=[ChatGeneration(message=answer)])


def main() -> None:
    config = MemoryConfig(max_context_tokens=8_000, compression_threshold=4_000, short_term_size=6)
    memory = MemoryManager(config, model="gpt-4o-mini")  # <--
    agent = create_agent(Reader(), [read_page], middleware=[MemoryMiddleware(memory)])  # <--
    task = HumanMessage("Read the manual. Which valve opens at 9 bar?")
    state = agent.invoke({"messages": [task]}, {"recursion_limit": 100})

    print(state["messages"][-1].text)
    print(f"\nMessages in the graph's state: {len(state['messages'])}, all of them.")
    print(f"Sent to the model at most: {max(sizes)}.")
    print(f"Page 3, from the archive: {memory.recall('V-21')[0].excerpt[:40]}\n")
    print(format_stats(memory.get_stats()))


if __name__ == "__main__":
    main()
