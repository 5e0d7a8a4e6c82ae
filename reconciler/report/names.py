"""Name servers of a tunnel, as `status` tells them."""

from __future__ import annotations

from reconciler.model.prefix import ntop
from reconciler.typed import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator


class DnsLine(NamedTuple):
    """What a tunnel asked for, who was chosen to answer, and whether it is so."""

    backend: str | None  # resolved · resolvconf · file; None: nothing could be told to anybody
    servers: tuple[bytes, ...]
    search: tuple[str, ...]
    domains: tuple[str, ...]
    priority: int
    in_force: bool | None  # None: could not be seen
    evidence: str  # every probe that the choice was made from


def dns_json(line: DnsLine | None) -> dict[str, Any] | None:
    return None if line is None else {**line._asdict(), **{name: list(getattr(line, name)) for name in ("search", "domains")},
                                      "servers": [ntop(server) for server in line.servers]}  # fmt: skip


def dns_lines(line: DnsLine) -> Iterator[str]:
    names = "everything" if "." in line.domains else " ".join(dict.fromkeys((*line.search, *line.domains))) or "nothing"
    state = {True: "", False: " (not in force)", None: " (not seen)"}[line.in_force]
    by = f" by {line.backend}" if line.backend else ""
    yield f"        DNS: {' '.join(map(ntop, line.servers))} for {names}{by}{state}"
    if line.backend and not line.in_force:
        yield f"             {line.evidence}"
