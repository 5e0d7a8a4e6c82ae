"""Names and numbers that must not mix, and what a good one looks like."""

from __future__ import annotations

from reconciler.lean import lru_cache
from reconciler.typed import NewType

TunnelName = NewType("TunnelName", str)
IfName = NewType("IfName", str)

HOST = TunnelName("")  # the owner of what belongs to no single tunnel; never a valid tunnel name

IFNAMSIZ = 16  # linux/if.h: 15 bytes and the final NUL
_FIRST = "abcdefghijklmnopqrstuvwxyz0123456789"
_LETTERS = _FIRST + "_-"
_LONGEST = 32
_LABEL = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


@lru_cache(1024)  # each is asked about in many places
def is_tunnel_name(text: str) -> bool:
    """True for ``[a-z0-9][a-z0-9_-]{0,31}`` and nothing around it."""
    return 0 < len(text) <= _LONGEST and text[0] in _FIRST and not text.strip(_LETTERS)  # a loop of C, without objects


def ifname_problem(text: str) -> str | None:
    """Why the kernel (dev_valid_name) or tunctl would not take this interface name; None when it is good."""
    if not text:
        return "an interface name must not be empty"
    if len(text.encode()) >= IFNAMSIZ:
        return f"{text!r} has {len(text.encode())} bytes, an interface name at most {IFNAMSIZ - 1}"
    if text in (".", "..") or not text.isprintable() or "/" in text or ":" in text or "%" in text or " " in text:
        return f"{text!r} is no interface name (no '/', ':', '%' or blanks)"
    if text in ("lo", "all", "default"):
        return f"{text!r} is reserved by the kernel"
    return None


def is_host_name(text: str) -> bool:
    """True for a DNS name in ASCII, with or without the final dot: labels of 63 characters, 253 in all (RFC 1035)."""
    labels = text.removesuffix(".").split(".")
    return len(text) <= 254 and all(
        0 < len(label) < 64 and _LABEL.issuperset(label) and not (label[0] == "-" or label[-1] == "-") for label in labels
    )
