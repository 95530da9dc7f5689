"""Made-up agent loops for the benchmarks, in OpenAI's chat format; the same arguments always give the same loop.

The text is invented, but shaped like what agents see: source files, search hits, test reports, listings and JSON, full
of paths, identifiers and numbers. Sizes follow what a collection of 108 recorded runs showed: a message has 112 tokens
in the median and 530 in the mean, because a few tool results are very long.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, TypeAlias

Message: TypeAlias = dict[str, Any]

RECORDED_MEAN_TOKENS = 480
RECORDED_SPREAD = 1.6
"""Standard deviation of the logarithm of a tool result's size."""
_LONGEST_TOKENS = 8_000
"""No result is longer; agents' own tools cut there."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_VERBS = _words("load save parse check build merge apply close fetch render update resolve validate encode retry flush")
_NOUNS = _words("order invoice session account cursor token region report widget ledger packet channel profile batch")
_FILLERS = _words(
    "the a this that because then again still before after while now first next only when every other same new old "
    "value call test line case path error result field change reason behaviour default caller option"
)
_THOUGHTS = ("Let me look at", "The failure may come from", "I should check", "Next I will read", "It seems we need")
_TOOLS = ("read_file", "search", "run_tests", "list_dir", "query")
_BYTE_RANGE = 65_536


def react_loop(
    message_count: int, *, mean_tokens: int, count: Callable[[str], int], spread: float = 0.0, seed: int = 7
) -> list[Message]:
    """Return a system prompt, a task, and then calls and their results in turn.

    Args:
        message_count: How many messages there are in all.
        mean_tokens: Size of a message in the mean: half of them are calls of 50 to 100 tokens, results have the rest.
        count: Counts a text's tokens; decides where a result ends.
        spread: How unequal the results are: the standard deviation of the logarithm of their size. 0: all alike.
        seed: Another number, another loop.
    """
    random = Random(seed)
    messages = list(_opening(random))
    number = 0
    while len(messages) < message_count:
        number += 1
        messages += _step(random, number, mean_tokens, spread, count)
    return messages[:message_count]


def _opening(random: Random) -> Iterator[Message]:
    rules = "\n".join(f"- {_sentence(random, 14)}" for _ in range(20))
    yield {"role": "system", "content": f"You are a coding agent. Use the tools; keep to the rules.\n{rules}"}
    yield {"role": "user", "content": f"Make {_path(random)} pass its tests. {_sentence(random, 30)}"}


def _step(
    random: Random, number: int, mean_tokens: int, spread: float, count: Callable[[str], int]
) -> tuple[Message, Message]:
    tool = random.choice(_TOOLS)
    arguments = json.dumps({"path": _path(random), "pattern": _name(random)})
    thought = f"{random.choice(_THOUGHTS)} {_sentence(random, max(8, mean_tokens // 10))}"
    call_id = f"call_{random.getrandbits(48):012x}"
    call = {"id": call_id, "type": "function", "function": {"name": tool, "arguments": arguments}}
    wanted = 2 * mean_tokens - count(thought) - count(arguments) - 15
    size = wanted * math.exp(random.gauss(-(spread**2) / 2, spread)) if spread else wanted
    return (
        {"role": "assistant", "content": thought, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call_id, "content": _result(random, tool, size, count)},
    )


def _result(random: Random, tool: str, size: float, count: Callable[[str], int]) -> str:
    """Write lines of one kind until the size is reached."""
    lines: list[str] = []
    tokens = 0
    while tokens < min(size, _LONGEST_TOKENS):
        lines.append(_LINES[tool](random))
        tokens += count(lines[-1]) + 1
    # The last line is cut so that small results have the size that was asked for, not that of their lines.
    excess = (tokens - size) / max(1, tokens) if tokens > size else 0.0
    text = "\n".join(lines)
    return text[: max(1, int(len(text) * (1 - excess)))] if text else "ok"


def _source_line(random: Random) -> str:
    indent = "    " * random.randint(0, 3)
    return f"{indent}{_name(random)} = self.{_name(random)}({random.choice(_NOUNS)}, limit={random.randint(1, 999)})"


def _hit(random: Random) -> str:
    return f"{_path(random)}:{random.randint(1, 900)}: {_name(random)}({_sentence(random, 3)})"


def _test_line(random: Random) -> str:
    if random.random() < 0.08:
        return f"E   ValueError: {_sentence(random, 6)} (got {random.randint(0, 9999)})"
    return f"tests/test_{random.choice(_NOUNS)}.py::test_{_name(random)} PASSED [{random.randint(1, 100)}%]"


def _listing_line(random: Random) -> str:
    day = f"2025-0{random.randint(1, 9)}-1{random.randint(0, 9)}"
    return f"-rw-r--r-- {random.randrange(_BYTE_RANGE):>8} {day} {_path(random)}"


def _record(random: Random) -> str:
    return json.dumps(
        {
            "id": f"{random.choice(_NOUNS)[:3].upper()}-{random.randint(10_000, 99_999)}",
            "state": random.choice(_VERBS),
            "total": round(random.uniform(1, 900), 2),
            "note": _sentence(random, 5),
        }
    )


_LINES: dict[str, Callable[[Random], str]] = {
    "read_file": _source_line,
    "search": _hit,
    "run_tests": _test_line,
    "list_dir": _listing_line,
    "query": _record,
}


def _name(random: Random) -> str:
    return f"{random.choice(_VERBS)}_{random.choice(_NOUNS)}_{random.randint(1, 60)}"


def _path(random: Random) -> str:
    return f"src/{random.choice(_NOUNS)}/{random.choice(_VERBS)}_{random.choice(_NOUNS)}.py"


def _sentence(random: Random, words: int) -> str:
    chosen = (random.choice(_FILLERS if random.random() < 0.6 else _NOUNS) for _ in range(words))
    return " ".join(chosen) + "."
