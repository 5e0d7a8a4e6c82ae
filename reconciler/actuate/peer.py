"""Sets peers one by one, each by the fields that differ: the sessions of the others never notice."""

from __future__ import annotations

from binascii import a2b_base64 as b64decode  # `base64` needs regular expressions for its other bases

from reconciler.actuate import engine
from reconciler.host.engine import NO_KEY, PeerChange
from reconciler.host.keys import Key
from reconciler.host.machine import Machine
from reconciler.kinds.peer import Peer


def create(machine: Machine, wanted: Peer) -> None:
    """All of it. A peer that is there already is set to the same."""
    engine.set_peer(machine, wanted, _named(wanted, ("preshared_digest", "endpoints", "keepalive_s", "allowed_ips")))


def change(machine: Machine, wanted: Peer, found: Peer, fields: tuple[str, ...]) -> None:
    """Only what differs."""
    engine.set_peer(machine, wanted, _named(wanted, fields))


def delete(machine: Machine, found: Peer) -> None:
    """A peer that is not there is no error to any engine."""
    engine.set_peer(machine, found, PeerChange(b64decode(found.public_key), remove=True))


def _named(wanted: Peer, fields: tuple[str, ...]) -> PeerChange:
    endpoint = wanted.endpoints[0] if "endpoints" in fields and wanted.endpoints else None
    return PeerChange(
        b64decode(wanted.public_key),
        _preshared(wanted) if "preshared_digest" in fields else None,
        (endpoint.packed, endpoint.port) if endpoint else None,
        wanted.keepalive_s if "keepalive_s" in fields else None,
        wanted.allowed_ips if "allowed_ips" in fields else None,
    )


def _preshared(wanted: Peer) -> Key:
    """All zero takes an old one away."""
    return engine.read_key(wanted, wanted.preshared_key_file) if wanted.preshared_key_file else NO_KEY
