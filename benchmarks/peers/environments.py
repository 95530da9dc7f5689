"""A virtual environment for each peer, with pinned versions, in a folder that git ignores.

    python benchmarks/peers/environments.py [PEER ...] [--folder .venv-peers] [--python python3.12]

A peer whose Python is not at hand, or which cannot be installed, is reported; the comparison goes on without it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
FOLDER_ENV: Final = "ALOOP_PEERS"
"""Names the folder where the environments lie elsewhere."""
PYTHON_ENV: Final = "ALOOP_PEERS_PYTHON"
"""Interpreters to try first, separated as in PATH; each peer takes the first that is new enough."""
_OLDEST, _NEWEST = 11, 14
_INSTALL_SECONDS: Final = 1_800


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A library to compare with, and where its pieces lie."""

    name: str
    distribution: str
    """Whose version stands in the tables."""
    minor: int = _OLDEST
    """The oldest Python 3 that it runs on."""

    @property
    def requirements(self) -> Path:
        return HERE / "requirements" / f"requirements-{self.name}.txt"

    @property
    def worker(self) -> Path:
        return HERE / "workers" / f"play_{self.name.replace('-', '_')}.py"

    def python(self, folder: Path) -> Path:
        """Return where its interpreter is, once it is installed."""
        return folder / self.name / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    @property
    def version(self) -> str:
        """The pinned version."""
        pins = dict(line.split("==") for line in self.requirements.read_text(encoding="utf-8").split())
        return pins[self.distribution]


PEERS: Final = (
    Peer(name="langchain", distribution="langchain"),
    Peer(name="langmem", distribution="langmem"),
    Peer(name="openhands", distribution="openhands-sdk", minor=12),
    Peer(name="strands", distribution="strands-agents"),
    Peer(name="pydantic-ai-harness", distribution="pydantic-ai-harness"),
    Peer(name="openai-agents", distribution="openai-agents"),
    Peer(name="litellm", distribution="litellm"),
)


def folder_of(given: str | None = None) -> Path:
    """Return where the environments lie."""
    return Path(given or os.environ.get(FOLDER_ENV) or HERE.parents[1] / ".venv-peers").resolve()


def is_installed(peer: Peer, folder: Path) -> bool:
    """Whether a peer's environment is complete and holds what its requirements say today."""
    mark = _mark(peer, folder)
    return mark.is_file() and mark.read_bytes() == peer.requirements.read_bytes() and peer.python(folder).exists()


def main(arguments: Sequence[str] | None = None) -> int:
    """Install what is missing; return 1 if a peer could not be installed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", nargs="*", metavar="PEER", help=", ".join(peer.name for peer in PEERS))
    parser.add_argument("--folder", help=f"default: {FOLDER_ENV}, or .venv-peers in the project")
    parser.add_argument("--python", action="append", default=[], help="an interpreter to try first; may be repeated")
    options = parser.parse_args(arguments)
    wanted = [peer for peer in PEERS if not options.peers or peer.name in options.peers]
    problems = [_reported(peer, folder_of(options.folder), options.python) for peer in wanted]
    return 1 if any(problems) else 0


def _reported(peer: Peer, folder: Path, pythons: Sequence[str]) -> str | None:
    problem = None if is_installed(peer, folder) else install(peer, folder, pythons=pythons)
    print(f"{peer.name:22} {peer.version:10} {problem or 'ready'}", flush=True)
    return problem


def install(peer: Peer, folder: Path, *, pythons: Sequence[str] = ()) -> str | None:
    """Make a peer's environment anew. Return why that failed, None if it did not."""
    python = find_python(peer.minor, pythons)
    if python is None:
        return f"not installed: no Python 3.{peer.minor} or later; name one with --python or {PYTHON_ENV}"
    print(f"{peer.name:22} {peer.version:10} installing with {python}", flush=True)
    pip = [str(peer.python(folder)), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    for command in ([python, "-m", "venv", "--clear", str(folder / peer.name)], [*pip, "-r", str(peer.requirements)]):
        problem = _run(command)
        if problem is not None:
            return f"not installed: {problem}"
    _mark(peer, folder).write_bytes(peer.requirements.read_bytes())
    return None


def find_python(minor: int, first: Sequence[str] = ()) -> str | None:
    """Return an interpreter of Python 3.`minor` or later, the oldest that is found; None where there is none."""
    for candidate in _candidates(minor, first):
        found = shutil.which(candidate)
        if found is not None and _has_version(found, minor):
            return found
    return None


def _candidates(minor: int, first: Sequence[str]) -> Iterator[str]:
    yield from first
    yield from filter(None, os.environ.get(PYTHON_ENV, "").split(os.pathsep))
    for number in range(minor, _NEWEST + 1):
        yield f"python3.{number}"
        yield from _of_pyenv(number)
    yield sys.executable


def _of_pyenv(minor: int) -> Iterator[str]:
    """Yield what pyenv keeps out of the PATH."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from (str(path / "bin" / "python") for path in sorted(root.glob(f"versions/3.{minor}.*")))


def _has_version(python: str, minor: int) -> bool:
    # A shim in the PATH may stand for a version that is not switched on, and fails.
    test = f"import sys, venv, ensurepip; sys.exit(sys.version_info < (3, {minor}))"
    return subprocess.run([python, "-c", test], capture_output=True, check=False).returncode == 0


def _run(command: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"pip found no versions that agree within {_INSTALL_SECONDS // 60} minutes"
    if done.returncode == 0:
        return None
    lines = [line for line in (done.stderr or done.stdout).splitlines() if line.startswith("ERROR")]
    return (lines or [f"{command[0]} ended with {done.returncode}"])[0][:300]


def _mark(peer: Peer, folder: Path) -> Path:
    return folder / peer.name / "installed-requirements.txt"


if __name__ == "__main__":
    raise SystemExit(main())
