"""What the built wheel holds: a missing data file is only noticed by those who install."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("memory", "agent", "config")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    """The wheel, built offline by the backend itself."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return ZipFile(next(folder.glob("*.whl")))


def test_the_wheel_holds_every_file_of_the_three_packages_and_nothing_else(wheel: ZipFile) -> None:
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    ours = [path.relative_to(ROOT) for name in PACKAGES for path in (ROOT / name).rglob("*") if path.is_file()]
    wanted = {path.as_posix() for path in ours if not any(_is_cache(part) for part in path.parts)}

    assert held == wanted


def _is_cache(folder: str) -> bool:
    return folder == "__pycache__" or folder.startswith(".")


@pytest.mark.parametrize("name", ["memory/py.typed", "agent/py.typed", "config/py.typed", "memory/ranks/o200k_base.xz"])
def test_the_wheel_holds_types_and_ranks(wheel: ZipFile, name: str) -> None:
    assert name in wheel.namelist()


def test_the_wheel_carries_our_licence_and_that_of_the_ranks(wheel: ZipFile) -> None:
    licences = [name for name in wheel.namelist() if "/licenses/" in name]

    assert any(name.endswith("/LICENSE") for name in licences)
    assert any("memory/ranks/" in name for name in licences)


def test_the_wheel_installs_the_command(wheel: ZipFile) -> None:
    entry = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))

    assert "aloop = agent.cli:main" in wheel.read(entry).decode()


def test_all_holds_the_providers_and_dev_every_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]

    def named(extra: str) -> set[str]:
        """The extras of our own that an extra brings, and those that they bring."""
        found = {name for line in extras[extra] for name in re.findall(r"^aloop-memory\[(.*)\]$", line)}
        direct = {name for names in found for name in names.split(",")}
        return direct | {inner for name in direct for inner in named(name)}

    assert named("all") == {"openai", "anthropic", "gemini"}
    assert named("dev") == set(extras) - {"dev", "newest"}
