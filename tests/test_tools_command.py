"""The tool that runs commands: off unless allowed, bounded in time and output, and nothing of it stays behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import signal
import sys
import time
from pathlib import Path

import pytest

from agent import Toolbox, standard_tools
from agent.tools import command_tool
from agent.tools.command import without_secrets
from memory.errors import ConfigError
from memory.messages import ToolCall, ToolResult

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="process groups and /bin/sh are POSIX")

PYTHON = shlex.quote(sys.executable)


async def run(
    command: str, root: Path, *, timeout_seconds: float = 20.0, most: int = 30_000, shell: bool = False
) -> ToolResult:
    tool = command_tool(root, allow=True, timeout_seconds=timeout_seconds, max_output_characters=most, shell=shell)
    return await Toolbox([tool]).call(ToolCall(id="c1", name=tool.name, arguments=json.dumps({"command": command})))


def script(root: Path, code: str) -> str:
    """Write a program and return the command that runs it."""
    (root / "program.py").write_text(code)
    return f"{PYTHON} program.py"


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 0)
            return not Path("/proc/self").exists()
        return False


async def ends(pid: int) -> bool:
    for _ in range(200):
        if not is_alive(pid):
            return True
        await asyncio.sleep(0.01)
    return False


def test_commands_are_off_unless_allowed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="allow=True"):
        command_tool(tmp_path)
    assert "run_command" not in [tool.name for tool in standard_tools(tmp_path)]


def test_a_limit_that_can_never_work_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="positive"):
        command_tool(tmp_path, allow=True, timeout_seconds=0)


async def test_the_exit_code_and_both_streams_are_shown(tmp_path: Path) -> None:
    command = script(tmp_path, "import sys\nprint('out', flush=True)\nprint('err', file=sys.stderr)\nsys.exit(3)")

    assert (await run(command, tmp_path)).text == "exit code 3\nout\nerr"


async def test_a_command_starts_in_the_folder_and_reads_no_input(tmp_path: Path) -> None:
    command = script(tmp_path, "import os, sys\nprint(os.path.basename(os.getcwd()), repr(sys.stdin.read()))")

    assert (await run(command, tmp_path)).text == f"exit code 0\n{tmp_path.name} ''"


async def test_without_a_shell_words_are_words(tmp_path: Path) -> None:
    command = script(tmp_path, "import sys\nprint(sys.argv[1:])")

    assert "['a; b', '*', '$HOME', '|']" in (await run(f"{command} 'a; b' * $HOME '|'", tmp_path)).text


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("echo a | wc", "no shell to understand '|'"),
        ("make && make test", "no shell to understand '&&'"),
        ("ls; rm x", "no shell to understand ';'"),
        ("echo a > b", "no shell to understand '>'"),
        ("echo $(id)", "no shell to understand '$('"),
        ("echo 'a", "cannot be read"),
        ("", "give a command"),
        ("no-such-program-here", "there is no program"),
        ("/etc", "cannot be run"),
        ("echo \0", "cannot be run"),
    ],
)
async def test_a_command_that_cannot_run_is_an_answer_that_says_why(tmp_path: Path, command: str, said: str) -> None:
    result = await run(command, tmp_path)

    assert result.is_error
    assert said in result.text


async def test_with_a_shell_pipes_work(tmp_path: Path) -> None:
    assert (await run("echo one two | wc -w", tmp_path, shell=True)).text.split() == ["exit", "code", "0", "2"]


async def test_at_the_time_limit_the_whole_group_ends_and_the_output_stays(tmp_path: Path) -> None:
    command = script(
        tmp_path,
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid, flush=True)\ntime.sleep(60)",
    )
    began = time.monotonic()

    result = await run(command, tmp_path, timeout_seconds=1.0)

    assert result.is_error
    assert result.text.startswith("Error: ended after 1 seconds\n")
    assert await ends(int(result.text.splitlines()[1]))
    assert time.monotonic() - began < 10


async def test_when_the_agent_is_cancelled_the_whole_group_ends(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    command = script(
        tmp_path,
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "open('pids.new', 'w').write(f'{os.getpid()} {child.pid}')\nos.rename('pids.new', 'pids')\ntime.sleep(60)",
    )
    running = asyncio.create_task(run(command, tmp_path))
    async with asyncio.timeout(10):
        while not pids.exists():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.01)

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert [await ends(int(pid)) for pid in pids.read_text().split()] == [True, True]


async def test_what_a_command_leaves_running_holds_nobody_up_and_is_ended(tmp_path: Path) -> None:
    began = time.monotonic()

    result = await run("sleep 60 & echo $!", tmp_path, shell=True)

    assert result.text.startswith("exit code 0\n")
    assert await ends(int(result.text.split()[-1]))
    assert time.monotonic() - began < 10


async def test_what_has_left_the_group_is_not_waited_for(tmp_path: Path) -> None:
    code = "import subprocess; print(subprocess.Popen(['sleep', '60'], start_new_session=True).pid)"
    began = time.monotonic()

    result = await run(script(tmp_path, code), tmp_path)
    os.kill(int(result.text.split()[-1]), signal.SIGKILL)

    assert result.text.startswith("exit code 0\n")
    assert time.monotonic() - began < 10


async def test_of_a_long_output_the_ends_are_kept_and_the_rest_is_counted(tmp_path: Path) -> None:
    command = script(tmp_path, "print('begin'); print('x' * 5_000_000); print('end')")

    text = (await run(command, tmp_path, most=1_000)).text

    assert text.startswith("exit code 0\nbegin")
    assert text.endswith("end")
    assert "[… 4,999,011 bytes left out …]" in text
    assert len(text) < 1_100


async def test_an_output_that_never_ends_is_read_within_bounds(tmp_path: Path) -> None:
    command = script(tmp_path, "import sys\nwhile True: sys.stdout.write('y' * 65536)")

    result = await run(command, tmp_path, timeout_seconds=0.5, most=1_000)

    assert result.is_error
    assert "bytes left out" in result.text
    assert len(result.text) < 1_200


async def test_bytes_that_are_no_text_are_shown_with_replacements(tmp_path: Path) -> None:
    command = script(tmp_path, "import sys\nsys.stdout.buffer.write(b'caf\\xe9')")

    assert (await run(command, tmp_path)).text == "exit code 0\ncaf\ufffd"


@pytest.mark.parametrize(
    ("name", "value", "is_given"),
    [
        ("OPENAI_API_KEY", "sk-1", False),
        ("github_token", "t", False),
        ("AWS_SECRET_ACCESS_KEY", "s", False),
        ("AWS_ACCESS_KEY_ID", "s", False),
        ("PGPASSWORD", "p", False),
        ("MYSQL_PWD", "p", False),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/k.json", False),
        ("DATABASE_URL", "postgres://ann:secret@db/x", False),
        ("OPENAI_API_KEYS", "sk-1,sk-2", False),
        ("NPM_AUTHTOKEN", "t", False),
        ("MINIO_SECRETKEY", "s", False),
        ("AZURE_STORAGE_CONNECTION_STRING", "AccountKey=s", False),
        ("HTTP_PROXY", "http://proxy:3128", True),
        ("PATH", "/usr/bin", True),
        ("PWD", "/home", True),
        ("KEYBOARD", "de", True),
        ("MONKEYS", "3", True),
    ],
)
def test_variables_that_look_like_secrets_are_kept_from_commands(name: str, value: str, is_given: bool) -> None:
    assert (name in without_secrets({name: value})) is is_given


async def test_a_command_does_not_see_the_keys_of_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k-123")
    monkeypatch.setenv("COLOUR", "blue")
    command = script(tmp_path, "import os\nprint(os.environ.get('ANTHROPIC_API_KEY'), os.environ.get('COLOUR'))")

    assert (await run(command, tmp_path)).text == "exit code 0\nNone blue"
