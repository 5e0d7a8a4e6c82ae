"""Manifests as files have them: made, signed, verified. What one must not be believed for is `Refused`, with the reason.

Payload, version 1: ``{"version":1,"host":"vpn.example.com","issued_at":…,"expires_at":…,"endpoints":{"hub":{"udp":8446}},
"bridges":["vpn.example.com:8446"]}``; times are RFC 3339, UTC. Members that are not known here are left to later versions.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from reconciler.host import jws
from reconciler.host.jws import Refused, shown
from reconciler.model.manifest import TRANSPORTS, Manifest, Ports
from reconciler.model.moment import rfc3339
from reconciler.model.names import TunnelName, is_host_name, is_tunnel_name
from reconciler.model.prefix import pton

LIMIT = 1 << 20  # bytes: ten thousand tunnels with one port each are less
KIND = "tunctl-endpoints+json"
VERSION = 1
SKEW_US = 300_000_000  # how far two clocks may differ: five minutes, as Kerberos has it (RFC 4120, section 1.6)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z", re.ASCII)
_ONE_US = timedelta(microseconds=1)


def signed(manifest: Manifest, key: Ed25519PrivateKey) -> bytes:
    """The content of its file."""
    document = {
        "version": VERSION,
        "host": manifest.host,
        "issued_at": rfc3339(manifest.issued_us),
        "expires_at": rfc3339(manifest.expires_us),
        "endpoints": {name: dict(sorted(ports.items())) for name, ports in sorted(manifest.ports.items())},
        "bridges": manifest.bridges,
    }
    return jws.sign(json.dumps(document, separators=(",", ":")).encode(), key, KIND)


def verified(content: bytes, key: Ed25519PublicKey) -> Manifest:
    """What it says, if this key signed it and it can be understood; how old it is, is not judged. Refused."""
    if len(content) > LIMIT:
        raise Refused(f"it is larger than {LIMIT} bytes")
    document = jws.parsed(jws.verify(content, key, KIND), "its payload")
    if not isinstance(document, dict):
        raise Refused("its payload is no JSON object")
    version = document.get("version")
    if type(version) is not int or version != VERSION:
        raise Refused(f"it has version {shown(version)}, only {VERSION} is known here")
    host = document.get("host")
    if not isinstance(host, str) or not is_host(host):
        raise Refused(f"its host {shown(host)} is neither an address nor a name")
    issued_us, expires_us = (_time(document, name) for name in ("issued_at", "expires_at"))
    if expires_us <= issued_us:
        raise Refused(f"it expires ({rfc3339(expires_us)}) before it is issued ({rfc3339(issued_us)})")
    return Manifest(host, issued_us, expires_us, _ports(document.get("endpoints")))


def early(issued_us: int, now_us: int) -> str:
    """Why one that was issued then does not count yet; "" when it does."""
    if issued_us <= now_us + SKEW_US:
        return ""
    return f"it is not valid yet: issued at {rfc3339(issued_us)}, and here it is {rfc3339(now_us)}"


def late(expires_us: int, now_us: int) -> str:
    """Why one that expires then does not count any more; "" when it does."""
    return "" if now_us < expires_us else f"it expired at {rfc3339(expires_us)}"


def is_host(text: str) -> bool:
    """An address that is not the unspecified one, or a name."""
    try:
        return any(pton(text))
    except ValueError:
        return is_host_name(text) and not text.rstrip(".").replace(".", "").isdigit()


def _time(document: dict[str, Any], name: str) -> int:
    text = document.get(name)
    match = _TIME.fullmatch(text) if isinstance(text, str) else None
    try:
        if match is None:
            raise ValueError
        whole_us = (datetime.fromisoformat(match[1] + "+00:00") - _EPOCH) // _ONE_US
        if whole_us < 0:
            raise ValueError
    except ValueError:
        raise Refused(f"its {name} {shown(text)} is no time (RFC 3339, UTC)") from None
    return whole_us + int((match[2] or "").ljust(6, "0")[:6])


def _ports(endpoints: object) -> Ports:
    if not isinstance(endpoints, dict) or not endpoints:
        raise Refused("it names no endpoints")
    found = {}
    for name, by_transport in endpoints.items():
        if not is_tunnel_name(name):
            raise Refused(f"its endpoints name {shown(name)}, which is no name of a tunnel")
        if not isinstance(by_transport, dict):
            raise Refused(f"its endpoints of {name} are no JSON object")
        found[TunnelName(name)] = {_transport(name, word): _port(name, word, port) for word, port in by_transport.items()}
    return found


def _transport(name: str, word: str) -> str:
    if word not in TRANSPORTS:
        raise Refused(f"its endpoints of {name} name the transport {shown(word)}: {', '.join(TRANSPORTS)} are known")
    return word


def _port(name: str, transport: str, port: object) -> int:
    if isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 1 << 16:
        raise Refused(f"its {transport} port of {name}, {shown(port)}, is no port")
    return port
