"""Manifests for tests: signed by `cryptography` and the text of the RFCs alone, so that anything can be in them."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

KEY, OTHER = (Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2))
NOW_US = 1_800_000_000_000_000  # 2027-01-15T08:00:00Z
HEADER = {"alg": "EdDSA", "typ": "tunctl-endpoints+json"}
PAYLOAD: dict[str, Any] = {
    "version": 1,
    "host": "vpn.example.com",
    "issued_at": "2027-01-15T07:59:59Z",
    "expires_at": "2027-01-22T08:00:00.5Z",
    "endpoints": {"hub": {"udp": 8446, "tcp": 8443}},
    "bridges": ["vpn.example.com:8443", "vpn.example.com:8446"],
}


def encoded(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def jws(payload: bytes, header: bytes = json.dumps(HEADER).encode(), key: Ed25519PrivateKey = KEY) -> dict[str, str]:
    """Signed, whatever it is."""
    protected, body = encoded(header), encoded(payload)
    return {"protected": protected, "payload": body, "signature": encoded(key.sign(f"{protected}.{body}".encode()))}


def manifest(key: Ed25519PrivateKey = KEY, **changes: Any) -> bytes:
    """A good one, with other values for some of its members; a member that is ... is left out."""
    document = {name: value for name, value in {**PAYLOAD, **changes}.items() if value is not ...}
    return json.dumps(jws(json.dumps(document).encode(), key=key)).encode()


def headed(**changes: Any) -> bytes:
    """A good one with another header."""
    header = {name: value for name, value in {**HEADER, **changes}.items() if value is not ...}
    return json.dumps(jws(json.dumps(PAYLOAD).encode(), json.dumps(header).encode())).encode()


def private_pem(key: Ed25519PrivateKey = KEY) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(key: Ed25519PrivateKey = KEY) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
