"""systemd-resolved over D-Bus: what one link tells it (org.freedesktop.resolve1(5)), for links of this network namespace.

The bus is a socket in the file system: inside a network namespace it may well be the host's, whose links are others.
"""

from __future__ import annotations

import errno
import os

from reconciler.host.bus import Bus, BusError
from reconciler.host.process import network_namespace
from reconciler.typed import NamedTuple

NAME = "org.freedesktop.resolve1"
_MANAGER = (NAME, "/org/freedesktop/resolve1", f"{NAME}.Manager")
_PROPERTIES = "org.freedesktop.DBus.Properties"
_NO_OWNER = ("org.freedesktop.DBus.Error.NameHasNoOwner", "org.freedesktop.DBus.Error.ServiceUnknown")
_NO_NAME = (f"{NAME}.NoSuchRR", f"{NAME}.DnsError.NXDOMAIN")
_NO_LINK = f"{NAME}.NoSuchLink"
_FAMILY = {4: 2, 16: 10}  # address length → AF_INET, AF_INET6
_STUB = "3500007F:0035"  # 127.0.0.53 port 53 as /proc/net/udp prints it
_NOBODY = (errno.ENOENT, errno.ECONNREFUSED)  # no bus


class LinkNames(NamedTuple):
    """What one link is there for."""

    servers: tuple[bytes, ...] = ()  # packed
    search: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()  # for routing only; "." is everything
    default_route: bool = False  # for names that belong to no other link


class Resolved:
    """A running resolved. Its methods raise TimeoutError, other OSErrors, BusError (its own words)."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def close(self) -> None:
        self._bus.close()

    def pid(self) -> int | None:
        """Its process; None when it does not run."""
        try:
            (pid,) = self._bus.ask_bus("GetConnectionUnixProcessID", "s", (NAME,))
        except BusError as error:
            if error.name in _NO_OWNER:
                return None
            raise
        return int(pid)

    def link(self, ifindex: int) -> LinkNames:
        """What is set for a link; nothing is also the answer for a link that it does not know."""
        try:
            (path,) = self._bus.call(_MANAGER, "GetLink", "i", (ifindex,))
            (properties,) = self._bus.call((NAME, path, _PROPERTIES), "GetAll", "s", (f"{NAME}.Link",))
        except BusError as error:
            if error.name == _NO_LINK:
                return LinkNames()
            raise
        servers = tuple(bytes(address) for _family, address in properties["DNS"][1])
        named = properties["Domains"][1]
        search = tuple(_clean(name) for name, routing_only in named if not routing_only)
        domains = tuple(sorted(_clean(name) for name, routing_only in named if routing_only))
        return LinkNames(servers, search, domains, bool(properties["DefaultRoute"][1]))

    def addresses(self, name: str, ifindex: int) -> tuple[bytes, ...]:
        """What the servers of this link say of a name; nothing when there is no such name."""
        try:
            found, _canonical, _flags = self._bus.call(_MANAGER, "ResolveHostname", "isit", (ifindex, name, 0, 0))
        except BusError as error:
            if error.name in _NO_NAME:
                return ()
            raise
        return tuple(bytes(address) for _ifindex, _family, address in found)

    def set_link(self, ifindex: int, names: LinkNames) -> None:
        """All of it; what it answered before is forgotten, it may have come from elsewhere."""
        servers = [(_FAMILY[len(packed)], packed) for packed in names.servers]
        domains = [(name, False) for name in names.search] + [(name, True) for name in names.domains]
        self._bus.call(_MANAGER, "SetLinkDNS", "ia(iay)", (ifindex, servers))
        self._bus.call(_MANAGER, "SetLinkDomains", "ia(sb)", (ifindex, domains))
        self._bus.call(_MANAGER, "SetLinkDefaultRoute", "ib", (ifindex, names.default_route))
        self._bus.call(_MANAGER, "FlushCaches")

    def revert(self, ifindex: int) -> None:
        """As if nobody had ever set anything for this link. A link that is gone is fine."""
        try:
            self._bus.call(_MANAGER, "RevertLink", "i", (ifindex,))
        except BusError as error:
            if error.name != _NO_LINK:
                raise
        self._bus.call(_MANAGER, "FlushCaches")


def connect(timeout_s: float) -> Resolved | None:
    """The resolved of this network namespace; None when there is none. OSErrors and BusError as its methods."""
    try:
        bus = Bus(timeout_s)
    except OSError as error:
        if error.errno in _NOBODY:
            return None
        raise
    resolved = Resolved(bus)
    try:
        pid = resolved.pid()
        if pid is not None and _is_here(pid):
            return resolved
    except BaseException:
        resolved.close()
        raise
    resolved.close()
    return None


def _is_here(pid: int) -> bool:
    """Does this resolved see our links? Who may not look at its namespace looks for its stub in ours. PermissionError."""
    try:
        theirs = os.readlink(f"/proc/{pid}/ns/net")
    except FileNotFoundError:
        return False  # beyond our view: another container
    except PermissionError:
        with open("/proc/thread-self/net/udp", encoding="ascii") as sockets:
            if any(_STUB in line for line in sockets):
                return True
        raise
    return theirs == network_namespace()


def _clean(name: str) -> str:
    return name if name == "." else name.rstrip(".").lower()
