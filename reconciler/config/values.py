"""What a single value may be: each function takes what TOML gave and returns what it means, or ValueError in plain words."""

from __future__ import annotations

import re

from reconciler.config.problems import shortened
from reconciler.model.names import ifname_problem
from reconciler.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Check = Callable[[Any], Any]

U32 = 0xFFFFFFFF
PORTS = (1, 65535)
MTU = (576, 65535)  # RFC 791's smallest datagram that every host takes; the length field of IP
MTU_IPV6 = 1280  # RFC 8200, section 5
TABLE_LOCAL = 255  # RT_TABLE_LOCAL
_CREDENTIAL = "credential:([A-Za-z0-9_.@:-]+)"
_UNITS_S = (86400.0, 3600.0, 60.0, 1.0, 0.001)
_DURATION = r"(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9}(?:\.\d{1,3})?)s)?(?:(\d{1,9})ms)?"
_NUMBER = "0[xX][0-9a-fA-F]{1,8}|[0-9]{1,10}"
_HINT = 'expected a duration like "30s", "5m" or "250ms"'


def shown(value: object) -> str:
    """A value for an error message: what it is, and itself where it is short."""
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, int):
        return f"the integer {plain(value)}"
    if isinstance(value, float):
        return f"the float {value}"
    if isinstance(value, str):
        return repr(shortened(value))
    if isinstance(value, (list, dict)):
        return "an array" if isinstance(value, list) else "a table"
    return "a date or time"


def plain(value: int) -> str:
    """An integer in digits, as long as there are not too many of them."""
    return str(value) if abs(value) < 10**20 else f"{'-' if value < 0 else ''}10^20 or more"


def expected(what: str, value: object) -> ValueError:
    return ValueError(f"expected {what}, got {shown(value)}")


def did_you_mean(word: str, words: tuple[str, ...] | list[str]) -> str:
    import difflib  # only who has to complain needs it

    near = difflib.get_close_matches(word, words, 1)
    return f", did you mean {near[0]!r}?" if near else ""


def boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise expected("true or false", value)
    return value


def between(low: int, high: int, what: str = "an integer") -> Check:
    def integer(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise expected(what, value)
        if not low <= value <= high:
            raise ValueError(f"must be from {low} to {high}, not {shown(value).removeprefix('the integer ')}")
        return value

    return integer


def number(low: float, high: float) -> Check:
    def real(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise expected("a number", value)
        if not low <= value <= high:  # nan is neither
            raise ValueError(f"must be from {low:g} to {high:g}")
        return float(value)

    return real


def version(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise expected("the integer 1", value)
    if value != 1:
        raise ValueError(f"this tunctl knows version 1 only, not {plain(value)}")
    return value


def mtu(value: object) -> int | None:
    if value == "auto" and isinstance(value, str):
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise expected('an integer or "auto"', value)
    low, high = MTU
    if value < low:
        raise ValueError(f"invalid MTU {plain(value)} (must be >= {low})")
    if value > high:
        raise ValueError(f"invalid MTU {plain(value)} (must be <= {high})")
    return value


def table(value: object) -> int:
    """A routing table that is not the kernel's own; which ones are tunctl's is known to the whole file only."""
    result: int = between(1, U32)(value)
    if result == TABLE_LOCAL:
        raise ValueError(f"table {TABLE_LOCAL} (local) belongs to the kernel")
    return result


def auto_or(check: Check, what: str) -> Check:
    """`"auto"` (→ None) or what `check` takes."""

    def either(value: object) -> Any:
        if isinstance(value, str):
            if value == "auto":
                return None
            raise expected(f'{what} or "auto"', value)
        return check(value)

    return either


def lookup(value: object) -> int | None:
    if isinstance(value, str):
        if value == "tunnel":
            return None
        hint = " (main is 254)" if value == "main" else ""
        raise ValueError(f'expected "tunnel" or the number of a table{hint}, got {shown(value)}')
    result: int = between(1, U32)(value)
    return result


def one_of(*words: str) -> Check:
    listed = ", ".join(f'"{word}"' for word in words[:-1])

    def word(value: object) -> str:
        if not isinstance(value, str) or value not in words:
            near = did_you_mean(value, words) if isinstance(value, str) else ""
            raise ValueError(f'expected {listed} or "{words[-1]}", got {shown(value)}{near}')
        return value

    return word


def text(*, most: int = 4096, empty: bool = False, lines: bool = False, what: str = "a string") -> Check:
    """A string of at most `most` characters, without control characters."""

    def string(value: object) -> str:
        if not isinstance(value, str):
            raise expected(what, value)
        if not value and not empty:
            raise ValueError("must not be empty")
        if len(value) > most:
            raise ValueError(f"is too long ({len(value)} characters, at most {most})")
        if any(c < " " or "\x7f" <= c <= "\x9f" for c in (value.replace("\n", "").replace("\t", "") if lines else value)):
            raise ValueError(f"has a control character in it: {shown(value)}")
        return value

    return string


def argument(value: object) -> str:
    """One word of a command: anything that execve takes."""
    if not isinstance(value, str):
        raise expected("a string", value)
    if "\0" in value:
        raise ValueError("has a NUL character in it")
    if len(value.encode()) >= 131072:
        raise ValueError("is too long (the kernel takes 131071 bytes, MAX_ARG_STRLEN)")
    return value


def secret_file(value: object) -> str:
    """A path or ``credential:NAME``; a key in the place of its file is never printed."""
    result: str = text(what="the path of a file")(value)
    if re.fullmatch(r"[A-Za-z0-9+/]{43}=", result):
        raise ValueError("this looks like a key; keys stand in files of their own: give the path of one")
    if result.startswith("credential:") and not re.fullmatch(_CREDENTIAL, result):
        raise ValueError('expected "credential:NAME", the name without slashes')
    return result


def duration(low_s: float, high_s: float, *, whole: bool = False) -> Check:
    """``"1h30m"`` → seconds."""

    def seconds(value: object) -> float:
        if not isinstance(value, str):
            raise ValueError(f"{_HINT} (a string), got {shown(value)}")
        match = re.fullmatch(_DURATION, value, re.ASCII)
        if not value or not match:
            raise ValueError(f"{_HINT}, got {shown(value)}")
        result = sum(float(part) * unit for part, unit in zip(match.groups(), _UNITS_S, strict=True) if part)
        if not low_s <= result <= high_s:
            raise ValueError(f"must be from {duration_text(low_s)} to {duration_text(high_s)}, not {shown(value)}")
        if whole and result != int(result):
            raise ValueError(f"must be whole seconds, not {shown(value)}")
        return result

    return seconds


def duration_text(seconds: float) -> str:
    """The shortest way to write it, for messages."""
    for unit, name in zip(_UNITS_S, ("d", "h", "m", "s", "ms"), strict=True):
        count = seconds / unit
        if count >= 1 and abs(count - round(count)) < 1e-9:
            return f"{round(count)}{name}"
    return f"{seconds:g}s"


def keepalive(value: object) -> int | None:
    """WireGuard's persistent keepalive, 16 bits of seconds; ``"off"`` and ``"0s"`` are None."""
    if value in ("off", "0s") and isinstance(value, str):
        return None
    return int(duration(1, 65535, whole=True)(value))


def mark(value: object) -> tuple[int, int]:
    """``"0x10/0xff"``, ``"0x10"`` or 16 → value, mask."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise expected('a mark like "0x10/0xff"', value)
    word, slash, mask_word = _digits(value).partition("/")
    if not re.fullmatch(_NUMBER, word) or (slash and not re.fullmatch(_NUMBER, mask_word)):
        raise expected('a mark like "0x10/0xff"', value)
    bits, mask = _unsigned(word), _unsigned(mask_word) if slash else U32
    if bits > U32 or mask > U32:
        raise ValueError(f"a mark has 32 bits: {shown(value)}")
    if not mask:
        raise ValueError("the mask must not be 0")
    if bits & ~mask:
        raise ValueError(f"{bits:#x} has bits outside the mask {mask:#x}: no packet could match")
    return bits, mask


def _digits(value: object) -> str:
    """As text; "" for what is too long for any number here (Python itself refuses to print 4300 digits)."""
    if isinstance(value, int):
        return str(value) if 0 <= value < 10**20 else ""
    return str(value)


def _unsigned(word: str) -> int:
    return int(word, 16 if word[:2] in ("0x", "0X") else 10)


def host_mark(value: object) -> tuple[int, int]:
    """The mark of tunnels' own packets: as ``mark``, but never 0, which all other packets carry."""
    bits, mask = mark(value)
    if not bits:
        raise ValueError("the mark must not be 0: every unmarked packet has that")
    return bits, mask


def uid_range(value: object) -> tuple[int, int]:
    """``"1000-2000"``, ``"1000"`` or 1000 → first, last."""
    match = re.fullmatch(r"(\d{1,10})(?:-(\d{1,10}))?", _digits(value), re.ASCII)
    if isinstance(value, bool) or not isinstance(value, (int, str)) or not match:
        raise expected('user ids like "1000-2000" or 1000', value)
    first = int(match[1])
    last = int(match[2]) if match[2] else first
    if last >= U32:
        raise ValueError(f"a user id is at most {U32 - 1}: {shown(value)}")
    if first > last:
        raise ValueError(f"{first}-{last} is empty: the first is greater than the last")
    return first, last


def ifname(value: object) -> str:
    if not isinstance(value, str):
        raise expected("the name of an interface", value)
    problem = ifname_problem(value)
    if problem:
        raise ValueError(problem if len(value) <= 64 else f"{shown(value)} is too long for an interface name (15 bytes)")
    return value


def ifname_or(*words: str) -> Check:
    def name(value: object) -> str:
        return value if isinstance(value, str) and value in words else ifname(value)

    return name
