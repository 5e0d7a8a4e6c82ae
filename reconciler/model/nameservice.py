"""Who answers names on this host: every probe, so that a choice can be made from them and told in one line; and the choice."""

from __future__ import annotations

from reconciler.errors import TunctlError
from reconciler.model.names import TunnelName
from reconciler.model.resource import Resource
from reconciler.typed import NamedTuple

PATH = "/etc/resolv.conf"
LEDGER_KEY = f"file:{PATH}"


class NameService(NamedTuple):
    """The evidence. Words, because people read them."""

    resolved: str = "no"  # yes · no · or why that could not be found out
    resolvconf: str = "none"  # none · openresolv · debian · resolved (resolvectl by this name) · unknown
    nss_resolve: bool = False  # libc asks resolved, whatever is in resolv.conf
    path: str = PATH  # of the content, symlinks followed
    form: str = "file"  # file · symlink · mount · absent · or why it could not be read
    writer: str = ""  # of resolv.conf: resolved · resolvconf · NetworkManager · tunctl · another tunctl; "": nobody known
    is_ours: bool = False  # the file has what we put there
    records: frozenset[TunnelName] = frozenset()  # tunnels of ours that resolvconf has a record of
    first: str = ""  # what Debian's resolvconf sorts before uplinks

    def __str__(self) -> str:
        nss = "resolve" if self.nss_resolve else "dns"
        writer = self.writer or "unknown"
        return f"resolved={self.resolved} resolvconf={self.resolvconf} nss={nss} file={self.path} ({self.form}) writer={writer}"


class Resolvers(NamedTuple):
    """What is wanted, what this host cannot do, and what is to be said."""

    resources: tuple[Resource, ...] = ()
    refused: tuple[tuple[TunnelName, TunctlError], ...] = ()  # the tunnel itself goes on without
    reasons: tuple[tuple[TunnelName, str], ...] = ()  # why a tunnel has less than it asked for
    warnings: tuple[str, ...] = ()
