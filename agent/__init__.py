"""A ReAct loop to see the memory in: an agent, tools from plain functions, and a model that follows a script."""

from .agent import ReActAgent
from .base import AgentResult, BaseAgent, Step
from .llm import LLM, Delta, LLMResponse, OnDelta, connect
from .scripted import Reply, ScriptedModel, call
from .tools import FolderTools, TodoList, Tool, Toolbox, ToolError, recall_tool, standard_tools

__all__ = [
    "LLM",
    "AgentResult",
    "BaseAgent",
    "Delta",
    "FolderTools",
    "LLMResponse",
    "OnDelta",
    "ReActAgent",
    "Reply",
    "ScriptedModel",
    "Step",
    "TodoList",
    "Tool",
    "ToolError",
    "Toolbox",
    "call",
    "connect",
    "recall_tool",
    "standard_tools",
]
