"""resolv.conf itself: read, understood, written. It may be a symlink (kept), a bind mount (written in place), absent.

What others wrote is read with patience: real files have comments behind servers, tabs, and lines that mean nothing.
"""

from __future__ import annotations

import errno
import os
import stat

from reconciler.host import files
from reconciler.lean import suppress
from reconciler.model.marks import Mark, parse_mark
from reconciler.model.nameservice import PATH
from reconciler.model.prefix import ntop, pton
from reconciler.typed import NamedTuple

_LIMIT = 1024 * 1024  # bytes
_IN_PLACE = (errno.EBUSY, errno.EROFS, errno.EACCES, errno.EXDEV)  # the directory or the mount says no, the file may not


class Place(NamedTuple):
    """Where the content of a resolv.conf really is."""

    path: str  # symlinks followed; it need not exist
    link: str | None = None  # what the symlink says, if it is one


class Names(NamedTuple):
    """What a resolv.conf says."""

    servers: tuple[bytes, ...] = ()  # packed
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    scoped: int = 0  # servers that only an interface makes reachable (fe80::1%eth0)

    @property
    def is_empty(self) -> bool:
        """No server at all."""
        return not self.servers and not self.scoped


def place(path: str = PATH) -> Place:
    """Where to read and write. OSError (ELOOP) when its symlinks lead nowhere."""
    link = os.readlink(path) if os.path.islink(path) else None
    real = os.path.realpath(path)
    if os.path.islink(real):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    return Place(real, link)


def read(path: str) -> bytes | None:
    """The content; None when there is no such file. OSError for anything but a regular file of a sane size."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except FileNotFoundError:
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "is not a regular file", path)
        if status.st_size > _LIMIT:
            raise OSError(errno.EFBIG, f"is larger than {_LIMIT} bytes", path)
        content = b""
        while more := os.read(descriptor, _LIMIT):
            content += more
        return content
    finally:
        os.close(descriptor)


def parse(content: bytes) -> Names:
    """The meaning of a resolv.conf, whatever else is in it. The last `search` or `domain` counts, as for libc."""
    servers: dict[bytes, None] = {}
    search: tuple[str, ...] = ()
    options: list[str] = []
    scoped = 0
    for line in content.decode("utf-8", "replace").splitlines():
        words = line.replace(";", "#").partition("#")[0].split()
        if len(words) < 2:
            continue
        if words[0] == "nameserver":
            with suppress(ValueError):
                servers[pton(words[1])] = None
                continue
            scoped += "%" in words[1]
        elif words[0] in ("search", "domain"):
            search = tuple(word.rstrip(".").lower() for word in words[1:] if word != ".")
        elif words[0] == "options":
            options += words[1:]
    return Names(tuple(servers), search, tuple(options), scoped)


def render(mark: Mark, names: Names, where: str) -> bytes:
    """A resolv.conf of ours. ValueError when it would not be read back as it was meant."""
    comments = f"# {mark} keeps this file: `tunctl down {mark.tunnel}` gives back what was here before\n"
    if where != PATH:
        comments += f"# {_PLACE}{where}\n"
    content = comments.encode(errors="surrogateescape") + lines(names)
    if parse(content) != names or mark_of(content) != mark or place_of(content) != where:
        raise ValueError(f"{names} cannot be written to a resolv.conf")
    return content


_PLACE = "place: "


def lines(names: Names) -> bytes:
    """The lines that say it, without any comment."""
    words = [f"nameserver {ntop(server)}" for server in names.servers]
    words += [f"search {' '.join(names.search)}"] if names.search else []
    words += [f"options {' '.join(names.options)}"] if names.options else []
    return "\n".join([*words, ""]).encode()


def mark_of(content: bytes | None) -> Mark | None:
    """Of the tunnel that a file of ours stands for. Nothing but our own first line counts."""
    words = (content or b"").split(b"\n", 1)[0].decode("utf-8", "replace").split()
    return parse_mark(words[1]) if len(words) > 1 and words[0] == "#" else None


def place_of(content: bytes) -> str:
    """Where a content of ours was put."""
    line = next(iter(content.split(b"\n", 2)[1:2]), b"").decode("utf-8", "surrogateescape")
    return line.removeprefix(f"# {_PLACE}") if line.startswith(f"# {_PLACE}") else PATH


def write(path: str, content: bytes) -> None:
    """The new content at a place: whole or not at all where the directory allows, else into the file itself (bind mounts).

    Mode, owner and label stay those of the file that is there. The directory around a mount is somebody else's: all
    namespaces of `ip netns exec` share one, and whoever swept there would take a temporary file from another's hand.
    """
    if is_mount(path):
        return _overwrite(path, content)
    files.sweep(path)
    try:
        files.replace(path, content, lambda descriptor: _as_before(path, descriptor))
    except OSError as error:
        if error.errno not in _IN_PLACE or not os.path.exists(path):
            raise
        _overwrite(path, content)


def remove(path: str) -> None:
    """What was not there before goes; into a bind mount nothing is written instead."""
    if is_mount(path):
        return _overwrite(path, b"")
    files.sweep(path)
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno not in _IN_PLACE:
            raise
        _overwrite(path, b"")


def is_mount(path: str) -> bool:
    """Is this very file a mount (of a container, of `ip netns exec`)?"""
    escaped = "".join(f"\\{ord(c):03o}" if c in " \t\n\\" else c for c in path)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
        return any(line.split(" ", 5)[4] == escaped for line in mounts)


def _as_before(path: str, descriptor: int) -> None:
    """Mode, owner and SELinux label of the file that is replaced; a new one can be read by all."""
    try:
        before = os.stat(path)
    except FileNotFoundError:
        os.fchmod(descriptor, 0o644)
        return
    if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
        os.fchown(descriptor, before.st_uid, before.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(before.st_mode))
    with suppress(OSError):
        os.setxattr(descriptor, "security.selinux", os.getxattr(path, "security.selinux"))


def _overwrite(path: str, content: bytes) -> None:
    """In one write, then cut: a reader sees the old or the new beginning, never an empty file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        files.write_all(descriptor, content)
        os.ftruncate(descriptor, len(content))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
