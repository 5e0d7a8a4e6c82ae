"""Who answers names: what a tunnel tells systemd-resolved or resolvconf, or what the host's resolv.conf says.

With resolved and resolvconf each tunnel has one of its own. There is one resolv.conf only, so that one belongs to the host
and names the tunnel it stands there for.
"""

from __future__ import annotations

from reconciler.model.marks import Mark
from reconciler.model.names import IfName, TunnelName
from reconciler.model.prefix import ntop
from reconciler.model.resource import Resource, differing
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable

EVERYTHING = "."
_REPLACE_ON = frozenset(("record",))
_FIELDS = ("servers", "search", "domains", "default_route", "owner", "dev", "record", "mark", "overwritten")


class Resolver(NamedTuple):
    """Name servers, and the names that go to them."""

    tunnel: TunnelName | None  # HOST for the file
    backend: str  # resolved · resolvconf · file
    owner: TunnelName  # the tunnel whose servers these are
    dev: IfName | None  # None for the file
    servers: tuple[bytes, ...]  # packed, in the order in which they are asked
    search: tuple[str, ...] = ()  # appended to short names; names below them go to the servers
    domains: tuple[str, ...] = ()  # names below these go to the servers too; "." is everything
    default_route: bool = False  # and so do names that are nobody's
    record: str = ""  # resolvconf: the name of its record; file: the real path, symlinks followed
    mark: Mark | None = None  # file only: what it carries
    overwritten: bool = False  # found only: somebody else has put other servers there

    @property
    def kind(self) -> str:
        return "resolver"

    @property
    def replace_on(self) -> frozenset[str]:
        return _REPLACE_ON if self.backend == "resolvconf" else frozenset()

    @property
    def key(self) -> Hashable:
        return (self.backend, self.tunnel)

    @property
    def place(self) -> Hashable:
        return self.key

    @property
    def hangs_on(self) -> tuple[str, ...]:
        """Resolved forgets a link that goes; a record and a file stay as they are."""
        return ("link",) if self.backend == "resolved" else ()

    @property
    def yields(self) -> bool:
        return False

    @property
    def order(self) -> int:
        """The last of all: servers are told only when they can be reached."""
        return 20

    @property
    def takes_all(self) -> bool:
        return EVERYTHING in self.domains

    def differs_from(self, found: Resource) -> tuple[str, ...]:
        return differing(self, found, _FIELDS)

    def __str__(self) -> str:
        where = f"{self.record} for {self.owner}" if self.backend == "file" else f"{self.backend} dev {self.dev}"
        if self.overwritten:
            return f"resolver {where} (overwritten)"
        words = ["resolver", where, "dns", *map(ntop, self.servers)]
        domains = [*self.search, *(f"~{domain}" for domain in self.domains)]
        return " ".join([*words, "domain", *domains] if domains else words)
