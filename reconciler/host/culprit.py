"""Who a pid, or the port of a netlink socket, is: program and unit, as far as /proc still tells. For people only."""

from __future__ import annotations

import os

from reconciler.host import process
from reconciler.lean import suppress

_PIDS = 1 << 22  # PID_MAX_LIMIT
_UNITS = (".service", ".scope")
_CGROUP_BYTES = 1 << 16


def is_pid(author: int) -> bool:
    """Else it is the port of a process's second or later socket; 0: nobody is named."""
    return 0 < author < _PIDS


def described(author: int) -> str:
    """``pid 812 (/usr/sbin/bird), unit bird.service``; "" when nobody can be named. A pid costs two reads, a port a walk
    through the process table."""
    pid = author if is_pid(author) else _owner_of(author) if author else 0
    if not pid:
        return ""
    path, unit = process.program(pid), unit_of(pid)
    words = f"pid {pid} ({path})" if path else f"pid {pid}"
    return f"{words}, unit {unit}" if unit else words


def unit_of(pid: int) -> str:
    """The unit of systemd that it belongs to: the innermost service or scope of its control group; "" when none."""
    with suppress(OSError), open(f"/proc/{pid}/cgroup", "rb") as file:
        for line in file.read(_CGROUP_BYTES).decode(errors="replace").splitlines():
            for part in reversed(line.rpartition(":")[2].split("/")):
                if part.endswith(_UNITS):
                    return part
    return ""


def _owner_of(port: int) -> int:
    """The process with this netlink socket in our network namespace, while it lives; 0: none is seen."""
    inode = _inode_of(port)
    if not inode:
        return 0
    wanted = f"socket:[{inode}]"
    for pid in process.pids():
        with suppress(OSError):
            for descriptor in os.listdir(f"/proc/{pid}/fd"):
                with suppress(OSError):
                    if os.readlink(f"/proc/{pid}/fd/{descriptor}") == wanted:
                        return pid
    return 0


def _inode_of(port: int) -> str:
    """/proc/net/netlink: sk, protocol, port, groups, …, inode."""
    with suppress(OSError), open("/proc/thread-self/net/netlink", encoding="ascii") as file:
        for line in file:
            words = line.split()
            if len(words) > 3 and words[2] == str(port):
                return words[-1]
    return ""
