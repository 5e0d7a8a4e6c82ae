"""The types of single values in a desired file: what checks each, and what its JSON Schema says."""

from __future__ import annotations

from reconciler.config import netvalues, values
from reconciler.config.tables import Checked, Json, Kind, Many, Named
from reconciler.model.prefix import Prefix as PrefixValue
from reconciler.model.tunnel import Endpoint as EndpointValue
from reconciler.typed import Any

DAY_S = 86400.0


_TEXT: Json = {"type": "string", "minLength": 1}
_MARK: Json = {"type": ["string", "integer"], "examples": ["0x10/0xff"], "minimum": 0, "maximum": values.U32}
_DURATION: Json = {
    "type": "string",
    "pattern": r"^(\d+d)?(\d+h)?(\d+m)?(\d+(\.\d+)?s)?(\d+ms)?$",
    "examples": ["30s", "5m", "1h30m", "250ms"],
}


def _integer(low: int, high: int) -> Checked[Any]:
    return Checked(values.between(low, high), {"type": "integer", "minimum": low, "maximum": high})


def _duration(low_s: float, high_s: float) -> Checked[Any]:
    return Checked(values.duration(low_s, high_s), _DURATION)


Version: Kind[int] = Checked(values.version, {"const": 1})
Boolean: Kind[bool] = Checked(values.boolean, {"type": "boolean"})
Text: Kind[str] = Checked(values.text(), _TEXT)
Label: Kind[str] = Checked(values.text(most=128), {**_TEXT, "maxLength": 128})
Prose: Kind[str] = Checked(values.text(most=1024, empty=True, lines=True), {"type": "string", "maxLength": 1024})
Argument: Kind[str] = Checked(values.argument, {"type": "string"})
File: Kind[str] = Checked(values.text(what="the path of a file"), _TEXT)
Secret: Kind[str] = Checked(
    values.secret_file, {**_TEXT, "description": "A path, or credential:NAME for $CREDENTIALS_DIRECTORY/NAME"}
)
User: Kind[str] = Checked(values.text(most=256, what="the name of a user or group"), _TEXT)

Port: Kind[int] = _integer(*values.PORTS)
Scan: Kind[int] = _integer(1, 65535)
Metric: Kind[int] = _integer(0, values.U32)
Table: Kind[int] = Checked(values.table, {"type": "integer", "minimum": 1, "maximum": values.U32})
TableBase: Kind[int] = _integer(256, values.U32 - 999)
PriorityBase: Kind[int] = _integer(1, 32766 - 1000)  # below the kernel's own rules 32766 and 32767
LinkGroup: Kind[int] = _integer(1, 0x7FFFFFFF)  # 0 is everybody's; suppress_ifgroup is signed
Attempts: Kind[int] = _integer(0, 1_000_000)
Failures: Kind[int] = _integer(1, 1000)
DnsPriority: Kind[int] = _integer(-0x7FFFFFFF, 0x7FFFFFFF)
Factor: Kind[float] = Checked(values.number(1, 100), {"type": "number", "minimum": 1, "maximum": 100})
Mtu: Kind[int | None] = Checked(
    values.mtu, {"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": values.MTU[0], "maximum": values.MTU[1]}]}
)
TableOrAuto: Kind[int | None] = Checked(
    values.auto_or(values.table, "the number of a table"),
    {"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": values.U32}]},
)
Lookup: Kind[int | None] = Checked(
    values.lookup, {"anyOf": [{"const": "tunnel"}, {"type": "integer", "minimum": 1, "maximum": values.U32}]}
)
Mark: Kind[tuple[int, int]] = Checked(values.mark, _MARK)
HostMark: Kind[tuple[int, int]] = Checked(values.host_mark, {"type": "string", "examples": ["0x3174/0x3fff"]})
UidRange: Kind[tuple[int, int]] = Checked(values.uid_range, {"type": ["string", "integer"], "examples": ["1000-2000", 1000]})

Interval: Kind[float] = _duration(1, DAY_S)
Refresh: Kind[float] = _duration(1, 30 * DAY_S)
Delay: Kind[float] = _duration(0.1, DAY_S)
Patience: Kind[float] = _duration(0.1, 3600)
Keepalive: Kind[int | None] = Checked(values.keepalive, {**_DURATION, "pattern": r"^(off|[0-9a-z.]+)$"})

Incoming: Kind[str] = Checked(values.ifname_or("lo"), {**_TEXT, "maxLength": 15})
Uplink: Kind[str] = Checked(values.ifname_or("auto"), {**_TEXT, "maxLength": 15, "default": "auto"})
NatOut: Kind[str] = Checked(values.ifname_or("uplink", "tunnel"), {**_TEXT, "maxLength": 15, "examples": ["uplink", "tunnel"]})
LanException: Kind[str] = Checked(netvalues.ifname_or_prefix, _TEXT)
Prefix: Kind[PrefixValue] = Checked(
    netvalues.network, {**_TEXT, "examples": ["10.0.0.0/8", "2001:db8::/32"]}, netvalues.networks
)
Prefixes = Many(Prefix, or_one=True)
InterfaceAddress: Kind[PrefixValue] = Checked(
    netvalues.interface_address, {**_TEXT, "examples": ["10.8.0.2/32", "fd00:8::2/128"]}, netvalues.interface_addresses
)
InterfaceAddresses = Many(InterfaceAddress, or_one=True)
Address: Kind[bytes] = Checked(netvalues.address, {**_TEXT, "examples": ["10.8.0.1"]})
HostName: Kind[str] = Checked(netvalues.host, _TEXT)
DnsName: Kind[str] = Checked(netvalues.name, _TEXT)
DnsDomain: Kind[str] = Checked(netvalues.domain, _TEXT)
Endpoint: Kind[EndpointValue] = Checked(
    netvalues.endpoint, {**_TEXT, "examples": ["vpn.example.com:51820", "[2001:db8::1]:51820"]}
)
PublicKey: Kind[str] = Checked(netvalues.public_key, {"type": "string", "pattern": "^[A-Za-z0-9+/]{43}=$"})


def word(*words: str) -> Checked[Any]:
    """A closed set of words."""
    return Checked(values.one_of(*words), {"type": "string", "enum": list(words)})


Driver: Kind[str] = word("wireguard", "tun", "exec", "openvpn", "openconnect")
OnFailure: Kind[str] = word("block", "bypass")
Ipv6Leak: Kind[str] = word("block", "allow")
Lan: Kind[str] = word("keep", "private", "tunnel")
RuntimeFile: Kind[str] = word("run", "beside")
Backend: Kind[str] = word("auto", "kernel", "userspace")
DnsBackend: Kind[str] = word("auto", "resolved", "resolvconf", "file")
ExecDevice: Kind[str] = word("program", "tunctl")
TunMode: Kind[str] = word("tun", "tap")
RouteType: Kind[str] = word("unicast", "blackhole", "unreachable", "prohibit", "throw")
Transport: Kind[str] = word("udp", "tcp", "quic")
HealthAction: Kind[str] = word("none", "restart")
Accepted: Kind[str] = word("addresses", "mtu", "routes", "dns")
Protocol: Kind[str] = word("anyconnect", "nc", "gp", "pulse", "f5", "fortinet", "array")
Environment = Named(Argument)
