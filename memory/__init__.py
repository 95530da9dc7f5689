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
    HistoryError,
    InvalidMessagesError,
    MessageError,
    MissingDependencyError,
    SessionError,
    SessionInUseError,
    StalePlanError,
    StorageError,
    SummaryError,
    TranscriptError,
    UnknownReferenceError,
    UnknownSessionError,
)
from .events import (
    Compressed,
    Degraded,
    Event,
    FloorReached,
    OverBudget,
    Recalled,
    SaveFailed,
    SaveRecovered,
    Undone,
)
from .integrations import with_memory
from .manager import MemoryManager
from .messages import Issue, LLMMessage
from .repair import Change, Repair, repair
from .sessions import SessionInfo, SessionStore, SqliteSessionStore, open_store
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
    "HistoryError",
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
    "Recalled",
    "Record",
    "Repair",
    "SaveFailed",
    "SaveRecovered",
    "Selective",
    "SessionError",
    "SessionInUseError",
    "SessionInfo",
    "SessionStore",
    "ShortTermMemory",
    "Situation",
    "SlidingWindow",
    "SqliteSessionStore",
    "StalePlanError",
    "StorageError",
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
    "Undone",
    "UnknownReferenceError",
    "UnknownSessionError",
    "Usage",
    "WorkingMemoryCompressor",
    "format_stats",
    "open_store",
    "read_usage",
    "repair",
    "validate",
    "with_memory",
]
