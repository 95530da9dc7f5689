"""What a provider needs before it can be asked: its package, its address and a key."""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from memory.errors import MissingDependencyError

from .errors import CredentialsError, MissingKeyError


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Who is asked for which model, as the sentences of errors name it."""

    provider: str
    model: str
    key_variables: tuple[str, ...] = ()
    """Environment variables in which its key is usually found, the first wins."""
    base_url: str | None = None
    """Address of a compatible server; None: the provider's own."""

    @property
    def key_place(self) -> str:
        """Where a key is looked for that is not given."""
        return " or ".join(self.key_variables) or "the variable of the model's provider"

    def __str__(self) -> str:
        return f"{self.provider} at {_without_secrets(self.base_url)}" if self.base_url else self.provider

    def find_key(self, given: str | None) -> str | None:
        """Return the key that was given, else the environment's, else None.

        Raises:
            CredentialsError: It cannot be sent, as one that was copied with the end of its line.
        """
        found = (given, *(os.environ.get(name) for name in self.key_variables))
        key = next((key for key in found if key), None)
        if key is not None and not (key.isascii() and key.isprintable()):
            # Some SDKs would quote it, others call this a lost connection.
            raise CredentialsError(
                f"the key for {self.provider} has a character in it that no key has, such as the end of a line",
                provider=self.provider,
                model=self.model,
            )
        return key

    def require_key(self, given: str | None) -> str:
        """Return the key that was given, else the environment's.

        Raises:
            MissingKeyError: There is neither.
            CredentialsError: As `find_key`.
        """
        key = self.find_key(given)
        if key is None:
            raise MissingKeyError(
                f"no key for {self.provider}: set {self.key_place} in the environment, or pass api_key=",
                provider=self.provider,
                model=self.model,
            )
        return key


def _without_secrets(url: str) -> str:
    """Return an address without a password, and without a query, in which some gateways want their key."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def missing_package(package: str, *, extra: str) -> MissingDependencyError:
    """Return the error for a provider whose SDK is not installed, with the command that installs it."""
    return MissingDependencyError(
        f"this provider needs the package {package}: pip install 'aloop-memory[{extra}]'", name=package
    )
