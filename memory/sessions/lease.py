"""Who owns a session, and whether that owner is still there."""

from __future__ import annotations

import os
import sys
from hashlib import sha256
from pathlib import Path

from ..errors import SessionInUseError
from .values import Owner

LEASE_SECONDS = 300.0
"""How long an owner on another machine is believed to be alive after its last write; one on this machine is asked."""


def new_owner() -> Owner:
    """Return an owner for a memory of this process."""
    process_id = os.getpid()
    return Owner(
        token=os.urandom(8).hex(),
        host=_host(),
        process_id=process_id,
        process_started=_started(process_id) or "",
    )


def is_alive(owner: Owner, *, lease_until: float, now: float) -> bool:
    """Return whether an owner still has what it acquired.

    A process of this machine has it for as long as it runs, and loses it the moment it ends, however it ends. One of
    another machine or container cannot be asked: it has it until its lease runs out, and every write prolongs that.
    So has one of this machine where the system does not say when a process began (macOS, Windows): the number of one
    that ended may be another's by now.
    """
    if owner.host == _host() and (is_running := _is_running(owner)) is not None:
        return is_running
    return now < lease_until


def is_of_this_process(owner: Owner) -> bool:
    """Return whether this process is the owner's, and not a child that was forked from it."""
    return owner.process_id == os.getpid()


def in_use(session_id: str, owner: Owner) -> SessionInUseError:
    """Return the error for whoever is not the owner."""
    return SessionInUseError(session_id, host=owner.host, process_id=owner.process_id)


def _is_running(owner: Owner) -> bool | None:
    """Return whether the owner's process runs; None where that cannot be found out."""
    if not owner.process_started:
        return False if _answers(owner.process_id) is False else None
    boot, namespace, _, machine = [*owner.process_started.split("/"), "", "", ""][:4]
    if boot != _boot():  # the machine was started anew since, or it is another one of the same name
        return False if machine and machine == _machine() else None
    if namespace != _namespace():
        return None  # a container of the same name, whose process numbers are its own
    if (started := _started(owner.process_id)) is not None:
        return started == owner.process_started
    # Some systems hide the processes of other accounts; then only whether there is one can be asked.
    return False if _answers(owner.process_id) is False else None


def _answers(process_id: int) -> bool | None:
    """Return whether there is a process of that number."""
    if sys.platform == "win32":  # there, `os.kill` would end the process that it asks
        return None
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's process, but a process
        return True
    return True


def _started(process_id: int) -> str | None:
    """Return what tells a process from others of its number, where the system says: boot, namespace, start, machine.

    Source: proc(5), fields 3 and 22 of /proc/[pid]/stat. The second field is a name in parentheses, which may hold
    spaces. A zombie keeps its number until its parent asks for it, but does nothing any more.
    """
    try:
        status = Path(f"/proc/{process_id}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *fields = status.rpartition(")")[2].split()
    return "ended" if state in ("Z", "X") else f"{_boot()}/{_namespace()}/{fields[18]}/{_machine()}"


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _machine() -> str:
    """Return what tells this machine from others of its name; empty where nothing does.

    The id itself is to be kept to the machine, so only a hash of it leaves (machine-id(5)). Of a container it says
    nothing: all that were made of one image may have the same.
    """
    if _namespace() != _FIRST_NAMESPACE:
        return ""
    try:
        content = Path("/etc/machine-id").read_bytes().strip()
    except OSError:
        return ""
    return sha256(b"aloop" + content).hexdigest()[:16] if content else ""


_FIRST_NAMESPACE = "pid:[4026531836]"
"""Outside all containers: PROC_PID_INIT_INO of Linux, 0xEFFFFFFC (include/linux/proc_ns.h, 2026-11)."""


def _host() -> str:
    # Not through `socket`, which takes longer to import than all of this.
    return os.environ.get("COMPUTERNAME", "") if sys.platform == "win32" else os.uname().nodename
