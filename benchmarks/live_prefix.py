"""What a summary costs that is written behind the loop's own context, and one that quotes the messages.

An agent reads a manual, over the real SDKs and the providers that are simulated on this machine; each of its summaries
is made once each way. Tokens and cache reads are what the simulated provider reported, prices those of genai-prices.

    python benchmarks/live_prefix.py [--threshold 30000] [--pages 70]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from agent import ReActAgent, connect  # noqa: E402
from memory import MemoryConfig, MemoryManager  # noqa: E402
from memory.messages import DialectName  # noqa: E402
from memory.testing.simulators import Call, ProviderSimulator, Request, Turn  # noqa: E402
from memory.tracker import Totals  # noqa: E402


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    name: str
    dialect: DialectName
    model: str


PROVIDERS = (
    Provider(name="openai", dialect="openai_chat", model="gpt-4.1"),
    Provider(name="openai-responses", dialect="openai_responses", model="gpt-4.1"),
    Provider(name="anthropic", dialect="anthropic", model="claude-sonnet-4-6"),
)
SUMMARY = "## State of the work\n" + "Page after page was read; none of them names the valve V-99. " * 40


def page(number: int) -> str:
    """Read a page of the manual."""
    return f"Page {number}. " + " ".join(f"Valve V-{number}{n} opens at {n} bar, says table {n}." for n in range(90))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threshold", type=int, default=30_000)
    parser.add_argument("--pages", type=int, default=70)
    options = parser.parse_args()
    print(
        f"{'provider':18}{'model':20}{'way':8}{'calls':>6}{'input':>9}{'cached':>9}{'output':>8}{'USD':>9}{'ratio':>7}"
    )
    for provider in PROVIDERS:
        fresh, live = (asyncio.run(summaries(provider, options.threshold, options.pages, way)) for way in (False, None))
        for way, totals in (("fresh", fresh), ("prefix", live)):
            print(_row(provider, way, totals, totals.cost_usd / fresh.cost_usd))
    return 0


async def summaries(provider: Provider, threshold: int, pages: int, on_prefix: bool | None) -> Totals:
    """Return what the summaries of one run used."""
    script: list[Turn | str] = [
        *(Turn(calls=[Call("page", {"number": number})]) for number in range(pages)),
        "V-99 is in none of them.",
    ]
    with ProviderSimulator(provider.dialect, script, aside=_summary) as server:
        url = server.base_url
        async with connect(provider.name, provider.model, api_key="test", base_url=url) as llm:
            config = MemoryConfig(compression_threshold=threshold, short_term_size=4, summary_prefix=on_prefix)
            memory = MemoryManager(config, llm, dialect=provider.dialect, model=llm.model)
            await ReActAgent(llm, tools=[page], memory=memory, max_iterations=pages + 1).run("Where is V-99?")
    return memory.tracker.by_purpose["summary"]


def _summary(request: Request) -> str | None:
    body = json.dumps(request.body)
    return SUMMARY if "You write the working memory" in body or "[Memory] This is a note" in body else None


def _row(provider: Provider, way: str, totals: Totals, ratio: float) -> str:
    counts = f"{totals.calls:>6}{totals.input_tokens:>9,}{totals.cache_read_tokens:>9,}{totals.output_tokens:>8,}"
    return f"{provider.name:18}{provider.model:20}{way:8}{counts}{totals.cost_usd:>9.4f}{ratio:>7.2f}"


if __name__ == "__main__":
    raise SystemExit(main())
