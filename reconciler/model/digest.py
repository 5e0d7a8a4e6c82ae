"""SHA-256 for little texts. `hashlib` loads OpenSSL for all the others first, which costs as much as a hundred digests."""

from __future__ import annotations

from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import sha256
else:
    try:
        from _sha2 import sha256  # Python 3.12
    except ImportError:
        try:
            from _sha256 import sha256  # Python 3.11
        except ImportError:
            from hashlib import sha256


def sha256_hex(content: bytes) -> str:
    """64 hex digits."""
    return sha256(content).hexdigest()
