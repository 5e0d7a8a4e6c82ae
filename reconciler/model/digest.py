"""SHA-256. `hashlib` loads OpenSSL first, which costs as much as the digests of a thousand files; for a large one it pays."""

from __future__ import annotations

import sys

from reconciler.typed import Any

_LARGE_BYTES = 1 << 20
_MODULE = "_sha2" if sys.version_info >= (3, 12) else "_sha256"  # what hashlib itself falls back on; promised to nobody


def sha256_hex(content: bytes) -> str:
    """64 hex digits."""
    digest: str = (_of_openssl() if len(content) > _LARGE_BYTES else _in_c())(content).hexdigest()
    return digest


def _in_c() -> Any:
    try:
        return __import__(_MODULE).sha256
    except ImportError:
        return _of_openssl()


def _of_openssl() -> Any:
    from hashlib import sha256

    return sha256
