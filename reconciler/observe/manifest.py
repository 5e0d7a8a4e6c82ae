"""Where endpoints are by the signed files of their servers, and which of what was ever believed is the best. Reads only.

A file that is what it was when it was verified is not verified again: `status` looks all day, and cryptography costs more
to import than it may take. Both digests are compared, so neither another manifest nor another key passes unseen.
"""

from __future__ import annotations

import errno
import os
import stat

from reconciler.host import files
from reconciler.lean import sha256_hex
from reconciler.model.facts import Whereabouts
from reconciler.model.intent import Intent, Vouched
from reconciler.model.moment import rfc3339
from reconciler.model.names import TunnelName
from reconciler.model.tunnel import EndpointManifest
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from reconciler.model.manifest import Manifest

MANIFEST_BYTES = 1 << 20  # host.manifest.LIMIT, which is not imported for a file that is what it was
KEY_BYTES = 16384  # host.keyfile.LIMIT


class Read(NamedTuple):
    """A file, as it is now."""

    content: bytes = b""
    digest: str = ""  # "": it could not be read
    trouble: str = ""
    denied: bool = False


class Said(NamedTuple):
    """A manifest that is genuine."""

    manifest: Manifest
    digest: str
    key_digest: str
    signer: str  # the thumbprint of its key


class Shelf:
    """Files and manifests of one look: many peers may name the same ones."""

    def __init__(self) -> None:
        self._manifests: dict[str, Read] = {}
        self._keys: dict[str, Read] = {}
        self._verified: dict[tuple[str, str], Said | str] = {}

    def manifest(self, path: str) -> Read:
        if path not in self._manifests:
            self._manifests[path] = _read(path)
        return self._manifests[path]

    def key(self, path: str) -> Read:
        if path not in self._keys:
            self._keys[path] = _read_key(path)
        return self._keys[path]

    def verified(self, manifest: Read, key: Read) -> Said | str:
        """What it says, or why it must not be believed."""
        place = (manifest.digest, key.digest)
        if place not in self._verified:
            self._verified[place] = _verified(manifest, key)
        return self._verified[place]


def gather(intents: Iterable[Intent], now_us: int, *, privileged: bool) -> dict[tuple[TunnelName, str], Whereabouts]:
    """Of these tunnels. `privileged`: a file that may not be read is a trouble, not only somebody else's business."""
    shelf = Shelf()
    found = {}
    for intent in intents:
        for of, settings in intent.tunnel.manifests.items():
            one = _whereabouts(of, settings, intent.vouched, shelf, now_us)
            if one.best is not None:
                one = one._replace(expired=one.best.expires_us <= now_us)
            found[intent.name, of] = one if one.unread and not privileged else one._replace(unread=False)
    return found


def _whereabouts(of: str, settings: EndpointManifest, vouched: Iterable[Vouched], shelf: Shelf, now_us: int) -> Whereabouts:
    manifest, key = shelf.manifest(settings.file), shelf.key(settings.public_key_file)
    known = next((one for one in vouched if one.of == of and _fits(one, settings, key)), None)
    for path, read in ((settings.public_key_file, key), (settings.file, manifest)):
        if read.trouble:
            return Whereabouts(known, f"{path}: {read.trouble}", unread=read.denied)
    if known and (known.digest, known.key_digest, known.file) == (manifest.digest, key.digest, settings.file):
        return Whereabouts(known)
    said = shelf.verified(manifest, key)
    new = said if isinstance(said, str) else _chosen(of, settings, said)
    why = new if isinstance(new, str) else _worse(new, known, now_us)
    if isinstance(new, str) or why:
        return Whereabouts(known, f"{settings.file}: refused: {why}")
    return Whereabouts(new)


def _fits(one: Vouched, settings: EndpointManifest, key: Read) -> bool:
    """Is it about this entry? The file may have been moved, or its signer have another key, but not both."""
    if (one.tunnel, one.transport) != (settings.tunnel, settings.transport):
        return False
    return one.file == settings.file or one.key_digest == key.digest


def _chosen(of: str, settings: EndpointManifest, said: Said) -> Vouched | str:
    """The endpoint that is meant, or why there is none."""
    name, manifest = settings.tunnel, said.manifest
    if name is None:
        names = sorted(manifest.ports)
        if len(names) > 1:
            listed = f"{', '.join(names[:5])}{', …' if names[5:] else ''}"
            return f"it names {len(names)} tunnels ({listed}): say which with `tunnel`"
        name = names[0]
    if name not in manifest.ports:
        return f"it names no tunnel {name!r}"
    port = manifest.ports[name].get(settings.transport)
    if port is None:
        return f"it has no {settings.transport} endpoint of {name}"
    return Vouched(
        of, manifest.host, port, manifest.issued_us, manifest.expires_us,
        settings.file, settings.tunnel, settings.transport, said.digest, said.key_digest, said.signer,
    )  # fmt: skip


def _worse(new: Vouched, known: Vouched | None, now_us: int) -> str:
    """Why a manifest that is genuine must not take the place of the known one; "" when it may.

    An older one never does: somebody could play back what was true once. (By another key it is another signer's.)
    """
    from reconciler.host import manifest

    early = manifest.early(new.issued_us, now_us)
    if early or known is None:
        return early
    if known.signer == new.signer and new.issued_us < known.issued_us:
        was, is_ = rfc3339(new.issued_us), rfc3339(known.issued_us)
        return f"it was issued at {was}, before the one that was already there (issued at {is_})"
    return "" if known.expires_us <= now_us else manifest.late(new.expires_us, now_us)


def _verified(file: Read, key: Read) -> Said | str:
    from reconciler.host import jws, keyfile, manifest

    try:
        public = keyfile.verifying_key(key.content)
    except ValueError as error:
        return f"its public key file {error}"
    try:
        found = manifest.verified(file.content, public)
    except jws.Refused as refused:
        return str(refused)
    return Said(found, file.digest, key.digest, jws.thumbprint(public))


def _read(path: str) -> Read:
    """Whoever owns it: it proves itself."""
    try:
        content = files.read_of_anybody(path, MANIFEST_BYTES)
    except (OSError, ValueError) as error:
        return _unread(error)
    return Read(content, sha256_hex(content))


def _read_key(path: str) -> Read:
    """Whoever can write it decides who is believed."""
    try:
        content, status = files.read_checked(path, KEY_BYTES, follow=True)
    except (OSError, ValueError) as error:
        return _unread(error)
    if status.st_mode & stat.S_IWGRP:
        return Read(trouble="its group may write it")
    return Read(content, sha256_hex(content))


def _unread(error: OSError | ValueError) -> Read:
    said = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return Read(trouble=said, denied=getattr(error, "errno", None) == errno.EACCES)


def paths(intents: Iterable[Intent]) -> frozenset[str]:
    """The files whose change may say another endpoint, and what they are links to."""
    named = {path for i in intents for one in i.tunnel.manifests.values() for path in (one.file, one.public_key_file)}
    return frozenset(named | {os.path.realpath(path) for path in named})
