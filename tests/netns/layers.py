"""A root directory of its own for a host: an overlay of this machine's, thrown away with the host.

In it /etc and /run are private, may be renamed and linked, and packages can be unpacked that must never be on the machine
itself: resolvconf and systemd-resolved take /etc/resolv.conf away from whoever had it.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.netns.world import PROJECT, Host, wait_until

_MACHINE = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)  # at import: where packages can be fetched

_SCRIPT = """
set -e
base=$1 binds=$2; shift 2
mount --make-rprivate /
mount -t tmpfs tmpfs "$base"
mkdir "$base/upper" "$base/work" "$base/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$base/upper,workdir=$base/work" "$base/root"
for layer do tar -C "$layer" -c . | tar -C "$base/root" -x --keep-directory-symlink; done  # /lib may be a symlink
mount -t proc proc "$base/root/proc"
mount --rbind /sys "$base/root/sys"
mount --rbind /dev "$base/root/dev"
mount -t tmpfs tmpfs "$base/root/run"
for place in $binds; do mkdir -p "$base/root$place"; mount --rbind "$place" "$base/root$place"; done
rm -f "$base/root/etc/resolv.conf"
echo "# a test: no servers" > "$base/root/etc/resolv.conf"
touch "$base.ready"
exec chroot "$base/root" sleep infinity
"""


class Rooted(Host):
    """The same host, seen from its private root. Processes, files of `dir` and namespace are shared with the host."""

    forks = False  # a forked command sees the machine's own root
    anchor: int

    def _inside_argv(self, argv: Sequence[str | os.PathLike[str]]) -> list[str]:
        self._must_exist()
        words = (os.fspath(word) for word in argv)
        return [
            "nsenter",
            "-t",
            str(self.anchor),
            "-n",
            "-m",
            "-r",
            "-w",
            "sh",
            "-c",
            'cd "$0" && exec "$@"',
            str(self.dir),
            *words,
        ]

    def write_root(self, path: str, text: str) -> None:
        """A file by its path in the private root."""
        self.run(["sh", "-c", 'mkdir -p "$(dirname "$1")" && cat > "$1"', "sh", path], stdin=text)


def rooted(host: Host, *layers: Path) -> Rooted:
    """A private root for a host, with these directories laid over it."""
    base = host.dir / "base"
    base.mkdir()
    binds = " ".join(dict.fromkeys((tempfile.gettempdir(), *outside_of_root())))
    anchor = host.start(["unshare", "-m", "sh", "-c", _SCRIPT, "sh", base, binds, *layers], log="root.log")
    ready = Path(f"{base}.ready")
    wait_until(lambda: ready.exists() or anchor.poll() is not None, 30, "the private root")
    assert ready.exists(), (host.dir / "root.log").read_text()
    wait_until(lambda: Path(f"/proc/{anchor.pid}/comm").read_text() == "sleep\n", 30, "the private root")
    seen = Rooted.__new__(Rooted)
    seen.__dict__ = host.__dict__  # one host, two ways to look at it
    seen.anchor = anchor.pid
    return seen


def outside_of_root() -> list[str]:
    """What of the project and its Python lies on other file systems, and would not be seen in a layer over this one."""
    places = (PROJECT, Path(sys.prefix), Path(sys.base_prefix))
    return [str(path) for path in places if path.stat().st_dev != os.stat("/").st_dev]


def unpacked(package: str) -> Path:
    """A distribution's package as a directory, fetched once for all test runs of this user; nothing of it is installed."""
    cache = Path(tempfile.gettempdir()) / f"tunctl-test-packages-{os.getuid()}"
    cache.mkdir(mode=0o700, exist_ok=True)
    assert cache.stat().st_uid == os.getuid(), f"{cache} belongs to somebody else"
    place = cache / package
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            _unpack(package, place)
    return place


def _unpack(package: str, place: Path) -> None:
    def get() -> subprocess.CompletedProcess[str]:
        return _outside(["apt-get", "-q", "download", package], loading)

    with tempfile.TemporaryDirectory(dir=place.parent) as directory:
        loading = Path(directory)
        loading.chmod(0o755)
        done = get()
        if done.returncode:
            _outside(["apt-get", "-q", "update"], loading)
            done = get()
        assert done.returncode == 0, done.stderr
        (archive,) = loading.glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", archive, loading / "files"], check=True, capture_output=True, timeout=60)
        (loading / "files").rename(place)


def _outside(argv: Sequence[str], directory: Path) -> subprocess.CompletedProcess[str]:
    """A command in the network of the machine: tests themselves are in an empty one."""
    argv = ["nsenter", f"--net=/proc/self/fd/{_MACHINE}", *argv]
    return subprocess.run(argv, cwd=directory, check=False, capture_output=True, text=True, timeout=300, pass_fds=[_MACHINE])
