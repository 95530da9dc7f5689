"""A loop on OpenAI's Responses, and the two lines that give it a memory.

It asks a simulated OpenAI on this machine; with --real the real one, which costs
money and needs OPENAI_API_KEY.

Needs the SDK: `.venv/bin/pip install -e '.[openai]'`. Run it:
`.venv/bin/python examples/with_openai_responses.py`
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
TOOLS: Any = [{"type": "function", "name": "read_page", "parameters": SCHEMA}]


def read_page(number: int) -> str:
    """A tool with long results."""
    return f"Page {number}: valve V-{number * 7} opens at {number * 3} bar. " + "And so on, at length. " * 400


def loop(client: OpenAI) -> str:
    """Answer the task; this is written as if there were no memory."""
    items: list[Any] = [{"role": "user", "content": TASK}]
    while True:
        response = client.responses.create(model="gpt-4o-mini", input=items, tools=TOOLS, store=False)
        items += response.output
        calls = [item for item in response.output if item.type == "function_call"]
        if not calls:
            return response.output_text
        for call in calls:
            result = read_page(**json.loads(call.arguments))
            items.append({"type": "function_call_output", "call_id": call.call_id, "output": result})


def main() -> None:
    """Run the loop and show what the memory did."""
    script = [*(Turn(calls=[Call("read_page", {"number": page})]) for page in range(1, 31)), Turn("V-21.")]
    with ProviderSimulator("openai_responses", script) as server:
        is_real = "--real" in sys.argv
        client = OpenAI() if is_real else OpenAI(base_url=server.base_url, api_key="test")
        client = with_memory(client, memory := MemoryManager())  # memory: line 2 of 2
        print(loop(client))
        print(format_stats(memory.get_stats()))  # what it did


if __name__ == "__main__":
    main()
