"""The tables of a desired file, PRODUCT section 3: keys, types, defaults. What depends on two keys is in ``checks``."""

from __future__ import annotations

from reconciler.config import scalars as s
from reconciler.config.tables import Many, Named, Of, Table, key, maybe
from reconciler.model.port import ANY4
from reconciler.model.tunnel import WireGuard


class HostTable(Table):
    """What holds for the whole host."""

    lan = maybe(s.Lan, description="What becomes of connected networks that a tunnel's prefixes cover. Default: keep")
    lan_except = maybe(
        Many(s.LanException), description="Connected networks that tunnels may cover: interfaces (docker0, br-*) or prefixes"
    )
    uplink = maybe(s.Uplink, description="The interface that leads to the world. Default: auto")
    reconcile_interval = maybe(s.Interval, description="How often the daemon looks without being told. Default: 30s")
    runtime_file = maybe(
        s.RuntimeFile,
        description="Where bound endpoints are recorded: the run directory, or <FILE>.runtime.json as well. Default: run",
    )
    mark = maybe(s.HostMark, description="Mark and mask of tunnels' own packets. Default: 0x3174/0x3fff")
    table_base = maybe(s.TableBase, description="The first of the 1000 tables of tunctl. Default: 20000")
    priority_base = maybe(s.PriorityBase, description="The first of the 1000 rule priorities of tunctl. Default: 20000")
    link_group = maybe(s.LinkGroup, description="The interface group of tunctl's links. Default: 20000")


class ManifestTable(Table):
    """Where a peer is, from a signed file of its server."""

    file = key(s.File, description="The manifest, as `tunctl endpoints sign` writes it")
    public_key_file = key(s.File, description="The public key (PEM) that it must be signed with")
    tunnel = maybe(s.Label, description="The name on the server; may be left out when the manifest has one")
    transport = key(s.Transport, "udp", description="Which of the tunnel's ports")
    refresh = key(s.Refresh, 300.0, description="How often it is read again")


class PeerTable(Table):
    """One WireGuard peer."""

    name = maybe(s.Label, description="Shown in plan, status and metrics")
    public_key = key(s.PublicKey, description="Base64, as `wg pubkey` prints it")
    preshared_key_file = maybe(s.Secret, description="A file with the preshared key")
    endpoint = maybe(s.Endpoint, description="host:port or [IPv6]:port; names are resolved again while the tunnel lives")
    allowed_ips = key(s.Prefixes, (), description="What may come from, and goes to, this peer")
    keepalive = maybe(s.Keepalive, description="Persistent keepalive, whole seconds; off or 0s: none")
    endpoint_manifest = maybe(Of(ManifestTable), description="Instead of endpoint")


class WireGuardTable(Table):
    """The driver wireguard."""

    private_key_file = key(s.Secret, description="A file with the private key, readable by its owner only")
    listen_port = maybe(s.Port, description="Default: the engine chooses")
    backend = key(s.Backend, "auto", description="auto: kernel if it has WireGuard, else userspace")
    userspace_command = key(
        Many(s.Argument),
        WireGuard._field_defaults["userspace_command"],
        description="The userspace engine; {interface} is the device",
    )
    route_allowed_ips = key(s.Boolean, True, description="A route for each allowed prefix")
    peers = key(Many(Of(PeerTable)), (), description="The other sides")


class ExecTable(Table):
    """The driver exec: any program that moves packets through a TUN device."""

    command = key(Many(s.Argument), description="Absolute path and arguments; never a shell")
    device = maybe(
        s.ExecDevice,
        description="program: it creates the device; tunctl: made before, owned by `user` (default when user is set)",
    )
    environment = key(s.Environment, {}, description="Beside PATH and TUNCTL_TUNNEL; nothing is inherited")
    user = maybe(s.User, description="Who the program runs as")
    remote = key(Many(s.HostName), (), description="Addresses or names to keep outside a full tunnel")
    restart_on = key(Many(s.File), (), description="Restarted when the content of one of these differs at apply")
    ready_timeout = key(s.Patience, 12.0, description="Until the interface is there and has carrier")
    stop_grace = key(s.Patience, 5.0, description="From SIGTERM to SIGKILL")
    endpoint_manifest = maybe(Of(ManifestTable), description="What {endpoint} in the command stands for")


class TunTable(Table):
    """The driver tun: a persistent device for somebody else's process."""

    mode = key(s.TunMode, "tun", description="tun: IP packets; tap: Ethernet frames")
    owner = maybe(s.User, description="The user who may attach to it")
    group = maybe(s.User, description="The group that may attach to it")
    multi_queue = key(s.Boolean, False, description="Several processes or threads may attach")


class OpenconnectTable(Table):
    """The driver openconnect (not built yet)."""

    server = maybe(s.Text, description="URL of the gateway")
    protocol = key(s.Protocol, "anyconnect", description="What the gateway speaks")
    user = maybe(s.Label, description="Who logs in")
    authgroup = maybe(s.Label, description="The group chosen at login")
    password_file = maybe(s.Secret, description="A file with the password")
    totp_secret_file = maybe(s.Secret, description="A file with the secret of one-time passwords")
    certificate_file = maybe(s.File, description="A client certificate")
    key_file = maybe(s.Secret, description="Its private key")
    cookie_command = maybe(
        Many(s.Argument), description="Instead: prints COOKIE=, HOST=, FINGERPRINT= as `openconnect --authenticate`"
    )
    server_certificate = maybe(s.Text, description="pin-sha256:… of the gateway")
    arguments = key(Many(s.Argument), (), description="Further options; those that tunctl owns are refused")


class OpenvpnTable(Table):
    """The driver openvpn (not built yet)."""

    config_file = maybe(s.File, description="A configuration of openvpn")
    credentials_file = maybe(s.Secret, description="A file with user and password, one a line")
    arguments = key(Many(s.Argument), (), description="Further options; those that tunctl owns are refused")


class RouteTable(Table):
    """Routes through the tunnel."""

    to = maybe(s.Prefixes, description="One prefix or a list")
    to_file = maybe(s.File, description="A file with one prefix a line, # comments, up to 100 000")
    metric = maybe(s.Metric, description="Default: 0 (IPv4), 1024 (IPv6)")
    table = maybe(s.Table, description="Default: the tunnel's own, or main")
    via = maybe(s.Address, description="The next hop")
    src = maybe(s.Address, description="The preferred source address")
    type = key(s.RouteType, "unicast", description="unicast leads into the tunnel, the others nowhere")


class SplitEntry(Table):
    """Prefixes that go into the tunnel, or never do."""

    cidr = maybe(s.Prefixes, description="One prefix or a list")
    cidr_file = maybe(s.File, description="A file with one prefix a line")


class SplitTable(Table):
    """Split tunnelling."""

    vpn = key(Many(Of(SplitEntry)), (), description="These go into the tunnel")
    direct = key(Many(Of(SplitEntry)), (), description="These never do")


class RuleTable(Table):
    """Policy routing: with such rules, only packets that match one go into the tunnel's own table."""

    from_ = maybe(s.Prefixes, alias="from", description="One prefix or a list")
    to = maybe(s.Prefixes, description="One prefix or a list")
    iif = maybe(s.Incoming, description="The interface that a packet came in by; lo: made here")
    fwmark = maybe(s.Mark, description="value/mask")
    uid_range = maybe(s.UidRange, description="first-last")
    lookup = maybe(s.Lookup, description="tunnel (the tunnel's own table, default), or a number")


class DnsTable(Table):
    """Name servers of a tunnel."""

    servers = key(Many(s.Address), (), description="Addresses of name servers")
    search = key(Many(s.DnsName), (), description="Search domains")
    domains = maybe(Many(s.DnsDomain), description="Only these go to the servers; .: everything")
    backend = key(s.DnsBackend, "auto", description="Who is told")
    priority = key(s.DnsPriority, 100, description="Lower wins when two tunnels want everything")


class NatTable(Table):
    """Masquerading and forwarding."""

    source = key(s.Prefixes, (), description="Where the packets come from")
    out = key(s.NatOut, "uplink", description="uplink, tunnel, or the name of an interface")
    masquerade = key(s.Boolean, True, description="false: only forward")
    forward = key(s.Boolean, True, description="Let it through, and the answers back")


class ListenTable(Table):
    """A port that the tunnel serves on: one of each transport; for the drivers wireguard (udp) and exec."""

    transport = key(s.Transport, "udp", description="What is served")
    address = key(s.Address, ANY4, description="Where; a wildcard for wireguard", schema={"default": "0.0.0.0"})  # noqa: S104 - a wildcard is what a server wants
    port = key(s.Port, description="The first port that is tried")
    scan = key(s.Scan, 1, description="Tries port, port+1, … port+scan-1")


class RestartTable(Table):
    """When an owner process dies or a bring-up fails."""

    base = key(s.Delay, 5.0, description="The first wait")
    factor = key(s.Factor, 2.0, description="How much longer each further wait is")
    max = key(s.Delay, 60.0, description="The longest wait")
    attempts = key(s.Attempts, 0, description="0: never give up")


class HealthTable(Table):
    """By what it is known that it works, beyond being there."""

    handshake_max_age = maybe(s.Delay, description="wireguard only. Default there: 180s")
    ping = key(Many(s.Address), (), description="Through the tunnel; one answer is enough")
    interval = key(s.Interval, 10.0, description="How often")
    failures = key(s.Failures, 3, description="In a row")
    action = key(s.HealthAction, "none", description="restart: the owner too, under [restart]")


class TunnelTable(Table):
    """One tunnel."""

    description = key(s.Prose, "", description="For people")
    driver = key(s.Driver, description="What moves the packets")
    interface = maybe(s.Uplink, description="Default: the tunnel's name; auto (tun, exec): the kernel chooses")
    enabled = key(s.Boolean, True, description="false: always down")
    autostart = key(s.Boolean, True, description="false: only `up NAME` brings it up")
    addresses = key(s.InterfaceAddresses, (), description="Of the interface, with their lengths")
    mtu = maybe(s.Mtu, description="auto (default): from the endpoint's route")
    table = maybe(s.TableOrAuto, description="For all its routes. Default: auto")
    metric = maybe(s.Metric, description="For all its routes")
    src = maybe(s.Address, description="For all its routes: the preferred source address")
    ipv6_leak = maybe(s.Ipv6Leak, description="For a full IPv4 tunnel without IPv6. Default: block")
    on_failure = maybe(s.OnFailure, description="Default: block for full tunnels, else bypass")
    accept = maybe(Many(s.Accepted), description="Of what an openvpn or openconnect server pushes (not built yet)")
    wireguard = maybe(Of(WireGuardTable), description="For the driver wireguard")
    exec = maybe(Of(ExecTable), description="For the driver exec")
    tun = maybe(Of(TunTable), description="For the driver tun")
    openvpn = maybe(Of(OpenvpnTable), description="For the driver openvpn (not built yet)")
    openconnect = maybe(Of(OpenconnectTable), description="For the driver openconnect (not built yet)")
    routes = key(Many(Of(RouteTable)), (), description="Routes beside those of allowed prefixes")
    split = maybe(Of(SplitTable), description="Split tunnelling")
    rules = key(Many(Of(RuleTable)), (), description="Policy routing into the tunnel")
    dns = maybe(Of(DnsTable), description="Name servers")
    nat = key(Many(Of(NatTable)), (), description="Masquerading and forwarding")
    listen = key(Many(Of(ListenTable)), (), description="Ports it serves on")
    restart = maybe(Of(RestartTable), description="How often and how soon it is tried again")
    health = maybe(Of(HealthTable), description="When it counts as working. Default: when it is there")


class DesiredFile(Table):
    """A desired.toml of tunctl."""

    version = key(s.Version, description="Of this format: 1")
    source = maybe(s.Label, description="The name of this source. Default: the absolute path")
    host = maybe(Of(HostTable), description="What holds for the whole host")
    tunnels = key(
        Named(Of(TunnelTable)), {}, description="By name", schema={"propertyNames": {"pattern": "^[a-z0-9][a-z0-9_-]{0,31}$"}}
    )
