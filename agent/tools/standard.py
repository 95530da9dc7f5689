"""The tools that `aloop run` gives its agent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from memory import MemoryManager

from .calculator import calculator
from .command import command_tool
from .files import FolderTools
from .recall import recall_tool
from .todo import TodoList
from .tool import Tool


def standard_tools(
    root: Path,
    *,
    memory: MemoryManager | Callable[[], MemoryManager] | None = None,
    todo: TodoList | None = None,
    allow_writes: bool = False,
    allow_commands: bool = False,
) -> list[Tool]:
    """Return tools for work in a folder: files, calculator, todo list, and what is asked for besides.

    Args:
        root: The folder; the file tools cannot leave it.
        memory: Adds `recall` over this memory. A function that returns it, where it is made after the tools are.
        todo: The list to keep; None: a new one.
        allow_writes: Adds the tools that write and edit files.
        allow_commands: Adds `run_command`, which is not confined to the folder.

    Raises:
        NotADirectoryError: There is no folder of that name.
    """
    tools = FolderTools(root, allow_writes=allow_writes).tools()
    if allow_commands:
        tools.append(command_tool(root, allow=True))
    tools += [Tool.from_function(calculator, timeout_seconds=5.0), (todo or TodoList()).tool()]
    if memory is not None:
        tools.append(recall_tool(memory))
    return tools
