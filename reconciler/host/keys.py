"""WireGuard keys: read from their files at the moment of use, known elsewhere by what is derived from them.

No message and no repr ever has key material in it, not even of a file that holds something else.
"""

from __future__ import annotations

import os
import stat
from binascii import a2b_base64, b2a_base64  # `base64` needs regular expressions for its other bases

from reconciler.errors import InvalidFile, TunctlError
from reconciler.host import files
from reconciler.lean import suppress
from reconciler.model.publickey import PublicKey

KEY_BYTES = 32  # linux/wireguard.h, WG_KEY_LEN
_CREDENTIAL = "credential:"
_LIMIT = 4096  # bytes of a key file: 44 characters and blanks around them
_NONE = bytes(KEY_BYTES)

_secret = os.urandom(32)  # digests mean something within this process only


class Key:
    """32 secret bytes that do not show themselves."""

    __slots__ = ("_raw",)

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def __repr__(self) -> str:
        return "Key(hidden)"

    def __reduce__(self) -> str:
        raise TypeError("keys are not serialised")

    @property
    def raw(self) -> bytes:
        return self._raw

    @property
    def hex(self) -> str:
        return self._raw.hex()

    @property
    def base64(self) -> str:
        return as_text(self._raw)

    @property
    def is_none(self) -> bool:
        """All zero is how WireGuard says that there is no key."""
        return self._raw == _NONE


def parse(text: str) -> bytes | None:
    """44 characters of base64 → 32 bytes; None when it is no key."""
    if len(text) != 44 or not text.isascii():
        return None
    try:
        raw = a2b_base64(text)
    except ValueError:
        return None
    return raw if len(raw) == KEY_BYTES and as_text(raw) == text else None


def as_text(raw: bytes) -> str:
    """Bytes → base64, as WireGuard writes keys."""
    return b2a_base64(raw, newline=False).decode()


def path_of(reference: str) -> str:
    """A path, or ``credential:NAME`` for a file in $CREDENTIALS_DIRECTORY (systemd's LoadCredential)."""
    if not reference.startswith(_CREDENTIAL):
        return reference
    name = reference.removeprefix(_CREDENTIAL)
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if not directory:
        raise InvalidFile(f"{reference}: CREDENTIALS_DIRECTORY is not set", hint="run it as a service with LoadCredential=")
    if not name or "/" in name or name in (".", ".."):
        raise InvalidFile(f"{reference}: is no name of a credential")
    return f"{directory}/{name}"


def read(reference: str) -> Key:
    """The key in a file. InvalidFile says what is wrong with it; PermissionError when we may not read it at all."""
    raw = parse(read_secret(reference, _LIMIT).decode("latin-1").strip())
    if raw is None:
        raise InvalidFile(f"{reference}: is not a WireGuard key (44 characters of base64)")
    return Key(raw)


def read_secret(reference: str, limit: int) -> bytes:
    """What is in a file of secrets, if nobody else may read or write it. Raises what `read` raises."""
    path = path_of(reference)
    try:
        content, status = files.read_checked(path, limit, follow=True)
    except PermissionError as error:
        if error.filename is not None and str(error.strerror) != os.strerror(error.errno or 0):
            raise InvalidFile(f"{reference}: {error.strerror}") from None
        raise
    except OSError as error:
        raise InvalidFile(f"{reference}: {error.strerror}") from None
    if status.st_mode & (stat.S_IRWXO | stat.S_IWGRP):
        mode = stat.S_IMODE(status.st_mode)
        raise InvalidFile(f"{reference}: mode {mode:04o} is too open for a secret", hint=f"chmod 600 {path}")
    return content


def public_key(reference: str) -> PublicKey:
    """What belongs to the private key in a file. Raises what `read` raises."""
    return PublicKey(digest=_private_digest(read(reference)), work_out=lambda: _public_of_file(reference))


def device_key(private: Key, public: bytes, reference: str) -> PublicKey | None:
    """What a device has for a key; None: it has none. `public`: as the engine tells it, else b"". A device that has the key
    in the file `reference` needs nothing worked out."""
    if private.is_none and not public:
        return None
    digest = "" if private.is_none else _private_digest(private)
    if public:
        return PublicKey(as_text(public), digest=digest)
    with suppress(TunctlError, OSError):
        wanted = public_key(reference)
        if wanted == PublicKey(digest=digest):
            return wanted
    return PublicKey(_public(private), digest=digest)


def _public_of_file(reference: str) -> str:
    try:
        return _public(read(reference))
    except (TunctlError, OSError):
        return "(its file has gone)"


def _public(private: Key) -> str:
    from reconciler.host import x25519

    return as_text(x25519.public(private.raw))


def _private_digest(private: Key) -> str:
    """Of the number that the curve is given: engines keep it so (RFC 7748, section 5), whatever the file says."""
    raw = bytearray(private.raw)
    raw[0] &= 248
    raw[31] = raw[31] & 127 | 64
    return _digest(Key(bytes(raw)), b"private")


def preshared_digest(preshared: Key) -> str:
    """A digest that only this process can compare with; "" when there is no key."""
    return "" if preshared.is_none else _digest(preshared, b"preshare")


def _digest(key: Key, person: bytes) -> str:
    try:  # hashlib gives the same function and loads OpenSSL for the others: 3 ms
        from _blake2 import blake2s
    except ImportError:
        from hashlib import blake2s

    return blake2s(key.raw, key=_secret, person=person).hexdigest()
