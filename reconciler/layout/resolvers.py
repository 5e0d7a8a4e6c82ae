"""Which servers answer for whom: what each tunnel's `dns` comes to on this host, and who has "everything"."""

from __future__ import annotations

from reconciler.errors import Foreign, NotObserved, TunctlError, Unavailable
from reconciler.kinds.resolver import EVERYTHING, Resolver
from reconciler.layout.lay import Lay
from reconciler.model.facts import Connected, Facts, Unknown
from reconciler.model.intent import Intent
from reconciler.model.names import HOST, IfName, TunnelName
from reconciler.model.nameservice import NameService, Resolvers
from reconciler.model.prefix import Prefix, ntop
from reconciler.model.prefixes import Prefixes
from reconciler.model.tunnel import Dns
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


class Claim(NamedTuple):
    """What one tunnel may have."""

    intent: Intent
    dev: IfName
    backend: str
    servers: tuple[bytes, ...]
    search: tuple[str, ...]
    domains: tuple[str, ...]

    @property
    def rank(self) -> tuple[int, int]:
        """The lowest has everything."""
        return (self.intent.tunnel.dns.priority if self.intent.tunnel.dns else 0, self.intent.slot)


def resolvers(lays: Sequence[Lay], facts: Facts, kept: Sequence[Connected]) -> Resolvers:
    """The resolvers of all tunnels that are to be up. `kept`: networks that stay local: no server in them is the tunnel's."""
    service = facts.name_service
    if service is None:
        return Resolvers()
    claims: list[Claim] = []
    refused: list[tuple[TunnelName, TunctlError]] = []
    reasons: list[tuple[TunnelName, str]] = []
    for lay in lays:
        if lay.intent.tunnel.dns is None:
            continue
        name = lay.intent.name
        servers, unreachable = _reachable(lay, lay.intent.tunnel.dns.servers, kept, Ways(lays, facts))
        reasons += [(name, reason) for reason in unreachable]
        if not servers:
            continue
        try:
            claim = _claim(lay, lay.intent.tunnel.dns, servers, service)
        except NotObserved:
            continue  # the look says so itself, and nothing is changed where it failed
        except TunctlError as error:
            refused.append((name, error))
        else:
            claims += [] if _is_taken_back_first(claim, facts, service) else [claim]
    chief = min((claim for claim in claims if EVERYTHING in claim.domains), key=lambda claim: claim.rank, default=None)
    losers = [claim for claim in claims if EVERYTHING in claim.domains and claim is not chief]
    reasons += [(claim.intent.name, f"dns owned by {chief.intent.name}") for claim in losers if chief]
    resources = tuple(resolver for claim in claims for resolver in _of_claim(claim, chief, service))
    warnings = tuple(text for claim in claims for text in _beside(claim, Ways(lays, facts)))
    return Resolvers(resources, tuple(refused), tuple(reasons), warnings)


def domains_of(dns: Dns, *, is_full: bool) -> tuple[str, ...]:
    """The names that go to the servers."""
    named = dns.domains if dns.domains is not None else (EVERYTHING,) if is_full else dns.search
    return (EVERYTHING,) if EVERYTHING in named else tuple(dict.fromkeys(map(clean, named)))


def clean(name: str) -> str:
    """A name as it is compared: small letters, no dot at the end."""
    return name.rstrip(".").lower()


class Ways(NamedTuple):
    """By which packets to a name server go."""

    lays: Sequence[Lay]
    facts: Facts

    def of(self, server: bytes, tunnel: TunnelName) -> str | None:
        """For people, seen from a tunnel: "" is by itself, or as rules say; None is by no route at all."""
        host = Prefix(server, len(server) * 8)
        for lay in sorted(self.lays, key=lambda lay: lay.intent.name != tunnel):
            mine = lay.intent.name == tunnel
            if mine and (lay.is_selected or lay.intent.tunnel.table is not None):
                return ""
            inside = lay.table_less | Prefixes.of(prefix.network for prefix in lay.intent.tunnel.addresses)
            if not lay.is_selected and inside.around(host):
                return "" if mine else f"by tunnel {lay.intent.name}"
        uplinks = self.facts.uplinks
        if isinstance(uplinks, Unknown) or any(uplink.family == host.family for uplink in uplinks):
            return "by the uplink"
        return "by a route of the host's own" if server in self.facts.reached else None


def _reachable(
    lay: Lay, servers: Iterable[bytes], kept: Sequence[Connected], ways: Ways
) -> tuple[tuple[bytes, ...], list[str]]:
    """A server inside a network that stays local would never be asked through the tunnel, one by no route not at all. A tunnel
    that worked keeps the latter: the uplink comes back, and nobody else answers meanwhile."""
    found, reasons = [], []
    for server in dict.fromkeys(servers):
        host = Prefix(server, len(server) * 8)
        network = next((one.prefix for one in kept if one.prefix.covers(host)), None)
        if network is not None:
            reasons.append(f"UNREACHABLE: {ntop(server)} is inside local LAN {network}")
        elif ways.of(server, lay.intent.name) is None and not lay.intent.progress.worked:
            reasons.append(f"UNREACHABLE: {ntop(server)} is reached by no route")
        else:
            found.append(server)
    return tuple(found), reasons


def _beside(claim: Claim, ways: Ways) -> Iterator[str]:
    """Servers that the tunnel does not carry packets to: often meant, but nobody should have to find out."""
    for server in claim.servers:
        way = ways.of(server, claim.intent.name)
        if way != "":
            is_reached = f"it is reached {way or 'by no route'}"
            yield f"{claim.intent.name}: name server {ntop(server)} is not in the tunnel, {is_reached}"


def _claim(lay: Lay, dns: Dns, servers: tuple[bytes, ...], service: NameService) -> Claim:
    domains = domains_of(dns, is_full=bool(lay.full))
    backend = choose(dns.backend, service)
    if backend != "resolved" and EVERYTHING not in domains:
        raise Unavailable(
            f"dns: only systemd-resolved can send {', '.join(domains)} alone to a server, and here it is {backend}",
            hint='dns.domains = ["."] sends everything there',
        )
    search = tuple(dict.fromkeys(map(clean, dns.search)))
    return Claim(lay.intent, lay.dev, backend, servers, search, domains)


def choose(backend: str, service: NameService) -> str:
    """The backend that this evidence asks for: resolved, resolvconf or file. Unavailable, Foreign, NotObserved."""
    chosen = _automatic(service) if backend == "auto" else backend
    if chosen == "resolvconf" and service.resolvconf == "resolved":
        chosen = "resolved"
    if chosen == "resolved" and service.resolved != "yes":
        if service.resolved == "no":
            raise Unavailable(f"dns: systemd-resolved does not run here ({service})")
        raise NotObserved(f"dns: systemd-resolved: {service.resolved}")
    if chosen == "resolvconf" and service.resolvconf not in ("openresolv", "debian"):
        raise Unavailable(f"dns: there is no resolvconf here that could be told ({service})")
    if chosen == "file" and service.writer in ("resolved", "resolvconf") and service.path.startswith("/run/"):
        raise Unavailable(f"dns: {service.path} is kept by {service.writer}, tunctl does not write there")
    if chosen == "file" and service.writer == "tunctl" and not service.is_ours:
        raise Foreign(f"dns: {service.path} was written by tunctl with another store")
    return chosen


def _automatic(service: NameService) -> str:
    """Whoever keeps resolv.conf is told; libc may ask resolved without it."""
    if service.writer == "resolved" or (service.nss_resolve and service.resolved == "yes" and not service.is_ours):
        return "resolved"
    if service.resolvconf != "none" and (service.writer == "resolvconf" or service.records):
        return "resolvconf"  # also when somebody wrote over what it made of our record
    return "file"


def _is_taken_back_first(claim: Claim, facts: Facts, service: NameService) -> bool:
    """Its link is gone and its servers are still asked (after a power cut, say): until the link is there again, the
    servers of before must answer, or nobody can find the tunnel's endpoint."""
    if claim.intent.name in facts.linked:
        return False
    return service.is_ours if claim.backend == "file" else claim.intent.name in service.records


def _of_claim(claim: Claim, chief: Claim | None, service: NameService) -> Iterator[Resolver]:
    name = claim.intent.name
    is_chief = claim is chief
    if claim.backend == "file":
        if is_chief:
            yield _everything(claim, HOST, None, service.path)
    elif claim.backend == "resolvconf":
        if is_chief:
            first = f"{service.first}." if service.first and not claim.dev.startswith(service.first) else ""
            yield _everything(claim, name, claim.dev, f"{first}{claim.dev}.tunctl.{claim.intent.mark.id}")
    else:
        routed = set(claim.domains) - set(claim.search) - (set() if is_chief else {EVERYTHING})
        if routed or claim.search:
            yield Resolver(name, "resolved", name, claim.dev, claim.servers, claim.search, tuple(sorted(routed)), is_chief)


def _everything(claim: Claim, tunnel: TunnelName, dev: IfName | None, record: str) -> Resolver:
    name = claim.intent.name
    return Resolver(
        tunnel, claim.backend, name, dev, claim.servers, claim.search, (EVERYTHING,), default_route=True, record=record,
        mark=claim.intent.mark if claim.backend == "file" else None,
    )  # fmt: skip
