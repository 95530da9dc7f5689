"""The memory that agent loops run on.

    memory = MemoryManager(MemoryConfig(), llm)
    await memory.add_message(message)
    context = memory.get_context_for_llm()

Importing this package loads no provider SDK, opens no file and prints nothing.
"""

from .archive import Archive, Hit, InMemoryArchive, Record
from .compressor import CompressedMemory, WorkingMemoryCompressor
from .config import CompressionStrategy, CompressionTrigger, MemoryConfig, ToolPolicy
from .dialects import validate
from .errors import (
    AgentMemoryError,
    BudgetExceededError,
    ConfigError,
    ContextOverflowError,
    InvalidMessagesError,
    MessageError,
    MissingDependencyError,
    StalePlanError,
    SummaryError,
    TranscriptError,
    UnknownReferenceError,
)
from .events import Compressed, Degraded, Event, FloorReached, OverBudget
from .integrations import with_memory
from .manager import MemoryManager
from .messages import Issue, LLMMessage
from .repair import Change, Repair, repair
from .short_term import ShortTermMemory
from .stats import format_stats
from .strategies import Action, Decision, Deletion, Masking, Plan, Selective, Situation, SlidingWindow, Strategy, Tiered
from .summarize import ExtractiveSummarizer, ModelSummarizer, Summarizer, Summary, SummaryRequest
from .tokens import TiktokenCounter, TokenCounter
from .tracker import TokenTracker
from .usage import Usage, read_usage

__all__ = [
    "Action",
    "AgentMemoryError",
    "Archive",
    "BudgetExceededError",
    "Change",
    "Compressed",
    "CompressedMemory",
    "CompressionStrategy",
    "CompressionTrigger",
    "ConfigError",
    "ContextOverflowError",
    "Decision",
    "Degraded",
    "Deletion",
    "Event",
    "ExtractiveSummarizer",
    "FloorReached",
    "Hit",
    "InMemoryArchive",
    "InvalidMessagesError",
    "Issue",
    "LLMMessage",
    "Masking",
    "MemoryConfig",
    "MemoryManager",
    "MessageError",
    "MissingDependencyError",
    "ModelSummarizer",
    "OverBudget",
    "Plan",
    "Record",
    "Repair",
    "Selective",
    "ShortTermMemory",
    "Situation",
    "SlidingWindow",
    "StalePlanError",
    "Strategy",
    "Summarizer",
    "Summary",
    "SummaryError",
    "SummaryRequest",
    "Tiered",
    "TiktokenCounter",
    "TokenCounter",
    "TokenTracker",
    "ToolPolicy",
    "TranscriptError",
    "UnknownReferenceError",
    "Usage",
    "WorkingMemoryCompressor",
    "format_stats",
    "read_usage",
    "repair",
    "validate",
    "with_memory",
]
