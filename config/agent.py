"""How `aloop run` runs its agent: which model, which limits, which rights, and where each of these was said."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from memory.config import nearest
from memory.errors import ConfigError

from .files import config_files
from .layers import AGENT, AGENT_KEYS, SECRET_KEYS, Given, Layer, layers_of, without_password
from .load import Setting, strongest, working_dir
from .settings import none_from_word

_HIDDEN = "(hidden)"
_KEY_OF: Final[Mapping[str, str]] = {name: key for key, name in AGENT_KEYS.items()}


def _address(text: str) -> str:
    parts = urlsplit(text)
    # Not everyone who reads it takes a backslash for a part of the host; `port` raises where there can be none.
    if parts.scheme not in {"http", "https"} or not parts.hostname or "\\" in text or parts.port == 0:
        raise ValueError("no address")
    return text


_Name = Annotated[Annotated[str, Field(min_length=1)] | None, BeforeValidator(none_from_word)]
_Address = Annotated[Annotated[str, AfterValidator(_address)] | None, BeforeValidator(none_from_word)]


class AgentSettings(BaseModel):
    """The settings of an agent that runs; checked, frozen. API keys are none of them: see `LoadedAgent.api_key`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    provider: _Name = None
    """As `agent.connect` knows it."""
    model: _Name = None
    """As the provider writes it."""
    base_url: _Address = None
    """Address of a compatible server; None: the provider's own."""
    stream: bool = True
    """Show answers while they are written."""
    max_iterations: int = Field(default=50, ge=1)
    """Ask the model at most so often."""
    timeout_seconds: float = Field(default=600.0, gt=0, allow_inf_nan=False)
    """Longest silence of the provider in one attempt."""
    max_retries: int = Field(default=4, ge=0)
    """Repetitions of a request whose failure may pass."""
    allow_writes: bool = False
    """Give the agent the tools that write and edit files."""
    allow_commands: bool = False
    """Give the agent the tool that runs commands."""


ALLOWED: Final[Mapping[str, str]] = {
    "provider": "the name of a provider, or none",
    "model": "the name of a model, or none",
    "base_url": "an address that begins with http:// or https://, or none",
    "stream": "true or false",
    "max_iterations": "a whole number, 1 or more",
    "timeout_seconds": "a number of seconds above 0",
    "max_retries": "a whole number, 0 or more",
    "allow_writes": "true or false",
    "allow_commands": "true or false",
}
"""What each field accepts, as the end of the sentence "must be …"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedAgent:
    """The agent's effective settings, and how they came about."""

    agent: AgentSettings
    settings: tuple[Setting, ...]
    """Every field of `agent`, then the API keys, of which only the origin is told."""
    files: tuple[Path, ...]
    """The configuration files that were read, strongest first."""
    _secrets: Mapping[str, Given] = field(repr=False)

    def source_of(self, field: str) -> str:
        """Return where the value of a field came from."""
        return next(setting.source for setting in self.settings if setting.field == field)

    def shown(self, field: str) -> Any:
        """Return a value as it may be shown: no key, no password of an address."""
        return next(setting.value for setting in self.settings if setting.field == field)

    def api_key(self, *variables: str) -> str | None:
        """Return the API key to hand to a provider's SDK, which looks under these names, the first wins.

        None where there is none, and where the environment has one: there the SDK finds it by its own rules.
        """
        found = [self._secrets[SECRET_KEYS[name]] for name in variables if SECRET_KEYS[name] in self._secrets]
        if any(given.source == "environment" for given in found):
            return None
        # The user's file before the project's, then by name.
        return next((given.text for given in sorted(found, key=lambda one: one.is_from_project)), None)


def load_agent(
    *,
    project_dir: str | Path | None = None,
    home_dir: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
    **arguments: Any,
) -> LoadedAgent:
    """Return the agent's effective settings; reads the same files as `load`, with the same precedence.

    A project's file comes with whatever one has cloned. So it can neither allow writes or commands nor send the
    conversation to another machine: that is said by an argument, in the environment or in the user's own file.

    Args:
        project_dir: Where the search for the project's file begins; the working directory when None.
        home_dir: The user's home directory when None.
        environ: The environment of the process when None.
        **arguments: Fields of `AgentSettings`.

    Raises:
        ConfigError: Any value is wrong; the message names the key, the value, what is allowed and where it stands.
    """
    project, home = Path(project_dir or working_dir()), Path(home_dir or Path.home())
    layers = layers_of(project, home, os.environ if environ is None else environ, AGENT)
    given = strongest(layers)
    secrets = {name: _own(name, layers) for name in SECRET_KEYS.values() if given.pop(name, None)}
    _refuse_unknown(arguments)
    written = {name: one for name, one in given.items() if name not in arguments}
    agent = _checked({name: one.text for name, one in written.items()} | arguments, written)
    _refuse_overreaching(agent, written)
    origins = {name: one.source for name, one in written.items()} | dict.fromkeys(arguments, "argument")
    return LoadedAgent(
        agent=agent,
        settings=(*_settings(agent, origins), *_hidden(secrets)),
        files=tuple(config_files(project, home)),
        _secrets=secrets,
    )


def _own(name: str, layers: Sequence[Layer]) -> Given:
    """Return a key from the strongest place that is the user's own; the project's only where there is no other.

    Otherwise a cloned project could have the conversation run on an account that is not the user's, for others to read.
    """
    found = [layer[name] for layer in layers if name in layer]
    return next((given for given in found if not given.is_from_project), found[0])


def is_elsewhere(address: str | None) -> bool:
    """Whether an address is another machine's."""
    if address is None:
        return False
    host = urlsplit(address).hostname or ""
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return host != "localhost"


def _refuse_unknown(arguments: Mapping[str, Any]) -> None:
    for name in arguments:
        if name not in _KEY_OF:
            close = nearest(name, _KEY_OF)
            hint = f"did you mean {close}?" if close else f"there are: {', '.join(_KEY_OF)}"
            raise ConfigError(f"there is no setting {name!r} of an agent; {hint}", field=name)


def _checked(values: Mapping[str, Any], written: Mapping[str, Given]) -> AgentSettings:
    try:
        return AgentSettings.model_validate(values)
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        # `from None`: the original would show all values, and an address may hold a password.
        raise _refused(name, f"must be {ALLOWED[name]}, got {_shown(values[name])}", written.get(name)) from None


def _shown(value: object) -> str:
    text = repr(value)
    if "@" in text:
        return "an address with a secret in it" if "://" in text else "a value with an @ in it"
    return text if len(text) <= 80 else text[:77] + "..."


def _refused(name: str, problem: str, given: Given | None) -> ConfigError:
    where = f"{given.key} from {given.source}: " if given else ""
    return ConfigError(f"{where}{name} {problem}", field=name)


def _refuse_overreaching(agent: AgentSettings, written: Mapping[str, Given]) -> None:
    """Raise ConfigError if the project's file takes what only its user can give."""
    for name, overreaches in _OVERREACHING.items():
        given = written.get(name)
        if given is not None and given.is_from_project and overreaches(getattr(agent, name)):
            option = "--" + name.replace("_", "-")
            problem = (
                f"{_NOT_THE_PROJECTS[name]}: its file comes with what one clones. Say it in ~/.aloop/config, in the "
                f"environment, or with {option}"
            )
            raise _refused(name, problem, given)


_OVERREACHING: Final[Mapping[str, Callable[[Any], bool]]] = {
    "allow_writes": bool,
    "allow_commands": bool,
    "base_url": is_elsewhere,
}
_NOT_THE_PROJECTS: Final[Mapping[str, str]] = {
    "allow_writes": "is not a project's to allow",
    "allow_commands": "is not a project's to allow",
    "base_url": "can name a server on this machine here, and no other",
}


def _settings(agent: AgentSettings, origins: Mapping[str, str]) -> list[Setting]:
    values = agent.model_dump() | {"base_url": without_password(agent.base_url)}
    return [
        Setting(key=key, field=name, value=values[name], source=origins.get(name, "default"))
        for key, name in AGENT_KEYS.items()
    ]


def _hidden(secrets: Mapping[str, Given]) -> list[Setting]:
    return [
        Setting(
            key=key,
            field=name,
            value=_HIDDEN if name in secrets else None,
            source=secrets[name].source if name in secrets else "default",
        )
        for key, name in SECRET_KEYS.items()
    ]
