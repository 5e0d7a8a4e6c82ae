"""Tunnel and Host ↔ their canonical JSON document: the same value is always the same text.

Sorted keys, no blanks, defaults left out: a field that a later version adds does not change the documents that are
stored already, so an upgrade alone is no new generation. (A default that changes its meaning needs a migration.)
Prefixes and addresses are text. The prefixes of a file stand apart, once, under their digest.
Standard library only: `status` reads documents.
"""

from __future__ import annotations

from _operator import ne
from itertools import compress, filterfalse

from reconciler.host.jsontext import canonical, loads
from reconciler.model.intent import Vouched
from reconciler.model.prefix import Prefix, ntop, parse_networks, parse_prefix, pton, texts
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
from reconciler.typed import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")
_REQUIRED = object()  # the default of a field that has none
_new = tuple.__new__  # a third of what a constructor costs
_NOTHING = "[]"
DIGEST = '"digest"'  # in a document: it names prefix files
_MOST_DECODED = 4096
_decoded: dict[str, Tunnel] = {}


def encode_tunnel(tunnel: Tunnel) -> str:
    """Tunnel → document. The contents of its prefix files are not in it: see `prefix_lists`."""
    text = canonical(_TUNNEL.encode(tunnel))
    if DIGEST not in text:
        _remember(text, tunnel)
    return text


def decode_tunnel(text: str, lists: Mapping[str, bytes]) -> Tunnel:
    """Document and prefix lists (digest → packed) → Tunnel. ValueError when either is damaged.

    A pass reads the store several times, and most documents are what they were.
    """
    tunnel = _decoded.get(text)
    if tunnel is None:
        if lists and DIGEST in text:  # it has prefix files, whose contents are not in it
            return _read(text, lambda document: _with_lists(document, lists))
        tunnel = _read(text, _TUNNEL.decode)
        _remember(text, tunnel)
    return tunnel


def _remember(text: str, tunnel: Tunnel) -> None:
    if len(_decoded) >= _MOST_DECODED:
        _decoded.clear()
    _decoded[text] = tunnel


def _with_lists(document: dict[str, Any], lists: Mapping[str, bytes]) -> Tunnel:
    split = document.get("split", {})
    files = [route["to_file"] for route in document.get("routes", ()) if "to_file" in route]
    for file in (*files, *split.get("vpn_files", ()), *split.get("direct_files", ())):
        file["packed"] = lists[file["digest"]]
    return _TUNNEL.decode(document)


def prefix_lists(tunnel: Tunnel) -> dict[str, bytes]:
    """Digest → packed prefixes, of every prefix file of this tunnel."""
    return {file.digest: file.packed for file in tunnel.prefix_files}


def encode_host(host: Host) -> str:
    """Host → document; nothing declared is ``{}``."""
    return canonical(_HOST.encode(host))


def decode_host(text: str) -> Host:
    """Document → Host. ValueError when it is damaged."""
    return _read(text, _HOST.decode)


def encode_vouched(vouched: tuple[Vouched, ...]) -> str:
    """What manifests vouched for → document."""
    return canonical(_VOUCHED.encode(vouched)) if vouched else _NOTHING


def decode_vouched(text: str) -> tuple[Vouched, ...]:
    """Document → what manifests vouched for. ValueError when it is damaged."""
    return _read(text, _VOUCHED.decode) if text != _NOTHING else ()


def decode_texts(text: str) -> tuple[str, ...]:
    """An array of texts. ValueError when it is damaged."""
    return tuple(loads(text)) if text != _NOTHING else ()


def _read(text: str, decode: Callable[[Any], T]) -> T:
    """ValueError when the document does not fit: what that does to the code that reads it."""
    try:
        return decode(loads(text))
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"a stored document does not fit this version ({error!r})") from error


class _Form(NamedTuple, Generic[T]):
    """How a value stands in a document."""

    encode: Callable[[T], Any]
    decode: Callable[[Any], T]


def _nested(make: type[T], forms: Mapping[str, _Form[Any]] = {}) -> _Form[T]:
    """A named tuple, as what its fields say beyond their defaults. `forms`: of the keys that stand for more than JSON has."""
    of: Any = make
    defaults = {field.rstrip("_"): of._field_defaults.get(field, _REQUIRED) for field in of._fields}  # `from_` is `from`
    required = {key for key, default in defaults.items() if default is _REQUIRED}
    plain: T | None = None if required else _new(of, defaults.values())  # what most tables of this kind are

    def encode(value: Any) -> dict[str, Any]:
        if value == plain:
            return {}
        document = dict(compress(zip(defaults, value, strict=True), map(ne, value, defaults.values())))
        for key in filter(forms.__contains__, document):  # of which None is always the default
            document[key] = forms[key].encode(document[key])
        return document

    def decode(document: dict[str, Any]) -> T:
        if document == {} and plain is not None:
            return plain
        values = defaults | document
        if len(values) > len(defaults):
            raise KeyError(next(filterfalse(defaults.__contains__, document)))
        for key in filter(forms.__contains__, document):
            values[key] = forms[key].decode(document[key])
        if not required <= document.keys():
            raise TypeError(f"{make.__name__} without {sorted(defaults.keys() - document.keys())}")
        made: T = _new(of, values.values())
        return made

    return _Form(encode, decode)


def _many(form: _Form[T]) -> _Form[tuple[T, ...]]:
    """An array of them."""
    encode, decode = form
    return _Form(lambda values: list(map(encode, values)), lambda values: tuple(map(decode, values)))


def _networks(found: list[str]) -> tuple[Prefix, ...]:
    """Together if they are of one family, as most are; else one by one, which says what is wrong."""
    try:
        return parse_networks(found)
    except ValueError:
        return tuple(map(parse_prefix, found))


_ADDRESS = _Form(ntop, pton)
_ADDRESSES: _Form[tuple[Prefix, ...]] = _Form(texts, lambda found: tuple(map(parse_prefix, found)))
_PREFIXES: _Form[tuple[Prefix, ...]] = _Form(texts, _networks)
_TUPLE: _Form[Any] = _Form(list, tuple)
_FILE: _Form[PrefixFile] = _Form(lambda file: {"path": file.path, "digest": file.digest}, lambda found: PrefixFile(**found))
_FILES = _many(_FILE)
_FLOAT = _Form(float, float)  # 5 and 5.0 are the same wish
_MANIFEST = _nested(EndpointManifest, {"refresh_s": _FLOAT})
_PEER = _nested(PeerSettings, {"allowed_ips": _PREFIXES, "endpoint": _nested(Endpoint), "manifest": _MANIFEST})
_WIREGUARD = _nested(WireGuard, {"userspace_command": _TUPLE, "peers": _many(_PEER)})
_EXEC = _nested(
    Exec,
    {
        "command": _TUPLE,
        "environment": _many(_TUPLE),
        "remote": _TUPLE,
        "restart_on": _TUPLE,
        "ready_timeout_s": _FLOAT,
        "stop_grace_s": _FLOAT,
        "manifest": _MANIFEST,
    },
)
_ROUTE = _nested(RouteSettings, {"to": _PREFIXES, "to_file": _FILE, "via": _ADDRESS, "src": _ADDRESS})
_RULE = _nested(RuleSettings, {"from": _PREFIXES, "to": _PREFIXES, "fwmark": _TUPLE, "uid_range": _TUPLE})
_SPLIT = _nested(Split, {"vpn": _PREFIXES, "vpn_files": _FILES, "direct": _PREFIXES, "direct_files": _FILES})
_DNS = _nested(Dns, {"servers": _many(_ADDRESS), "search": _TUPLE, "domains": _TUPLE})
_HEALTH = _nested(Health, {"handshake_max_age_s": _FLOAT, "ping": _many(_ADDRESS), "interval_s": _FLOAT})
_TUNNEL = _nested(
    Tunnel,
    {
        "addresses": _ADDRESSES,
        "src": _ADDRESS,
        "wireguard": _WIREGUARD,
        "exec": _EXEC,
        "tun": _nested(Tun),
        "routes": _many(_ROUTE),
        "rules": _many(_RULE),
        "restart": _nested(Restart, {"base_s": _FLOAT, "factor": _FLOAT, "max_s": _FLOAT}),
        "split": _SPLIT,
        "dns": _DNS,
        "nat": _many(_nested(Nat, {"source": _PREFIXES})),
        "listen": _many(_nested(Listen, {"address": _ADDRESS})),
        "health": _HEALTH,
    },
)
_HOST = _nested(Host, {"lan_except": _TUPLE, "mark": _TUPLE, "reconcile_interval_s": _FLOAT})
_VOUCHED = _many(_nested(Vouched))
