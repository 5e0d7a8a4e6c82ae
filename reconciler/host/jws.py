"""Signed JSON: JWS in flattened form (RFC 7515, section 7.2.2) with EdDSA over Ed25519 (RFC 8037). Nothing else is understood.

What is refused says why: `Refused`. A text is judged from the outside to the inside, and nothing in it is believed before
its signature; the key it must be signed with is the reader's, never one that it names or brings along.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ALGORITHM = "EdDSA"
_SIGNATURE_BYTES = 64  # RFC 8032, section 5.1.6
_SHOWN = 60  # characters of somebody else's text in a message


class Refused(ValueError):
    """Why this is not what it should be."""


def sign(payload: bytes, key: Ed25519PrivateKey, kind: str) -> bytes:
    """One line of JSON. `kind`: the header's `typ`, so that no signature counts for another sort of document."""
    header = {"alg": ALGORITHM, "typ": kind, "kid": thumbprint(key.public_key())}
    protected, body = _encoded(json.dumps(header, separators=(",", ":")).encode()), _encoded(payload)
    signature = _encoded(key.sign(f"{protected}.{body}".encode()))
    return json.dumps({"payload": body, "protected": protected, "signature": signature}).encode() + b"\n"


def verify(text: bytes, key: Ed25519PublicKey, kind: str) -> bytes:
    """The payload, if it was signed with this key. Refused."""
    outer = _object(text, "it")
    if "signatures" in outer:
        raise Refused("it is a JWS with several signatures, not a flattened one")
    if "header" in outer:
        raise Refused("it has a header that is not signed")
    protected, body, signature = (_member(outer, name) for name in ("protected", "payload", "signature"))
    _judge_header(_object(_decoded(protected, "protected"), "its header"), key, kind)
    payload, raw = _decoded(body, "payload"), _decoded(signature, "signature")
    if len(raw) != _SIGNATURE_BYTES:
        raise Refused(f"its signature has {len(raw)} bytes, not {_SIGNATURE_BYTES}")
    try:
        key.verify(raw, f"{protected}.{body}".encode())
    except InvalidSignature:
        raise Refused("its signature does not fit: it was changed, or signed with another key") from None
    return payload


def thumbprint(key: Ed25519PublicKey) -> str:
    """A short name of a key (RFC 7638; members and order: RFC 8037, section 2)."""
    jwk = {"crv": "Ed25519", "kty": "OKP", "x": _encoded(key.public_bytes_raw())}
    return _encoded(sha256(json.dumps(jwk, separators=(",", ":")).encode()).digest())


def parsed(text: bytes, what: str) -> Any:
    """A JSON document without doubled keys and without numbers that are none. Refused."""
    try:
        return json.loads(text.decode(), object_pairs_hook=_once, parse_constant=_no_number)
    except UnicodeDecodeError:
        raise Refused(f"{what} is not text") from None
    except RecursionError:
        raise Refused(f"{what} is nested too deeply") from None
    except Refused:
        raise
    except ValueError as error:
        raise Refused(f"{what} is not JSON: {error}") from None


def shown(value: object) -> str:
    """Somebody else's value, in a message."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _object(text: bytes, what: str) -> dict[str, Any]:
    document = parsed(text, what)
    if not isinstance(document, dict):
        raise Refused(f"{what} is no JSON object")
    return document


def _judge_header(header: dict[str, Any], key: Ed25519PublicKey, kind: str) -> None:
    if header.get("alg") != ALGORITHM:
        raise Refused(f"it is signed by the algorithm {shown(header.get('alg'))}, only {ALGORITHM} counts")
    if "crit" in header:
        raise Refused(f"it demands extensions that nobody here knows (crit {shown(header['crit'])})")
    if header.get("typ") != kind:
        raise Refused(f"it is of the type {shown(header.get('typ'))}, not {kind!r}")
    if "kid" in header and header["kid"] != thumbprint(key):
        raise Refused(f"it is signed with another key, {shown(header['kid'])}; this one is {thumbprint(key)!r}")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of two values for one key, one reader takes the first and another the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _value in pairs]
        raise Refused(f"it has the key {shown(next(name for name in names if names.count(name) > 1))} twice")
    return found


def _no_number(word: str) -> Any:
    raise Refused(f"{word} is no number")


def _member(outer: dict[str, Any], name: str) -> str:
    value = outer.get(name)
    if not isinstance(value, str):
        raise Refused(f"it has no {name}" if value is None else f"its {name} is no text")
    return value


def _encoded(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decoded(text: str, name: str) -> bytes:
    """base64url without padding (RFC 7515, section 2), in the one form that a value has."""
    try:
        raw = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except ValueError:  # also what is not ASCII
        raise Refused(f"its {name} is not base64url") from None
    if _encoded(raw) != text:
        raise Refused(f"its {name} is not base64url as it must be written")
    return raw
