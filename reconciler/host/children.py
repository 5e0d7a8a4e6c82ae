"""Programs: where they are found, and taking leave of those that we started. Looks need this much; `launch` starts them."""

from __future__ import annotations

import os
import time

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # the whole of it: nothing is inherited

_running: set[int] = set()  # started by this process and not yet seen to end


def find(name: str, path: str = PATH) -> str | None:
    """The program's file, looked up in `path` unless it has a slash; None when there is none to execute."""
    if "/" in name:
        return name
    candidates = (f"{directory or '.'}/{name}" for directory in path.split(":"))
    return next((path for path in candidates if os.path.isfile(path) and os.access(path, os.X_OK)), None)


def add(pid: int) -> None:
    """A child that runs from now on."""
    _running.add(pid)


def forget(pid: int) -> None:
    """A child that was seen to end."""
    _running.discard(pid)


def reap() -> None:
    """Takes leave of children that ended, so that they do not stay zombies while we live."""
    for pid in tuple(_running):
        try:
            ended = os.waitpid(pid, os.WNOHANG)[0] == pid
        except ChildProcessError:
            ended = True
        if ended:
            forget(pid)


def wait_status(pid: int) -> int | None:
    """How our child that is a zombie by now ended: its exit code, or minus the signal; None when it is not ours to know."""
    for _ in range(20):  # its last thread may need a moment longer
        try:
            done, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            break
        if done == pid:
            forget(pid)
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    return None
