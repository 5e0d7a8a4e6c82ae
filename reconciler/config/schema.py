"""The tables of a desired file, PRODUCT section 3: keys, types, defaults. What depends on two keys is in ``checks``."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from reconciler.config import scalars as s
from reconciler.model.tunnel import WireGuard


class Table(BaseModel):
    """Unknown keys are errors; nothing is converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)


class HostTable(Table):
    """What holds for the whole host."""

    lan: s.Lan | None = Field(
        None, description="What becomes of connected networks that a tunnel's prefixes cover. Default: keep"
    )
    lan_except: list[s.LanException] | None = Field(
        None, description="Connected networks that tunnels may cover: interfaces (docker0, br-*) or prefixes"
    )
    uplink: s.Uplink | None = Field(None, description="The interface that leads to the world. Default: auto")
    reconcile_interval: s.Interval | None = Field(
        None, description="How often the daemon looks without being told. Default: 30s"
    )
    runtime_file: s.RuntimeFile | None = Field(
        None, description="Where bound endpoints are recorded: the run directory, or <FILE>.runtime.json as well. Default: run"
    )
    mark: s.HostMark | None = Field(None, description="Mark and mask of tunnels' own packets. Default: 0x3174/0x3fff")
    table_base: s.TableBase | None = Field(None, description="The first of the 1000 tables of tunctl. Default: 20000")
    priority_base: s.PriorityBase | None = Field(
        None, description="The first of the 1000 rule priorities of tunctl. Default: 20000"
    )
    link_group: s.LinkGroup | None = Field(None, description="The interface group of tunctl's links. Default: 20000")


class ManifestTable(Table):
    """Where a peer is, from a signed file of its server."""

    file: s.File = Field(description="The manifest, as `tunctl endpoints sign` writes it")
    public_key_file: s.File = Field(description="The public key (PEM) that it must be signed with")
    tunnel: s.Label | None = Field(None, description="The name on the server; may be left out when the manifest has one")
    transport: s.Transport = Field("udp", description="Which of the tunnel's ports")
    refresh: s.Refresh = Field(300.0, description="How often it is read again")


class PeerTable(Table):
    """One WireGuard peer."""

    name: s.Label | None = Field(None, description="Shown in plan, status and metrics")
    public_key: s.PublicKey = Field(description="Base64, as `wg pubkey` prints it")
    preshared_key_file: s.Secret | None = Field(None, description="A file with the preshared key")
    endpoint: s.Endpoint | None = Field(
        None, description="host:port or [IPv6]:port; names are resolved again while the tunnel lives"
    )
    allowed_ips: s.Prefixes = Field([], description="What may come from, and goes to, this peer")
    keepalive: s.Keepalive | None = Field(None, description="Persistent keepalive, whole seconds; off or 0s: none")
    endpoint_manifest: ManifestTable | None = Field(None, description="Instead of endpoint")


class WireGuardTable(Table):
    """The driver wireguard."""

    private_key_file: s.Secret = Field(description="A file with the private key, readable by its owner only")
    listen_port: s.Port | None = Field(None, description="Default: the engine chooses")
    backend: s.Backend = Field("auto", description="auto: kernel if it has WireGuard, else userspace")
    userspace_command: list[s.Argument] = Field(
        list(WireGuard._field_defaults["userspace_command"]), description="The userspace engine; {interface} is the device"
    )
    route_allowed_ips: s.Boolean = Field(True, description="A route for each allowed prefix")
    peers: list[PeerTable] = Field([], description="The other sides")


class ExecTable(Table):
    """The driver exec: any program that moves packets through a TUN device."""

    command: list[s.Argument] = Field(description="Absolute path and arguments; never a shell")
    device: s.ExecDevice | None = Field(
        None, description="program: it creates the device; tunctl: made before, owned by `user` (default when user is set)"
    )
    environment: s.Environment = Field({}, description="Beside PATH and TUNCTL_TUNNEL; nothing is inherited")
    user: s.User | None = Field(None, description="Who the program runs as")
    remote: list[s.HostName] = Field([], description="Addresses or names to keep outside a full tunnel")
    restart_on: list[s.File] = Field([], description="Restarted when the content of one of these differs at apply")
    ready_timeout: s.Patience = Field(12.0, description="Until the interface is there and has carrier")
    stop_grace: s.Patience = Field(5.0, description="From SIGTERM to SIGKILL")
    endpoint_manifest: ManifestTable | None = Field(None, description="What {endpoint} in the command stands for")


class TunTable(Table):
    """The driver tun: a persistent device for somebody else's process."""

    mode: s.TunMode = Field("tun", description="tun: IP packets; tap: Ethernet frames")
    owner: s.User | None = Field(default=None, description="The user who may attach to it")
    group: s.User | None = Field(default=None, description="The group that may attach to it")
    multi_queue: s.Boolean = Field(default=False, description="Several processes or threads may attach")


class OpenconnectTable(Table):
    """The driver openconnect (not built yet)."""

    server: s.Text | None = Field(None, description="URL of the gateway")
    protocol: s.Protocol = Field("anyconnect", description="What the gateway speaks")
    user: s.Label | None = Field(None, description="Who logs in")
    authgroup: s.Label | None = Field(None, description="The group chosen at login")
    password_file: s.Secret | None = Field(None, description="A file with the password")
    totp_secret_file: s.Secret | None = Field(None, description="A file with the secret of one-time passwords")
    certificate_file: s.File | None = Field(None, description="A client certificate")
    key_file: s.Secret | None = Field(None, description="Its private key")
    cookie_command: list[s.Argument] | None = Field(
        None, description="Instead: prints COOKIE=, HOST=, FINGERPRINT= as `openconnect --authenticate`"
    )
    server_certificate: s.Text | None = Field(None, description="pin-sha256:… of the gateway")
    arguments: list[s.Argument] = Field([], description="Further options; those that tunctl owns are refused")


class OpenvpnTable(Table):
    """The driver openvpn (not built yet)."""

    config_file: s.File | None = Field(None, description="A configuration of openvpn")
    credentials_file: s.Secret | None = Field(None, description="A file with user and password, one a line")
    arguments: list[s.Argument] = Field([], description="Further options; those that tunctl owns are refused")


class RouteTable(Table):
    """Routes through the tunnel."""

    to: s.Prefixes | None = Field(None, description="One prefix or a list")
    to_file: s.File | None = Field(None, description="A file with one prefix a line, # comments, up to 100 000")
    metric: s.Metric | None = Field(None, description="Default: 0 (IPv4), 1024 (IPv6)")
    table: s.Table | None = Field(None, description="Default: the tunnel's own, or main")
    via: s.Address | None = Field(None, description="The next hop")
    src: s.Address | None = Field(None, description="The preferred source address")
    type: s.RouteType = Field("unicast", description="unicast leads into the tunnel, the others nowhere")


class SplitEntry(Table):
    """Prefixes that go into the tunnel, or never do."""

    cidr: s.Prefixes | None = Field(None, description="One prefix or a list")
    cidr_file: s.File | None = Field(None, description="A file with one prefix a line")


class SplitTable(Table):
    """Split tunnelling."""

    vpn: list[SplitEntry] = Field([], description="These go into the tunnel")
    direct: list[SplitEntry] = Field([], description="These never do")


class RuleTable(Table):
    """Policy routing: with such rules, only packets that match one go into the tunnel's own table."""

    from_: s.Prefixes | None = Field(None, alias="from", description="One prefix or a list")
    to: s.Prefixes | None = Field(None, description="One prefix or a list")
    iif: s.Incoming | None = Field(None, description="The interface that a packet came in by; lo: made here")
    fwmark: s.Mark | None = Field(None, description="value/mask")
    uid_range: s.UidRange | None = Field(None, description="first-last")
    lookup: s.Lookup | None = Field(None, description="tunnel (the tunnel's own table, default), or a number")


class DnsTable(Table):
    """Name servers of a tunnel."""

    servers: list[s.Address] = Field([], description="Addresses of name servers")
    search: list[s.DnsName] = Field([], description="Search domains")
    domains: list[s.DnsDomain] | None = Field(None, description="Only these go to the servers; .: everything")
    backend: s.DnsBackend = Field("auto", description="Who is told")
    priority: s.DnsPriority = Field(100, description="Lower wins when two tunnels want everything")


class NatTable(Table):
    """Masquerading and forwarding."""

    source: s.Prefixes = Field([], description="Where the packets come from")
    out: s.NatOut = Field("uplink", description="uplink, tunnel, or the name of an interface")
    masquerade: s.Boolean = Field(default=True, description="false: only forward")
    forward: s.Boolean = Field(default=True, description="Let it through, and the answers back")


class ListenTable(Table):
    """A port that the tunnel serves on: one of each transport; for the drivers wireguard (udp) and exec."""

    transport: s.Transport = Field("udp", description="What is served")
    address: s.Address = Field("0.0.0.0", validate_default=True, description="Where; a wildcard for wireguard")  # noqa: S104 - a wildcard is what a server wants
    port: s.Port = Field(description="The first port that is tried")
    scan: s.Scan = Field(1, description="Tries port, port+1, … port+scan-1")


class RestartTable(Table):
    """When an owner process dies or a bring-up fails."""

    base: s.Delay = Field(5.0, description="The first wait")
    factor: s.Factor = Field(2.0, description="How much longer each further wait is")
    max: s.Delay = Field(60.0, description="The longest wait")
    attempts: s.Attempts = Field(0, description="0: never give up")


class HealthTable(Table):
    """By what it is known that it works, beyond being there."""

    handshake_max_age: s.Delay | None = Field(None, description="wireguard only. Default there: 180s")
    ping: list[s.Address] = Field([], description="Through the tunnel; one answer is enough")
    interval: s.Interval = Field(10.0, description="How often")
    failures: s.Failures = Field(3, description="In a row")
    action: s.HealthAction = Field("none", description="restart: the owner too, under [restart]")


class TunnelTable(Table):
    """One tunnel."""

    description: s.Prose = Field("", description="For people")
    driver: s.Driver = Field(description="What moves the packets")
    interface: s.Uplink | None = Field(None, description="Default: the tunnel's name; auto (tun, exec): the kernel chooses")
    enabled: s.Boolean = Field(True, description="false: always down")
    autostart: s.Boolean = Field(True, description="false: only `up NAME` brings it up")
    addresses: s.InterfaceAddresses = Field([], description="Of the interface, with their lengths")
    mtu: s.Mtu | None = Field(None, description="auto (default): from the endpoint's route")
    table: s.TableOrAuto | None = Field(None, description="For all its routes. Default: auto")
    metric: s.Metric | None = Field(None, description="For all its routes")
    src: s.Address | None = Field(None, description="For all its routes: the preferred source address")
    ipv6_leak: s.Ipv6Leak | None = Field(None, description="For a full IPv4 tunnel without IPv6. Default: block")
    on_failure: s.OnFailure | None = Field(None, description="Default: block for full tunnels, else bypass")
    accept: list[s.Accepted] | None = Field(None, description="Of what an openvpn or openconnect server pushes (not built yet)")
    wireguard: WireGuardTable | None = Field(None, description="For the driver wireguard")
    exec: ExecTable | None = Field(None, description="For the driver exec")
    tun: TunTable | None = Field(None, description="For the driver tun")
    openvpn: OpenvpnTable | None = Field(None, description="For the driver openvpn (not built yet)")
    openconnect: OpenconnectTable | None = Field(None, description="For the driver openconnect (not built yet)")
    routes: list[RouteTable] = Field([], description="Routes beside those of allowed prefixes")
    split: SplitTable | None = Field(None, description="Split tunnelling")
    rules: list[RuleTable] = Field([], description="Policy routing into the tunnel")
    dns: DnsTable | None = Field(None, description="Name servers")
    nat: list[NatTable] = Field([], description="Masquerading and forwarding")
    listen: list[ListenTable] = Field([], description="Ports it serves on")
    restart: RestartTable | None = Field(None, description="How often and how soon it is tried again")
    health: HealthTable | None = Field(None, description="When it counts as working. Default: when it is there")


class DesiredFile(Table):
    """A desired.toml of tunctl."""

    version: s.Version = Field(description="Of this format: 1")
    source: s.Label | None = Field(None, description="The name of this source. Default: the absolute path")
    host: HostTable | None = Field(None, description="What holds for the whole host")
    tunnels: dict[str, TunnelTable] = Field(
        {}, description="By name", json_schema_extra={"propertyNames": {"pattern": "^[a-z0-9][a-z0-9_-]{0,31}$"}}
    )
