"""Hosts for tests: each a fresh network namespace of the real kernel with state and run directories of its own.

Everything that a test starts through its host, and whatever else lives in that
namespace at the end, is killed by pidfd; nothing is ever searched for by name.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from tests.netns import forked, namespace
from tests.netns.forked import NETNS_ETC, PROJECT
from tests.netns.namespace import NETNS_DIR

T = TypeVar("T")

WIREGUARD_DIR = Path("/run/wireguard")  # belongs to the mount namespace, not to the network namespace
_OURS = re.compile(r"tt-(\d+)-[0-9a-f]{8}-[a-z0-9]+")
_SYSCTLS = (
    "forwarding", "force_forwarding", "rp_filter", "src_valid_mark", "ignore_routes_with_linkdown", "disable_ipv6", "accept_ra",
)  # fmt: skip
MACHINE = os.stat("/proc/thread-self/ns/net").st_ino  # at import: the namespace that the tests were started in
PATIENCE = float(os.environ.get("TT_PATIENCE", "1"))  # how many times as slow the machine is: tests/vm says so
_OF_THE_START = ("PYTHON", "LANG", "LC_")  # variables that Python reads when it starts


@cache
def _has_cgroup2() -> bool:
    return any(line.split()[2] == "cgroup2" for line in Path("/proc/mounts").read_text().splitlines())


class Host:
    """One machine of a test. `name` is the namespace for `ip -n`, `dir` the directory its commands run in (0755)."""

    forks = True  # False: tunctl is always started anew

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.dir = directory
        self.state_dir = directory / "state"  # made by tunctl, not by us
        self.run_dir = directory / "run"
        self.env = {
            "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            "HOME": str(directory),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(PROJECT),
            "TUNCTL_STATE_DIR": str(self.state_dir),
            "TUNCTL_RUN_DIR": str(self.run_dir),
        }
        self.control_groups = True  # False: commands started from now on see none
        self._processes: list[subprocess.Popen[Any]] = []
        self.descriptor = os.open(NETNS_DIR / name, os.O_RDONLY | os.O_CLOEXEC)

    # Commands

    def run(
        self,
        argv: Sequence[str | os.PathLike[str]],
        *,
        check: bool = True,
        timeout: float = 30,
        env: Mapping[str, str] | None = None,
        stdin: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command here and wait for it. With `check`, a code other than 0 fails the test and shows the output."""
        done = subprocess.run(
            self._inside_argv(argv),
            check=False,
            timeout=timeout * PATIENCE,
            env={**self.env, **(env or {})},
            cwd=self.dir,
            text=True,
            errors="replace",
            capture_output=True,
            **({"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}),
        )
        if check:
            assert done.returncode == 0, told(done)
        return done

    def start(
        self,
        argv: Sequence[str | os.PathLike[str]],
        *,
        env: Mapping[str, str] | None = None,
        log: str | os.PathLike[str] = "started.log",
        own_run_wireguard: bool = False,
    ) -> subprocess.Popen[bytes]:
        """Start a command here; stdout and stderr go to `dir`/`log`. It is killed with the host.

        The pid is the command's own. `own_run_wireguard`: with a private /run/wireguard (`run_beside` reaches it).
        """
        if own_run_wireguard:
            WIREGUARD_DIR.mkdir(mode=0o700, exist_ok=True)
            argv = ["sh", "-c", f'mount -t tmpfs tmpfs {WIREGUARD_DIR} && exec "$@"', "sh", *argv]
        with (self.dir / log).open("ab") as out:
            process = subprocess.Popen(
                self._inside_argv(argv),
                env={**self.env, **(env or {})},
                cwd=self.dir,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        self._processes.append(process)
        return process

    def start_wireguard(self, dev: str) -> subprocess.Popen[bytes]:
        """wireguard-go with a private /run/wireguard, once it listens.

        `wg` must not be the one who asks whether it does: a socket that is bound and not listening yet it takes for one that
        was left behind, and removes it.
        """
        process = self.start(["wireguard-go", "-f", dev], own_run_wireguard=True)
        listening = re.compile(rf" 00010000 .*/{re.escape(dev)}\.sock$", re.MULTILINE)  # __SO_ACCEPTCON
        sockets = Path(f"/proc/{process.pid}/net/unix")
        wait_until(lambda: listening.search(sockets.read_text()), 60, (self.dir / "started.log").read_text)
        return process

    def run_beside(self, pid: int, argv: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command in the mount namespace of a process of this host (its private /run/wireguard)."""
        return self.run(["nsenter", "-t", str(pid), "-m", *argv], **options)

    def ip(self, words: str, *, check: bool = True) -> str:
        """`host.ip("addr add 10.0.0.1/24 dev eth0")` → stdout."""
        self._must_exist()
        argv = ["ip", "-n", self.name, *words.split()]
        done = subprocess.run(argv, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10)
        if check:
            assert done.returncode == 0, told(done)
        return done.stdout

    def ip_json(self, words: str) -> list[dict[str, Any]]:
        """`host.ip_json("-d link show dev eth0")` → what `ip -j` says; nothing is an empty list."""
        entries: list[dict[str, Any]] = json.loads(self.ip(f"-j {words}") or "[]")
        return [entry for entry in entries if entry]

    # tunctl

    def tunctl_argv(self, *args: str | os.PathLike[str]) -> list[str]:
        """The command line of tunctl, for `run` and `start`."""
        return [sys.executable, "-m", "reconciler", *(os.fspath(word) for word in args)]

    def tunctl(
        self,
        *args: str | os.PathLike[str],
        expect: int | None = 0,
        timeout: float = 30,
        env: Mapping[str, str] | None = None,
        stdin: str | None = None,
        cold: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """Run tunctl here; a code other than `expect` fails the test (None: any code will do).

        `cold`: as a program that is started anew, where the start is what is tested; else forked from one that waits for it.
        """
        words = [os.fspath(word) for word in args]
        if cold or stdin is not None or not self.forks or any(name.startswith(_OF_THE_START) for name in env or ()):
            done = self.run(self.tunctl_argv(*words), check=False, timeout=timeout, env=env, stdin=stdin)
        else:
            self._must_exist()
            order = self.order(words, env, etc=NETNS_ETC / self.name)
            done = forked.run(order, self.descriptor, ["tunctl", *words], timeout)
        assert expect is None or done.returncode == expect, f"expected exit code {expect}: {told(done)}"
        assert "Traceback (most recent call last)" not in done.stderr or "--debug" in args, told(done)
        return done

    def order(self, words: list[str], env: Mapping[str, str] | None, *, etc: Path | None) -> dict[str, object]:
        """For forked.Forked."""
        return {
            "args": words, "env": {**self.env, **(env or {})}, "dir": str(self.dir),
            "etc": etc and str(etc), "groups": self.control_groups and _has_cgroup2(),
        }  # fmt: skip

    def json(self, *args: str | os.PathLike[str], expect: int | None = 0, timeout: float = 30) -> Any:
        """`host.json("status", "demo", expect=3)` → what tunctl --json prints, parsed."""
        done = self.tunctl(*args, "--json", expect=expect, timeout=timeout)
        try:
            return json.loads(done.stdout)
        except ValueError as error:
            raise AssertionError(f"stdout is not one JSON document: {told(done)}") from error

    def write(self, name: str, text: str, mode: int = 0o644) -> Path:
        """A file in the host's directory."""
        path = self.dir / name
        path.write_text(text)
        path.chmod(mode)
        return path

    def write_etc(self, name: str, text: str) -> None:
        """What commands of this host see as /etc/`name` (a bind mount: renaming over it gives EBUSY)."""
        place = NETNS_ETC / self.name
        place.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)

    # In this process

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """The calling thread is in this namespace for the block; sockets opened in it stay here.

        /proc/net and /sys/class/net are not the thread's: use netlink, /proc/sys/net or /proc/thread-self/net.
        """
        self._must_exist()
        with namespace.inside(self.descriptor):
            yield

    def in_netns(self, function: Callable[..., T], *args: Any, **options: Any) -> T:
        """Call a function in a thread of its own that is in this namespace; its result or its exception comes back."""
        results: list[T] = []
        errors: list[BaseException] = []

        def work() -> None:
            try:
                with self.inside():
                    results.append(function(*args, **options))
            except BaseException as error:  # raised again in the caller
                errors.append(error)

        thread = threading.Thread(target=work, name=f"in {self.name}", daemon=True)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return results[0]

    def sysctl(self, name: str, value: object = None) -> str:
        """`host.sysctl("net/ipv4/ip_forward", 1)`; without a value only read. → the value now."""
        path = Path("/proc/sys") / name
        with self.inside():
            if value is not None:
                path.write_text(str(value))
            return path.read_text().strip()

    # Looking

    def snapshot(self) -> str:
        """Links, addresses, routes and rules of both families, nft, sysctls and resolv.conf: equal text, equal host."""
        script = (
            "ip -o addr; echo; ip route show table all; echo; ip -6 route show table all; echo; ip rule; ip -6 rule;"
            " echo; nft list ruleset; cat /etc/resolv.conf"
        )
        blocks = self.run(["sh", "-c", script]).stdout.split("\n\n", 3)
        addresses = "\n".join(
            re.sub(r" valid_lft \S+ preferred_lft \S+| tentative|\\", "", line) for line in blocks[0].splitlines()
        )
        lines = (sorted(re.sub(" (dead|linkdown)(?= )", "", block).splitlines()) for block in blocks[1:3])  # said a second late
        routes = "\n".join("\n".join(some) for some in lines)
        return "\n\n".join([self._links_text(), addresses, routes, blocks[3], self._sysctl_text()])

    def _links_text(self) -> str:
        def line(link: dict[str, Any]) -> str:
            words = [link["ifname"], "mtu", link["mtu"], ",".join(sorted(link["flags"])), "group", link["group"]]
            return " ".join(map(str, [*words, "alias", link["ifalias"]] if "ifalias" in link else words))

        return "\n".join(sorted(line(link) for link in self.ip_json("link")))

    def _sysctl_text(self) -> str:
        with self.inside():
            paths = [path for key in _SYSCTLS for path in Path("/proc/sys/net").glob(f"ipv[46]/conf/*/{key}")]
            paths.append(Path("/proc/sys/net/ipv4/ip_forward"))
            lines = []
            for path in paths:
                with contextlib.suppress(FileNotFoundError):  # its link went while we looked
                    lines.append(f"{path} {path.read_text().strip()}")
        return "\n".join(sorted(lines))

    def glance(self) -> str:
        """Links, addresses and routes in microseconds, from /proc: to see that nothing happened."""
        with self.inside():
            net = Path("/proc/thread-self/net")
            texts = [(net / name).read_text() for name in ("route", "if_inet6", "ipv6_route", "fib_trie")]
            return "\n".join([*sorted(line.split(":")[0] for line in (net / "dev").read_text().splitlines()), *texts])

    @contextlib.contextmanager
    def recording(self) -> Iterator[list[str]]:
        """The list is filled when the block ends: what `ip monitor all` printed while it ran, one entry a line."""
        lines: list[str] = []
        log = f"monitor-{os.urandom(4).hex()}.log"
        monitor = self.start(["ip", "monitor", "all"], log=log)
        text = (self.dir / log).read_text
        self._sign(text, "127.99.0.1")
        yield lines
        self._sign(text, "127.99.0.2")
        self.kill(monitor)
        entries = [line for line in text().splitlines() if line.strip()]
        first = max(i for i, line in enumerate(entries) if "127.99.0.1" in line) + 1
        last = min(i for i, line in enumerate(entries) if "127.99.0.2" in line)
        lines += entries[first:last]

    def _sign(self, text: Callable[[], str], address: str) -> None:
        """Make noise with `address` until it is heard in full: events before it have been printed then."""

        def heard() -> bool:
            self.ip(f"addr add {address}/32 dev lo", check=False)
            self.ip(f"addr del {address}/32 dev lo", check=False)
            return sum(address in line for line in text().splitlines()) >= 4

        wait_until(heard, 30, f"ip monitor shows {address}")
        settled = text()
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:  # the last of our own noise
            time.sleep(0.05)
            if text() == settled:
                return
            settled = text()

    # Processes

    def pids(self) -> list[int]:
        """Processes in this namespace, but for the one that runs the tests."""
        self._must_exist()
        return [pid for pid in namespace.pids(self.descriptor) if pid != os.getpid()]

    def kill(self, process: subprocess.Popen[Any], number: int = signal.SIGKILL, timeout: float = 5) -> int:
        """Signal a process that `start` started, wait for it; → its return code."""
        if process.poll() is None:
            process.send_signal(number)
        return process.wait(timeout * PATIENCE)

    def close(self) -> None:
        """Kill what lives here, delete the namespace and the directory. AssertionError if a test deleted it before."""
        try:
            for process in self._processes:
                self.kill(process)
            self._must_exist()
            groups = {group for pid in self.pids() for group in _control_groups(pid)}
            for _round in range(5):
                if not self._kill_inhabitants():
                    break
            for group in groups:
                with contextlib.suppress(OSError):
                    group.rmdir()
            namespace.delete(self.name)
        finally:
            os.close(self.descriptor)
            shutil.rmtree(NETNS_ETC / self.name, ignore_errors=True)
            shutil.rmtree(self.dir, ignore_errors=True)

    def _kill_inhabitants(self) -> bool:
        """One round; True when somebody was there."""
        here = os.fstat(self.descriptor).st_ino
        pids = self.pids()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, FileNotFoundError, PermissionError):
                descriptor = os.pidfd_open(pid)
                try:
                    if os.stat(f"/proc/{pid}/ns/net").st_ino == here:  # the pid may be somebody else's by now
                        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                        select.select([descriptor], [], [], 2)
                finally:
                    os.close(descriptor)
        return bool(pids)

    def _must_exist(self) -> None:
        """No command of a test ever runs in a namespace that is not the test's own."""
        try:
            there = (NETNS_DIR / self.name).stat().st_ino
        except FileNotFoundError:
            there = None
        assert there == os.fstat(self.descriptor).st_ino, f"the network namespace {self.name} of this test is gone"
        assert there != MACHINE, "this is the network namespace of the machine"

    def _inside_argv(self, argv: Sequence[str | os.PathLike[str]]) -> list[str]:
        """`ip netns exec` gives a /sys of this namespace, but one without control groups: they are put back."""
        self._must_exist()
        resolv_conf = NETNS_ETC / self.name / "resolv.conf"  # what cannot be mounted is left out: the machine's would be seen
        assert resolv_conf.is_file(), f"{resolv_conf} is no file: a command could write the resolv.conf of the machine"
        mount = ["sh", "-c", 'mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$@"', "sh"]
        with_groups = mount if self.control_groups and _has_cgroup2() else []
        return ["ip", "netns", "exec", self.name, *with_groups, *(os.fspath(word) for word in argv)]


class Pair(NamedTuple):
    """Two hosts on one wire."""

    a: Host
    b: Host


class Uplink(NamedTuple):
    """The host under test and its gateway."""

    cl: Host
    gw: Host


class Hosts(contextlib.ExitStack):
    """Makes hosts and takes them away together."""

    def new(self, word: str) -> Host:
        """A new host; `word` (a-z0-9) ends its namespace's name."""
        return self.enter_context(new_host(word))


@contextlib.contextmanager
def new_host(word: str, *, loopback: bool = True) -> Iterator[Host]:
    """A fresh namespace without duplicate address detection (it would cost every test 2 s), and all that belongs to it."""
    name = f"tt-{os.getpid()}-{os.urandom(4).hex()}-{word}"
    assert _OURS.fullmatch(name), word
    directory = Path(tempfile.mkdtemp(prefix="tt-"))  # not tmp_path: other users must be able to read in it
    directory.chmod(0o755)
    namespace.add(name)
    host = Host(name, directory)
    try:
        host.write_etc("resolv.conf", "# a test: no servers\n")
        for which in ("all", "default"):
            host.sysctl(f"net/ipv6/conf/{which}/accept_dad", 0)
        if loopback:
            with host.inside():
                namespace.set_up("lo")
        yield host
    finally:
        host.close()


def join(a: Host, b: Host) -> Pair:
    """A wire between two hosts: veth0 on both, addresses up, no waiting."""
    a.ip(f"link add veth0 type veth peer name veth0 netns {b.name}")
    for end, number in ((a, 1), (b, 2)):
        end.ip(f"addr add 192.0.2.{number}/24 dev veth0")
        end.ip(f"addr add 2001:db8::{number}/64 dev veth0 nodad")
        end.ip("link set veth0 up")
    for end in (a, b):
        _wait_for_wire(end, "veth0")
    return Pair(a, b)


def uplink(cl: Host, gw: Host) -> Uplink:
    """cl0 192.168.50.2/24 and a default route by gw0 192.168.50.1; 203.0.113.10 on gw's lo."""
    cl.ip(f"link add cl0 type veth peer name gw0 netns {gw.name}")
    cl.ip("addr add 192.168.50.2/24 dev cl0")
    cl.ip("link set cl0 up")
    gw.ip("addr add 192.168.50.1/24 dev gw0")
    gw.ip("link set gw0 up")
    gw.ip("addr add 203.0.113.10/32 dev lo")
    cl.ip("route add default via 192.168.50.1 dev cl0")
    _wait_for_wire(cl, "cl0")
    _wait_for_wire(gw, "gw0")
    return Uplink(cl, gw)


def _wait_for_wire(host: Host, dev: str) -> None:
    """Until carrier and the link-local address are there: a snapshot taken before would change by itself."""
    wait_until(lambda: "scope link" in host.ip(f"-6 addr show dev {dev} -tentative"), 30, f"{dev} of {host.name} is up")


def wait_until(condition: Callable[[], object], timeout: float = 30, what: str | Callable[[], str] = "") -> None:
    """Ask until it is true; AssertionError after `timeout` seconds. `what` it is about, or how it is then."""
    deadline = time.monotonic() + timeout * PATIENCE
    while True:
        begun = time.monotonic()
        if condition():
            return
        ended = time.monotonic()
        if ended >= deadline:
            raise AssertionError(f"not so within {timeout} s: {(what() if callable(what) else what) or condition}")
        time.sleep(min(max(0.01, ended - begun), 0.2))  # asking takes no more than half of a processor from what is waited for


def sweep_left_over() -> None:
    """Namespaces that an earlier run could not remove (it was killed): theirs alone, by the pid in the name."""
    for path in NETNS_DIR.glob("tt-*") if NETNS_DIR.exists() else ():
        match = _OURS.fullmatch(path.name)
        if match and not Path("/proc", match[1]).exists():
            with contextlib.suppress(OSError, AssertionError, subprocess.SubprocessError):  # another worker was faster
                Host(path.name, Path(tempfile.mkdtemp(prefix="tt-"))).close()


def _control_groups(pid: int) -> list[Path]:
    """The groups of tunctl that a process is in."""
    with contextlib.suppress(OSError):
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if line.split()[2] == "cgroup2"]
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        paths = [line.removeprefix("0::") for line in lines if line.startswith("0::") and "/tunctl-" in line]
        return [Path(mount + path) for mount in mounts for path in paths]
    return []


def told(done: subprocess.CompletedProcess[str]) -> str:
    return f"{' '.join(done.args)} → {done.returncode}\nstdout: {done.stdout}\nstderr: {done.stderr}"
