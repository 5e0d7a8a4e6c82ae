"""Addresses, prefixes, endpoints, names and public keys, as ``values`` does for the plain ones."""

from __future__ import annotations

import binascii
import re
from itertools import compress

from reconciler.config.values import PORTS, expected, ifname, shown
from reconciler.model.names import is_host_name
from reconciler.model.prefix import Prefix, parse_network, parse_networks, parse_prefix, pton
from reconciler.model.tunnel import Endpoint
from reconciler.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

KEY_BYTES = 32  # Curve25519
_MANY = 4  # prefixes: for fewer, setting up the loops costs more than they save
LONGEST = 64  # characters of the longest prefix, and some: longer texts are not printed whole


def _string(value: object, what: str) -> str:
    if not isinstance(value, str) or len(value) > LONGEST or not value.isprintable():
        raise expected(what, value)
    return value


def network(value: object) -> Prefix:
    """A prefix without host bits; an address alone is a host."""
    return parse_network(_string(value, "a prefix like '10.0.0.0/8'"))


def networks(values: Sequence[Any]) -> Iterable[Prefix]:
    """As ``network`` of each, many of them at once; ValueError need not say which one is wrong."""
    return _at_once(values, keep_host_bits=False) if len(values) >= _MANY else map(network, values)


def _at_once(values: Sequence[Any], *, keep_host_bits: bool) -> Iterable[Prefix]:
    """Of both families, in their order."""
    try:
        if ":" not in "".join(values):  # mostly
            return parse_networks(values, keep_host_bits=keep_host_bits)
    except TypeError as error:
        raise ValueError("not prefixes") from error
    are_v6 = [":" in value for value in values]
    parts = {
        is_v6: iter(parse_networks(compress(values, map(is_v6.__eq__, are_v6)), keep_host_bits=keep_host_bits))
        for is_v6 in set(are_v6)
    }
    return [next(parts[is_v6]) for is_v6 in are_v6]


def interface_address(value: object) -> Prefix:
    """An address with its length; host bits are kept."""
    text = _string(value, "an address like '10.8.0.2/32'")
    prefix = parse_prefix(text)
    if _is_odd(prefix):
        _refuse_odd(text, *prefix)
    return prefix


def interface_addresses(values: Sequence[Any]) -> Iterable[Prefix]:
    """As ``interface_address`` of each, many of them at once; ValueError need not say which one is wrong."""
    if len(values) >= _MANY:
        prefixes = list(_at_once(values, keep_host_bits=True))
        if not any(map(_is_odd, prefixes)):
            return prefixes
    return map(interface_address, values)


def _is_odd(prefix: Prefix) -> bool:
    """It has no length, or begins with a byte of zero or one from 224 on."""
    packed, length = prefix
    return not length or not 0 < packed[0] < 0xE0


def _refuse_odd(text: str, packed: bytes, length: int) -> None:
    """ValueError for those of them that no interface can have, or should."""
    if not any(packed):
        raise ValueError(f"{text!r} is no address that an interface can have")
    if packed[0] == 0xFF if len(packed) == 16 else packed[0] >> 4 == 0xE:
        raise ValueError(f"{text!r} is a multicast address")
    if packed == b"\xff" * 4:
        raise ValueError(f"{text!r} is the broadcast address")
    if length == 0:
        raise ValueError(f"{text!r}: length 0 would make the whole family a connected network")


def address(value: object) -> bytes:
    """An address without a length → packed."""
    text = _string(value, "an address like '10.8.0.1'")
    if "/" in text:
        raise ValueError(f"expected an address without a length, got {text!r}")
    return pton(text)


def host(value: object) -> str:
    """An address or a DNS name, as typed."""
    if not isinstance(value, str) or not value:
        raise expected("an address or a name", value)
    if ":" in value or re.fullmatch(r"[0-9.]+", value, re.ASCII):
        packed = pton(value) if len(value) <= LONGEST else b""
        if not any(packed):
            raise ValueError(f"{shown(value)} is no address of a host")
        return value
    return name(value)


def name(value: object) -> str:
    """A DNS name, in ASCII."""
    if not isinstance(value, str) or not value:
        raise expected("a DNS name", value)
    if not value.isascii():
        raise ValueError(f"{shown(value)}: write names outside ASCII in their xn-- form")
    if not is_host_name(value):
        raise ValueError(f"{shown(value)} is no DNS name")
    return value


def domain(value: object) -> str:
    """A DNS name, or ``.`` for all of them."""
    return "." if isinstance(value, str) and value == "." else name(value)


def endpoint(value: object) -> Endpoint:
    """``host:port`` or ``[IPv6]:port``."""
    what = "an endpoint like 'vpn.example.com:51820' or '[2001:db8::1]:51820'"
    if not isinstance(value, str):
        raise expected(what, value)
    place, colon, port_text = value.rpartition(":")
    if not colon or not place:
        raise ValueError(f"expected {what} (with its port), got {shown(value)}")
    if not (place.startswith("[") and place.endswith("]")):
        if ":" in place:
            raise ValueError(f"expected {what}: an IPv6 address stands in brackets, got {shown(value)}")
    elif ":" not in place:
        raise ValueError(f"expected {what}: only IPv6 addresses stand in brackets, got {shown(value)}")
    else:
        place = place[1:-1]
    low, high = PORTS
    if not re.fullmatch(r"\d{1,5}", port_text, re.ASCII) or not low <= int(port_text) <= high:
        raise ValueError(f"the port must be from {low} to {high}: {shown(value)}")
    return Endpoint(host(place), int(port_text))


def is_key(text: str) -> bool:
    """True for 32 bytes in base64, as `wg` writes them: 44 characters, nothing spare."""
    try:
        return (
            len(text) == 44 and binascii.b2a_base64(binascii.a2b_base64(text, strict_mode=True), newline=False) == text.encode()
        )
    except (ValueError, UnicodeError):
        return False


def public_key(value: object) -> str:
    if not isinstance(value, str):
        raise expected("a public key in base64", value)
    if not is_key(value) or len(binascii.a2b_base64(value)) != KEY_BYTES:
        raise ValueError(f"is no public key: expected {KEY_BYTES} bytes in base64 (44 characters), as `wg pubkey` prints them")
    return value


def ifname_or_prefix(value: object) -> str:
    """An entry of `lan_except`: an interface (``br-*``) or a prefix, as typed."""
    if not isinstance(value, str):
        raise expected("an interface or a prefix", value)
    if "/" in value or ":" in value or re.fullmatch(r"[0-9.]+", value, re.ASCII):
        return str(network(value))
    ifname(value.replace("*", "x"))
    return value


__all__ = ["address", "domain", "endpoint", "host", "interface_address", "is_key", "name", "network", "networks", "public_key"]
