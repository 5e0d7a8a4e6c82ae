"""The public key of a private one: scalar multiplication on Curve25519 (RFC 7748, section 5) without a library.

`cryptography` would be the natural choice and costs 34 ms to import here, more than `status` may take in all; this costs
1.1 ms a key. Coordinates are blinded with a random factor and nothing branches on a key bit. The daemon has the library loaded:
there it takes 0.04 ms.
"""

from __future__ import annotations

import os
import sys

_P = 2**255 - 19
_A24 = 121665  # (486662 - 2) / 4
_BASE = 9
_LIBRARY = "cryptography.hazmat.primitives.asymmetric.x25519"


def public(private: bytes) -> bytes:
    """32 bytes → 32 bytes."""
    return (_by_library(private) if _LIBRARY in sys.modules else None) or computed(private)


def _by_library(private: bytes) -> bytes | None:
    """None: its OpenSSL is one that may not (FIPS)."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    try:
        return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
    except UnsupportedAlgorithm:
        return None


def computed(private: bytes) -> bytes:
    """Without the library."""
    scalar = int.from_bytes(private, "little") & ((1 << 254) - 8) | 1 << 254
    blind = (1 + int.from_bytes(os.urandom(31), "little"), 1 + int.from_bytes(os.urandom(31), "little"))
    x2, z2, x3, z3 = blind[0], 0, _BASE * blind[1] % _P, blind[1]
    swapped = 0
    for at in range(254, -1, -1):
        bit = scalar >> at & 1
        x2, x3, z2, z3 = _swap(swapped ^ bit, x2, x3, z2, z3)
        swapped = bit
        total, difference = x2 + z2, x2 - z2
        square, other = total * total % _P, difference * difference % _P
        left, right = (x3 - z3) * total % _P, (x3 + z3) * difference % _P
        x3, z3 = (left + right) ** 2 % _P, _BASE * (left - right) ** 2 % _P
        x2, z2 = square * other % _P, (square - other) * (square + _A24 * (square - other)) % _P
    x2, _, z2, _ = _swap(swapped, x2, x3, z2, z3)
    return (x2 * pow(z2, _P - 2, _P) % _P).to_bytes(32, "little")


def _swap(bit: int, x2: int, x3: int, z2: int, z3: int) -> tuple[int, int, int, int]:
    """(x2, x3, z2, z3), or with bit 1 (x3, x2, z3, z2)."""
    by_x, by_z = bit * (x2 - x3), bit * (z2 - z3)
    return x2 - by_x, x3 + by_x, z2 - by_z, z3 + by_z
