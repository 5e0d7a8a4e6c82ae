"""Processes as /proc shows them, and an identity that outlives the reuse of a pid. Reads only; standard library only.

A zombie is dead. A process whose environment may not be read is not "unmarked": that is PermissionError.
"""

from __future__ import annotations

import os
import time

from reconciler.host import cgroup
from reconciler.lean import suppress
from reconciler.model.marks import ENVIRONMENT_KEY, Mark, parse_mark
from reconciler.model.names import IfName
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_KEY = f"{ENVIRONMENT_KEY}=".encode()
_CHUNK = 65536
_ENVIRONMENT_LIMIT = 4 * 1024 * 1024  # bytes; the kernel allows a quarter of the stack limit (8 MiB) for all arguments
_GONE = (FileNotFoundError, ProcessLookupError)
NONE: Mapping[int, int] = {}


class Process(NamedTuple):
    """A living process. The pid alone names nobody; pid and start ticks do, within one boot."""

    pid: int
    start_ticks: int  # since boot, in clock ticks (10 ms): field 22 of proc(5) stat; ignores clock steps
    parent: int
    session: int
    state: str = "R"
    mark: Mark | None = None
    uid: int | None = None  # the real one, of marked processes


def stat(pid: int) -> Process | None:
    """What /proc/PID/stat says; None when there is no such process, or a zombie only."""
    with suppress(*_GONE):
        content = _read(f"/proc/{pid}/stat", 4096)
        fields = content[content.rindex(b")") + 2 :].split()
        state = fields[0].decode()
        if state not in ("Z", "X", "x"):
            return Process(pid, int(fields[19]), int(fields[1]), int(fields[3]), state)
    return None


def is_alive(pid: int, start_ticks: int) -> bool:
    """True while this very process runs."""
    process = stat(pid)
    return process is not None and process.start_ticks == start_ticks


def age_s(start_ticks: int) -> float:
    """Since it was started; the sleep of the machine counts."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - start_ticks / os.sysconf("SC_CLK_TCK")


def mark_of(pid: int) -> Mark | None:
    """The mark in its environment; None: it has none. PermissionError when we may not read it."""
    try:
        return _mark_in(_read(f"/proc/{pid}/environ", _ENVIRONMENT_LIMIT))
    except _GONE:
        return None


def _mark_in(environment: bytes) -> Mark | None:
    if _KEY not in environment:  # nearly always, and there may be a thousand processes
        return None
    _, found, rest = (b"\0" + environment).partition(b"\0" + _KEY)
    return parse_mark("tunctl:" + rest.partition(b"\0")[0].decode(errors="replace")) if found else None


def command_line(pid: int) -> tuple[str, ...]:
    """Its argv as the kernel shows it; empty when it is gone or has none."""
    with suppress(OSError):
        content = _read(f"/proc/{pid}/cmdline", _CHUNK * 4)
        if content:
            return tuple(os.fsdecode(word) for word in content.removesuffix(b"\0").split(b"\0"))
    return ()


def program(pid: int) -> str | None:
    """The file it runs, also when that file was replaced meanwhile; None when we cannot tell."""
    with suppress(OSError):
        return os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)")
    return None


def network_namespace(pid: int | None = None) -> str | None:
    """An opaque name of the network namespace of a process, or of this thread; None when we cannot tell."""
    with suppress(OSError):
        return os.readlink(f"/proc/{pid or 'thread-self'}/ns/net")
    return None


def pids() -> list[int]:
    """Of all processes in our pid namespace."""
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def ancestors() -> frozenset[int]:
    """Our own pid and those of whoever started us: never to be signalled, whatever their environment says."""
    found = {os.getpid(), 1}  # init also where a parent is just ending, and the way up to it cannot be seen
    process = stat(os.getpid())
    while process and process.parent > 0 and process.parent not in found:
        found.add(process.parent)
        process = stat(process.parent)
    return frozenset(found)


def _real_uid(pid: int) -> int | None:
    """Who started it: a set-uid program keeps its caller's, with an environment of the caller's making."""
    with suppress(OSError):
        for line in _read(f"/proc/{pid}/status", 8192).splitlines():
            if line.startswith(b"Uid:"):
                return int(line.split()[1])
    return None


class Marked(NamedTuple):
    """One scan of the process table."""

    processes: tuple[Process, ...]  # with a mark, by age
    hidden: int  # processes of other users whose environment we may not read
    groups: frozenset[str] | None = None  # paths of tunnels' control groups; None: nobody has looked
    unmarked: Mapping[int, int] = {}  # pid → inode of /proc/PID of those that have no mark, and get none by themselves


def find_marked(unmarked: Mapping[int, int] = NONE) -> Marked:
    """All processes with a mark in their environment, but for us and our ancestors (a mark leaks into a shell easily).

    `unmarked`: as an earlier scan found it: these are not looked into again. An inode is of one process for ever, and a
    mark comes with an exec of a program that tunctl has started, which it does under its lock. So it may be kept by whoever
    held the lock when it was found.
    """
    skipped = ancestors()
    found: list[Process] = []
    seen: dict[int, int] = {}
    refused: list[tuple[int, int]] = []

    def look(pid: int, inode: int) -> None:
        try:
            environment = _read(f"/proc/{pid}/environ", _ENVIRONMENT_LIMIT)
        except PermissionError:
            refused.append((pid, inode))
            return
        except OSError:
            return  # gone before, or while it was read (EIO, ENOMEM of a dying process)
        mark = _mark_in(environment)
        if mark and (process := stat(pid)):
            found.append(process._replace(mark=mark, uid=_real_uid(pid)))
        elif not mark and (environment or _has_no_memory(pid)):
            seen[pid] = inode

    for pid, inode in _by_inode():
        if unmarked.get(pid) == inode:
            seen[pid] = inode
        elif pid not in skipped:
            look(pid, inode)
    again, refused = refused, []
    for pid, inode in again:  # who comes out of a program that nobody may look into can be looked into after its exec
        look(pid, inode)
    found.sort(key=lambda process: (process.start_ticks, process.pid))
    return Marked(tuple(found), len(refused), cgroup.paths(), seen)


def _by_inode() -> Iterator[tuple[int, int]]:
    """All pids, and the inodes of their directories. The kernel gives each process another one, and never changes it as
    long as it is remembered."""
    with os.scandir("/proc") as entries:
        for entry in entries:
            if entry.name.isdecimal():
                yield int(entry.name), entry.inode()


def _has_no_memory(pid: int) -> bool:
    """A thread of the kernel: it will never have an environment. What has none only now may be in the middle of an exec."""
    try:
        os.readlink(f"/proc/{pid}/exe")
    except FileNotFoundError:
        return True
    except OSError:
        pass
    return False


def held_devices(pid: int) -> Iterator[IfName]:
    """The TUN devices it has open: `iff:` in /proc/PID/fdinfo/*. Their network namespace is not known from here, so this
    proves nothing of a process that may be anybody's (tunproof)."""
    for _descriptor, name in device_descriptors(pid):
        yield name


def device_descriptors(pid: int) -> Iterator[tuple[int, IfName]]:
    """The descriptors of TUN devices in that process, and the names of the devices."""
    try:
        descriptors = os.listdir(f"/proc/{pid}/fd")
    except _GONE:
        return
    for descriptor in descriptors:
        with suppress(*_GONE):
            if "tun" not in os.readlink(f"/proc/{pid}/fd/{descriptor}"):  # in a chroot, or deleted: not always /dev/net/tun
                continue
            for line in _read(f"/proc/{pid}/fdinfo/{descriptor}", 4096).splitlines():
                if line.startswith(b"iff:"):
                    yield int(descriptor), IfName(os.fsdecode(line[4:].strip()))


def tun_holders(among: Iterable[int] | None = None) -> dict[IfName, list[int]]:
    """Which processes of our network namespace hold which TUN device. Those we may not look into are left out."""
    ours = network_namespace()
    holders: dict[IfName, list[int]] = {}
    for pid in sorted(pids() if among is None else among):
        with suppress(PermissionError):
            names = set(held_devices(pid))
            if names and network_namespace(pid) == ours:
                for name in names:
                    holders.setdefault(name, []).append(pid)
    return holders


def _read(path: str, limit: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = os.read(descriptor, min(limit, _CHUNK))
        while _CHUNK <= len(content) < limit and (more := os.read(descriptor, limit - len(content))):  # else it was all
            content += more
        return content
    finally:
        os.close(descriptor)
