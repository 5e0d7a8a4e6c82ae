"""Commands of tunctl without their start-up: a server that has loaded everything forks a child for each of them.

The child enters the namespace, sees the files, has the environment, the directory and the three streams that a command has
which `ip netns exec` starts, and runs the same `main` with the same words: a process of its own, which can be killed like any
other, for a fifth of the time. What it cannot show is the start itself: what is imported, how Python was called, what others
read in its command line. Such tests start it anew (`cold=True`), and tests/house/test_commands.py does so with every command.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import json
import os
import pkgutil
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

PROJECT = Path(__file__).parents[2]
NETNS_ETC = Path("/etc/netns")  # NAME/FILE there is bound over /etc/FILE by `ip netns exec`, and here
_USUAL = (  # what the server sees: a tun device for everybody, as on most machines; a resolv.conf that is not the machine's
    'mknod -m 666 "$1/tun" c 10 200 && mount --bind "$1/tun" /dev/net/tun'
    ' && : > "$1/resolv.conf" && mount --bind "$1/resolv.conf" /etc/resolv.conf && shift && exec "$@"'
)
_SELDOM = re.compile(r"reconciler\.(__main__|store\.(migration|statements|tables))")
_LATE = ("pyroute2", "shutil", "pwd", "grp", "traceback")
_HUGE_PAGES = {
    "PYTHONMALLOC": "malloc",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}  # a fork copies page tables: 3 ms less of 6
_MOST_BYTES = 1 << 17  # of an order: words and environment
_CLONE_NEWNS, _CLONE_NEWNET = 0x00020000, 0x40000000  # linux/sched.h
_MS_BIND, _MS_REC, _MS_SLAVE, _MNT_DETACH = 1 << 12, 1 << 14, 1 << 19, 2  # linux/mount.h
_libc = ctypes.CDLL(None, use_errno=True)


class Server:
    """Started once for all tests of this process; it ends with it."""

    def __init__(self) -> None:
        self._place = tempfile.TemporaryDirectory(prefix="tt-")
        self._channel, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        shell = ["unshare", "-m", "--propagation", "slave", "sh", "-c", _USUAL, "sh", self._place.name]
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT), "LANG": "C.UTF-8", **_HUGE_PAGES}
        with its:
            argv = [*shell, sys.executable, "-m", "tests.netns.forked", str(its.fileno())]
            null = subprocess.DEVNULL
            self.process = subprocess.Popen(argv, env=environment, cwd="/", stdin=null, stdout=null, pass_fds=[its.fileno()])
        assert self._channel.recv(16) == b"ready", "the server of forked commands did not start"
        atexit.register(self._close)

    def ask(self, order: Mapping[str, object], descriptors: Sequence[int]) -> None:
        """One message each, so several threads may ask."""
        message = json.dumps(order).encode()
        assert len(message) < _MOST_BYTES
        socket.send_fds(self._channel, [message], descriptors)

    def _close(self) -> None:
        self._channel.close()
        self.process.wait(10)
        self._place.cleanup()


@cache
def server() -> Server:
    return Server()


class Forked:
    """A command that runs: `pid`, and how it ends."""

    def __init__(self, order: Mapping[str, object], netns: int, streams: Sequence[int]) -> None:
        """`order`: args, env and dir; etc: the directory whose files are bound over those in /etc (None: the server's own
        view is seen); groups: whether control groups are. `netns` and stdin, stdout, stderr are descriptors."""
        self._report, its = os.pipe()
        try:
            server().ask(order, [netns, its, *streams])
        finally:
            os.close(its)
        self._told = b""
        self._code: int | None = None
        self.pid = int(self._line(None) or 0)
        assert self.pid, "the server of forked commands is gone"

    def __enter__(self) -> Forked:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._code is None:
            self.kill()
        os.close(self._report)

    def wait(self, timeout: float | None) -> int | None:
        """Its code, minus the signal that killed it; None when it does not end in so many seconds."""
        if self._code is None:
            line = self._line(timeout)
            self._code = None if line is None else int(line)
        return self._code

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.wait(10)

    def _line(self, timeout: float | None) -> bytes | None:
        while b"\n" not in self._told:
            if timeout is not None and not select.select([self._report], [], [], timeout)[0]:
                return None
            part = os.read(self._report, 64)
            assert part, "the server of forked commands is gone"
            self._told += part
        line, _, self._told = self._told.partition(b"\n")
        return line


def run(order: Mapping[str, object], netns: int, told: list[str], timeout: float) -> subprocess.CompletedProcess[str]:
    """As subprocess.run captures it: until the command has ended and nobody has its stdout or stderr any more."""
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    pipes = [os.pipe() for _stream in ("stdout", "stderr")]
    reading = {ours: bytearray() for ours, _its in pipes}
    try:
        forked = Forked(order, netns, [null, *(its for _ours, its in pipes)])
    except BaseException:
        for descriptor in reading:
            os.close(descriptor)
        raise
    finally:
        for descriptor in (null, *(its for _ours, its in pipes)):
            os.close(descriptor)
    try:
        with forked:
            deadline = time.monotonic() + timeout
            ended = _read(reading, deadline)
            code = forked.wait(max(0, deadline - time.monotonic())) if ended else None
        out, err = (bytes(content).decode(errors="replace") for content in reading.values())
        if code is None:
            raise subprocess.TimeoutExpired(told, timeout, out, err)
        return subprocess.CompletedProcess(told, code, out, err)
    finally:
        for descriptor in reading:
            os.close(descriptor)


def _read(reading: dict[int, bytearray], deadline: float) -> bool:
    """All that comes until the ends; False when they do not come in time."""
    left = set(reading)
    while left:
        ready = select.select(left, [], [], max(0, deadline - time.monotonic()))[0]
        if not ready:
            return False
        for descriptor in ready:
            part = os.read(descriptor, 1 << 16)
            reading[descriptor] += part
            if not part:
                left.discard(descriptor)
    return True


# The server


def _serve(channel: socket.socket) -> None:
    """A child for each order; its pid, and at its end its code, are written to the pipe that came along."""
    _load()
    channel.send(b"ready")
    running: dict[int, tuple[int, int]] = {}  # pidfd → pid, report
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    while True:
        for descriptor, _events in poll.poll():
            if descriptor in running:
                poll.unregister(descriptor)
                pid, report = running.pop(descriptor)
                _tell(report, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                os.close(descriptor)
                os.close(report)
                continue
            message, descriptors, _flags, _address = socket.recv_fds(channel, _MOST_BYTES, 5)
            if not message:
                return
            netns, report, *streams = descriptors
            pid = os.fork()
            if pid == 0:
                _become(json.loads(message), netns, streams)
            ending = os.pidfd_open(pid)
            running[ending] = (pid, report)
            poll.register(ending, select.POLLIN)
            _tell(report, pid)
            for other in (netns, *streams):
                os.close(other)


def _tell(report: int, number: int) -> None:
    with suppress(BrokenPipeError):  # nobody waits for it any more
        os.write(report, b"%d\n" % number)


def _load() -> None:
    """All that commands need, and what they load late; none of it is looked through for garbage, or a child would copy it."""
    import reconciler

    for module in pkgutil.walk_packages(reconciler.__path__, "reconciler."):
        if not _SELDOM.match(module.name):
            importlib.import_module(module.name)
    for name in _LATE:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


def _become(order: dict[str, Any], netns: int, streams: Sequence[int]) -> NoReturn:
    """In the child."""
    code = 70
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until tunctl takes it: no traceback of ours
    try:
        _done(_libc.setns(netns, _CLONE_NEWNET), "setns")
        for target, stream in enumerate(streams):
            os.dup2(stream, target)
        _streams_anew()
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        os.environ.clear()
        os.environ.update(order["env"])
        time.tzset()
        if order["etc"] is not None:
            _see_as_ip_netns_exec(order["etc"], with_groups=order["groups"])
        os.chdir(order["dir"])
        from reconciler.__main__ import main

        sys.argv = ["tunctl", *order["args"]]
        main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _streams_anew() -> None:
    """As Python opens them at its start: what can be done with them depends on what is behind."""
    encoding, errors = sys.stdout.encoding, sys.stdout.errors
    sys.stdin = os.fdopen(0, encoding=encoding, errors=errors, closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding=encoding, errors=errors, closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, encoding, sys.stderr.errors, closefd=False)


def _see_as_ip_netns_exec(etc: str, *, with_groups: bool) -> None:
    """The machine's mounts, but a /sys of this namespace, and the files of `etc`; control groups as `Host.run` mounts them."""
    _done(_libc.unshare(_CLONE_NEWNS), "unshare")
    _mount(b"", "/", b"none", _MS_SLAVE | _MS_REC)
    for covered in (b"/dev/net/tun", b"/etc/resolv.conf", b"/sys"):
        _done(_libc.umount2(covered, _MNT_DETACH), covered.decode())
    _mount(b"sysfs", "/sys", b"sysfs", 0)
    for name in os.listdir(etc):
        with suppress(OSError):  # ip says so, and goes on
            _mount(os.fsencode(f"{etc}/{name}"), f"/etc/{name}", b"none", _MS_BIND)
    if with_groups:
        _mount(b"cgroup2", "/sys/fs/cgroup", b"cgroup2", 0)


def _mount(source: bytes, place: str, kind: bytes, flags: int) -> None:
    _done(_libc.mount(source, os.fsencode(place), kind, flags, None), place)


def _done(result: int, what: str) -> None:
    if result:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), what)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
