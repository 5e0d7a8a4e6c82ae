"""What the demo plays on: two network namespaces on one wire, and a printer of commands with what they say.

Nothing here happens in the machine's own network: the process leaves it before it makes anything.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
PROGRAMS = ("ip", "nft", "ping", "wireguard-go", "wg", "socat", "diff")
NETNS = Path("/run/netns")  # where iproute2 keeps the named ones
CLONE_NEWNET = 0x40000000  # linux/sched.h
COMMAND_S = 15  # no command of the demo may take longer
WIDTH = 110

SNAPSHOT = """\
# Everything that a tunnel could leave behind: links, addresses, routes of all tables, rules, packet filter.
ip -o link | sed 's/^[0-9]*: //; s/@if[0-9]*//'
ip -o address | sed 's/^[0-9]*: //; s/ valid_lft.*//'
for family in -4 -6; do
    ip $family route show table all | sed 's/ expires [0-9]*sec//' | sort
    ip $family rule
done
nft list ruleset
"""


class Failed(Exception):
    """Something was not as the demo says it is."""


class Screen:
    """Prints commands, their output and remarks; colour only on a terminal."""

    def __init__(self) -> None:
        self._colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._chapter = 0

    def paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text

    def chapter(self, title: str) -> None:
        self._chapter += 1
        head = f"── {self._chapter}. {title} "
        self._say("\n" + self.paint("1;36", head + "─" * (WIDTH - len(head))))

    def remark(self, text: str) -> None:
        self._say(self.paint("90", f"   {text}"))

    def command(self, where: str, line: str) -> None:
        self._say(f"\n{self.paint('90', where)} {self.paint('1', '# ' + line)}")

    def output(self, text: str) -> None:
        for line in filter(None, text.splitlines()):
            colour = {"+ ": "32", "- ": "31", "~ ": "33", "! ": "33", "● ": "1"}.get(line[:2])
            self._say("   " + (self.paint(colour, line) if colour else line))

    def good(self, text: str) -> None:
        self._say(f"   {self.paint('32', '✓')} {text}")

    def bad(self, text: str) -> None:
        self._say(f"   {self.paint('1;31', '✗')} {text}")

    def _say(self, line: str) -> None:
        encoding = sys.stdout.encoding or "utf-8"
        try:
            print(line.encode(encoding, "replace").decode(encoding), flush=True)
        except BrokenPipeError:  # `make demo | head`: plays on without a listener, and cleans up
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def missing() -> str:
    """Why the demo cannot run here; "" when it can."""
    if sys.platform != "linux":
        return "tunctl is for Linux"
    if os.geteuid() != 0:
        return (
            "the demo needs root: it makes two network namespaces and works in there; the network of this machine\n"
            "is not touched. Please run:  sudo make demo"
        )
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"the demo needs {', '.join(absent)}; `make setup` installs what is missing (Debian, Ubuntu)"
    if not Path("/dev/net/tun").exists():
        return "the demo needs /dev/net/tun; in a container:  --device /dev/net/tun --cap-add NET_ADMIN --cap-add SYS_ADMIN"
    return ""


class Stage:
    """The namespaces `host` and `hub`, and a directory for files. Everything goes with `close`."""

    def __init__(self, screen: Screen) -> None:
        self.screen = screen
        self._machine = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.dir = Path(tempfile.mkdtemp(prefix=f"tunctl-demo-{os.getpid()}-"))
        self._actors: list[subprocess.Popen[bytes]] = []
        self._spaces: list[str] = []
        (self.dir / "snapshot").write_text(SNAPSHOT)
        self._env = {
            "PATH": f"{self._bin()}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin",
            "LANG": "C.UTF-8",
            "HOME": str(self.dir),
            "PYTHONPATH": str(PROJECT),
            "TUNCTL_STATE_DIR": str(self.dir / "state"),
            "TUNCTL_RUN_DIR": str(self.dir / "run"),
        }
        self._machine_before = ""

    def _bin(self) -> Path:
        """A directory with a `tunctl` that is run by this very Python."""
        directory = self.dir / "bin"
        directory.mkdir()
        tunctl = directory / "tunctl"
        tunctl.write_text(f'#!/bin/sh\nexec {sys.executable} -m reconciler "$@"\n')
        tunctl.chmod(0o755)
        return directory

    def _snapshot(self) -> str:
        argv = ["sh", str(self.dir / "snapshot")]
        return subprocess.run(argv, env=self._env, check=False, capture_output=True, text=True, timeout=COMMAND_S).stdout

    # Namespaces

    def name(self, which: str) -> str:
        return f"tunctl-demo-{os.getpid()}-{which}"

    def build(self) -> None:
        """Leaves the machine's network; then host 203.0.113.2 and hub 203.0.113.10 on one wire."""
        self._machine_before = self._snapshot()
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
            raise Failed(f"no network namespace of its own: {os.strerror(ctypes.get_errno())}")
        sweep()
        for which in ("host", "hub"):
            self._ip("netns", "add", self.name(which))
            self._spaces.append(self.name(which))
            for family in ("all", "default"):  # duplicate address detection would only cost time
                self.quiet(which, f"echo 0 > /proc/sys/net/ipv6/conf/{family}/accept_dad")
            self.quiet(which, "ip link set lo up")
        peer = ["peer", "name", "eth0", "netns", self.name("hub")]
        self._ip("-n", self.name("host"), "link", "add", "eth0", "type", "veth", *peer)
        for which, number in (("host", 2), ("hub", 10)):
            self.quiet(which, f"ip address add 203.0.113.{number}/24 dev eth0 && ip link set eth0 up")
        for which in ("host", "hub"):
            self.wait(which, "ip -6 address show dev eth0 -tentative | grep -q 'scope link'", "the wire is up")

    @staticmethod
    def _ip(*words: str) -> None:
        done = subprocess.run(["ip", *words], check=False, capture_output=True, text=True, timeout=COMMAND_S)
        if done.returncode:
            raise Failed(f"ip {' '.join(words)}: {done.stderr.strip()}")

    def _inside(self, which: str, line: str) -> list[str]:
        return ["ip", "netns", "exec", self.name(which), "sh", "-c", line]

    # Commands

    def _run(self, which: str, line: str, stderr: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._inside(which, line), cwd=self.dir, env=self._env, check=False, timeout=COMMAND_S,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, text=True, errors="replace",
        )  # fmt: skip

    def quiet(self, which: str, line: str) -> str:
        """A command of the scenery: not shown, has to work. → its stdout"""
        done = self._run(which, line, stderr=subprocess.PIPE)
        if done.returncode:
            raise Failed(f"{line}: exit code {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def type(self, line: str, *, expect: int = 0, says: tuple[str, ...] = (), then: str, where: str = "host") -> str:
        """Types a command: shows it, runs it, shows what it says, and checks its exit code and words. → its stdout"""
        self.screen.command(where, line)
        begun = time.monotonic()
        done = self._run(where, line, stderr=subprocess.STDOUT)
        took = time.monotonic() - begun
        self.screen.output(done.stdout)
        lacking = [words for words in says if words not in done.stdout]
        if done.returncode != expect or lacking:
            wanted = f"exit code {expect}" + "".join(f", {words!r}" for words in lacking)
            raise Failed(f"`{line}`: expected {wanted}; it was exit code {done.returncode}")
        self.screen.good(f"exit code {expect}, {took:.1f} s: {then}")
        return done.stdout

    def start(self, which: str, line: str, *, own_run_wireguard: bool = False) -> subprocess.Popen[bytes]:
        """A process of the scenery, in a session of its own: Ctrl-C is for the demo alone."""
        if own_run_wireguard:  # the control sockets of wireguard-go belong to the mount namespace
            line = f"mkdir -p /run/wireguard && mount -t tmpfs tmpfs /run/wireguard && exec {line}"
        else:
            line = f"exec {line}"
        with (self.dir / "scenery.log").open("ab") as log:
            actor = subprocess.Popen(
                self._inside(which, line), cwd=self.dir, env=self._env,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._actors.append(actor)
        return actor

    def wait(self, which: str, line: str, what: str, timeout_s: float = 5) -> None:
        """Until a command succeeds."""
        deadline = time.monotonic() + timeout_s
        while True:
            with contextlib.suppress(Failed):
                self.quiet(which, line)
                return
            if time.monotonic() > deadline:
                raise Failed(f"not so within {timeout_s:g} s: {what}")
            time.sleep(0.05)

    # The end

    def inhabitants(self, which: str) -> list[int]:
        """The processes in a namespace."""
        argv = ["ip", "netns", "pids", self.name(which)]
        done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=COMMAND_S)
        return [int(pid) for pid in done.stdout.split()]

    def machine_changed(self) -> str:
        """What differs in the machine's own network since the beginning, as lines of a diff; "" is nothing."""
        import difflib

        here = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        libc = ctypes.CDLL(None, use_errno=True)
        try:
            if libc.setns(self._machine, CLONE_NEWNET):
                raise Failed(f"no look at the machine's own network: {os.strerror(ctypes.get_errno())}")
            now = self._snapshot()
        finally:
            libc.setns(here, CLONE_NEWNET)
            os.close(here)
        return "\n".join(
            difflib.unified_diff(self._machine_before.splitlines(), now.splitlines(), "before", "after", "", "", 0)
        )

    def close(self) -> None:
        """Ends what lives in the namespaces, by pid, and deletes them and the directory."""
        for actor in self._actors:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                actor.kill()
                actor.wait(5)
        for name in self._spaces:
            remove(name)
        shutil.rmtree(self.dir, ignore_errors=True)


def remove(name: str) -> None:
    """Kills whoever lives in a named namespace and deletes it."""
    with contextlib.suppress(OSError):
        inode = (NETNS / name).stat().st_ino
        argv = ["ip", "netns", "pids", name]
        for pid in subprocess.run(argv, check=False, capture_output=True, text=True, timeout=COMMAND_S).stdout.split():
            _kill(int(pid), inode)
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True, timeout=COMMAND_S)


def _kill(pid: int, inode: int) -> None:
    """SIGKILL, if the process still is in that namespace; waits until it has ended."""
    with contextlib.suppress(OSError):
        descriptor = os.pidfd_open(pid)
        try:
            if pid != os.getpid() and os.stat(f"/proc/{pid}/ns/net").st_ino == inode:
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                select.select([descriptor], [], [], 2)
        finally:
            os.close(descriptor)


def sweep() -> None:
    """What an earlier demo that was killed with SIGKILL has left: by the pid in the names."""
    for path in (*NETNS.glob("tunctl-demo-*"), *Path(tempfile.gettempdir()).glob("tunctl-demo-*")):
        match = re.fullmatch(r"tunctl-demo-(\d+)-\w+", path.name)
        if not match or Path("/proc", match[1]).exists():
            continue
        if path.parent == NETNS:
            remove(path.name)
        elif path.lstat().st_uid == os.getuid():
            shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def interruptible(seconds: int) -> Iterator[None]:
    """SIGTERM, SIGHUP and the end of the time raise here, so that everything is cleaned up; after that they wait for it."""

    def raising(error: Callable[[], BaseException]) -> Callable[[int, object], None]:
        def handler(_number: int, _frame: object) -> None:
            raise error()

        return handler

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, raising(KeyboardInterrupt))
    signal.signal(signal.SIGALRM, raising(lambda: Failed(f"not done within {seconds} s")))
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
