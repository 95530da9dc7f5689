"""Every error this library raises on purpose, in one tree.

    AgentMemoryError
    ├── ConfigError (ValueError)            a setting is out of range, unknown or cannot work
    ├── MessageError (ValueError)           a message is in no shape that the dialect knows
    ├── InvalidMessagesError (ValueError)   a list breaks its provider's rules; carries the issues
    ├── TranscriptError (ValueError)        a transcript file cannot be read as a conversation
    ├── ContextOverflowError                what cannot be made smaller exceeds the model's window
    ├── BudgetExceededError                 the next call would pass `max_cost_dollars`
    ├── StalePlanError                      the window changed after the plan was made
    ├── SummaryError                        a summariser failed, or its answer was not usable
    ├── UnknownReferenceError (KeyError)    the archive holds nothing under that reference
    ├── HistoryError                        nothing to take back, or no such message to branch from
    ├── SessionError                        something is wrong with a session or with where it is kept
    │   ├── UnknownSessionError (KeyError)  the store has none of that name, or several
    │   ├── SessionInUseError               another memory has it open
    │   └── StorageError                    the file or the database failed; nothing was written
    │       ├── StorageFullError            the disk is full
    │       ├── StorageReadOnlyError        it may not be written to
    │       ├── StorageLockedError          somebody else kept it locked for too long
    │       ├── StorageUnreachableError     the database cannot be reached, or refused us
    │       ├── CorruptStorageError         what is kept cannot be read
    │       └── NewerStorageError           a newer version of this library wrote it
    ├── EmbeddingError                      texts could not be turned into vectors, or vectors do not fit together
    └── MissingDependencyError (ImportError) an optional package is needed; gives the pip command

Catch `AgentMemoryError` to catch them all. Each message says what happened, with which value, and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .events import Degraded
    from .messages import Issue


class AgentMemoryError(Exception):
    """Base of every error that this library raises on purpose."""


class ConfigError(AgentMemoryError, ValueError):
    """A setting is out of range, unknown, or can never work.

    `field` names the setting, where the error is about one.
    """

    def __init__(self, message: str, *, field: str | None = None) -> None:
        self.field = field
        super().__init__(message)


class MessageError(AgentMemoryError, ValueError):
    """A message is in no shape that the dialect knows."""


class TranscriptError(AgentMemoryError, ValueError):
    """A transcript file cannot be read as a conversation."""


class InvalidMessagesError(AgentMemoryError, ValueError):
    """A message list breaks rules of its provider.

    `issues` holds what `validate` found.
    """

    def __init__(self, issues: Sequence[Issue]) -> None:
        self.issues = tuple(issues)
        super().__init__("; ".join(f"{issue.code} at {issue.path}: {issue.message}" for issue in self.issues))


class ContextOverflowError(AgentMemoryError):
    """What cannot be made smaller is larger than `max_context_tokens`: protected messages and the newest turn.

    `contributors` are `(reference, role, tokens)`, largest first.
    """

    def __init__(self, *, tokens: int, limit_tokens: int, contributors: Sequence[tuple[str, str, int]]) -> None:
        self.tokens = tokens
        self.limit_tokens = limit_tokens
        self.contributors = tuple(contributors)
        largest = ", ".join(f"{ref} ({role}) {size:,}" for ref, role, size in self.contributors)
        super().__init__(
            f"the context needs {tokens:,} tokens and max_context_tokens is {limit_tokens:,}: what is left "
            f"cannot be made smaller (protected messages and the newest turn); the largest: {largest}. "
            "Nothing was lost. Raise max_context_tokens, shorten these messages, or unpin some."
        )


class BudgetExceededError(AgentMemoryError):
    """The next model call would pass `max_cost_dollars`; it was not made."""

    def __init__(self, *, spent_usd: float, next_call_usd: float, limit_usd: float) -> None:
        self.spent_usd = spent_usd
        self.next_call_usd = next_call_usd
        self.limit_usd = limit_usd
        super().__init__(
            f"the next call would cost about ${next_call_usd:.4f}; ${spent_usd:.4f} of max_cost_dollars="
            f"{limit_usd!r} are spent. Raise max_cost_dollars or stop here; the conversation is intact."
        )


class StalePlanError(AgentMemoryError):
    """The window changed after the plan was made; ask for a new preview."""


class SummaryError(AgentMemoryError):
    """A summariser failed, or its answer was empty or no smaller than what it replaces.

    `failed_steps` names the steps of the ladder that had failed before, where it was climbed down to its end.
    """

    def __init__(self, message: str, *, failed_steps: Sequence[Degraded] = ()) -> None:
        self.failed_steps = tuple(failed_steps)
        super().__init__(message)


class UnknownReferenceError(AgentMemoryError, KeyError):
    """The archive holds nothing under that reference."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class HistoryError(AgentMemoryError):
    """What is asked for does not stand in the history: nothing to take back, or no such message to branch from."""


class SessionError(AgentMemoryError):
    """Something is wrong with a session or with the place where sessions are kept."""


class UnknownSessionError(SessionError, KeyError):
    """The store has no session of that name, or several begin like that."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class SessionInUseError(SessionError):
    """Another memory has the session open; one at a time may write to it."""

    def __init__(self, session_id: str, *, host: str, process_id: int) -> None:
        self.session_id = session_id
        self.host = host
        self.process_id = process_id
        super().__init__(
            f"the session {session_id} is open in process {process_id} on {host}; close it there (`memory.close()`), "
            "branch from it, or take it over: `MemoryManager.resume(…, takes_over=True)`"
        )


class StorageError(SessionError):
    """The place where sessions are kept failed; nothing of what was to be written was written."""


class StorageFullError(StorageError):
    """The disk is full, or a limit of the database is reached."""


class StorageReadOnlyError(StorageError):
    """The file, its folder or the account may not be written to."""


class StorageLockedError(StorageError):
    """Somebody else kept it locked for too long."""


class CorruptStorageError(StorageError):
    """What is kept cannot be read: the file is damaged, or no file of ours."""


class StorageUnreachableError(StorageError):
    """The database cannot be reached, or refused us."""


class NewerStorageError(StorageError):
    """A newer version of this library wrote it; this one would not understand it."""


class EmbeddingError(AgentMemoryError):
    """Texts could not be turned into vectors, or vectors do not fit together."""


class MissingDependencyError(AgentMemoryError, ImportError):
    """An optional package is needed for this; the message gives the pip command."""
