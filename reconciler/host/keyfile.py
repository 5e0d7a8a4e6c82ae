"""Keys as files have them: WireGuard's base64, and PEM for manifests."""

from __future__ import annotations

import base64

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

LIMIT = 16384  # bytes; a PEM key has 119, those of other sorts some thousands
_PEM = serialization.Encoding.PEM


def wireguard_key() -> bytes:
    """A new private key as `wg genkey` prints it: base64 of 32 bytes (X25519), and a newline."""
    return base64.b64encode(X25519PrivateKey.generate().private_bytes_raw()) + b"\n"


def manifest_key() -> bytes:
    """A new Ed25519 private key: PKCS#8, PEM, not encrypted."""
    return Ed25519PrivateKey.generate().private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def public_of(text: bytes) -> bytes:
    """The public key of either, in the same form. ValueError when it is neither."""
    try:
        if text.lstrip().startswith(b"-----BEGIN"):
            private = serialization.load_pem_private_key(text, None)
            return private.public_key().public_bytes(_PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        raw = base64.b64decode(text.strip(), validate=True)
        return base64.b64encode(X25519PrivateKey.from_private_bytes(raw).public_key().public_bytes_raw()) + b"\n"
    except (TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(str(error)) from None


def signing_key(text: bytes) -> Ed25519PrivateKey:
    """A private key for manifests. ValueError says what is wrong, and nothing of the key."""
    try:
        key = serialization.load_pem_private_key(text, None)
    except TypeError:
        raise ValueError("is encrypted, and nobody is here to ask for its password") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("is not a private key (PEM)") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"is not an Ed25519 key ({type(key).__name__})")
    return key


def verifying_key(text: bytes) -> Ed25519PublicKey:
    """A public key for manifests. ValueError says what is wrong."""
    if b"PRIVATE KEY-----" in text:
        raise ValueError("is a private key: give the public one (tunctl key public)")
    try:
        key = serialization.load_pem_public_key(text)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("is not a public key (PEM)") from None
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError(f"is not an Ed25519 key ({type(key).__name__})")
    return key
