"""Files that a desired file names, and itself: read with a bound, never a device, a FIFO or a directory."""

from __future__ import annotations

import os
import stat

from reconciler.lean import sha256_hex
from reconciler.model.tunnel import Input

TOML_BYTES = 16 << 20
PREFIX_FILE_BYTES = 64 << 20
WATCHED_BYTES = 16 << 20  # each file of restart_on
SECRET_BYTES = 4096
PUBLIC_KEY_BYTES = 16384
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class Recorder:
    """What was read, in order; secrets never."""

    def __init__(self) -> None:
        self.inputs: dict[tuple[str, str], Input] = {}

    def add(self, kind: str, path: str, content: bytes) -> None:
        self.inputs[kind, path] = Input(kind, path, sha256_hex(content))


class Unreadable(Exception):
    """A file that cannot be used; the text says why, `absent` and `denied` which of the two kinds that callers forgive."""

    def __init__(self, message: str, *, absent: bool = False, denied: bool = False) -> None:
        super().__init__(message)
        self.absent = absent
        self.denied = denied


def status(path: str) -> os.stat_result:
    """stat of a regular file, links followed."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise _unreadable(error) from None
    except ValueError as error:  # a NUL, or a character that the file system cannot write
        raise Unreadable(f"no path of a file ({error})") from None
    if not stat.S_ISREG(found.st_mode):
        raise Unreadable(f"{_KINDS.get(stat.S_IFMT(found.st_mode), 'something')}, not a regular file")
    return found


def read(path: str, most: int) -> bytes:
    """The whole content of a regular file of at most `most` bytes."""
    status(path)  # before open: opening a device can already do something
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        raise _unreadable(error) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Unreadable("not a regular file")
        return _read_all(descriptor, most)
    except OSError as error:
        raise _unreadable(error) from None
    finally:
        os.close(descriptor)


def _read_all(descriptor: int, most: int) -> bytes:
    parts, size = [], 0
    while part := os.read(descriptor, 1 << 20):
        parts.append(part)
        size += len(part)
        if size > most:
            raise Unreadable(f"too large (more than {most >> 20} MiB)" if most >> 20 else f"too large (more than {most} bytes)")
    return b"".join(parts)


def _unreadable(error: OSError) -> Unreadable:
    absent = isinstance(error, (FileNotFoundError, NotADirectoryError))
    return Unreadable((error.strerror or "cannot be read").lower(), absent=absent, denied=isinstance(error, PermissionError))


def decoded(content: bytes) -> str:
    """UTF-8 text, a byte order mark left out; Unreadable names the line of the first bad byte."""
    content = content.removeprefix(_BYTE_ORDER_MARK)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Unreadable(f"not UTF-8 text (byte {content[error.start]:#04x} in line {line})") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise Unreadable(f"not a text file (NUL in line {line})")
    return text


def digest(path: str, recorder: Recorder) -> str:
    """sha256 over a path and the content of its file, hex."""
    content = read(path, WATCHED_BYTES)
    recorder.add("file", path, content)
    return sha256_hex(os.fsencode(path) + b"\0" + content)


def secret_path(reference: str, base: str) -> str:
    """Where a secret stands: ``credential:NAME`` or a path relative to the desired file."""
    if not reference.startswith("credential:"):
        return os.path.join(base, reference)
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if not directory:
        raise Unreadable(f"{reference!r}: CREDENTIALS_DIRECTORY is not set (systemd sets it for LoadCredential=)", absent=True)
    return os.path.join(directory, reference.removeprefix("credential:"))


def secret_problem(path: str, *, check_owner: bool, is_wireguard_key: bool) -> str | None:
    """Why the secret must not be used as it is. Its content is looked at where it can be read, and never shown."""
    found = status(path)
    mode = stat.S_IMODE(found.st_mode)
    reasons = [
        text
        for bits, text in ((stat.S_IRWXO, "others have rights on it"), (stat.S_IWGRP, "its group may write it"))
        if mode & bits
    ]
    if reasons:
        return f"{path} has mode {mode:04o}: {' and '.join(reasons)}; run: chmod 600 {_quoted(path)}"
    if check_owner and (foreign := _foreign(path, found)):
        return foreign
    content = read(path, SECRET_BYTES)
    if is_wireguard_key and not _is_key(content.decode("latin-1").strip()):
        return f"{path} does not hold a WireGuard key (32 bytes in base64, 44 characters)"
    return None


def public_key_problem(path: str, *, check_owner: bool) -> str | None:
    """Why a public key that manifests must be signed with cannot be trusted as it is, or is none."""
    found = status(path)
    mode = stat.S_IMODE(found.st_mode)
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"{path} has mode {mode:04o}: others could say whom to believe; run: chmod go-w {_quoted(path)}"
    if check_owner and (foreign := _foreign(path, found)):
        return foreign
    content = read(path, PUBLIC_KEY_BYTES)
    from reconciler.host import keyfile  # with cryptography

    try:
        keyfile.verifying_key(content)
    except ValueError as error:
        return f"{path} {error}"
    return None


def _foreign(path: str, found: os.stat_result) -> str | None:
    if found.st_uid in (0, os.geteuid()):
        return None
    return f"{path} belongs to user id {found.st_uid}, not to root or to you; run: chown root {_quoted(path)}"


def _is_key(text: str) -> bool:
    from reconciler.host.keys import parse

    return parse(text) is not None


def _quoted(path: str) -> str:
    from shlex import quote  # only who has to complain needs it

    return quote(path)


def others_can_write(path: str, *, directory: bool) -> str | None:
    """Why everybody could change what this name says; None when only some can. A link counts with what it leads to."""
    if os.stat(path).st_mode & stat.S_IWOTH and (directory or stat.S_ISREG(os.stat(path).st_mode)):
        return f"is writable by everybody; run: chmod o-w {_quoted(path)}"
    for around in sorted({os.path.dirname(os.path.abspath(path)), os.path.dirname(os.path.realpath(path))}):
        mode = os.stat(around).st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            return f"stands in {around}, which is writable by everybody; run: chmod o-w {_quoted(around)}"
    return None
