"""WireGuard: in the kernel where it has it, else by a program on a persistent TUN, so that the death of that
program takes no address and no route along."""

from __future__ import annotations

from reconciler.drivers.exec_ import expand
from reconciler.drivers.tun import ROOT
from reconciler.errors import NotObserved, Unavailable
from reconciler.kinds.link import Link
from reconciler.kinds.owner import Owner
from reconciler.kinds.peer import Address, Peer
from reconciler.kinds.wireguard import Device
from reconciler.model.facts import Facts, Unknown
from reconciler.model.intent import Intent
from reconciler.model.marks import Numbers
from reconciler.model.names import IfName
from reconciler.model.prefix import AF_INET, Prefix
from reconciler.model.resource import Resource
from reconciler.model.tunnel import PeerSettings, Tunnel, WireGuard
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from reconciler.kinds.listen import Bound

DEFAULT_MTU = 1420  # what an Ethernet carries, less the overhead of drivers.way
_BIND_S = 5.0  # a userspace engine binds when it has heard that its device is up: milliseconds
_QUIET = (
    ("WG_PROCESS_FOREGROUND", "1"),
)  # wireguard-go, as with -f; with -f alone it says in a box that the kernel could do it


def link(intent: Intent, facts: Facts, numbers: Numbers, dev: IfName) -> Link:
    userspace = is_userspace(intent.tunnel, facts)
    kind, uid = ("tun", ROOT) if userspace else ("wireguard", None)  # the kernel lets everybody attach to a TUN of nobody
    mtu = intent.tunnel.mtu or _mtu(intent, facts)
    return Link(intent.name, dev, kind, mtu, up=True, alias=intent.mark.alias, group=numbers.link_group, uid=uid)


def _mtu(intent: Intent, facts: Facts) -> int | None:
    """While no way is known, a device that is there keeps what it has."""
    from reconciler.drivers import way  # only for who has such a tunnel

    found = way.mtu(intent.tunnel, endpoints(intent.tunnel, facts), facts)
    return found or (None if intent.name in facts.linked else DEFAULT_MTU)


def owner(intent: Intent, facts: Facts, dev: IfName) -> Owner | None:
    if not is_userspace(intent.tunnel, facts):
        return None
    command = expand(_settings(intent.tunnel).userspace_command, {"interface": dev})
    return Owner(intent.name, intent.mark, dev, command, _QUIET, own_mounts=True)


def engine(intent: Intent, facts: Facts, numbers: Numbers, dev: IfName) -> Iterator[Resource]:
    settings = _settings(intent.tunnel)
    userspace = is_userspace(intent.tunnel, facts)
    key = facts.public_keys.get(settings.private_key_file, Unknown("not looked up"))
    port = _served(intent, facts, userspace=userspace)
    yield Device(
        intent.name, dev, None if isinstance(key, Unknown) else key, port.port if port else settings.listen_port,
        numbers.fwmark, settings.private_key_file, userspace, port,
    )  # fmt: skip
    if port:
        yield port
    for peer in settings.peers:
        yield Peer(
            intent.name, dev, peer.public_key, peer.allowed_ips, peer.keepalive_s or 0,
            _endpoints(intent, peer, facts), _preshared(peer, facts), peer.preshared_key_file, userspace, peer.name,
        )  # fmt: skip


def _served(intent: Intent, facts: Facts, *, userspace: bool) -> Bound | None:
    """Its listen port, where a `listen` says which it may be."""
    if not intent.tunnel.listen:
        return None
    from reconciler.kinds import listen

    (port,) = facts.ports_of(intent.name)
    return listen.wanted(intent, port, by_program=False, mark=intent.mark if userspace else None, patience_s=_BIND_S)


def prefixes(tunnel: Tunnel) -> Iterator[Prefix]:
    settings = _settings(tunnel)
    if settings.route_allowed_ips:
        for peer in settings.peers:
            yield from peer.allowed_ips


def endpoints(tunnel: Tunnel, facts: Facts) -> Iterator[str]:
    known = (facts.endpoint(tunnel.name, peer) for peer in _settings(tunnel).peers)
    return (endpoint.host for endpoint in known if endpoint)


def is_userspace(tunnel: Tunnel, facts: Facts) -> bool:
    """Which of the two engines; an error where the file asks for one that the kernel does not have."""
    backend = _settings(tunnel).backend
    if backend == "userspace":
        return True
    if isinstance(facts.kernel_wireguard, Unknown):
        raise NotObserved(f"whether the kernel has WireGuard is not known: {facts.kernel_wireguard.reason}")
    if backend == "kernel" and not facts.kernel_wireguard:
        raise Unavailable("this kernel has no WireGuard", hint='set backend = "userspace" and install wireguard-go')
    return not facts.kernel_wireguard


def _settings(tunnel: Tunnel) -> WireGuard:
    assert tunnel.wireguard is not None
    return tunnel.wireguard


def _endpoints(intent: Intent, peer: PeerSettings, facts: Facts) -> tuple[Address, ...] | None:
    """Where the peer may be; None is no opinion: no endpoint, a name that is not known now, or a peer that talks
    to us from where it has roamed to since this very endpoint was set. Of several addresses any will do while it is new; when
    nobody answers, each has its turn."""
    endpoint = facts.endpoint(intent.name, peer)
    if endpoint is None:
        return None
    if facts.working_endpoints.get(f"{intent.name} {peer.public_key}") == str(endpoint):
        return None
    packed = facts.resolved.get(endpoint.host, Unknown("not looked up"))
    if isinstance(packed, Unknown):
        return None
    addresses = tuple(Address(one, endpoint.port) for one in _likely_first(packed, facts))
    turn = facts.turns.get(f"{intent.name} {peer.public_key}")
    if turn is None or len(addresses) < 2 or not peer.keepalive_s:  # without keepalive silence says nothing
        return addresses
    return (addresses[turn % len(addresses)],)


def _likely_first(packed: Iterable[bytes], facts: Facts) -> list[bytes]:
    """The families that the host has an uplink for."""
    if isinstance(facts.uplinks, Unknown):
        return list(packed)
    sizes = {4 if uplink.family == AF_INET else 16 for uplink in facts.uplinks}
    return sorted(packed, key=lambda one: len(one) not in sizes)


def _preshared(peer: PeerSettings, facts: Facts) -> str | None:
    if peer.preshared_key_file is None:
        return ""
    digest = facts.preshared.get(peer.preshared_key_file, Unknown("not looked up"))
    return None if isinstance(digest, Unknown) else digest
