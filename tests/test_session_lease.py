"""Whether an owner is still there: asked of this machine, believed of others until their lease runs out."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from memory.errors import SessionInUseError
from memory.sessions.lease import in_use, is_alive, new_owner
from memory.sessions.values import Owner


def holds(owner: Owner, *, seconds_left: float = -1.0) -> bool:
    return is_alive(owner, lease_until=1_000.0 + seconds_left, now=1_000.0)


@pytest.fixture
def child() -> Iterator[subprocess.Popen[str]]:
    """A process that runs until its input ends."""
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, text=True)
    with process:
        yield process


def owner_of(process: subprocess.Popen[str]) -> Owner:
    """An owner as that process would make it; the system says of each process what it says of its own."""
    started = new_owner().process_started.split("/")
    if started == [""]:
        return replace(new_owner(), process_id=process.pid)
    with open(f"/proc/{process.pid}/stat") as file:
        started[2] = file.read().rpartition(")")[2].split()[19]
    return replace(new_owner(), process_id=process.pid, process_started="/".join(started))


def test_a_process_has_its_sessions_for_as_long_as_it_runs() -> None:
    assert holds(new_owner(), seconds_left=-10_000)


def test_another_process_that_runs_has_its_sessions(child: subprocess.Popen[str]) -> None:
    assert holds(owner_of(child))


def test_a_process_that_ended_has_none_left_whatever_its_lease(child: subprocess.Popen[str]) -> None:
    owner = owner_of(child)

    child.kill()
    child.wait()

    assert not holds(owner, seconds_left=10_000)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says of a process that it is a zombie")
def test_a_process_that_was_killed_and_not_yet_waited_for_has_none_left(child: subprocess.Popen[str]) -> None:
    owner = owner_of(child)

    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and stays a zombie

    assert not holds(owner, seconds_left=10_000)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says when a process began")
def test_a_later_process_of_the_same_number_is_another_one() -> None:
    boot, namespace, began, machine = new_owner().process_started.split("/")
    earlier = f"{boot}/{namespace}/{int(began) - 1}/{machine}"

    assert not holds(replace(new_owner(), process_started=earlier), seconds_left=99)


@pytest.mark.skipif(not Path("/etc/machine-id").exists(), reason="nothing tells this machine from another")
def test_before_the_machine_was_started_anew_is_another_process() -> None:
    _, *rest = new_owner().process_started.split("/")
    if not rest[2]:
        pytest.skip("in a container, nothing tells its machine from another")

    assert not holds(replace(new_owner(), process_started="/".join(["another-boot", *rest])), seconds_left=99)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells one start of the machine from another")
@pytest.mark.parametrize("machine", ["", "0123456789abcdef"], ids=["unknown", "another"])
def test_another_machine_of_the_same_name_is_believed_by_its_lease(machine: str) -> None:
    _, namespace, began, _ = new_owner().process_started.split("/")
    elsewhere = replace(new_owner(), process_started=f"another-boot/{namespace}/{began}/{machine}")

    assert holds(elsewhere, seconds_left=1)
    assert not holds(elsewhere, seconds_left=-1)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has containers of this kind")
def test_a_container_of_the_same_name_is_believed_by_its_lease() -> None:
    boot, _, began, machine = new_owner().process_started.split("/")
    elsewhere = replace(new_owner(), process_started=f"{boot}/pid:[1]/{began}/{machine}")

    assert holds(elsewhere, seconds_left=1)
    assert not holds(elsewhere, seconds_left=-1)


def test_another_machine_is_believed_by_its_lease() -> None:
    elsewhere = replace(new_owner(), host="another-machine")

    assert holds(elsewhere, seconds_left=1)
    assert not holds(elsewhere, seconds_left=0)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot be asked for a process without ending it")
def test_where_the_system_does_not_say_when_processes_began_a_number_counts_for_as_long_as_the_lease(
    child: subprocess.Popen[str],
) -> None:
    owner = replace(new_owner(), process_id=child.pid, process_started="")
    assert holds(owner, seconds_left=1)
    assert not holds(owner, seconds_left=-1), "the number may be another process's by now"

    child.kill()
    child.wait()

    assert not holds(owner, seconds_left=99)


def test_each_owner_is_another_one() -> None:
    assert len({new_owner().token for _ in range(100)}) == 100


def test_the_error_names_who_has_the_session_and_not_the_token() -> None:
    owner = replace(new_owner(), host="buildhost", process_id=4711)

    error = in_use("abc", owner)

    assert isinstance(error, SessionInUseError)
    assert (error.session_id, error.host, error.process_id) == ("abc", "buildhost", 4711)
    assert owner.token not in str(error)
