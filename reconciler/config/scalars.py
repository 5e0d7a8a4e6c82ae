"""The types of single values in a desired file: what checks each, and what its JSON Schema says."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, PlainValidator, WithJsonSchema

from reconciler.config import netvalues, values
from reconciler.model.prefix import Prefix as PrefixValue
from reconciler.model.tunnel import Endpoint as EndpointValue

DAY_S = 86400.0

_TEXT = {"type": "string", "minLength": 1}
_MARK = {"type": ["string", "integer"], "examples": ["0x10/0xff"], "minimum": 0, "maximum": values.U32}
_DURATION = {
    "type": "string",
    "pattern": r"^(\d+d)?(\d+h)?(\d+m)?(\d+(\.\d+)?s)?(\d+ms)?$",
    "examples": ["30s", "5m", "1h30m", "250ms"],
}


def _integer(low: int, high: int) -> tuple[PlainValidator, WithJsonSchema]:
    return PlainValidator(values.between(low, high)), WithJsonSchema({"type": "integer", "minimum": low, "maximum": high})


def _duration(low_s: float, high_s: float) -> tuple[PlainValidator, WithJsonSchema]:
    return PlainValidator(values.duration(low_s, high_s)), WithJsonSchema(_DURATION)


Version = Annotated[int, PlainValidator(values.version), WithJsonSchema({"const": 1})]
Boolean = Annotated[bool, PlainValidator(values.boolean), WithJsonSchema({"type": "boolean"})]
Text = Annotated[str, PlainValidator(values.text()), WithJsonSchema(_TEXT)]
Label = Annotated[str, PlainValidator(values.text(most=128)), WithJsonSchema({**_TEXT, "maxLength": 128})]
Prose = Annotated[
    str,
    PlainValidator(values.text(most=1024, empty=True, lines=True)),
    WithJsonSchema({"type": "string", "maxLength": 1024}),
]
Argument = Annotated[str, PlainValidator(values.argument), WithJsonSchema({"type": "string"})]
File = Annotated[str, PlainValidator(values.text(what="the path of a file")), WithJsonSchema(_TEXT)]
Secret = Annotated[
    str,
    PlainValidator(values.secret_file),
    WithJsonSchema({**_TEXT, "description": "A path, or credential:NAME for $CREDENTIALS_DIRECTORY/NAME"}),
]
User = Annotated[str, PlainValidator(values.text(most=256, what="the name of a user or group")), WithJsonSchema(_TEXT)]

Port = Annotated[int, *_integer(*values.PORTS)]
Scan = Annotated[int, *_integer(1, 65535)]
Metric = Annotated[int, *_integer(0, values.U32)]
Table = Annotated[int, PlainValidator(values.table), WithJsonSchema({"type": "integer", "minimum": 1, "maximum": values.U32})]
TableBase = Annotated[int, *_integer(256, values.U32 - 999)]
PriorityBase = Annotated[int, *_integer(1, 32766 - 1000)]  # below the kernel's own rules 32766 and 32767
LinkGroup = Annotated[int, *_integer(1, 0x7FFFFFFF)]  # 0 is everybody's; suppress_ifgroup is signed
Attempts = Annotated[int, *_integer(0, 1_000_000)]
Failures = Annotated[int, *_integer(1, 1000)]
DnsPriority = Annotated[int, *_integer(-0x7FFFFFFF, 0x7FFFFFFF)]
Factor = Annotated[
    float, PlainValidator(values.number(1, 100)), WithJsonSchema({"type": "number", "minimum": 1, "maximum": 100})
]
Mtu = Annotated[
    int | None,
    PlainValidator(values.mtu),
    WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": values.MTU[0], "maximum": values.MTU[1]}]}),
]
TableOrAuto = Annotated[
    int | None,
    PlainValidator(values.auto_or(values.table, "the number of a table")),
    WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": values.U32}]}),
]
Lookup = Annotated[
    int | None,
    PlainValidator(values.lookup),
    WithJsonSchema({"anyOf": [{"const": "tunnel"}, {"type": "integer", "minimum": 1, "maximum": values.U32}]}),
]
Mark = Annotated[tuple[int, int], PlainValidator(values.mark), WithJsonSchema(_MARK)]
HostMark = Annotated[
    tuple[int, int], PlainValidator(values.host_mark), WithJsonSchema({"type": "string", "examples": ["0x3174/0x3fff"]})
]
UidRange = Annotated[
    tuple[int, int],
    PlainValidator(values.uid_range),
    WithJsonSchema({"type": ["string", "integer"], "examples": ["1000-2000", 1000]}),
]

Interval = Annotated[float, *_duration(1, DAY_S)]
Refresh = Annotated[float, *_duration(1, 30 * DAY_S)]
Delay = Annotated[float, *_duration(0.1, DAY_S)]
Patience = Annotated[float, *_duration(0.1, 3600)]
Keepalive = Annotated[
    int | None, PlainValidator(values.keepalive), WithJsonSchema({**_DURATION, "pattern": r"^(off|[0-9a-z.]+)$"})
]

Incoming = Annotated[str, PlainValidator(values.ifname_or("lo")), WithJsonSchema({**_TEXT, "maxLength": 15})]
Uplink = Annotated[str, PlainValidator(values.ifname_or("auto")), WithJsonSchema({**_TEXT, "maxLength": 15, "default": "auto"})]
NatOut = Annotated[
    str,
    PlainValidator(values.ifname_or("uplink", "tunnel")),
    WithJsonSchema({**_TEXT, "maxLength": 15, "examples": ["uplink", "tunnel"]}),
]
LanException = Annotated[str, PlainValidator(netvalues.ifname_or_prefix), WithJsonSchema(_TEXT)]
Prefix = Annotated[
    PrefixValue, PlainValidator(netvalues.network), WithJsonSchema({**_TEXT, "examples": ["10.0.0.0/8", "2001:db8::/32"]})
]
Prefixes = Annotated[list[Prefix], BeforeValidator(netvalues.one_or_many, json_schema_input_type=Prefix | list[Prefix])]
InterfaceAddress = Annotated[
    PrefixValue,
    PlainValidator(netvalues.interface_address),
    WithJsonSchema({**_TEXT, "examples": ["10.8.0.2/32", "fd00:8::2/128"]}),
]
InterfaceAddresses = Annotated[
    list[InterfaceAddress],
    BeforeValidator(netvalues.one_or_many, json_schema_input_type=InterfaceAddress | list[InterfaceAddress]),
]
Address = Annotated[bytes, PlainValidator(netvalues.address), WithJsonSchema({**_TEXT, "examples": ["10.8.0.1"]})]
HostName = Annotated[str, PlainValidator(netvalues.host), WithJsonSchema(_TEXT)]
DnsName = Annotated[str, PlainValidator(netvalues.name), WithJsonSchema(_TEXT)]
DnsDomain = Annotated[str, PlainValidator(netvalues.domain), WithJsonSchema(_TEXT)]
Endpoint = Annotated[
    EndpointValue,
    PlainValidator(netvalues.endpoint),
    WithJsonSchema({**_TEXT, "examples": ["vpn.example.com:51820", "[2001:db8::1]:51820"]}),
]
PublicKey = Annotated[
    str,
    PlainValidator(netvalues.public_key),
    WithJsonSchema({"type": "string", "pattern": "^[A-Za-z0-9+/]{43}=$"}),
]


def word(*words: str) -> tuple[PlainValidator, WithJsonSchema]:
    """A closed set of words."""
    return PlainValidator(values.one_of(*words)), WithJsonSchema({"type": "string", "enum": list(words)})


Driver = Annotated[str, *word("wireguard", "tun", "exec", "openvpn", "openconnect")]
OnFailure = Annotated[str, *word("block", "bypass")]
Ipv6Leak = Annotated[str, *word("block", "allow")]
Lan = Annotated[str, *word("keep", "private", "tunnel")]
RuntimeFile = Annotated[str, *word("run", "beside")]
Backend = Annotated[str, *word("auto", "kernel", "userspace")]
DnsBackend = Annotated[str, *word("auto", "resolved", "resolvconf", "file")]
ExecDevice = Annotated[str, *word("program", "tunctl")]
TunMode = Annotated[str, *word("tun", "tap")]
RouteType = Annotated[str, *word("unicast", "blackhole", "unreachable", "prohibit", "throw")]
Transport = Annotated[str, *word("udp", "tcp", "quic")]
HealthAction = Annotated[str, *word("none", "restart")]
Accepted = Annotated[str, *word("addresses", "mtu", "routes", "dns")]
Protocol = Annotated[str, *word("anyconnect", "nc", "gp", "pulse", "f5", "fortinet", "array")]
Environment = dict[str, Argument]
