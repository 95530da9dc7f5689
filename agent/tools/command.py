"""A tool that runs commands in a folder. It is no sandbox: what it runs may do whatever the user may."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from memory.errors import ConfigError

from .tool import Tool, ToolError

_READ_BYTES = 65_536
_POLL_SECONDS = 0.05
_DRAIN_SECONDS = 1.0
"""What has been written is read in this time; longer waits only who keeps the output open without writing."""

# Quoted and escaped text is passed over; what is found outside it only a shell would understand.
_SHELL_SYNTAX = re.compile(r"""\\.|'[^']*'|"(?:\\.|[^"\\])*"|(?P<operator>\|\|?|&&?|;|>>?|<|`|\$\()""", re.DOTALL)

_SECRET_WORDS = frozenset(
    {"KEY", "KEYS", "TOKEN", "TOKENS", "SECRET", "SECRETS", "PASSWORD", "PASSWORDS", "PASSPHRASE", "PAT", "CREDENTIALS"}
)
_SECRET_NAME = re.compile(
    r"(?:API|ACCESS|SECRET|PRIVATE|AUTH)(?:KEY|TOKEN)$|PASSWORD$|PASSWD$|.+_PWD$|_(?:CREDENTIAL|AUTH|CONNECTION_STRING)$"
)
_SECRET_VALUE = re.compile(r"://[^/\s@]*:[^/\s@]+@")


def command_tool(
    root: Path,
    *,
    allow: bool = False,
    timeout_seconds: float = 120.0,
    max_output_characters: int = 30_000,
    shell: bool = False,
) -> Tool:
    """Return the tool `run_command`, which runs a command in a folder.

    Args:
        root: Where commands start. They can go anywhere from there: this is no sandbox.
        allow: Must be True: whoever the model listens to decides what runs with the rights of this process.
        timeout_seconds: After this the command is ended, with everything that it has started.
        max_output_characters: Of a longer output the middle is left out, and the result says so.
        shell: Hand commands to `/bin/sh`. Without it, what runs is the list of words that the model wrote: a file
            name with a `;` in it is a file name, and there are no pipes, wildcards or variables.

    Raises:
        ConfigError: It is not allowed, or a limit is not positive.
        NotADirectoryError: There is no folder of that name.
    """
    if not allow:
        raise ConfigError("commands are off: they could do whatever this account may; pass allow=True to have them")
    if timeout_seconds <= 0 or max_output_characters <= 0:
        raise ConfigError("timeout_seconds and max_output_characters must be positive")
    if not root.is_dir():
        raise NotADirectoryError(f"there is no folder {str(root)!r}")
    commands = _Commands(root.resolve(), timeout_seconds, max_output_characters, shell=shell)
    # Its own time limit ends the process and keeps the output; the toolbox's would only end the waiting.
    return Tool.from_function(commands.run_command, description=commands.description, timeout_seconds=None)


class _Commands:
    def __init__(self, root: Path, timeout_seconds: float, max_output_characters: int, *, shell: bool) -> None:
        self._root = root
        self._timeout_seconds = timeout_seconds
        self._max_output_characters = max_output_characters
        self._shell = shell

    @property
    def description(self) -> str:
        """What the model is told."""
        how = (
            "It is run by /bin/sh."
            if self._shell
            else "There is no shell: no pipes, redirections, wildcards, variables, `&&`; one program, its arguments."
        )
        return (
            f"Run a command in the project's folder and return its exit code and output. {how} "
            f"It reads no input and is ended after {self._timeout_seconds:g} seconds, as is what it leaves running."
        )

    async def run_command(self, command: str) -> str:
        """Run a command and return its exit code and what it wrote.

        Args:
            command: The program and its arguments.
        """
        words = ["/bin/sh", "-c", command] if self._shell else _words(command)
        process = await self._start(words)
        output = _Output(self._max_output_characters)
        reading = asyncio.create_task(output.read(process))
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await _end(process, reading)
        except TimeoutError as error:
            await _kill(process, reading)
            raise ToolError(f"ended after {self._timeout_seconds:g} seconds\n{output.text()}".rstrip()) from error
        finally:
            await _kill(process, reading)
        return f"exit code {process.returncode}\n{output.text()}".rstrip()

    async def _start(self, words: list[str]) -> asyncio.subprocess.Process:
        try:
            return await asyncio.create_subprocess_exec(
                *words,
                cwd=self._root,
                env=without_secrets(os.environ),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,  # a group of its own, which can be ended as a whole
            )
        except FileNotFoundError as error:
            raise ToolError(f"there is no program {words[0]!r}") from error
        except (OSError, ValueError) as error:  # not executable, too long, a NUL
            raise ToolError(f"{words[0]!r} cannot be run: {error}") from error


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a command is given: all but those that look like keys, tokens and passwords.

    By the name (`OPENAI_API_KEY`, `GITHUB_TOKEN`, `AWS_SECRET_ACCESS_KEY`, `PGPASSWORD`) or, for a URL with a
    password in it, by the value. A command may still read files in which keys stand.
    """
    return {name: value for name, value in environment.items() if not _is_secret(name.upper(), value)}


def _is_secret(name: str, value: str) -> bool:
    by_name = not _SECRET_WORDS.isdisjoint(name.split("_")) or _SECRET_NAME.search(name) is not None
    return by_name or _SECRET_VALUE.search(value) is not None


def _words(command: str) -> list[str]:
    operator = next((match["operator"] for match in _SHELL_SYNTAX.finditer(command) if match["operator"]), None)
    if operator is not None:
        raise ToolError(f"there is no shell to understand {operator!r}; run one program at a time, or put it in quotes")
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ToolError(f"the command cannot be read: {error}") from error
    if not words:
        raise ToolError("give a command")
    return words


class _Output:
    """What a process writes: the first and the last part of it, however much there is."""

    def __init__(self, max_characters: int) -> None:
        self._half = max(1, max_characters // 2)
        self._head = bytearray()
        self._tail = bytearray()
        self._left_out = 0

    async def read(self, process: asyncio.subprocess.Process) -> None:
        """Read until the last one who can write has gone."""
        assert process.stdout is not None
        while chunk := await process.stdout.read(_READ_BYTES):
            self._add(chunk)

    def text(self) -> str:
        """Return what was read."""
        head, tail = (bytes(part).decode(errors="replace") for part in (self._head, self._tail))
        middle = f"\n[… {self._left_out:,} bytes left out …]\n" if self._left_out else ""
        return f"{head}{middle}{tail}".strip("\n")

    def _add(self, chunk: bytes) -> None:
        room = self._half - len(self._head)
        self._head += chunk[:room]
        self._tail += chunk[room:]
        excess = len(self._tail) - self._half
        if excess > 0:
            self._left_out += excess
            del self._tail[:excess]


async def _end(process: asyncio.subprocess.Process, reading: asyncio.Task[None]) -> None:
    """Wait until a process has ended, and read what it wrote.

    Looks at the return code and does not wait for it: in Python 3.12.0 to 3.12.3 `Process.wait` also waits for what
    the process has left running with its output open (https://github.com/python/cpython/issues/119710).
    """
    while process.returncode is None:
        await asyncio.wait({reading}, timeout=_POLL_SECONDS)
        if reading.done():
            await process.wait()
    _signal_group(process)
    await asyncio.wait({reading}, timeout=_DRAIN_SECONDS)


async def _kill(process: asyncio.subprocess.Process, reading: asyncio.Task[None]) -> None:
    """End a process and its whole group, and give up on what only somebody who has left the group could write."""
    _signal_group(process)
    await asyncio.wait({reading}, timeout=_DRAIN_SECONDS)
    reading.cancel()
    # Or the thread that waits for it may find the event loop closed, and say so on standard error.
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), _DRAIN_SECONDS)


def _signal_group(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
