"""Host-wide things that were changed and must be given back: what was there before, kept in the store until then."""

from __future__ import annotations

from reconciler.model.names import TunnelName
from reconciler.typed import NamedTuple, Protocol


class Entry(NamedTuple):
    """One host-wide thing that was changed and must be given back."""

    key: str
    previous: bytes | None  # what was there before the first change; None: there was nothing
    value: bytes  # what we set last: only if it is still there, `previous` is given back
    tunnels: tuple[TunnelName, ...]  # who needs it so; the last one gives it back. HOST for shared ones
    at_us: int


class Ledger(Protocol):
    """The entries of one store. Durable when a call returns."""

    def entries(self) -> tuple[Entry, ...]:
        """All of them, by key, as they are now."""

    def reread(self) -> None:
        """Others had their turn: what was read before may not be so any more."""

    def put(self, key: str, tunnel: TunnelName, previous: bytes | None, value: bytes) -> None:
        """Before a host-wide thing is changed. The first `previous` stays: later ones are our own doing."""

    def remove(self, key: str, tunnel: TunnelName) -> None:
        """After it was given back, or when others still need it: this tunnel does not. It goes with the last."""


_WHOLE = ("file:/etc/resolv.conf", "sysctl:net.ipv4.ip_forward")
_OF_INTERFACES = {
    "ipv4": ("forwarding", "rp_filter", "src_valid_mark"),
    "ipv6": ("forwarding", "force_forwarding", "accept_ra", "disable_ipv6"),
}


def is_ledger_key(key: str) -> bool:
    """True for the host-wide things that tunctl may change and give back, and for nothing else."""
    match key.split("."):
        case ["sysctl:net", family, "conf", interface, switch]:
            return switch in _OF_INTERFACES.get(family, ()) and _may_be_an_interface(interface)
    return key in _WHOLE


def _may_be_an_interface(name: str) -> bool:
    """A dot in it is written as a slash, as sysctl(8) does; a name of slashes only would be a way up the tree."""
    return 0 < len(name) <= 15 and bool(name.strip("/")) and not any(c in ":%" or c.isspace() for c in name)


class Remembered(NamedTuple):
    """A ledger to look at only."""

    known: tuple[Entry, ...] = ()

    def entries(self) -> tuple[Entry, ...]:
        return self.known

    def reread(self) -> None:
        """It stays as it was."""

    def put(self, key: str, tunnel: TunnelName, previous: bytes | None, value: bytes) -> None:
        raise AssertionError(f"the ledger is not open for writing: {key}")

    def remove(self, key: str, tunnel: TunnelName) -> None:
        raise AssertionError(f"the ledger is not open for writing: {key}")
