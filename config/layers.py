"""The places that settings come from, strongest first, before anything is read as a type."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeAlias

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
        "MEMORY_PRESERVE_SYSTEM_PROMPTS": "preserve_system_prompts",
        "MEMORY_PRESERVE_TOOL_CALLS": "preserve_tool_calls",
        "MEMORY_COMPRESSION_MODEL": "compression_model",
        "MEMORY_MAX_COST_DOLLARS": "max_cost_dollars",
        "MEMORY_PROTECTED_TOOLS": "protected_tools",
        "MEMORY_TOOL_POLICIES": "tool_policies",
        "MEMORY_MAX_RESULT_TOKENS": "max_result_tokens",
        "MEMORY_SUMMARY_TIMEOUT_SECONDS": "summary_timeout_seconds",
        "MEMORY_SUMMARY_INPUT_TOKENS": "summary_input_tokens",
        "MEMORY_PRESET": "preset",
    }
)
"""Key in a file or the environment -> field of `Settings` and, but for `preset`, of `MemoryConfig`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """One value as it was written, and where."""

    key: str
    text: str
    source: str
    """`environment`, or `path:line`."""


Layer: TypeAlias = Mapping[str, Given]
"""What one place says, by field."""


def layers_of(project_dir: Path, home_dir: Path, environ: Mapping[str, str]) -> tuple[Layer, ...]:
    """Return what the environment, the project's file and the user's file say, in this order.

    Raises:
        ConfigError: A file cannot be read, or there is a `MEMORY_*` key that means nothing or stands twice.
    """
    return _layer(_environment(environ)), *(_layer(_lines(path)) for path in files.config_files(project_dir, home_dir))


def _environment(environ: Mapping[str, str]) -> Iterable[tuple[str, str, str]]:
    """Yield what the environment says, with the keys of ours in upper case, as `files.read` does."""
    seen: dict[str, str] = {}
    for name, text in environ.items():
        key = name.upper()
        if not key.startswith("MEMORY_"):
            continue
        if key in seen:
            raise ConfigError(f"{key} stands twice in the environment, as {seen[key]} and {name}; keep one of the two")
        seen[key] = name
        yield key, text, "environment"


def _lines(path: Path) -> Iterable[tuple[str, str, str]]:
    return ((key, text, f"{path}:{number}") for key, (number, text) in files.read(path).items())


def _layer(values: Iterable[tuple[str, str, str]]) -> Layer:
    layer = {}
    for key, text, source in values:
        if not key.startswith("MEMORY_"):
            continue  # the keys of others, such as the agent's own
        if key not in KEYS:
            raise _unknown_key(key, source)
        # An empty value is "not set here": containers and CI pass variables through like that.
        if text.strip():
            layer[KEYS[key]] = Given(key=key, text=text.strip(), source=source)
    return layer


def _unknown_key(key: str, source: str) -> ConfigError:
    # Without its value: whose key this is, nobody knows, and it may be a secret.
    close = nearest(key.removeprefix("MEMORY_"), (known.removeprefix("MEMORY_") for known in KEYS))
    hint = f"did you mean MEMORY_{close}?" if close else f"there are: {', '.join(KEYS)}"
    return ConfigError(f"{key} from {source}: there is no such key; {hint}")
