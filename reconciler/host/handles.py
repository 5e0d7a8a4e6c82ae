"""Hints about transient things: which pid, which ifindex, which port. Kept in memory and in `handles.json`.

Never a fact: everything in here is believed only after the kernel has confirmed it, and losing all of it costs nothing.
"""

from __future__ import annotations

import errno
import os
from _operator import itemgetter

from reconciler.host import cgroup, files
from reconciler.host.jsontext import lines, loads
from reconciler.lean import lru_cache, suppress
from reconciler.model.names import IfName, TunnelName, is_tunnel_name
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

FILE = "handles.json"
RECORD = "endpoints.json"  # of all tunnels, for everybody to read: host/record.py
CLOCK = "clock.json"  # how it was set: host/timeline.py
ASIDE = "handles.json.corrupt"
_LIMIT = 256 * 1024  # bytes; a hundred peers make 10 KiB
_VERSION = 1


class Handle(NamedTuple):
    """What is remembered of one tunnel in this boot."""

    name: TunnelName
    id: str  # eight hex digits, of the mark
    boot_id: str
    interface: IfName | None = None
    ifindex: int | None = None
    pid: int | None = None
    start_ticks: int | None = None  # field 22 of /proc/PID/stat
    fingerprint: str | None = None  # of the owner, as it was started
    endpoints: Mapping[str, str] = {}  # public key → endpoint text that was last set
    bound: Mapping[str, str] = {}  # transport → "address:port" that is bound, or that its program was told to bind
    requested: Mapping[str, str] = {}  # transport → "address:port" that the file asked for then
    resolved: bool = False  # systemd-resolved has name servers of ours for its link
    starting: bool = False  # nobody has seen yet that the owner is ready


_NEEDED = ("name", "id", "boot_id")
_NUMBERS = ("ifindex", "pid", "start_ticks")
_TOO_LARGE = 1 << 63
_MAPS = ("endpoints", "bound", "requested")
_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(_NEEDED, (str,)),
    **dict.fromkeys(("interface", "fingerprint"), (str, type(None))),
    **dict.fromkeys(_NUMBERS, (int, type(None))),
    **dict.fromkeys(_MAPS, (dict,)),
}
_BLANK = {**dict.fromkeys(_NEEDED), **Handle._field_defaults}
_values = itemgetter(*Handle._fields)
_KEYS = (*sorted(Handle._fields), "version")  # in the order of the file: what is in order is sorted in a fifth of the time
_sorted = itemgetter(*map(Handle._fields.index, _KEYS[:-1]))

_Signature = tuple[int, int, int]  # mtime_ns, inode, size: has anybody else written the file?
_NOTHING: tuple[None, None] = (None, None)  # remembered of a tunnel


class Handles:
    """The handles of one run directory."""

    def __init__(self, run_dir: str | Path) -> None:
        self._tunnels = os.path.join(run_dir, "tunnels")  # text: pathlib costs `status` a fifteenth of its time
        self._boot_id = ""
        self._memory: dict[TunnelName, tuple[Handle, _Signature]] = {}
        self._there: set[str] | None = None  # tunnels that had a directory when this turn began
        self._looked: set[TunnelName] = set()  # their files were read in this turn: nobody else writes them meanwhile
        self._swept: dict[TunnelName, int] = {}  # how their directories were when nothing was left over in them: mtime_ns
        self._warnings: dict[tuple[TunnelName, str], str] = {}
        self._corrupt: set[TunnelName] = set()

    @property
    def boot_id(self) -> str:
        """Of the running kernel; it never changes while we live."""
        if not self._boot_id:
            with open("/proc/sys/kernel/random/boot_id", "rb") as file:
                self._boot_id = file.read().strip().decode()
        return self._boot_id

    def directory(self, tunnel: TunnelName) -> str:
        """The tunnel's own run directory; it need not exist."""
        if not is_tunnel_name(tunnel):
            raise ValueError(f"{tunnel!r} is no tunnel name")
        return f"{self._tunnels}/{tunnel}"

    def look_again(self) -> None:
        """A turn begins: whoever had the one before may have written."""
        self._there = None
        self._looked.clear()

    def get(self, tunnel: TunnelName) -> Handle | None:
        """The handle of this boot, or None. A file that cannot be used is a warning, never an error."""
        if tunnel not in self._looked:
            self._look(tunnel)
            self._looked.add(tunnel)
        return self._memory.get(tunnel, _NOTHING)[0]

    def is_written(self, tunnel: TunnelName) -> bool:
        """Its file is there: nobody has dropped the tunnel since, and nobody has taken it away."""
        return _signature(f"{self.directory(tunnel)}/{FILE}") is not None

    def _look(self, tunnel: TunnelName) -> None:
        path = f"{self.directory(tunnel)}/{FILE}"
        known, signature = self._memory.get(tunnel, _NOTHING)
        if (known and _signature(path) in (None, signature)) or not self._may_have_any(tunnel):
            return
        found = self._read(tunnel, path)
        if found is not None:  # what we wrote ourselves is worth more than a damaged file
            self._memory[tunnel] = found

    def _may_have_any(self, tunnel: TunnelName) -> bool:
        """One list of all directories instead of a look for each that is not there."""
        if self._there is None:
            try:
                self._there = set(os.listdir(self._tunnels))
            except FileNotFoundError:
                self._there = set()
            except OSError:
                return True
        return tunnel in self._there

    def put(self, handle: Handle) -> None:
        """Writes the file, then remembers. Nothing is written when it says so already. OSError when it cannot."""
        for error in self.put_all((handle,)).values():
            raise error

    def put_all(self, handles: Iterable[Handle]) -> dict[TunnelName, OSError]:
        """As `put`, but that all wait together for the disk. → which could not be written."""
        failed: dict[TunnelName, OSError] = {}
        new: dict[str, Handle] = {}
        for handle in handles:
            directory = self.directory(handle.name)
            path = f"{directory}/{FILE}"
            try:
                if not self._is_so(handle, directory, path):
                    new[path] = handle
            except OSError as error:
                failed[handle.name] = error
        placed, wrong = files.replace_all({path: _encode(handle) for path, handle in new.items()})
        for path, status in placed.items():
            handle = new[path]
            self._memory[handle.name] = (handle, _signed(status))
            self._forget_warnings(handle.name)
        return failed | {new[path].name: error for path, error in wrong.items()}

    def _is_so(self, handle: Handle, directory: str, path: str) -> bool:
        """The file says so already. Else there is a directory for it by now, and nothing else in its place."""
        name = handle.name
        known, signature = self._memory.get(name, _NOTHING)
        is_so = known == handle and signature == _signature(path)
        is_new = not is_so and files.make_directory(directory)
        if not is_new:
            self._sweep(name, directory, path)
        if not is_so and (name in self._corrupt or (not is_new and os.path.isdir(path))):
            self.move_aside(name)
        return is_so

    def _sweep(self, tunnel: TunnelName, directory: str, path: str) -> None:
        """What a killed writer has left there; asked of the directory's time before it is listed."""
        before = _changed_ns(directory)
        if before is not None and self._swept.get(tunnel) != before:
            files.sweep(path)
            if _changed_ns(directory) == before:  # else something was taken away, or came: once more next time
                self._swept[tunnel] = before

    def forget_owner(self, tunnel: TunnelName) -> None:
        """No process belongs to the tunnel any more."""
        handle = self.get(tunnel)
        if handle and handle.pid is not None:
            self.put(handle._replace(pid=None, start_ticks=None, fingerprint=None, starting=False))

    def drop(self, tunnel: TunnelName) -> None:
        """Forgets the tunnel; removes its run directory with all that is in it, and what its processes left in /sys.

        OSError when something stays.
        """
        cgroup.sweep(tunnel)
        self._memory.pop(tunnel, None)
        self._swept.pop(tunnel, None)
        self._corrupt.discard(tunnel)
        self._forget_warnings(tunnel)
        files.remove_directory(self.directory(tunnel))

    def move_aside(self, tunnel: TunnelName) -> None:
        """A writer puts a file that cannot be used out of the way; the last such file is kept beside for whoever asks why."""
        self._corrupt.discard(tunnel)
        files.move(*(os.path.join(self.directory(tunnel), name) for name in (FILE, ASIDE)))

    def warn(self, tunnel: TunnelName, subject: str, text: str) -> None:
        """Keeps one warning for each tunnel and subject."""
        self._warnings[tunnel, subject] = text

    def warnings(self) -> tuple[str, ...]:
        """What is wrong with the hints, one line each."""
        return tuple(self._warnings.values())

    def _forget_warnings(self, tunnel: TunnelName) -> None:
        if self._warnings:
            self._warnings = {key: text for key, text in self._warnings.items() if key[0] != tunnel}

    def _read(self, tunnel: TunnelName, path: str) -> tuple[Handle, _Signature] | None:
        try:
            content, status = files.read_checked(path, _LIMIT)
            handle = _decode(content)
            if handle.name != tunnel:
                raise ValueError(f"it is about {handle.name!r}")
        except FileNotFoundError:
            return None
        except PermissionError as error:
            if error.errno == errno.EPERM:  # ours to judge: it is there and cannot be trusted
                self._reject(tunnel, path, error)
            return None  # EACCES: not ours to read, and no fault of the file
        except (OSError, ValueError, RecursionError) as error:
            self._reject(tunnel, path, error)
            return None
        self._corrupt.discard(tunnel)
        self._forget_warnings(tunnel)
        return (handle, _signed(status)) if handle.boot_id == self.boot_id else None

    def _reject(self, tunnel: TunnelName, path: str, error: Exception) -> None:
        reason = (error.strerror if isinstance(error, OSError) else str(error)) or type(error).__name__
        self._corrupt.add(tunnel)
        self.warn(tunnel, FILE, f"{path}: ignored: {reason}")


def _signature(path: str | Path) -> _Signature | None:
    try:
        return _signed(os.lstat(path))
    except OSError:
        return None


def _signed(status: os.stat_result) -> _Signature:
    return status.st_mtime_ns, status.st_ino, status.st_size


def _changed_ns(directory: str) -> int | None:
    with suppress(OSError):
        return os.stat(directory, follow_symlinks=False).st_mtime_ns
    return None


def _encode(handle: Handle) -> bytes:
    return lines(dict(zip(_KEYS, (*_sorted(handle), _VERSION), strict=True))).encode()


def _decode(content: bytes) -> Handle:
    """ValueError says what is wrong; the content itself is never repeated."""
    try:
        document = loads(content.decode())
    except UnicodeDecodeError:
        raise ValueError("not text") from None
    except ValueError as error:
        raise ValueError(f"not JSON (line {getattr(error, 'lineno', 1)})") from None
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")
    if document.get("version") != _VERSION:
        raise ValueError("written by another version")
    try:
        values = _values(document)
    except KeyError:  # an older one
        values = _values(_BLANK | document)
    handle = Handle._make((*values[:-2], values[-2] is True, values[-1] is True))
    fault = _fault(handle)
    if fault:
        raise ValueError(fault)
    return handle


def _fault(handle: Handle) -> str:
    """What is wrong with it, or else ""."""
    key = _wrong_one(tuple(map(type, handle)))
    if key in _NEEDED and getattr(handle, key) is None:
        return "name, id or boot_id is missing"
    if key:
        return f"{key} is no positive number" if key in _NUMBERS else f"{key} has the wrong type"
    for key, number in zip(_NUMBERS, (handle.ifindex, handle.pid, handle.start_ticks), strict=True):
        if number is not None and not 0 < number < _TOO_LARGE:
            return f"{key} is no positive number"
    for key in _MAPS if handle.endpoints or handle.bound or handle.requested else ():
        if not {str}.issuperset(map(type, getattr(handle, key).values())):
            return f"{key} has the wrong type"
    return ""


@lru_cache(64)  # most handles are alike
def _wrong_one(types: tuple[type, ...]) -> str:
    """The first value that has a wrong type, of values with these; True is no number. "": none has."""
    found = dict(zip(Handle._fields, types, strict=True))
    return next((key for key, right in _TYPES.items() if found[key] not in right), "")
