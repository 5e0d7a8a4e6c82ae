"""Manifests made and judged for `endpoints sign` and `endpoints verify`. What clients do with one: observe.manifest."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from reconciler.errors import InvalidFile, NotPermitted, UsageError
from reconciler.host import files, keyfile, keys, manifest
from reconciler.host.bound import Bound
from reconciler.host.jws import Refused
from reconciler.model.manifest import Manifest, Ports
from reconciler.model.moment import rfc3339
from reconciler.model.names import TunnelName
from reconciler.model.prefix import pton

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_MODE = 0o644  # it is made for others


class Signed(NamedTuple):
    """What was signed, and what whoever signs should know."""

    manifest: Manifest
    warnings: tuple[str, ...]


def sign(key: str, host: str, ports: Ports, *, ttl_s: float, out: str) -> Signed:
    """Writes a manifest of these ports, valid from now on. InvalidFile, NotPermitted, UsageError."""
    if not manifest.is_host(host):
        raise UsageError(f"--host: {host!r} is neither an address nor a name")
    try:
        private = keyfile.signing_key(keys.read_secret(key, keyfile.LIMIT))
    except PermissionError as error:
        raise NotPermitted(f"{key}: {error.strerror}") from error
    except ValueError as error:
        raise InvalidFile(f"{key}: {error}", hint="tunctl key generate --type ed25519 makes one") from None
    now_us = time.time_ns() // 1000
    made = Manifest(host, now_us, now_us + round(ttl_s * 1e6), ports)
    content = manifest.signed(made, private)
    if len(content) > manifest.LIMIT:
        raise InvalidFile(f"{out}: the manifest would be larger than {manifest.LIMIT} bytes")
    later = [f"{out}: what stood there was issued {when}, later than now: clients that know it keep it until then"
             for when in _issued_later(out, private.public_key(), now_us)]  # fmt: skip
    try:
        files.replace(os.path.abspath(out), content, _MODE)
    except OSError as error:
        raise InvalidFile(f"{out}: {error.strerror}") from error
    return Signed(made, tuple(later))


def _issued_later(path: str, key: Ed25519PublicKey, now_us: int) -> Iterator[str | None]:
    """When, if the clock was ahead at that time, or is behind now."""
    try:
        old = manifest.verified(files.read_of_anybody(path, manifest.LIMIT), key)
    except (OSError, Refused):
        return
    if old.issued_us > now_us:
        yield rfc3339(old.issued_us)


def reachable(bound: Bound) -> tuple[Ports, tuple[str, ...]]:
    """The ports that others can reach, and what is said of those that they cannot."""
    ports: dict[TunnelName, Mapping[str, int]] = {}
    left_out = []
    for name, by_transport in bound.items():
        outside = {word: port for word, (address, port) in by_transport.items() if not _is_loopback(address)}
        left_out += [f"{name}: {word} is bound to {by_transport[word][0]}: left out" for word in by_transport.keys() - outside]
        if outside:
            ports[name] = outside
    return ports, tuple(sorted(left_out))


def _is_loopback(address: str) -> bool:
    try:
        packed = pton(address)
    except ValueError:
        return False
    return packed[0] == 127 if len(packed) == 4 else packed == b"\0" * 15 + b"\1"


def verify(path: str, public_key: str) -> Manifest:
    """What it says. InvalidFile with the reason why it must not be believed."""
    try:
        key = keyfile.verifying_key(_content(public_key, keyfile.LIMIT))
    except ValueError as error:
        raise InvalidFile(f"{public_key}: {error}") from None
    content = _content(path, manifest.LIMIT)
    now_us = time.time_ns() // 1000
    try:
        found = manifest.verified(content, key)
    except Refused as error:
        raise InvalidFile(f"{path}: refused: {error}") from None
    untimely = manifest.early(found.issued_us, now_us) or manifest.late(found.expires_us, now_us)
    if untimely:
        raise InvalidFile(f"{path}: refused: {untimely}")
    return found


def _content(path: str, limit: int) -> bytes:
    try:
        return files.read_of_anybody(path, limit)
    except OSError as error:
        raise InvalidFile(f"{path}: {error.strerror}") from error
