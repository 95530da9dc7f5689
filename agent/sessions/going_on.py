"""The session that a run goes on in, and the model that goes with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from config import LoadedAgent, load_agent
from memory.messages import DialectName
from memory.sessions.values import SessionInfo

from .places import opened

_PROVIDERS: Final[Mapping[DialectName, tuple[str, re.Pattern[str]]]] = {
    "openai_chat": ("openai", re.compile(r"(gpt-(?!oss)|chatgpt-|o\d)")),
    "openai_responses": ("openai-responses", re.compile(r"(gpt-(?!oss)|chatgpt-|o\d)")),
    "anthropic": ("anthropic", re.compile(r"claude-")),
    "gemini": ("gemini", re.compile(r"(models/)?gemini-")),
}
"""Whose format it is, and how that one's own models are called. A format alone says too little: other servers speak it
as well, and what was said to a model on this machine must not go to somebody else unasked."""


def session_named(name: str, db: str | None) -> SessionInfo:
    """Return the session of a name without taking it from its owner.

    Raises:
        StorageError: The store cannot be read.
        UnknownSessionError: There is none of that name.
    """
    with opened(db) as store:
        return store.find(name)


def agent_for(session: SessionInfo | None, given: Mapping[str, Any]) -> LoadedAgent:
    """Return the agent's settings; where they name no model or provider, those of the session count.

    Args:
        session: The one to go on in, if any.
        given: The settings that were given as options.

    Raises:
        ConfigError: A setting is wrong.
    """
    loaded = load_agent(**given)
    known = {} if session is None else _model_of(session)
    lacking = {name: value for name, value in known.items() if getattr(loaded.agent, name) is None}
    return load_agent(**given, **lacking) if lacking else loaded


def _model_of(session: SessionInfo) -> dict[str, Any]:
    """Return what a session tells of its model: its name, and the provider where that is beyond doubt."""
    model, dialect = session.heading.model, session.heading.dialect
    if model is None:
        return {}
    provider, own_models = _PROVIDERS[dialect] if dialect is not None else ("", re.compile(r"(?!)"))
    return {"model": model} | ({"provider": provider} if own_models.match(model) else {})
