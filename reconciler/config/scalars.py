"""The types of single values in a desired file: what checks each, and what its JSON Schema says."""

from __future__ import annotations

from typing import Annotated

from reconciler.config import netvalues, values
from reconciler.config.tables import Checked, Json, OneOrMany
from reconciler.model.prefix import Prefix as PrefixValue
from reconciler.model.tunnel import Endpoint as EndpointValue

DAY_S = 86400.0


_TEXT: Json = {"type": "string", "minLength": 1}
_MARK: Json = {"type": ["string", "integer"], "examples": ["0x10/0xff"], "minimum": 0, "maximum": values.U32}
_DURATION: Json = {
    "type": "string",
    "pattern": r"^(\d+d)?(\d+h)?(\d+m)?(\d+(\.\d+)?s)?(\d+ms)?$",
    "examples": ["30s", "5m", "1h30m", "250ms"],
}


def _integer(low: int, high: int) -> Checked:
    return Checked(values.between(low, high), {"type": "integer", "minimum": low, "maximum": high})


def _duration(low_s: float, high_s: float) -> Checked:
    return Checked(values.duration(low_s, high_s), _DURATION)


Version = Annotated[int, Checked(values.version, {"const": 1})]
Boolean = Annotated[bool, Checked(values.boolean, {"type": "boolean"})]
Text = Annotated[str, Checked(values.text(), _TEXT)]
Label = Annotated[str, Checked(values.text(most=128), {**_TEXT, "maxLength": 128})]
Prose = Annotated[
    str,
    Checked(values.text(most=1024, empty=True, lines=True), {"type": "string", "maxLength": 1024}),
]
Argument = Annotated[str, Checked(values.argument, {"type": "string"})]
File = Annotated[str, Checked(values.text(what="the path of a file"), _TEXT)]
Secret = Annotated[
    str,
    Checked(values.secret_file, {**_TEXT, "description": "A path, or credential:NAME for $CREDENTIALS_DIRECTORY/NAME"}),
]
User = Annotated[str, Checked(values.text(most=256, what="the name of a user or group"), _TEXT)]

Port = Annotated[int, _integer(*values.PORTS)]
Scan = Annotated[int, _integer(1, 65535)]
Metric = Annotated[int, _integer(0, values.U32)]
Table = Annotated[int, Checked(values.table, {"type": "integer", "minimum": 1, "maximum": values.U32})]
TableBase = Annotated[int, _integer(256, values.U32 - 999)]
PriorityBase = Annotated[int, _integer(1, 32766 - 1000)]  # below the kernel's own rules 32766 and 32767
LinkGroup = Annotated[int, _integer(1, 0x7FFFFFFF)]  # 0 is everybody's; suppress_ifgroup is signed
Attempts = Annotated[int, _integer(0, 1_000_000)]
Failures = Annotated[int, _integer(1, 1000)]
DnsPriority = Annotated[int, _integer(-0x7FFFFFFF, 0x7FFFFFFF)]
Factor = Annotated[float, Checked(values.number(1, 100), {"type": "number", "minimum": 1, "maximum": 100})]
Mtu = Annotated[
    int | None,
    Checked(
        values.mtu, {"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": values.MTU[0], "maximum": values.MTU[1]}]}
    ),
]
TableOrAuto = Annotated[
    int | None,
    Checked(
        values.auto_or(values.table, "the number of a table"),
        {"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": values.U32}]},
    ),
]
Lookup = Annotated[
    int | None,
    Checked(values.lookup, {"anyOf": [{"const": "tunnel"}, {"type": "integer", "minimum": 1, "maximum": values.U32}]}),
]
Mark = Annotated[tuple[int, int], Checked(values.mark, _MARK)]
HostMark = Annotated[tuple[int, int], Checked(values.host_mark, {"type": "string", "examples": ["0x3174/0x3fff"]})]
UidRange = Annotated[
    tuple[int, int],
    Checked(values.uid_range, {"type": ["string", "integer"], "examples": ["1000-2000", 1000]}),
]

Interval = Annotated[float, _duration(1, DAY_S)]
Refresh = Annotated[float, _duration(1, 30 * DAY_S)]
Delay = Annotated[float, _duration(0.1, DAY_S)]
Patience = Annotated[float, _duration(0.1, 3600)]
Keepalive = Annotated[int | None, Checked(values.keepalive, {**_DURATION, "pattern": r"^(off|[0-9a-z.]+)$"})]

Incoming = Annotated[str, Checked(values.ifname_or("lo"), {**_TEXT, "maxLength": 15})]
Uplink = Annotated[str, Checked(values.ifname_or("auto"), {**_TEXT, "maxLength": 15, "default": "auto"})]
NatOut = Annotated[
    str,
    Checked(values.ifname_or("uplink", "tunnel"), {**_TEXT, "maxLength": 15, "examples": ["uplink", "tunnel"]}),
]
LanException = Annotated[str, Checked(netvalues.ifname_or_prefix, _TEXT)]
Prefix = Annotated[PrefixValue, Checked(netvalues.network, {**_TEXT, "examples": ["10.0.0.0/8", "2001:db8::/32"]})]
Prefixes = Annotated[list[Prefix], OneOrMany(netvalues.one_or_many)]
InterfaceAddress = Annotated[
    PrefixValue,
    Checked(netvalues.interface_address, {**_TEXT, "examples": ["10.8.0.2/32", "fd00:8::2/128"]}),
]
InterfaceAddresses = Annotated[list[InterfaceAddress], OneOrMany(netvalues.one_or_many)]
Address = Annotated[bytes, Checked(netvalues.address, {**_TEXT, "examples": ["10.8.0.1"]})]
HostName = Annotated[str, Checked(netvalues.host, _TEXT)]
DnsName = Annotated[str, Checked(netvalues.name, _TEXT)]
DnsDomain = Annotated[str, Checked(netvalues.domain, _TEXT)]
Endpoint = Annotated[
    EndpointValue,
    Checked(netvalues.endpoint, {**_TEXT, "examples": ["vpn.example.com:51820", "[2001:db8::1]:51820"]}),
]
PublicKey = Annotated[
    str,
    Checked(netvalues.public_key, {"type": "string", "pattern": "^[A-Za-z0-9+/]{43}=$"}),
]


def word(*words: str) -> Checked:
    """A closed set of words."""
    return Checked(values.one_of(*words), {"type": "string", "enum": list(words)})


Driver = Annotated[str, word("wireguard", "tun", "exec", "openvpn", "openconnect")]
OnFailure = Annotated[str, word("block", "bypass")]
Ipv6Leak = Annotated[str, word("block", "allow")]
Lan = Annotated[str, word("keep", "private", "tunnel")]
RuntimeFile = Annotated[str, word("run", "beside")]
Backend = Annotated[str, word("auto", "kernel", "userspace")]
DnsBackend = Annotated[str, word("auto", "resolved", "resolvconf", "file")]
ExecDevice = Annotated[str, word("program", "tunctl")]
TunMode = Annotated[str, word("tun", "tap")]
RouteType = Annotated[str, word("unicast", "blackhole", "unreachable", "prohibit", "throw")]
Transport = Annotated[str, word("udp", "tcp", "quic")]
HealthAction = Annotated[str, word("none", "restart")]
Accepted = Annotated[str, word("addresses", "mtu", "routes", "dns")]
Protocol = Annotated[str, word("anyconnect", "nc", "gp", "pulse", "f5", "fortinet", "array")]
Environment = dict[str, Argument]
