"""A control group (v2) around each owner's process tree, where the machine has them and lets us.

It ends a whole tree at once, `setsid` grandchildren included (0.5 to 0.8 ms measured). Without it, the mark in the environment
has to do; so nothing in here ever raises because control groups are absent, read-only or not ours.
"""

from __future__ import annotations

import errno
import os
import time

from reconciler.lean import cache, suppress
from reconciler.model.marks import Mark
from reconciler.model.names import TunnelName

_MOUNTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")  # the unified and the hybrid layout of systemd
_TRIES, _AGAIN_S = 20, 0.005


def path_of(mark: Mark) -> str | None:
    """Where the tunnel's group is or would be; None when there is no cgroup v2 here."""
    mount = _mount()
    return f"{mount}/tunctl-{mark.tunnel}-{mark.id}" if mount else None


@cache
def _mount() -> str | None:
    return next((path for path in _MOUNTS if os.path.exists(f"{path}/cgroup.controllers")), None)


def paths() -> frozenset[str]:
    """Of all groups of tunnels that there are: one question, where there may be a thousand tunnels."""
    mount = _mount()
    if mount:
        with suppress(OSError):
            return frozenset(f"{mount}/{name}" for name in os.listdir(mount) if name.startswith("tunctl-"))
    return frozenset()


def made(mark: Mark) -> str | None:
    """The path of the tunnel's group, which is there from now on; None when that cannot be."""
    path = path_of(mark)
    try:
        if path is not None:
            os.mkdir(path, 0o755)
    except FileExistsError:
        pass
    except OSError:
        return None
    return path


def enter(mark: Mark, pid: int) -> None:
    """Puts the process into the group, if it is not there already (`clone` is quicker) and that can be. The group may be gone,
    or go in the 10 to 35 ms that this takes: who sweeps for another store with a tunnel of this name takes away what is empty.
    """
    for _ in range(_TRIES):
        path = made(mark)
        if path is None or pid in members(mark) or _write(f"{path}/cgroup.procs", str(pid)) or os.path.exists(path):
            return


def members(mark: Mark) -> frozenset[int]:
    """The pids in the group, as our pid namespace sees them (0: outside of it)."""
    path = path_of(mark)
    if path:
        with suppress(OSError), open(f"{path}/cgroup.procs", encoding="utf-8") as lines:
            return frozenset(int(line) for line in lines) - {0}
    return frozenset()


def kill(mark: Mark) -> bool:
    """SIGKILL to everything in it at once (Linux 5.14); False when that cannot be."""
    path = path_of(mark)
    return path is not None and _write(f"{path}/cgroup.kill", "1")


def remove(mark: Mark) -> None:
    """Removes the group if nothing lives in it. A process that is reported dead may count for a moment longer."""
    path = path_of(mark)
    for _ in range(_TRIES if path else 0):
        try:
            os.rmdir(path or "")
        except OSError as error:
            if error.errno != errno.EBUSY or members(mark):
                return
            time.sleep(_AGAIN_S)
        else:
            return


def sweep(tunnel: TunnelName) -> None:
    """Removes the groups of a tunnel whose processes ended by themselves. Those in which something lives stay."""
    mount = _mount()
    if mount:
        with suppress(OSError):
            for name in os.listdir(mount):
                stem, _, mark_id = name.rpartition("-")
                if stem == f"tunctl-{tunnel}" and len(mark_id) == 8:
                    with suppress(OSError):
                        os.rmdir(f"{mount}/{name}")


def _write(path: str, text: str) -> bool:
    with suppress(OSError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            return os.write(descriptor, text.encode()) == len(text)
        finally:
            os.close(descriptor)
    return False
