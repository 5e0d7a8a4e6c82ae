"""What the machine is like now, as far as it decides what is wanted. A fact that could not be had is Unknown."""

from __future__ import annotations

from reconciler.errors import NotObserved, PortTaken
from reconciler.model.intent import Vouched
from reconciler.model.names import IfName, TunnelName
from reconciler.model.nameservice import NameService
from reconciler.model.prefix import Prefix
from reconciler.model.publickey import PublicKey
from reconciler.model.tunnel import Endpoint, PeerSettings
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reconciler.model.port import Port
    from reconciler.model.pulse import Pulse, Vital  # only tunnels with health checks need it


class Unknown(NamedTuple):
    """A failed check is not a fact."""

    reason: str
    privilege: bool = False
    late: bool = False  # nothing was learned in time, not even that there is no such thing


class Uplink(NamedTuple):
    """A default route of the host's own, and where it leads."""

    family: int
    dev: IfName
    via: bytes | None  # packed; None: the network is on the link
    metric: int
    addresses: tuple[bytes, ...] = ()  # of this family on the device, packed, without link-local ones
    beaten: bool = False  # a default route that is no uplink's stands before it in `main`


class Connected(NamedTuple):
    """A network that the host stands in: on a link that is no tunnel."""

    prefix: Prefix
    dev: IfName
    src: bytes | None = None  # the host's own address in it, packed


class Drop(NamedTuple):
    """A chain of somebody else that drops what is forwarded, unless a rule in it says otherwise."""

    keeper: str  # who writes its table: iptables-nft · iptables-legacy · nft
    family: str  # ip · ip6 · inet
    table: str
    chain: str  # where a rule must stand to count
    what: str  # "ip filter FORWARD policy drop"
    writable: bool  # the program that keeps it is there


class Forwarding(NamedTuple):
    """What letting packets through depends on; gathered only where a tunnel does so."""

    present: frozenset[IfName] = frozenset()  # all interfaces, if any tunnel has `nat`
    mtus: Mapping[IfName, int] = {}  # of tunnels' interfaces that are there, if any has `nat` or a program; bytes
    outs: Mapping[tuple[TunnelName, Prefix], tuple[IfName, ...]] = {}  # where our rules let a source out now
    rules: tuple[tuple[str, str, TunnelName], ...] = ()  # those that stand in our table now: chain, text, whose
    strangers: frozenset[TunnelName] = frozenset()  # of these, who may be another store's
    blind: str = ""  # why these rules could not be read
    drops: tuple[Drop, ...] = ()
    per_interface6: bool = False  # the kernel can forward IPv6 for single interfaces (6.17)
    accepts_ra: frozenset[IfName] = frozenset()  # uplinks that listen to router advertisements
    open_uplinks: frozenset[IfName] = frozenset()  # uplinks from which the host forwards
    strict: frozenset[IfName] = frozenset()  # uplinks with a strict reverse path filter (IPv4)
    publishes: bool = False  # somebody sends connections on to other addresses (DNAT)


class Whereabouts(NamedTuple):
    """Where an endpoint is by its manifest, as far as that can be believed."""

    best: Vouched | None  # None: no manifest has ever vouched for any
    trouble: str = ""  # why the manifest that is there now is not the best one, or cannot be read
    expired: bool = False  # the best one is, and there is no better
    unread: bool = False  # only because we may not


class Facts(NamedTuple):
    """Gathered once per pass by observe.facts."""

    boot_id: str = ""
    run_dir: str = ""
    now_us: int = 0  # UTC, microseconds since the epoch
    kernel_wireguard: bool | Unknown = False
    public_keys: Mapping[str, PublicKey | Unknown] = {}  # private key file → what belongs to it
    preshared: Mapping[str, str | Unknown] = {}  # preshared key file → keyed digest
    resolved: Mapping[str, tuple[bytes, ...] | Unknown] = {}  # endpoint host → packed addresses
    users: Mapping[str, tuple[int, int] | Unknown] = {}  # name → uid, gid
    groups: Mapping[str, int | Unknown] = {}
    interfaces: Mapping[TunnelName, IfName] = {}  # what `interface = "auto"` means on this machine
    uplinks: tuple[Uplink, ...] | Unknown = ()  # by family, the best (lowest metric) first
    uplink_tables: Mapping[IfName, int] = {}  # which of several uplinks has which table of its own now, by number
    connected: tuple[Connected, ...] | Unknown = ()
    gateways: tuple[bytes, ...] = ()  # of the host's own routes now, packed
    pinned: tuple[bytes, ...] = ()  # addresses to which the host has a way of its own now, packed
    path_mtu: Mapping[bytes, int] = {}  # packed endpoint address → what the way to it carries, bytes
    reached: frozenset[bytes] = frozenset()  # name servers that tunnels name, packed, to which the host has a way beside them
    ipv6: bool = True  # the kernel has it, and some link may use it
    forwarding: Forwarding = Forwarding()
    linked: frozenset[TunnelName] = frozenset()  # of tunnels with WireGuard or name servers: those whose interface is there
    leading6: frozenset[TunnelName] | Unknown = frozenset()  # those through which all of IPv6 goes now: routes and a carrier
    name_service: NameService | None = None  # None: no tunnel has `dns`
    ports: Mapping[TunnelName, tuple[Port, ...] | Unknown] = {}  # what `listen` means on this machine, where it is to be up
    vitals: Mapping[TunnelName, Vital] = {}  # of tunnels with `health` whose interface is there
    turns: Mapping[str, int] = {}  # "tunnel public_key" → of a peer that does not answer: how many its addresses have had
    working_endpoints: Mapping[str, str] = {}  # "tunnel public_key" → the endpoint text that was last set there
    whereabouts: Mapping[tuple[TunnelName, str], Whereabouts] = {}  # tunnel, public key ("" for a program)

    def endpoint(self, tunnel: TunnelName, peer: PeerSettings) -> Endpoint | None:
        """Where a WireGuard peer is: as the desired file says, or its manifest."""
        return peer.endpoint if peer.manifest is None else self.vouched(tunnel, peer.public_key)

    def vouched(self, tunnel: TunnelName, of: str = "") -> Endpoint | None:
        """What a manifest says of a peer, or of the endpoint of a program."""
        known = self.whereabouts.get((tunnel, of))
        return known.best.endpoint if known and known.best else None

    def ports_of(self, tunnel: TunnelName) -> tuple[Port, ...]:
        """A port for each `listen` entry. PortTaken when there is none to be had, and who has the first; NotObserved."""
        ports = self.ports.get(tunnel, ())
        if isinstance(ports, Unknown):
            raise NotObserved(f"which ports are free is not known: {ports.reason}")
        for one in ports:
            if one.port is None:
                raise PortTaken(one.refusal, hint="end that, or declare another port, or more to try (scan)")
        return ports

    def pulse(self, name: TunnelName) -> Pulse | None:
        """What health checks have found of a tunnel's interface."""
        vital = self.vitals.get(name)
        return vital.pulse if vital else None
