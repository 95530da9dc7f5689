"""From arguments, environment, files and presets to one `MemoryConfig`, with the origin of each value."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from memory.config import FIELD_NAMES, PRESETS, MemoryConfig, allowed, unknown_field
from memory.errors import ConfigError

from .files import config_files
from .layers import KEYS, Given, Layer, layers_of, without_password
from .settings import Settings

_KEY_OF: Final[Mapping[str, str]] = {name: key for key, name in KEYS.items()}
_WRITTEN: Final[Mapping[str, str]] = {"tool_policies": "; write tool=policy, and a comma between several"}
"""How to write a value whose type alone does not say it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One effective value and where it came from."""

    key: str
    """Its name in a file and in the environment."""
    field: str
    """Its name in `MemoryConfig`; `preset` is in none."""
    value: Any
    source: str
    """`argument`, `environment`, `path:line`, `preset 'name'` or `default`; a threshold that follows says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The effective configuration, and how it came about."""

    memory: MemoryConfig
    settings: tuple[Setting, ...]
    """The preset, then every field of `memory`, in its order."""
    files: tuple[Path, ...]
    """The configuration files that were read, strongest first."""

    def source_of(self, field: str) -> str:
        """Return where the value of a field came from."""
        return next(setting.source for setting in self.settings if setting.field == field)


def load(
    *,
    project_dir: str | Path | None = None,
    home_dir: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
    **arguments: Any,
) -> Loaded:
    """Return the effective configuration; reads at most two small files.

    Precedence: arguments > environment > `.aloop/config` of the project > `~/.aloop/config` > preset > defaults.
    Keys are taken in upper and lower case, in the environment as in a file. An empty value counts as not set; `none`
    says "no value" where a field may have none.

    Args:
        project_dir: Where the search for the project's file begins; the working directory when None.
        home_dir: The user's home directory when None.
        environ: The environment of the process when None.
        **arguments: `preset`, or fields of `MemoryConfig`.

    Raises:
        ConfigError: Any value is wrong; the message names the key, the value, what is allowed and where it stands.
    """
    project, home = Path(project_dir or working_dir()), Path(home_dir or Path.home())
    layers = layers_of(project, home, os.environ if environ is None else environ)
    _refuse_unknown(arguments)
    given = strongest(layers)
    _refuse_foreign_places({name: one for name, one in given.items() if name not in arguments})
    values = _typed(layers, given) | arguments
    memory = _checked(values, {name: one for name, one in given.items() if name not in arguments})
    origins = {name: one.source for name, one in given.items()} | dict.fromkeys(arguments, "argument")
    return Loaded(
        memory=memory,
        settings=tuple(_settings(memory, values.get("preset"), origins)),
        files=tuple(config_files(project, home)),
    )


def working_dir() -> Path:
    """Return where the search for the project's file begins.

    Raises:
        ConfigError: The directory is gone.
    """
    try:
        return Path.cwd()
    except OSError as error:
        raise ConfigError(f"the working directory cannot be found: {error.strerror or error}") from error


def _refuse_unknown(arguments: Mapping[str, Any]) -> None:
    for name in arguments:
        if name not in _KEY_OF:
            raise unknown_field(name)


def strongest(layers: tuple[Layer, ...]) -> dict[str, Given]:
    """Return what counts, by field: the first of the layers that says something."""
    return {name: given for layer in reversed(layers) for name, given in layer.items()}


def _refuse_foreign_places(given: Mapping[str, Given]) -> None:
    """Raise ConfigError if a project's file, which comes with what one clones, sends conversations somewhere else."""
    one = given.get("session_db")
    if one is not None and one.is_from_project and "://" in one.text:
        raise ConfigError(
            f"{one.key} from {one.source}: a project's file can name a file for sessions and no database; say it in "
            "~/.aloop/config or in the environment",
            field="session_db",
        )
    embedder = given.get("embedder")
    if embedder is not None and embedder.is_from_project and ":" in embedder.text:
        raise ConfigError(
            f"{embedder.key} from {embedder.source}: a project's file can say local or none, and no endpoint, which is "
            "sent what was said and charges for it; say it in ~/.aloop/config or in the environment",
            field="embedder",
        )


def _typed(layers: tuple[Layer, ...], given: Mapping[str, Given]) -> dict[str, Any]:
    try:
        return Settings.of(layers).model_dump(exclude_unset=True)
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        hint = _WRITTEN.get(name, "")
        refused = ConfigError(f"{name} must be {allowed(name)}, got {given[name].text[:80]!r}{hint}", field=name)
        raise _located(refused, given) from None


def _checked(values: Mapping[str, Any], given: Mapping[str, Given]) -> MemoryConfig:
    fields = {name: value for name, value in values.items() if name != "preset"}
    preset = values.get("preset")
    try:
        return MemoryConfig(**fields) if preset is None else MemoryConfig.preset(preset, **fields)
    except ConfigError as error:
        raise _located(error, given) from None


def _located(error: ConfigError, given: Mapping[str, Given]) -> ConfigError:
    """Return the error with the key and the origin of every setting that it speaks of."""
    message = str(error)
    own = given.get(error.field or "")
    others = [one for name, one in given.items() if one is not own and name in message]
    located = f"{own.key} from {own.source}: {message}" if own else message
    located += "".join(f" ({one.key} is from {one.source})" for one in others)
    return ConfigError(located, field=error.field)


def _settings(memory: MemoryConfig, preset: str | None, origins: Mapping[str, str]) -> list[Setting]:
    below = {} if preset is None else PRESETS[preset]
    rows = [("preset", preset, origins.get("preset", "default"))]
    for name in FIELD_NAMES:
        value = getattr(memory, name)
        value = without_password(value) if name == "session_db" else value
        fallback = f"preset {preset!r}" if name in below else "default"
        if name == "compression_threshold" and value != below.get(name, MemoryConfig().compression_threshold):
            fallback += ", lowered to 80 % of max_context_tokens"
        rows.append((name, value, origins.get(name, fallback)))
    return [Setting(key=_KEY_OF[name], field=name, value=value, source=source) for name, value, source in rows]
