"""One tunnel as the user wants it: what a `[tunnels.NAME]` table says, defaults filled in, prefix files read."""

from __future__ import annotations

from reconciler.model.names import IfName, TunnelName
from reconciler.model.prefix import Prefix
from reconciler.model.prefixes import Prefixes
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

HANDSHAKE_MAX_AGE_S = 180  # REJECT_AFTER_TIME of the WireGuard paper: a session is dead after that
HANDSHAKE_GRACE_S = 15  # for the first one


class Endpoint(NamedTuple):
    """Where a WireGuard peer is: a name or an address, and a UDP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class EndpointManifest(NamedTuple):
    """An `endpoint_manifest`: a signed file of the server says where it is."""

    file: str
    public_key_file: str  # PEM: what it must be signed with
    tunnel: TunnelName | None = None  # its name on the server; None: the manifest has one only
    transport: str = "udp"  # udp · tcp · quic
    refresh_s: float = 300.0


class PeerSettings(NamedTuple):
    """One `[[tunnels.X.wireguard.peers]]`. Keys are base64 as `wg` prints them; secrets are paths."""

    public_key: str
    allowed_ips: tuple[Prefix, ...] = ()
    name: str | None = None
    preshared_key_file: str | None = None
    endpoint: Endpoint | None = None
    keepalive_s: int | None = None
    manifest: EndpointManifest | None = None  # instead of endpoint


class WireGuard(NamedTuple):
    """`[tunnels.X.wireguard]`."""

    private_key_file: str
    listen_port: int | None = None
    backend: str = "auto"  # auto · kernel · userspace
    userspace_command: tuple[str, ...] = ("wireguard-go", "-f", "{interface}")
    route_allowed_ips: bool = True
    peers: tuple[PeerSettings, ...] = ()


class Exec(NamedTuple):
    """`[tunnels.X.exec]`."""

    command: tuple[str, ...]
    device: str = "program"  # program: it makes the device · tunctl: we do, before
    environment: tuple[tuple[str, str], ...] = ()
    user: str | None = None
    remote: tuple[str, ...] = ()  # addresses or names of its endpoints, to keep outside a full tunnel
    restart_on: tuple[str, ...] = ()
    restart_digest: str = ""  # over the contents of restart_on, as they were at apply
    ready_timeout_s: float = 12.0
    stop_grace_s: float = 5.0
    manifest: EndpointManifest | None = None  # what {endpoint} stands for


class Tun(NamedTuple):
    """`[tunnels.X.tun]`."""

    mode: str = "tun"  # tun · tap
    owner: str | None = None
    group: str | None = None
    multi_queue: bool = False


class PrefixFile(NamedTuple):
    """A `to_file`, read at apply: where it was, what was in it."""

    path: str
    digest: str  # sha256 of `packed`, hex
    packed: bytes  # model.prefix.pack

    @property
    def prefixes(self) -> Prefixes:
        return Prefixes.unpack(self.packed)


class RouteSettings(NamedTuple):
    """One `[[tunnels.X.routes]]`; the prefixes are those of `to` and of `to_file` together (only one is ever set)."""

    to: tuple[Prefix, ...] = ()
    to_file: PrefixFile | None = None
    metric: int | None = None  # None: 0 for IPv4, 1024 for IPv6
    table: int | None = None
    via: bytes | None = None  # packed
    src: bytes | None = None  # packed
    type: str = "unicast"  # unicast · blackhole · unreachable · prohibit · throw


class RuleSettings(NamedTuple):
    """One `[[tunnels.X.rules]]`: every `from` with every `to` is one policy rule."""

    lookup: int | None = None  # None: the tunnel's own table
    from_: tuple[Prefix, ...] = ()
    to: tuple[Prefix, ...] = ()
    iif: str | None = None
    fwmark: tuple[int, int] | None = None  # value, mask
    uid_range: tuple[int, int] | None = None


class Split(NamedTuple):
    """`[[tunnels.X.split.vpn]]` and `[[tunnels.X.split.direct]]`: what goes in, and what never does."""

    vpn: tuple[Prefix, ...] = ()
    vpn_files: tuple[PrefixFile, ...] = ()
    direct: tuple[Prefix, ...] = ()
    direct_files: tuple[PrefixFile, ...] = ()


class Dns(NamedTuple):
    """`[tunnels.X.dns]`."""

    servers: tuple[bytes, ...] = ()  # packed
    search: tuple[str, ...] = ()
    domains: tuple[str, ...] | None = None  # None: not said; "." is everything
    backend: str = "auto"  # auto · resolved · resolvconf · file
    priority: int = 100


class Nat(NamedTuple):
    """One `[[tunnels.X.nat]]`."""

    source: tuple[Prefix, ...] = ()
    out: str = "uplink"  # uplink · tunnel · an interface name
    masquerade: bool = True
    forward: bool = True


class Listen(NamedTuple):
    """One `[[tunnels.X.listen]]`; a tunnel has at most one of each transport."""

    transport: str  # udp · tcp · quic
    address: bytes  # packed
    port: int  # the one that is asked for
    scan: int = 1  # how many are tried: port, port + 1, …


class Restart(NamedTuple):
    """`[tunnels.X.restart]`: how often and how soon a bring-up that failed is tried again."""

    base_s: float = 5.0
    factor: float = 2.0
    max_s: float = 60.0
    attempts: int = 0  # 0: never give up

    def delay_s(self, attempt: int) -> float:
        """The wait after the attempt with this number (from 1): 5, 10, 20, 40, 60, 60 s with the defaults."""
        return float(min(self.max_s, self.base_s * self.factor ** min(attempt - 1, 64)))


class Health(NamedTuple):
    """`[tunnels.X.health]`: by what it is known that a tunnel works, beyond being there."""

    handshake_max_age_s: float | None = None  # wireguard only, where it is never None
    ping: tuple[bytes, ...] = ()  # packed
    interval_s: float = 10.0
    failures: int = 3
    action: str = "none"  # none · restart


class Tunnel(NamedTuple):
    """What one `[tunnels.NAME]` says. Exactly one of `wireguard`, `exec_`, `tun` is set, the one of `driver`."""

    name: TunnelName
    driver: str  # wireguard · exec · tun
    interface: IfName | None  # None: "auto", the kernel chooses
    description: str = ""
    enabled: bool = True
    autostart: bool = True
    addresses: tuple[Prefix, ...] = ()  # host bits kept
    mtu: int | None = None  # None: "auto"
    table: int | None = None  # None: "auto"
    metric: int | None = None
    src: bytes | None = None
    wireguard: WireGuard | None = None
    exec_: Exec | None = None
    tun: Tun | None = None
    routes: tuple[RouteSettings, ...] = ()
    rules: tuple[RuleSettings, ...] = ()
    restart: Restart = Restart()
    ipv6_leak: str = "block"  # block · allow
    on_failure: str | None = None  # block · bypass; None: block for full tunnels, else bypass
    split: Split | None = None
    dns: Dns | None = None
    nat: tuple[Nat, ...] = ()
    listen: tuple[Listen, ...] = ()
    health: Health | None = None

    @property
    def manifests(self) -> dict[str, EndpointManifest]:
        """Whose endpoints signed files say: by the peer's public key, "" for the program of exec."""
        peers = self.wireguard.peers if self.wireguard else ()
        found = {peer.public_key: peer.manifest for peer in peers if peer.manifest}
        return {"": self.exec_.manifest} if self.exec_ and self.exec_.manifest else found

    @property
    def has_own_table(self) -> bool:
        """Its table-less routes stand in a table of its own, not in `main` (PRODUCT section 5)."""
        return any(rule.lookup is None for rule in self.rules)

    @property
    def prefix_files(self) -> tuple[PrefixFile, ...]:
        """Of its routes and of its split."""
        of_routes = tuple(route.to_file for route in self.routes if route.to_file is not None)
        return (*of_routes, *self.split.vpn_files, *self.split.direct_files) if self.split else of_routes

    def relisted(self, known: Mapping[str, PrefixFile]) -> Tunnel:
        """The same with the prefix files that are known, by their path."""

        def now(files: Iterable[PrefixFile]) -> tuple[PrefixFile, ...]:
            return tuple(known.get(file.path, file) for file in files)

        routes = tuple(r._replace(to_file=known.get(r.to_file.path, r.to_file)) if r.to_file else r for r in self.routes)
        split = self.split
        if split:
            split = split._replace(vpn_files=now(split.vpn_files), direct_files=now(split.direct_files))
        return self._replace(routes=routes, split=split)


class Host(NamedTuple):
    """What `[host]` may declare; None: not declared here, the default holds. Kept per source, merged by the loop."""

    lan: str | None = None  # keep · private · tunnel
    lan_except: tuple[str, ...] | None = None
    uplink: str | None = None
    reconcile_interval_s: float | None = None
    runtime_file: str | None = None  # run · beside
    mark: tuple[int, int] | None = None  # value, mask
    table_base: int | None = None
    priority_base: int | None = None
    link_group: int | None = None


class Input(NamedTuple):
    """One thing that decided what a desired file means: while all of them are the same, it means the same."""

    kind: str  # version: of tunctl · directory: its *.toml · toml · file: a prefix file, or one of restart_on
    path: str
    digest: str  # sha256 of the content, hex; of a version the version


class Desired(NamedTuple):
    """A whole desired file (or directory), valid."""

    source: str
    path: str  # as typed, made absolute; "-" for stdin
    host: Host
    tunnels: tuple[Tunnel, ...]  # in the order of the file
    emptied: tuple[tuple[TunnelName, str], ...] = ()  # tunnels with a prefix file that holds none, and its path
    warnings: tuple[str, ...] = ()
    inputs: tuple[Input, ...] = ()  # () when it came from standard input
