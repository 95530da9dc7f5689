"""Tools: a plain function becomes something a model can call, and whatever happens becomes a text it can read.

The name, the signature and a Google-style docstring are all there is to write:

    toolbox = Toolbox([weather_in])
    result = await toolbox.call(ToolCall(id="c1", name="weather_in", arguments='{"town": "Bergen"}'))
    result.text, result.is_error

Each family of tools that comes with the package has a file of its own; `standard_tools` puts them together.
"""

from .calculator import calculator
from .command import command_tool
from .files import FolderTools
from .recall import recall_tool
from .schemas import ToolFunction
from .standard import standard_tools
from .todo import TodoItem, TodoList
from .tool import Tool, ToolError
from .toolbox import Toolbox

__all__ = [
    "FolderTools",
    "TodoItem",
    "TodoList",
    "Tool",
    "ToolError",
    "ToolFunction",
    "Toolbox",
    "calculator",
    "command_tool",
    "recall_tool",
    "standard_tools",
]
