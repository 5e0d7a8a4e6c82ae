"""Endpoint names → addresses, all at once and within a bound. getaddrinfo itself has none: it can take half a minute."""

from __future__ import annotations

import _socket as socket  # the half of it in C: the other makes enumerations of all constants first
import time

from reconciler.host.bounded import Call
from reconciler.lean import suppress
from reconciler.model.facts import Unknown
from reconciler.model.prefix import pton
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

TIMEOUT_S = 3.0
NOT_NOW = Unknown("not looked up")
Addresses = tuple[bytes, ...]  # packed, IPv4 before IPv6, sorted: the resolver's own order changes with every answer
Names = dict[str, Addresses | Unknown]


def resolve(
    hosts: Iterable[str],
    *,
    timeout_s: float = TIMEOUT_S,
    beside: Callable[[str], Callable[[str], Addresses] | None] = lambda _name: None,
) -> Names:
    """For each host its addresses, or why they are not known. `timeout_s` 0: only what needs no look-up.

    `beside`: for a name, whom to ask as well, at the same time. What he knows counts first.
    """
    found: Names = {}
    calls: dict[str, Call[Addresses]] = {}
    first: dict[str, Call[Addresses]] = {}
    for host in dict.fromkeys(hosts):
        literal = _literal(host)
        if literal is not None:
            found[host] = (literal,)
        elif not timeout_s:
            found[host] = NOT_NOW
        else:
            calls[host] = Call(lambda host=host: _look_up(host))  # type: ignore[misc]
            ask = beside(host)
            if ask is not None:
                first[host] = Call(lambda host=host, ask=ask: _sorted(ask(host)))  # type: ignore[misc]
    deadline = time.monotonic() + timeout_s
    for host, call in calls.items():
        known = _outcome(first[host], deadline - time.monotonic(), timeout_s) if host in first else Unknown("")
        found[host] = _outcome(call, deadline - time.monotonic(), timeout_s) if isinstance(known, Unknown) else known
    return found


def is_literal(host: str) -> bool:
    """Is it an address already?"""
    return _literal(host) is not None


def is_in_hosts(name: str) -> bool:
    """Does /etc/hosts say where it is? That counts before any name server."""
    with suppress(OSError), open("/etc/hosts", encoding="utf-8", errors="replace") as file:
        return any(name.lower() in line.partition("#")[0].lower().split()[1:] for line in file)
    return False


def _outcome(call: Call[Addresses], left_s: float, timeout_s: float) -> Addresses | Unknown:
    try:
        return call.result(left_s) or Unknown("it has no address")
    except TimeoutError:
        return Unknown(f"no answer within {timeout_s:g} s")
    except (OSError, UnicodeError) as error:
        return Unknown(str(getattr(error, "strerror", None) or error))


def _literal(host: str) -> bytes | None:
    try:
        return pton(host)
    except ValueError:
        return None


def _look_up(host: str) -> Addresses:
    rows = socket.getaddrinfo(host, None, 0, socket.SOCK_DGRAM)
    return _sorted(pton(str(row[4][0]).partition("%")[0]) for row in rows)


def _sorted(packed: Iterable[bytes]) -> Addresses:
    return tuple(sorted(set(packed), key=lambda address: (len(address), address)))
