"""Is a desired file what it was when it was stored? Then it need not be parsed and judged again.

Everything that decided what it means was recorded with it; secrets are not, so their files are judged each time.
Whatever is odd is "changed": the long way says what is wrong.
"""

from __future__ import annotations

import os

from reconciler import __version__
from reconciler.config import files
from reconciler.lean import sha256_hex
from reconciler.model.intent import Intent
from reconciler.model.tunnel import Desired, Input, Tunnel
from reconciler.store.stored import Source, Stored


def unchanged(location: str, stored: Stored) -> Desired | None:
    """The desired state as it is stored for this location, if all that it was read from is still the same."""
    try:
        source = source_of(location, stored)
        return as_stored(source, stored) if source and all(map(is_same, source.inputs)) else None
    except (files.Unreadable, OSError, ValueError):
        return None


def source_of(location: str, stored: Stored) -> Source | None:
    """What was stored for this location, if anything of it was read from files."""
    path = os.path.abspath(location)
    mine = (source for source in stored.sources if source.path == path and source.inputs and not source.forgotten)
    return None if location == "-" else next(mine, None)


def as_stored(source: Source, stored: Stored) -> Desired | None:
    """What it said, if all of that is there and its keys can be used."""
    intents = [intent for intent in stored.intents if intent.source == source.name and not intent.withdrawn]
    tunnels = tuple(intent.tunnel for intent in intents)
    if len(tunnels) != source.tunnels or any(_secret_problem(path) for tunnel in tunnels for path in secrets(tunnel)):
        return None
    if not all(map(_are_trusted, intents)):
        return None
    return Desired(source.name, source.path, source.host, tunnels, (), source.warnings, source.inputs)


def is_same(one: Input) -> bool:
    """Unreadable or OSError when it cannot be known."""
    if one.kind == "version":
        return one.digest == __version__
    if one.kind == "directory":
        content = _listing(one.path)
    else:
        content = files.read(one.path, files.PREFIX_FILE_BYTES)
    if one.kind != "file" and os.geteuid() == 0 and files.others_can_write(one.path, directory=one.kind == "directory"):
        return False
    return sha256_hex(content) == one.digest


def _listing(path: str) -> bytes:
    names = sorted(os.fsencode(name) for name in os.listdir(path))
    return b"\0".join(name for name in names if name.endswith(b".toml") and not name.startswith(b"."))


def secrets(tunnel: Tunnel) -> list[str]:
    """The files of its keys, as they are named."""
    if tunnel.wireguard is None:
        return []
    preshared = [peer.preshared_key_file for peer in tunnel.wireguard.peers if peer.preshared_key_file]
    return [tunnel.wireguard.private_key_file, *preshared]


def _are_trusted(intent: Intent) -> bool:
    """Are the keys that its manifests must be signed with those that they were last verified with?"""
    manifests = intent.tunnel.manifests
    if not manifests:
        return True
    known = {one.of: one.key_digest for one in intent.vouched}
    for of, settings in manifests.items():
        mode = files.status(settings.public_key_file).st_mode & 0o022
        if mode or known.get(of) != sha256_hex(files.read(settings.public_key_file, files.PUBLIC_KEY_BYTES)):
            return False
    return True


def _secret_problem(path: str) -> str | None:
    return files.secret_problem(files.secret_path(path, ""), check_owner=True, is_wireguard_key=True)
