"""A ReAct loop to see the memory in: an agent, tools from plain functions, and a model that follows a script."""

from .agent import ReActAgent
from .base import AgentResult, BaseAgent, Step
from .files import FolderTools
from .llm import LLM, LLMResponse
from .scripted import Reply, ScriptedModel, call
from .tools import Tool, Toolbox, ToolError

__all__ = [
    "LLM",
    "AgentResult",
    "BaseAgent",
    "FolderTools",
    "LLMResponse",
    "ReActAgent",
    "Reply",
    "ScriptedModel",
    "Step",
    "Tool",
    "ToolError",
    "Toolbox",
    "call",
]
