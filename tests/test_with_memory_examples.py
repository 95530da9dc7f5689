"""The examples are ordinary loops: without the two lines that give them a memory they run as well, and send it all."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("with_*.py"))
_MEMORY_LINE = re.compile(r"  # memory: line \d of 2$")


def run(path: Path) -> str:
    done = subprocess.run(
        [sys.executable, str(path)],
        cwd=path.parent,
        env={"PYTHONPATH": str(ROOT), "HOME": str(path.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_there_is_one_for_each_api() -> None:
    assert [path.stem for path in EXAMPLES] == ["with_anthropic", "with_gemini", "with_openai", "with_openai_responses"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_without_its_two_lines_an_example_is_a_loop_that_still_runs(path: Path, tmp_path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    bare = [line for line in lines if not _MEMORY_LINE.search(line)]
    assert len(lines) - len(bare) == 2
    bare = [line for line in bare if not line.endswith("  # what it did")]
    assert "with_memory" not in "\n".join(line for line in bare if "examples/" not in line)
    (tmp_path / path.name).write_text("\n".join(bare), encoding="utf-8")

    answer = run(tmp_path / path.name)

    assert answer == "V-21.\n"
    assert run(path).startswith(f"{answer}--- Memory Statistics ---\n")
