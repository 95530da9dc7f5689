"""Memory for every conversation that goes through LiteLLM. The memory is the lines marked with <--; no key, no network.

A simulated provider answers; leave `api_base` and `api_key` out, and LiteLLM asks the real one. In the proxy's
`config.yaml` the hook is named under `litellm_settings: callbacks`.

Needs `pip install 'aloop-memory[litellm]'`. Run it from the root of the repository:
`.venv/bin/python examples/litellm_hook.py`
"""

import asyncio
import json
import os
from typing import Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # its own prices, without asking the network
import litellm

from memory import MemoryConfig, MemoryManager, format_stats
from memory.integrations.litellm import MemoryHook
from memory.testing.simulators import Call, ProviderSimulator, Turn

PAGES = 30
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "read_page",
            "description": "Read a page of the manual.",
            "parameters": {"type": "object", "properties": {"number": {"type": "integer"}}},
        },
    }
]


def new_memory() -> MemoryManager:
    config = MemoryConfig(max_context_tokens=8_000, compression_threshold=4_000, short_term_size=6)
    return MemoryManager(config, model="gpt-4o-mini")


def read_page(number: int) -> str:
    return f"Page {number}: valve V-{number * 7} opens at {number * 3} bar. " + "The text goes on and on. " * 60


async def run(task: str, **arguments: Any) -> str:
    """Call the model until it answers: a loop that knows nothing of any memory."""
    messages: list[Any] = [{"role": "user", "content": task}]
    while True:
        response: Any = await litellm.acompletion("openai/gpt-4o-mini", messages=messages, tools=TOOLS, **arguments)
        message = response.choices[0].message
        messages.append(message)
        if not message.tool_calls:
            return str(message.content)
        for call in message.tool_calls:
            number = json.loads(call.function.arguments)["number"]
            messages.append({"role": "tool", "tool_call_id": call.id, "content": read_page(number)})


async def main() -> None:
    hook = MemoryHook(new_memory)  # <--
    litellm.callbacks = [hook]  # <--
    litellm.disable_aiohttp_transport = True  # the other one complains when a script ends
    answers = [*(Turn(calls=[Call("read_page", {"number": n})]) for n in range(1, PAGES + 1)), Turn("Valve V-21.")]
    with ProviderSimulator("openai_chat", answers) as server:
        where = {"api_base": server.base_url, "api_key": "none"}
        print(await run("Which valve opens at 9 bar?", metadata={"session_id": "s1"}, **where))  # <-- the session id
        sizes = [len(json.dumps(exchange.body["messages"])) for exchange in server.requests]
    print(f"\nCharacters in the longest of {len(sizes)} requests: {max(sizes):,}\n")
    print(format_stats(hook.memory("s1").get_stats()))


if __name__ == "__main__":
    asyncio.run(main())
