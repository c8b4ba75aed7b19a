"""Ending all processes of an attempt; also a program, the guard, that does so when its runner is gone.

The guard has no site-packages, and starts in an instant because of it: this imports the standard library alone.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import sys
import threading
import time
from typing import Any, Final

MARK: Final = "AGL_ATTEMPT_ID"
"""The variable by which a process is known to belong to an attempt, whatever group or session it has moved to."""
GRACE_SECONDS: Final = 5.0
"""How long processes have between SIGTERM and SIGKILL."""
_KILL_SECONDS: Final = 5.0


def end_tree(attempt_id: str, session: int | None) -> list[int]:
    """End the processes of an attempt: ask them, then kill them. Returns when they are gone.

    Where there is no Linux to say who belongs to it, its process group is killed at once.

    Args:
        attempt_id: The attempt, which its processes have in their environment.
        session: The session that its first process began, for those that have cleared their environment.

    Returns:
        The ids of those that do not end even so.
    """
    if not hasattr(os, "pidfd_open") or not os.path.isdir("/proc/self"):
        if session is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(session, signal.SIGKILL)
        return []
    for number, seconds in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, _KILL_SECONDS)):
        if not _told(attempt_id, session, number, time.monotonic() + seconds):
            return []
    return list(_members(attempt_id, session))


def _told(attempt_id: str, session: int | None, number: signal.Signals, deadline: float) -> bool:
    """Send a signal to all, also to those that appear meanwhile; whether any is left at the deadline."""
    while processes := _opened(attempt_id, session):
        try:
            for handle in processes:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    signal.pidfd_send_signal(handle, number)
                    signal.pidfd_send_signal(handle, signal.SIGCONT)  # one that is stopped hears nothing else
            if not _have_ended(processes, deadline):
                return True
        finally:
            for handle in processes:
                os.close(handle)
        if time.monotonic() >= deadline:
            return True
    return False


def _opened(attempt_id: str, session: int | None) -> list[int]:
    """A handle of each process of an attempt; an id could meanwhile be another's."""
    handles = []
    for pid in _members(attempt_id, session):
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(pid)
            if _belongs(pid, attempt_id, session):
                handles.append(handle)
            else:
                os.close(handle)
    return handles


def _have_ended(handles: list[int], deadline: float) -> bool:
    """Wait for processes to end; False when one has not by then."""
    poll, left = select.poll(), len(handles)
    for handle in handles:
        poll.register(handle, select.POLLIN)
    while left and (seconds := deadline - time.monotonic()) > 0:
        for handle, _ in poll.poll(seconds * 1000):
            poll.unregister(handle)
            left -= 1
    return not left


def _members(attempt_id: str, session: int | None) -> list[int]:
    pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    return [pid for pid in pids if _belongs(pid, attempt_id, session)]


def _belongs(pid: int, attempt_id: str, session: int | None) -> bool:
    try:
        if os.getsid(pid) != session and not _is_marked(pid, attempt_id):
            return False
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b") ")[2][:1] not in (b"Z", b"X")
    except OSError:  # it has ended meanwhile, or is somebody else's
        return False


def _is_marked(pid: int, attempt_id: str) -> bool:
    with open(f"/proc/{pid}/environ", "rb") as environment:
        return f"{MARK}={attempt_id}".encode() in environment.read().split(b"\0")


def guard() -> None:
    """Read what a runner has started, and end it once the runner is gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    running: dict[str, Any] = {}
    for line in sys.stdin.buffer:
        told = json.loads(line)
        if told["folder"] is None:
            running.pop(told["attempt_id"], None)
        else:
            running[told["attempt_id"]] = told
    for told in running.values():
        threading.Thread(target=_clean_up, args=(told["attempt_id"], told["session"], told["folder"])).start()


def _clean_up(attempt_id: str, session: int | None, folder: str) -> None:
    end_tree(attempt_id, session)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    guard()
