"""A loop on OpenAI's chat completions, and the two lines that give it a memory.

It asks a simulated OpenAI on this machine; with --real the real one, which costs
money and needs OPENAI_API_KEY.

Needs the SDK: `.venv/bin/pip install -e '.[openai]'`. Run it:
`.venv/bin/python examples/with_openai.py`
"""

from __future__ import annotations

import json
import sys
from typing import Any

from openai import OpenAI

from memory import MemoryManager, format_stats, with_memory  # memory: line 1 of 2
from memory.testing.simulators import Call, ProviderSimulator, Turn

TASK = "Read the manual page by page. Which valve opens at 9 bar?"
SCHEMA = {"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]}
TOOLS: Any = [{"type": "function", "function": {"name": "read_page", "parameters": SCHEMA}}]


def read_page(number: int) -> str:
    """A tool with long results."""
    return f"Page {number}: valve V-{number * 7} opens at {number * 3} bar. " + "And so on, at length. " * 400


def loop(client: OpenAI) -> str:
    """Answer the task; this is written as if there were no memory."""
    messages: list[Any] = [{"role": "user", "content": TASK}]
    while True:
        response = client.chat.completions.create(model="gpt-4o-mini", messages=messages, tools=TOOLS)
        message = response.choices[0].message
        messages.append(message)
        if not message.tool_calls:
            return message.content or ""
        for call in message.tool_calls:
            assert call.type == "function"
            result = read_page(**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})


def main() -> None:
    """Run the loop and show what the memory did."""
    script = [*(Turn(calls=[Call("read_page", {"number": page})]) for page in range(1, 31)), Turn("V-21.")]
    with ProviderSimulator("openai_chat", script) as server:
        is_real = "--real" in sys.argv
        client = OpenAI() if is_real else OpenAI(base_url=server.base_url, api_key="test")
        client = with_memory(client, memory := MemoryManager())  # memory: line 2 of 2
        print(loop(client))
        print(format_stats(memory.get_stats()))  # what it did


if __name__ == "__main__":
    main()
