"""A streaming loop on Anthropic's messages, and the two lines that give it a memory.

It asks a simulated Anthropic on this machine; with --real the real one, which costs
money and needs ANTHROPIC_API_KEY.

Needs the SDK: `.venv/bin/pip install -e '.[anthropic]'`. Run it:
`.venv/bin/python examples/with_anthropic.py`
"""

from __future__ import annotations

import sys
from typing import Any

from anthropic import Anthropic

from memory import MemoryManager, format_stats, with_memory  # memory: line 1 of 2
from memory.testing.simulators import Call, ProviderSimulator, Turn

TASK = "Read the manual page by page. Which valve opens at 9 bar?"
SCHEMA = {"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]}
REQUEST: dict[str, Any] = {
    "model": "claude-sonnet-4-6",
    "max_tokens": 1024,
    "system": "You read technical manuals.",
    "tools": [{"name": "read_page", "input_schema": SCHEMA}],
}


def read_page(number: int) -> str:
    """A tool with long results."""
    return f"Page {number}: valve V-{number * 7} opens at {number * 3} bar. " + "And so on, at length. " * 400


def loop(client: Anthropic) -> None:
    """Answer the task; this is written as if there were no memory."""
    messages: list[Any] = [{"role": "user", "content": TASK}]
    while True:
        with client.messages.stream(messages=messages, **REQUEST) as stream:
            for text in stream.text_stream:
                print(text, end="", flush=True)
            message: Any = stream.get_final_message()
        messages.append({"role": "assistant", "content": message.content})
        if message.stop_reason != "tool_use":
            return
        results = [
            {"type": "tool_result", "tool_use_id": block.id, "content": read_page(**block.input)}
            for block in message.content
            if block.type == "tool_use"
        ]
        messages.append({"role": "user", "content": results})


def main() -> None:
    """Run the loop and show what the memory did."""
    script = [*(Turn(calls=[Call("read_page", {"number": page})]) for page in range(1, 31)), Turn("V-21.\n")]
    with ProviderSimulator("anthropic", script) as server:
        is_real = "--real" in sys.argv
        client = Anthropic() if is_real else Anthropic(base_url=server.base_url, api_key="test")
        client = with_memory(client, memory := MemoryManager())  # memory: line 2 of 2
        loop(client)
        print(format_stats(memory.get_stats()))  # what it did


if __name__ == "__main__":
    main()
