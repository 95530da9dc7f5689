"""Todo list and recall: what the model keeps in sight, and how it gets back what it no longer sees."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from agent import ReActAgent, Reply, ScriptedModel, TodoList, Toolbox, recall_tool, standard_tools
from agent import call as script_call
from agent.tools import TodoItem, Tool
from memory import CompressionStrategy, MemoryConfig, MemoryManager
from memory.messages import ToolCall, ToolResult
from memory.native import to_wire
from memory.sessions.sqlite import SqliteSessionStore


async def use(tool: Tool, **arguments: object) -> ToolResult:
    return await Toolbox([tool]).call(ToolCall(id="c1", name=tool.name, arguments=json.dumps(arguments)))


# --- Todo


async def test_a_list_is_written_changed_and_shown_whole() -> None:
    todo = TodoList()
    tool = todo.tool()

    await use(tool, items=[{"text": "read"}, {"text": "write", "status": "doing"}])
    result = await use(tool, changes=[{"number": 1, "status": "done"}, {"number": 2, "text": "write tests"}])

    assert result.text == "Todo list, 1 of 2 done:\n1. [x] read\n2. [>] write tests"
    assert todo.items == (TodoItem(text="read", status="done"), TodoItem(text="write tests", status="doing"))
    assert (await use(tool)).text == result.text == str(todo)


async def test_an_empty_list_is_said_to_be_empty() -> None:
    assert (await use(TodoList().tool())).text == "The todo list is empty."


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"changes": [{"number": 1, "status": "done"}, {"number": 3, "status": "done"}]}, "there is no item 3"),
        ({"changes": [{"number": 0, "status": "done"}]}, "there is no item 0"),
        ({"items": [{"text": " "}]}, "item 1 is empty"),
        ({"items": [{"text": "x" * 501}]}, "at most 500"),
        ({"items": [{"text": "x"}] * 101}, "at most 100"),
        ({"items": [{"text": "x", "status": "maybe"}]}, "status"),
    ],
)
async def test_a_change_that_cannot_be_made_changes_nothing(arguments: dict[str, object], said: str) -> None:
    todo = TodoList((TodoItem(text="a"), TodoItem(text="b")))

    result = await use(todo.tool(), **arguments)

    assert result.is_error
    assert said in result.text
    assert todo.items == (TodoItem(text="a"), TodoItem(text="b"))


async def test_two_changes_in_one_answer_are_both_made() -> None:
    todo = TodoList(tuple(TodoItem(text=f"step {number}") for number in range(1, 21)))
    calls = [
        ToolCall(id=str(n), name="todo", arguments=json.dumps({"changes": [{"number": n, "status": "done"}]}))
        for n in range(1, 21)
    ]

    await Toolbox([todo.tool()]).call_all(calls)

    assert str(todo).startswith("Todo list, 20 of 20 done:")


def test_only_the_newest_result_of_the_todo_tool_matters() -> None:
    toolbox = Toolbox([TodoList().tool(), len_of])

    assert toolbox.keeps_newest("todo")
    assert not toolbox.keeps_newest("len_of")
    assert not toolbox.keeps_newest("made_up")


def len_of(text: str) -> int:
    """Return a length."""
    return len(text)


def test_a_schema_says_everything_where_it_is_used() -> None:
    schema = json.dumps(TodoList().tool().schema)

    assert "$ref" not in schema
    assert "$defs" not in schema
    assert '"title"' not in schema


def texts(memory: MemoryManager) -> list[object]:
    return [to_wire(message).get("content") for message in memory.messages]


@pytest.mark.parametrize("strategy", list(CompressionStrategy))
def test_the_newest_list_stands_in_the_context_after_every_compression(strategy: CompressionStrategy) -> None:
    def read_page(number: int) -> str:
        """Read a page."""
        return f"page {number}: " + " ".join(f"word{number}x{n}" for n in range(300))

    steps = [Reply("plan", [script_call("todo", items=[{"text": f"read page {n}"} for n in range(1, 9)])])]
    for n in range(1, 9):
        steps.append(Reply("", [script_call("read_page", number=n)]))
        steps.append(Reply("", [script_call("todo", changes=[{"number": n, "status": "done"}])]))
    config = MemoryConfig(
        max_context_tokens=6_000, compression_threshold=2_500, short_term_size=2, compression_strategy=strategy
    )
    todo = TodoList()
    in_sight: list[bool] = []
    agent = ReActAgent(
        ScriptedModel([*steps, Reply("done")]),
        tools=[todo.tool(), read_page],
        memory=MemoryManager(config, None, model="gpt-4o-mini"),
        on_step=lambda step: in_sight.append(str(todo) in texts(agent.memory)),
    )

    asyncio.run(agent.run("Read the manual."))

    assert agent.memory.get_stats()["compression_count"] > 1
    assert str(todo).startswith("Todo list, 8 of 8 done:")
    assert all(in_sight)


# --- Recall


@pytest.fixture
def memory() -> MemoryManager:
    """A memory that has compressed all but its newest messages away."""
    memory = MemoryManager(MemoryConfig(compression_threshold=1_000, short_term_size=2), model="gpt-4o-mini")
    memory.add_message_sync({"role": "user", "content": "Read the manual and tell me what valve 21 does."})
    for n in range(1, 30):
        page = f"Page {n}. Valve V-{n} opens at {n * 3} bar. " + "The text goes on. " * 20
        memory.add_message_sync({"role": "assistant", "content": page})
    return memory


async def test_words_find_messages_with_their_references(memory: MemoryManager) -> None:
    text = (await use(recall_tool(memory), words="valve V-5", limit=2)).text

    assert "data" in text.splitlines()[0]
    assert text.splitlines()[1].startswith("r6 (assistant): Page 5. Valve V-5 opens at 15 bar.")
    assert len(text.splitlines()) == 4
    assert text.endswith("[recall with reference=r6 shows that message whole]")


@pytest.mark.parametrize("reference", ["r6", " r6 ", "[r6]", "6"])
async def test_a_reference_fetches_the_message_whole(memory: MemoryManager, reference: str) -> None:
    result = await use(recall_tool(memory), reference=reference)

    assert not result.is_error
    assert "Page 5. Valve V-5 opens at 15 bar." in result.text


async def test_a_long_message_comes_in_pages_that_join_without_a_gap() -> None:
    memory = MemoryManager(MemoryConfig(), model="gpt-4o-mini")
    original = " ".join(map(str, range(20_000)))
    memory.add_message_sync({"role": "user", "content": original})
    tool = recall_tool(memory, page_characters=10_000)
    read = ""

    while len(read) < len(original):
        heading, page = (await use(tool, reference="r1", offset=len(read))).text.split("\n", 1)
        assert len(page) <= 10_000
        read += page

    assert read == original
    assert "go on with" not in heading


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"reference": "r999"}, "no message 'r999'"),
        ({"reference": "the plan"}, "references look like"),
        ({"reference": "r6", "offset": 10**9}, "behind its end"),
        ({}, "give a reference"),
        ({"words": "  "}, "give a reference"),
    ],
)
async def test_a_request_that_finds_nothing_is_an_answer_to_learn_from(
    memory: MemoryManager, arguments: dict[str, object], said: str
) -> None:
    result = await use(recall_tool(memory), **arguments)

    assert result.is_error
    assert said in result.text


async def test_other_conversations_are_found_and_read_where_they_are_kept(memory: MemoryManager) -> None:
    assert (await use(recall_tool(memory), words="valve", scope="all")).is_error
    store = SqliteSessionStore(":memory:")
    with MemoryManager(model="gpt-4o-mini", dialect="anthropic", store=store) as other:
        other.add_message_sync(
            {"role": "user", "content": [{"type": "text", "text": "the spare rotor is in shelf 12"}]}
        )
        session = other.session_id
    tool = recall_tool(MemoryManager(model="gpt-4o-mini", store=store))

    found = (await use(tool, words="spare rotor", scope="all")).text
    read = (await use(tool, reference=f"{session}:r1")).text

    assert f"{session}:r1 (user, another conversation, 20" in found
    assert read.endswith("\nthe spare rotor is in shelf 12")
    assert (await use(tool, words="spare rotor")).text.startswith("None of the 0 archived messages")
    assert (await use(tool, reference=f"{session}:r2")).is_error


async def test_words_that_occur_nowhere_say_how_much_was_searched(memory: MemoryManager) -> None:
    text = (await use(recall_tool(memory), words="submarine")).text

    assert text.startswith(f"None of the {len(memory.archive)} archived messages contains 'submarine'.")


async def test_a_result_of_a_tool_is_recalled_in_each_format() -> None:
    anthropic = MemoryManager(dialect="anthropic", model="claude-sonnet-4-5")
    for message in [
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "weather", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "hail"}]},
    ]:
        anthropic.add_message_sync(message)

    assert (await use(recall_tool(anthropic), reference="r3")).text.endswith("\nhail")


async def test_the_memory_may_be_made_after_its_tool() -> None:
    made: list[MemoryManager] = []
    tool = recall_tool(lambda: made[0])
    made.append(MemoryManager(model="gpt-4o-mini"))
    made[0].add_message_sync({"role": "user", "content": "hello"})

    assert (await use(tool, reference="r1")).text.endswith("hello")


# --- All together


def test_the_standard_tools_are_those_that_were_allowed(tmp_path: Path, memory: MemoryManager) -> None:
    looking = [tool.name for tool in standard_tools(tmp_path)]
    everything = [t.name for t in standard_tools(tmp_path, memory=memory, allow_writes=True, allow_commands=True)]

    assert looking == ["list_files", "read_file", "search_files", "calculator", "todo"]
    assert set(everything) - set(looking) == {"write_file", "edit_file", "run_command", "recall"}
