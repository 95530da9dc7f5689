"""The places that settings come from, strongest first, before anything is read as a type."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeAlias
from urllib.parse import urlsplit, urlunsplit

from memory.config import nearest
from memory.errors import ConfigError

from . import files

KEYS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "MEMORY_ENABLED": "enable_compression",
        "MEMORY_MAX_CONTEXT_TOKENS": "max_context_tokens",
        "MEMORY_COMPRESSION_THRESHOLD": "compression_threshold",
        "MEMORY_SHORT_TERM_SIZE": "short_term_size",
        "MEMORY_COMPRESSION_RATIO": "compression_ratio",
        "MEMORY_COMPRESSION_STRATEGY": "compression_strategy",
        "MEMORY_TRIGGER": "trigger",
        "MEMORY_EXPECTED_REQUESTS": "expected_requests",
        "MEMORY_CACHE_ALIVE": "cache_alive",
        "MEMORY_MAX_OVERSPEND": "max_overspend",
        "MEMORY_BACKGROUND": "background",
        "MEMORY_CACHE_BREAKPOINTS": "cache_breakpoints",
        "MEMORY_OUTPUT_RESERVE_TOKENS": "output_reserve_tokens",
        "MEMORY_MAX_SUMMARIES": "max_summaries",
        "MEMORY_PRESERVE_SYSTEM_PROMPTS": "preserve_system_prompts",
        "MEMORY_PRESERVE_TOOL_CALLS": "preserve_tool_calls",
        "MEMORY_COMPRESSION_MODEL": "compression_model",
        "MEMORY_MAX_COST_DOLLARS": "max_cost_dollars",
        "MEMORY_PROTECTED_TOOLS": "protected_tools",
        "MEMORY_TOOL_POLICIES": "tool_policies",
        "MEMORY_MAX_RESULT_TOKENS": "max_result_tokens",
        "MEMORY_SUMMARY_PREFIX": "summary_prefix",
        "MEMORY_SUMMARY_TIMEOUT_SECONDS": "summary_timeout_seconds",
        "MEMORY_SUMMARY_INPUT_TOKENS": "summary_input_tokens",
        "MEMORY_SESSION_DB": "session_db",
        "MEMORY_SESSION_REQUIRED": "session_required",
        "MEMORY_EMBEDDER": "embedder",
        "MEMORY_AUTO_RECALL": "auto_recall",
        "MEMORY_AUTO_RECALL_TOKENS": "auto_recall_tokens",
        "MEMORY_PRESET": "preset",
    }
)
"""Key in a file or the environment -> field of `Settings` and, but for `preset`, of `MemoryConfig`."""

AGENT_KEYS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ALOOP_PROVIDER": "provider",
        "ALOOP_MODEL": "model",
        "ALOOP_BASE_URL": "base_url",
        "ALOOP_STREAM": "stream",
        "ALOOP_MAX_ITERATIONS": "max_iterations",
        "ALOOP_TIMEOUT_SECONDS": "timeout_seconds",
        "ALOOP_MAX_RETRIES": "max_retries",
        "ALOOP_ALLOW_WRITES": "allow_writes",
        "ALOOP_ALLOW_COMMANDS": "allow_commands",
    }
)
"""Key in a file or the environment -> field of `AgentSettings`."""

SECRET_KEYS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "OPENAI_API_KEY": "openai_api_key",
        "ANTHROPIC_API_KEY": "anthropic_api_key",
        "GEMINI_API_KEY": "gemini_api_key",
        "GOOGLE_API_KEY": "google_api_key",
    }
)
"""The keys that providers ask for, under the names that their own SDKs know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """The keys that one part of the program reads; all others are none of its business."""

    prefix: str
    """Whatever begins like this must be one of `fields`: anything else is a slip of the pen."""
    fields: Mapping[str, str]
    """Key -> field."""
    slips: Mapping[str, str] = field(default_factory=dict)
    """Key that is easily taken for one of these -> what is meant. In a file of ours they stand for nothing else."""

    def owns(self, key: str) -> bool:
        """Whether a key is one of these, or pretends to be."""
        return key.startswith(self.prefix) or key in self.fields


MEMORY: Final = Family(prefix="MEMORY_", fields=KEYS)
AGENT: Final = Family(
    prefix="ALOOP_",
    fields=MappingProxyType({**AGENT_KEYS, **SECRET_KEYS}),
    slips=MappingProxyType(
        {
            "ALOOP_MAX_COST": "MEMORY_MAX_COST_DOLLARS",
            "ALOOP_MAX_COST_DOLLARS": "MEMORY_MAX_COST_DOLLARS",
            "ALOOP_API_KEY": "the name that the provider gives its key, such as OPENAI_API_KEY",
            "OPENAI_KEY": "OPENAI_API_KEY",
            "ANTHROPIC_KEY": "ANTHROPIC_API_KEY",
            "GEMINI_KEY": "GEMINI_API_KEY",
        }
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """One value as it was written, and where."""

    key: str
    text: str
    source: str
    """`environment`, or `path:line`."""
    is_from_project: bool = False
    """It stands in the project's file, which may have come with what somebody else wrote."""


Layer: TypeAlias = Mapping[str, Given]
"""What one place says, by field."""


def layers_of(
    project_dir: Path, home_dir: Path, environ: Mapping[str, str], family: Family = MEMORY
) -> tuple[Layer, ...]:
    """Return what the environment, the project's file and the user's file say, in this order.

    Raises:
        ConfigError: A file cannot be read, or there is a key with the family's prefix that means nothing, or one that
            stands twice.
    """
    from_files = (
        _layer(_lines(path), family, is_from_project=path != files.users_file(home_dir))
        for path in files.config_files(project_dir, home_dir)
    )
    return _layer(_environment(environ, family), family), *from_files


def _environment(environ: Mapping[str, str], family: Family) -> Iterable[tuple[str, str, str]]:
    """Yield what the environment says, with the keys of ours in upper case, as `files.read` does."""
    seen: dict[str, str] = {}
    for name, text in environ.items():
        key = name.upper() if name.upper().startswith(family.prefix) else name
        if not family.owns(key):
            continue
        if key in seen:
            raise ConfigError(f"{key} stands twice in the environment, as {seen[key]} and {name}; keep one of the two")
        seen[key] = name
        yield key, text, "environment"


def _lines(path: Path) -> Iterable[tuple[str, str, str]]:
    for key, (number, text) in files.read(path).items():
        yield key, _placed(text, path) if key in _PATHS else text, f"{path}:{number}"


def _placed(text: str, path: Path) -> str:
    """Return a path as it is meant in a file: from the folder on that the file stands for, wherever one works in it."""
    is_path = bool(text.strip()) and "://" not in text and text.strip().lower() != "none"
    return str(path.parent.parent / Path(text.strip()).expanduser()) if is_path else text


_PATHS: Final = frozenset({"MEMORY_SESSION_DB"})


def without_password(address: str | None) -> str | None:
    """Return an address as it may be shown."""
    if address is None or "://" not in address:
        return address
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=parts.query and "(hidden)"))


def _layer(values: Iterable[tuple[str, str, str]], family: Family, *, is_from_project: bool = False) -> Layer:
    layer = {}
    for key, text, source in values:
        if not family.owns(key) and key not in family.slips:
            continue  # the keys of others
        if key not in family.fields:
            raise _unknown_key(key, source, family)
        # An empty value is "not set here": containers and CI pass variables through like that.
        if text.strip():
            layer[family.fields[key]] = Given(
                key=key, text=text.strip(), source=source, is_from_project=is_from_project
            )
    return layer


def _unknown_key(key: str, source: str, family: Family) -> ConfigError:
    if key in family.slips:
        return ConfigError(f"{key} from {source}: there is no such key; did you mean {family.slips[key]}?")
    # Without its value: whose key this is, nobody knows, and it may be a secret.
    known = [one for one in family.fields if one.startswith(family.prefix)]
    close = nearest(key.removeprefix(family.prefix), (one.removeprefix(family.prefix) for one in known))
    hint = f"did you mean {family.prefix}{close}?" if close else f"there are: {', '.join(known)}"
    return ConfigError(f"{key} from {source}: there is no such key; {hint}")
