"""The tables of a desired file, PRODUCT section 3: keys, types, defaults. What depends on two keys is in ``checks``."""

from __future__ import annotations

from reconciler.config import scalars as s
from reconciler.config.tables import Table, key
from reconciler.model.tunnel import WireGuard


class HostTable(Table):
    """What holds for the whole host."""

    lan: s.Lan | None = key(
        None, description="What becomes of connected networks that a tunnel's prefixes cover. Default: keep"
    )
    lan_except: list[s.LanException] | None = key(
        None, description="Connected networks that tunnels may cover: interfaces (docker0, br-*) or prefixes"
    )
    uplink: s.Uplink | None = key(None, description="The interface that leads to the world. Default: auto")
    reconcile_interval: s.Interval | None = key(None, description="How often the daemon looks without being told. Default: 30s")
    runtime_file: s.RuntimeFile | None = key(
        None, description="Where bound endpoints are recorded: the run directory, or <FILE>.runtime.json as well. Default: run"
    )
    mark: s.HostMark | None = key(None, description="Mark and mask of tunnels' own packets. Default: 0x3174/0x3fff")
    table_base: s.TableBase | None = key(None, description="The first of the 1000 tables of tunctl. Default: 20000")
    priority_base: s.PriorityBase | None = key(
        None, description="The first of the 1000 rule priorities of tunctl. Default: 20000"
    )
    link_group: s.LinkGroup | None = key(None, description="The interface group of tunctl's links. Default: 20000")


class ManifestTable(Table):
    """Where a peer is, from a signed file of its server."""

    file: s.File = key(description="The manifest, as `tunctl endpoints sign` writes it")
    public_key_file: s.File = key(description="The public key (PEM) that it must be signed with")
    tunnel: s.Label | None = key(None, description="The name on the server; may be left out when the manifest has one")
    transport: s.Transport = key("udp", description="Which of the tunnel's ports")
    refresh: s.Refresh = key(300.0, description="How often it is read again")


class PeerTable(Table):
    """One WireGuard peer."""

    name: s.Label | None = key(None, description="Shown in plan, status and metrics")
    public_key: s.PublicKey = key(description="Base64, as `wg pubkey` prints it")
    preshared_key_file: s.Secret | None = key(None, description="A file with the preshared key")
    endpoint: s.Endpoint | None = key(
        None, description="host:port or [IPv6]:port; names are resolved again while the tunnel lives"
    )
    allowed_ips: s.Prefixes = key([], description="What may come from, and goes to, this peer")
    keepalive: s.Keepalive | None = key(None, description="Persistent keepalive, whole seconds; off or 0s: none")
    endpoint_manifest: ManifestTable | None = key(None, description="Instead of endpoint")


class WireGuardTable(Table):
    """The driver wireguard."""

    private_key_file: s.Secret = key(description="A file with the private key, readable by its owner only")
    listen_port: s.Port | None = key(None, description="Default: the engine chooses")
    backend: s.Backend = key("auto", description="auto: kernel if it has WireGuard, else userspace")
    userspace_command: list[s.Argument] = key(
        list(WireGuard._field_defaults["userspace_command"]), description="The userspace engine; {interface} is the device"
    )
    route_allowed_ips: s.Boolean = key(True, description="A route for each allowed prefix")
    peers: list[PeerTable] = key([], description="The other sides")


class ExecTable(Table):
    """The driver exec: any program that moves packets through a TUN device."""

    command: list[s.Argument] = key(description="Absolute path and arguments; never a shell")
    device: s.ExecDevice | None = key(
        None, description="program: it creates the device; tunctl: made before, owned by `user` (default when user is set)"
    )
    environment: s.Environment = key({}, description="Beside PATH and TUNCTL_TUNNEL; nothing is inherited")
    user: s.User | None = key(None, description="Who the program runs as")
    remote: list[s.HostName] = key([], description="Addresses or names to keep outside a full tunnel")
    restart_on: list[s.File] = key([], description="Restarted when the content of one of these differs at apply")
    ready_timeout: s.Patience = key(12.0, description="Until the interface is there and has carrier")
    stop_grace: s.Patience = key(5.0, description="From SIGTERM to SIGKILL")
    endpoint_manifest: ManifestTable | None = key(None, description="What {endpoint} in the command stands for")


class TunTable(Table):
    """The driver tun: a persistent device for somebody else's process."""

    mode: s.TunMode = key("tun", description="tun: IP packets; tap: Ethernet frames")
    owner: s.User | None = key(None, description="The user who may attach to it")
    group: s.User | None = key(None, description="The group that may attach to it")
    multi_queue: s.Boolean = key(False, description="Several processes or threads may attach")


class OpenconnectTable(Table):
    """The driver openconnect (not built yet)."""

    server: s.Text | None = key(None, description="URL of the gateway")
    protocol: s.Protocol = key("anyconnect", description="What the gateway speaks")
    user: s.Label | None = key(None, description="Who logs in")
    authgroup: s.Label | None = key(None, description="The group chosen at login")
    password_file: s.Secret | None = key(None, description="A file with the password")
    totp_secret_file: s.Secret | None = key(None, description="A file with the secret of one-time passwords")
    certificate_file: s.File | None = key(None, description="A client certificate")
    key_file: s.Secret | None = key(None, description="Its private key")
    cookie_command: list[s.Argument] | None = key(
        None, description="Instead: prints COOKIE=, HOST=, FINGERPRINT= as `openconnect --authenticate`"
    )
    server_certificate: s.Text | None = key(None, description="pin-sha256:… of the gateway")
    arguments: list[s.Argument] = key([], description="Further options; those that tunctl owns are refused")


class OpenvpnTable(Table):
    """The driver openvpn (not built yet)."""

    config_file: s.File | None = key(None, description="A configuration of openvpn")
    credentials_file: s.Secret | None = key(None, description="A file with user and password, one a line")
    arguments: list[s.Argument] = key([], description="Further options; those that tunctl owns are refused")


class RouteTable(Table):
    """Routes through the tunnel."""

    to: s.Prefixes | None = key(None, description="One prefix or a list")
    to_file: s.File | None = key(None, description="A file with one prefix a line, # comments, up to 100 000")
    metric: s.Metric | None = key(None, description="Default: 0 (IPv4), 1024 (IPv6)")
    table: s.Table | None = key(None, description="Default: the tunnel's own, or main")
    via: s.Address | None = key(None, description="The next hop")
    src: s.Address | None = key(None, description="The preferred source address")
    type: s.RouteType = key("unicast", description="unicast leads into the tunnel, the others nowhere")


class SplitEntry(Table):
    """Prefixes that go into the tunnel, or never do."""

    cidr: s.Prefixes | None = key(None, description="One prefix or a list")
    cidr_file: s.File | None = key(None, description="A file with one prefix a line")


class SplitTable(Table):
    """Split tunnelling."""

    vpn: list[SplitEntry] = key([], description="These go into the tunnel")
    direct: list[SplitEntry] = key([], description="These never do")


class RuleTable(Table):
    """Policy routing: with such rules, only packets that match one go into the tunnel's own table."""

    from_: s.Prefixes | None = key(None, alias="from", description="One prefix or a list")
    to: s.Prefixes | None = key(None, description="One prefix or a list")
    iif: s.Incoming | None = key(None, description="The interface that a packet came in by; lo: made here")
    fwmark: s.Mark | None = key(None, description="value/mask")
    uid_range: s.UidRange | None = key(None, description="first-last")
    lookup: s.Lookup | None = key(None, description="tunnel (the tunnel's own table, default), or a number")


class DnsTable(Table):
    """Name servers of a tunnel."""

    servers: list[s.Address] = key([], description="Addresses of name servers")
    search: list[s.DnsName] = key([], description="Search domains")
    domains: list[s.DnsDomain] | None = key(None, description="Only these go to the servers; .: everything")
    backend: s.DnsBackend = key("auto", description="Who is told")
    priority: s.DnsPriority = key(100, description="Lower wins when two tunnels want everything")


class NatTable(Table):
    """Masquerading and forwarding."""

    source: s.Prefixes = key([], description="Where the packets come from")
    out: s.NatOut = key("uplink", description="uplink, tunnel, or the name of an interface")
    masquerade: s.Boolean = key(True, description="false: only forward")
    forward: s.Boolean = key(True, description="Let it through, and the answers back")


class ListenTable(Table):
    """A port that the tunnel serves on: one of each transport; for the drivers wireguard (udp) and exec."""

    transport: s.Transport = key("udp", description="What is served")
    address: s.Address = key("0.0.0.0", is_checked=True, description="Where; a wildcard for wireguard")  # noqa: S104 - a wildcard is what a server wants
    port: s.Port = key(description="The first port that is tried")
    scan: s.Scan = key(1, description="Tries port, port+1, … port+scan-1")


class RestartTable(Table):
    """When an owner process dies or a bring-up fails."""

    base: s.Delay = key(5.0, description="The first wait")
    factor: s.Factor = key(2.0, description="How much longer each further wait is")
    max: s.Delay = key(60.0, description="The longest wait")
    attempts: s.Attempts = key(0, description="0: never give up")


class HealthTable(Table):
    """By what it is known that it works, beyond being there."""

    handshake_max_age: s.Delay | None = key(None, description="wireguard only. Default there: 180s")
    ping: list[s.Address] = key([], description="Through the tunnel; one answer is enough")
    interval: s.Interval = key(10.0, description="How often")
    failures: s.Failures = key(3, description="In a row")
    action: s.HealthAction = key("none", description="restart: the owner too, under [restart]")


class TunnelTable(Table):
    """One tunnel."""

    description: s.Prose = key("", description="For people")
    driver: s.Driver = key(description="What moves the packets")
    interface: s.Uplink | None = key(None, description="Default: the tunnel's name; auto (tun, exec): the kernel chooses")
    enabled: s.Boolean = key(True, description="false: always down")
    autostart: s.Boolean = key(True, description="false: only `up NAME` brings it up")
    addresses: s.InterfaceAddresses = key([], description="Of the interface, with their lengths")
    mtu: s.Mtu | None = key(None, description="auto (default): from the endpoint's route")
    table: s.TableOrAuto | None = key(None, description="For all its routes. Default: auto")
    metric: s.Metric | None = key(None, description="For all its routes")
    src: s.Address | None = key(None, description="For all its routes: the preferred source address")
    ipv6_leak: s.Ipv6Leak | None = key(None, description="For a full IPv4 tunnel without IPv6. Default: block")
    on_failure: s.OnFailure | None = key(None, description="Default: block for full tunnels, else bypass")
    accept: list[s.Accepted] | None = key(None, description="Of what an openvpn or openconnect server pushes (not built yet)")
    wireguard: WireGuardTable | None = key(None, description="For the driver wireguard")
    exec: ExecTable | None = key(None, description="For the driver exec")
    tun: TunTable | None = key(None, description="For the driver tun")
    openvpn: OpenvpnTable | None = key(None, description="For the driver openvpn (not built yet)")
    openconnect: OpenconnectTable | None = key(None, description="For the driver openconnect (not built yet)")
    routes: list[RouteTable] = key([], description="Routes beside those of allowed prefixes")
    split: SplitTable | None = key(None, description="Split tunnelling")
    rules: list[RuleTable] = key([], description="Policy routing into the tunnel")
    dns: DnsTable | None = key(None, description="Name servers")
    nat: list[NatTable] = key([], description="Masquerading and forwarding")
    listen: list[ListenTable] = key([], description="Ports it serves on")
    restart: RestartTable | None = key(None, description="How often and how soon it is tried again")
    health: HealthTable | None = key(None, description="When it counts as working. Default: when it is there")


class DesiredFile(Table):
    """A desired.toml of tunctl."""

    version: s.Version = key(description="Of this format: 1")
    source: s.Label | None = key(None, description="The name of this source. Default: the absolute path")
    host: HostTable | None = key(None, description="What holds for the whole host")
    tunnels: dict[str, TunnelTable] = key(
        {}, description="By name", schema={"propertyNames": {"pattern": "^[a-z0-9][a-z0-9_-]{0,31}$"}}
    )
