"""SHA-256 for little texts. `hashlib` loads OpenSSL for all the others first, which costs as much as a hundred digests."""

from __future__ import annotations

import sys

from reconciler.typed import Any


def sha256_hex(content: bytes) -> str:
    """64 hex digits."""
    digest: str = _sha256()(content).hexdigest()
    return digest


def _sha256() -> Any:
    """The module in C, whose name is promised to nobody."""
    try:
        return __import__("_sha2" if sys.version_info >= (3, 12) else "_sha256").sha256
    except ImportError:
        from hashlib import sha256

        return sha256
