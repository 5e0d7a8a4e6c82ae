"""Tunnel and Host ↔ their canonical JSON document: the same value is always the same text.

Sorted keys, no blanks, defaults left out: a field that a later version adds does not change the documents that are
stored already, so an upgrade alone is no new generation. (A default that changes its meaning needs a migration.)
Prefixes and addresses are text. The prefixes of a file stand apart, once, under their digest.
Standard library only: `status` reads documents.
"""

from __future__ import annotations

from reconciler.host.jsontext import canonical, loads
from reconciler.model.intent import Vouched
from reconciler.model.names import TunnelName
from reconciler.model.prefix import Prefix, ntop, parse_prefix, pton
from reconciler.model.tunnel import (
    Dns,
    Endpoint,
    EndpointManifest,
    Exec,
    Health,
    Host,
    Listen,
    Nat,
    PeerSettings,
    PrefixFile,
    Restart,
    RouteSettings,
    RuleSettings,
    Split,
    Tun,
    Tunnel,
    WireGuard,
)
from reconciler.typed import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    _Form = dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]]

T = TypeVar("T")
_REQUIRED = object()  # the default of a field that has none
_MOST_DECODED = 4096
_decoded: dict[str, Tunnel] = {}


def encode_tunnel(tunnel: Tunnel) -> str:
    """Tunnel → document. The contents of its prefix files are not in it: see `prefix_lists`."""
    text = canonical(_encode(tunnel))
    if not tunnel.prefix_files:
        _remember(text, tunnel)
    return text


def decode_tunnel(text: str, lists: Mapping[str, bytes]) -> Tunnel:
    """Document and prefix lists (digest → packed) → Tunnel. ValueError when either is damaged.

    A pass reads the store several times, and most documents are what they were.
    """
    if '"digest"' in text:  # it has prefix files, whose contents are not in it
        return _tunnel(text, lists)
    if text not in _decoded:
        _remember(text, _tunnel(text, lists))
    return _decoded[text]


def _remember(text: str, tunnel: Tunnel) -> None:
    if len(_decoded) >= _MOST_DECODED:
        _decoded.clear()
    _decoded[text] = tunnel


def _tunnel(text: str, lists: Mapping[str, bytes]) -> Tunnel:
    with _Damage():
        document = loads(text)
        split = document.get("split", {})
        files = [route["to_file"] for route in document.get("routes", ()) if "to_file" in route]
        for file in (*files, *split.get("vpn_files", ()), *split.get("direct_files", ())):
            file["packed"] = lists[file["digest"]]
        return _decode(Tunnel, document)


def prefix_lists(tunnel: Tunnel) -> dict[str, bytes]:
    """Digest → packed prefixes, of every prefix file of this tunnel."""
    return {file.digest: file.packed for file in tunnel.prefix_files}


def encode_host(host: Host) -> str:
    """Host → document; nothing declared is ``{}``."""
    return canonical(_encode(host))


def decode_host(text: str) -> Host:
    """Document → Host. ValueError when it is damaged."""
    with _Damage():
        return _decode(Host, loads(text))


def encode_vouched(vouched: Iterable[Vouched]) -> str:
    """What manifests vouched for → document."""
    return canonical([_encode(one) for one in vouched])


def decode_vouched(text: str) -> tuple[Vouched, ...]:
    """Document → what manifests vouched for. ValueError when it is damaged."""
    with _Damage():
        return tuple([_decode(Vouched, one) for one in loads(text)])


class _Damage:
    """What a document that does not fit does to the code that reads it."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, (TypeError, KeyError, AttributeError)):
            raise ValueError(f"a stored document does not fit this version ({error!r})") from error


def _encode(value: Any) -> dict[str, Any]:
    """A named tuple → what its fields say beyond their defaults."""
    form = _FORMS.get(type(value), {})
    default_of = value._field_defaults.get
    document = {}
    for field, content in zip(value._fields, value, strict=True):
        default = default_of(field, _REQUIRED)
        if content is default or content == default:
            continue
        if content is not None and field in form:
            content = form[field][0](content)  # noqa: PLW2901 - its stored form
        document[field.rstrip("_")] = content
    return document


def _decode(make: type[T], document: dict[str, Any]) -> T:
    form = _FORMS.get(make, {})
    fields = {}
    for key, content in document.items():
        field = _FIELDS.get(key, key)
        fields[field] = form[field][1](content) if content is not None and field in form else content
    return make(**fields)


def _many(encode: Callable[[Any], Any], decode: Callable[[Any], Any]) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    def encode_all(values: Iterable[Any]) -> list[Any]:
        return [encode(value) for value in values]

    def decode_all(values: Iterable[Any]) -> tuple[Any, ...]:
        return tuple([decode(value) for value in values])

    return encode_all, decode_all


def _nested(make: type[Any]) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    return _encode, lambda document: _decode(make, document)


def _encode_file(file: PrefixFile) -> dict[str, str]:
    return {"path": file.path, "digest": file.digest}


_ADDRESS = (ntop, pton)
_PREFIXES = _many(Prefix.__str__, parse_prefix)
_TUPLE = (list, tuple)
_FILES = _many(_encode_file, lambda document: PrefixFile(**document))
_PAIRS = _many(list, tuple)
_FLOAT = (float, float)  # 5 and 5.0 are the same wish

_FIELDS = {"from": "from_", "exec": "exec_"}  # key → field, where the key is a word of Python
_FORMS: dict[type[Any], _Form] = {
    EndpointManifest: {"refresh_s": _FLOAT},
    PeerSettings: {"allowed_ips": _PREFIXES, "endpoint": _nested(Endpoint), "manifest": _nested(EndpointManifest)},
    WireGuard: {"userspace_command": _TUPLE, "peers": _many(*_nested(PeerSettings))},
    Exec: {
        "command": _TUPLE,
        "environment": _PAIRS,
        "remote": _TUPLE,
        "restart_on": _TUPLE,
        "ready_timeout_s": _FLOAT,
        "stop_grace_s": _FLOAT,
        "manifest": _nested(EndpointManifest),
    },
    RouteSettings: {
        "to": _PREFIXES,
        "to_file": (_encode_file, lambda document: PrefixFile(**document)),
        "via": _ADDRESS,
        "src": _ADDRESS,
    },
    RuleSettings: {"from_": _PREFIXES, "to": _PREFIXES, "fwmark": _TUPLE, "uid_range": _TUPLE},
    Split: {"vpn": _PREFIXES, "vpn_files": _FILES, "direct": _PREFIXES, "direct_files": _FILES},
    Dns: {"servers": _many(*_ADDRESS), "search": _TUPLE, "domains": _TUPLE},
    Nat: {"source": _PREFIXES},
    Listen: {"address": _ADDRESS},
    Health: {"handshake_max_age_s": _FLOAT, "ping": _many(*_ADDRESS), "interval_s": _FLOAT},
    Restart: {"base_s": _FLOAT, "factor": _FLOAT, "max_s": _FLOAT},
    Host: {"lan_except": _TUPLE, "mark": _TUPLE, "reconcile_interval_s": _FLOAT},
    Tunnel: {
        "name": (str, TunnelName),
        "addresses": _PREFIXES,
        "src": _ADDRESS,
        "wireguard": _nested(WireGuard),
        "exec_": _nested(Exec),
        "tun": _nested(Tun),
        "routes": _many(*_nested(RouteSettings)),
        "rules": _many(*_nested(RuleSettings)),
        "restart": _nested(Restart),
        "split": _nested(Split),
        "dns": _nested(Dns),
        "nat": _many(*_nested(Nat)),
        "listen": _many(*_nested(Listen)),
        "health": _nested(Health),
    },
}
