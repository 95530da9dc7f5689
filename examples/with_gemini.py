"""An asynchronous loop on Gemini, and the two lines that give it a memory.

It asks a simulated Gemini on this machine; with --real the real one, which costs
money and needs GEMINI_API_KEY.

Needs the SDK: `.venv/bin/pip install -e '.[gemini]'`. Run it:
`.venv/bin/python examples/with_gemini.py`
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from google import genai
from google.genai import types

from memory import MemoryManager, format_stats, with_memory  # memory: line 1 of 2
from memory.testing.simulators import Call, ProviderSimulator, Turn

TASK = "Read the manual page by page. Which valve opens at 9 bar?"
SCHEMA = {"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]}
TOOL = types.FunctionDeclaration(name="read_page", parameters_json_schema=SCHEMA)
CONFIG = types.GenerateContentConfig(tools=[types.Tool(function_declarations=[TOOL])])


def read_page(number: int) -> str:
    """A tool with long results."""
    return f"Page {number}: valve V-{number * 7} opens at {number * 3} bar. " + "And so on, at length. " * 400


async def loop(client: genai.Client) -> str:
    """Answer the task; this is written as if there were no memory."""
    contents: list[Any] = [types.UserContent(TASK)]
    while True:
        response = await client.aio.models.generate_content(model="gemini-2.5-flash", contents=contents, config=CONFIG)
        assert response.candidates
        contents.append(response.candidates[0].content)
        if not response.function_calls:
            return response.text or ""
        results = []
        for call in response.function_calls:
            result = {"result": read_page(**(call.args or {}))}
            response_of_call = types.FunctionResponse(id=call.id, name=call.name, response=result)
            results.append(types.Part(function_response=response_of_call))
        contents.append(types.Content(role="user", parts=results))


async def main() -> None:
    """Run the loop and show what the memory did."""
    script = [*(Turn(calls=[Call("read_page", {"number": page})]) for page in range(1, 31)), Turn("V-21.")]
    with ProviderSimulator("gemini", script) as server:
        simulated = types.HttpOptions(base_url=server.base_url)
        is_real = "--real" in sys.argv
        client = genai.Client() if is_real else genai.Client(http_options=simulated, api_key="test")
        client = with_memory(client, memory := MemoryManager())  # memory: line 2 of 2
        print(await loop(client))
        print(format_stats(memory.get_stats()))  # what it did
        await client.aio.aclose()


if __name__ == "__main__":
    asyncio.run(main())
