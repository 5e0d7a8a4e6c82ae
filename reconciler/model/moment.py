"""Times and durations, for people and for machines."""

from __future__ import annotations

import time

_UNITS = ((86400, "day", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))  # each with the next smaller one, seconds


def rfc3339(us: int | None) -> str | None:
    """Microseconds since the epoch → RFC 3339 UTC; None stays None."""
    if us is None:
        return None
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(us // 1_000_000)) + f".{us % 1_000_000:06d}Z"


def duration(seconds: float) -> str:
    """59 → ``59s``, 61 → ``1min 1s``, 3700 → ``1h 1min``, 172800 → ``2 days``; a clock that went back: ``just now``."""
    left = int(seconds)
    if left < 60:
        return f"{left}s" if left >= 0 else "just now"
    size, unit, lesser_size, lesser = next(row for row in _UNITS if left >= row[0])
    count, rest = divmod(left, size)
    more = rest // lesser_size
    return f"{_part(count, unit)} {more}{lesser}" if more else _part(count, unit)


def _part(count: int, unit: str) -> str:
    if unit == "day":
        return "1 day" if count == 1 else f"{count} days"
    return f"{count}{unit}"


def size(count: int) -> str:
    """Bytes for people: ``1.4 MiB``."""
    if count < 1024:
        return f"{count} B"
    value = count / 1024
    for unit in ("KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
