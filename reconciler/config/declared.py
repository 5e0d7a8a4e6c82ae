"""A tunnel as it stands in a file, on its way to a `model.tunnel.Tunnel`."""

from __future__ import annotations

from reconciler.config.lines import Path
from reconciler.config.problems import Document, Findings
from reconciler.config.schema import TunnelTable
from reconciler.lean import lru_cache
from reconciler.model.marks import Numbers
from reconciler.model.names import IfName, TunnelName
from reconciler.model.prefix import Prefix
from reconciler.model.prefixes import Prefixes
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Check = Callable[["Declared"], None]  # errors and warnings go to the tunnel's findings


class Manner(NamedTuple):
    """How a file is judged."""

    lenient: bool  # referenced files and users that are absent are warnings
    numbers: Numbers  # as `[host]` of this file moves them


class Routed(NamedTuple):
    """One key of a tunnel that routes prefixes."""

    path: Path
    prefixes: Sequence[Prefix] | Prefixes
    metric: int | None
    table: int | None  # None: its own table, or `main`


class Declared(NamedTuple):
    """One `[tunnels.NAME]`."""

    name: TunnelName
    table: TunnelTable
    document: Document
    findings: Findings
    manner: Manner
    interface: IfName | None  # None: the kernel chooses

    @property
    def path(self) -> Path:
        return ("tunnels", self.name)

    @property
    def has_own_table(self) -> bool:
        return any(rule.lookup is None for rule in self.table.rules)

    def error(self, path: Path, message: str) -> None:
        """`path` begins below the tunnel's table."""
        self.findings.error(self.document, (*self.path, *path), message)

    def refuse(self, path: Path, message: str) -> None:
        self.findings.refuse(self.document, (*self.path, *path), message)

    def warn(self, path: Path, message: str) -> None:
        self.findings.warn(self.document, (*self.path, *path), message)

    def place(self, path: Path) -> str:
        return self.document.place((*self.path, *path))


class Checks:
    """Checks in their order, each with keys: where none of these stands in a tunnel's table, it has nothing to look at."""

    def __init__(self, *checks: tuple[tuple[str, ...], Check]) -> None:
        self._checks = checks
        self.of = lru_cache(64)(self._of)  # many tunnels have the same keys

    def _of(self, keys: frozenset[str]) -> tuple[Check, ...]:
        return tuple(check for needed, check in self._checks if not keys.isdisjoint(needed))
