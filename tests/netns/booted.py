"""A host with systemd as its first process: a root, processes, control groups and devices of its own, and nothing of what
this machine would start. It takes two seconds."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.netns.layers import outside_of_root, unpacked
from tests.netns.world import Host, wait_until

_PACKAGES = ("systemd", "libsystemd-shared", "libapparmor1", "libaudit1", "libip4tc2", "libkmod2", "libseccomp2")

_GROUP = 'mkdir "$1" && echo $$ > "$1/cgroup.procs" && shift && exec unshare -m -p -i -u -C --fork --kill-child sh -c "$@"'

# What would reach beyond these namespaces can only be read (/sys, /proc/sys but for the network's), or is not started.
_BOOT = """
set -e
base=$1 shared=$2 binds=$3; shift 3
r=$base/root
mount --make-rprivate /
mount -t tmpfs tmpfs "$base"
mkdir "$base/upper" "$base/work" "$r"
mount -t overlay overlay -o "lowerdir=/,upperdir=$base/upper,workdir=$base/work" "$r"
for layer do tar -C "$layer" -c . | tar -C "$r" -x --keep-directory-symlink; done
mount -t proc proc "$r/proc"
mount --bind "$r/proc/sys/net" "$r/proc/sys/net"
mount --rbind "$r/proc/sys" "$r/proc/sys"
mount -o remount,bind,ro "$r/proc/sys"
mount -t sysfs -o ro sysfs "$r/sys"
mount -t cgroup2 cgroup2 "$r/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$r/dev"
for device in null zero full random urandom tty; do
    touch "$r/dev/$device"
    mount --bind "/dev/$device" "$r/dev/$device"
done
mkdir "$r/dev/net" "$r/dev/pts" "$r/dev/shm"
mknod -m 666 "$r/dev/net/tun" c 10 200
mknod -m 600 "$r/dev/other" c 1 11
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$r/dev/pts"
ln -s pts/ptmx "$r/dev/ptmx"
mount -t tmpfs -o mode=1777 tmpfs "$r/dev/shm"
mount -t tmpfs -o mode=755 tmpfs "$r/run"
for place in $binds; do mkdir -p "$r$place"; mount --bind "$place" "$r$place"; mount -o remount,bind,ro "$r$place"; done
mkdir -p "$r$shared"
mount --bind "$shared" "$r$shared"
rm -rf "$r"/etc/systemd/system/*.wants "$r"/etc/systemd/system-generators "$r"/lib/systemd/system-generators
rm -rf "$r"/lib/systemd/system/sysinit.target.wants "$r"/lib/systemd/system/local-fs.target.wants
rm -rf "$r"/lib/systemd/system/timers.target.wants "$r"/lib/systemd/system/sockets.target.wants/systemd-journald-audit.socket
rm -f "$r/etc/resolv.conf" "$r/etc/machine-id"
echo "# a test: no servers" > "$r/etc/resolv.conf"
echo 0123456789abcdef0123456789abcdef > "$r/etc/machine-id"
cd "$r"
mkdir -p run/before
pivot_root . run/before
umount -l /run/before
exec env -i container=tt PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=basic.target
"""


class Booted(Host):
    """The same host, seen from within what its systemd runs. `dir` is shared with the outside."""

    forks = False  # a forked command sees the machine's own root
    first: int

    def _inside_argv(self, argv: Sequence[str | os.PathLike[str]]) -> list[str]:
        self._must_exist()
        enter = ["nsenter", "-t", str(self.first), "-m", "-n", "-p", "-i", "-u", "-C", "-r", "-w"]
        return [*enter, "sh", "-c", 'cd "$0" && exec "$@"', str(self.dir), *(os.fspath(word) for word in argv)]

    def systemctl(self, *words: str, check: bool = True) -> str:
        return self.run(["systemctl", *words], check=check, timeout=60).stdout.strip()

    def log(self, unit: str, *words: str) -> str:
        """What the unit has said, without times."""
        return self.run(["journalctl", "--no-pager", "-o", "cat", "-u", unit, *words]).stdout

    def drop_in(self, unit: str, lines: str) -> None:
        """Lines of [Service] or [Timer] on top of the unit."""
        section = unit.rpartition(".")[2].capitalize()
        script = 'mkdir -p "$1.d" && cat > "$1.d/test.conf"'
        self.run(["sh", "-c", script, "sh", f"/etc/systemd/system/{unit}"], stdin=f"[{section}]\n{lines}\n")
        self.systemctl("daemon-reload")


@contextmanager
def booted(host: Host) -> Iterator[Booted]:
    """The host after its boot; all of it ends with the block."""
    layers = () if shutil.which("systemd-analyze") else tuple(map(unpacked, _PACKAGES))
    base = host.dir / "base"
    base.mkdir()
    group = _mounted() / f"{host.name}-boot"
    words = [_seen_inside(group), _BOOT, "sh", base, host.dir, " ".join(outside_of_root()), *layers]
    process = host.start(["sh", "-c", _GROUP, "sh", *words], log="boot.log")
    try:
        seen = Booted.__new__(Booted)
        seen.__dict__ = host.__dict__
        seen.first = _first_below(process.pid, host)
        wait_until(lambda: seen.systemctl("is-active", "basic.target", check=False) == "active", 30, "systemd is up")
        yield seen
    finally:
        host.kill(process)
        wait_until(lambda: _is_removed(group), 30, f"{group} is empty")


def _first_below(pid: int, host: Host) -> int:
    """The pid, as seen from here, of the systemd that this process has become the parent of."""
    found: list[int] = []

    def is_there() -> bool:
        with suppress(FileNotFoundError, ProcessLookupError):
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            found[:] = [int(child) for child in children if Path(f"/proc/{child}/comm").read_text() == "systemd\n"]
        return bool(found)

    wait_until(is_there, 30, (host.dir / "boot.log").read_text())
    return found[0]


def _mounted() -> Path:
    """Where this machine has its control groups (v2)."""
    mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    return Path(next(words[1] for words in mounts if words[2] == "cgroup2"))


def _seen_inside(group: Path) -> str:
    """The same group where `Host` mounts them."""
    return f"/sys/fs/cgroup/{group.name}"


def _is_removed(group: Path) -> bool:
    for directory, _inner, _files in os.walk(group, topdown=False):
        with suppress(OSError):
            os.rmdir(directory)
    return not group.exists()
