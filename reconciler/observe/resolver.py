"""Resolvers that are ours: link settings in systemd-resolved, records of resolvconf, the resolv.conf that we wrote."""

from __future__ import annotations

from _operator import attrgetter

from reconciler.host import resolvconf, resolvfile
from reconciler.host.machine import Machine
from reconciler.kinds.link import Link
from reconciler.kinds.resolver import EVERYTHING, Resolver
from reconciler.model.found import LinkState, Unobserved
from reconciler.model.intent import Intent
from reconciler.model.ledger import Entry
from reconciler.model.names import HOST, IfName, TunnelName
from reconciler.model.nameservice import LEDGER_KEY, PATH, NameService
from reconciler.observe.question import Question
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


class Seen(NamedTuple):
    """What a look at name servers saw."""

    resolvers: tuple[Resolver, ...] = ()
    unobserved: tuple[Unobserved, ...] = ()
    service: NameService | None = None  # None: no tunnel has `dns`


def look(machine: Machine, question: Question, links: Iterable[Link], states: Mapping[IfName, LinkState]) -> Seen:
    """Of all tunnels of ours. resolved is asked about links that have, or had, name servers by us, and of no others."""
    wishing = [*filter(attrgetter("tunnel.dns"), question.intents)]
    ours = {link.tunnel: link for link in links if link.tunnel}
    blind: list[Unobserved] = []
    place, content, entry = resolvfile.Place(PATH), None, None
    try:
        place = resolvfile.place()
        content = resolvfile.read(place.path)
        entry = next((entry for entry in machine.ledger.entries() if entry.key == LEDGER_KEY), None)
        resolvers = list(_file(question, place.path, content, entry))
        readable = ""
    except OSError as error:
        resolvers, readable = [], f"{PATH}: {error.strerror or error}"
        blind += _blind((HOST, *(intent.name for intent in wishing)), readable)
    records, blind_records = _records(question, ours)
    resolvers += records
    blind += blind_records
    up = [intent for intent in question.intents if intent.name in ours]
    get = machine.handles.get
    may_be_asked = wishing or any((handle := get(intent.name)) and handle.resolved for intent in up)  # mostly nobody
    asked = [intent for intent in up if _is_asked(machine, intent)] if may_be_asked else []
    known = "no"
    if asked or wishing:
        from reconciler.observe import resolved  # and all that speaks D-Bus

        found, known = resolved.look(asked, ours, states, question.patience_s)
        resolvers += found
        if known not in ("yes", "no"):
            asking = dict.fromkeys(intent.name for intent in (*asked, *wishing) if _may_be_resolved(intent))
            blind += _blind(asking, known, privilege="root" in known)
    service = None
    if wishing:
        from reconciler.observe import nameservice

        service = nameservice.gather(place, content, known)._replace(
            is_ours=any(one.backend == "file" and not one.overwritten for one in resolvers),
            records=frozenset(one.owner for one in records),
        )
        service = service._replace(form=readable) if readable else service
    return Seen(tuple(resolvers), tuple(blind), service)


def _blind(tunnels: Iterable[TunnelName], reason: str, *, privilege: bool = False) -> list[Unobserved]:
    return [Unobserved(tunnel, "resolver", reason, privilege) for tunnel in tunnels]


def _may_be_resolved(intent: Intent) -> bool:
    return intent.tunnel.dns is None or intent.tunnel.dns.backend != "file"


def _is_asked(machine: Machine, intent: Intent) -> bool:
    """Settings of a link carry no mark: what a tunnel without `dns` has there is somebody else's, unless we remember it."""
    if intent.tunnel.dns is not None and _may_be_resolved(intent):
        return True
    handle = machine.handles.get(intent.name)
    return handle is not None and handle.resolved and handle.id == intent.mark.id


def _file(question: Question, path: str, content: bytes | None, entry: Entry | None) -> Iterator[Resolver]:
    """What carries our mark, or is what the ledger says that we wrote; with an entry for another content: overwritten."""
    mark = resolvfile.mark_of(content)
    is_ours = (mark is not None and question.is_ours(mark)) or (entry is not None and content == entry.value)
    if not is_ours and entry is None:
        return
    recorded = resolvfile.mark_of(entry.value) if entry else None
    owner = mark.tunnel if mark and is_ours else recorded.tunnel if recorded else HOST
    names = resolvfile.parse(content or b"")
    yield Resolver(
        HOST, "file", owner, None, names.servers, names.search, (EVERYTHING,), default_route=True, record=path,
        mark=mark if is_ours else None, overwritten=not is_ours,
    )  # fmt: skip


def _records(question: Question, ours: Mapping[TunnelName, Link]) -> tuple[list[Resolver], list[Unobserved]]:
    """Records that carry the id of a tunnel of ours. One of a store that is lost is known by that store's own word only."""
    found: list[Resolver] = []
    try:
        records = list(resolvconf.records())
        by_id = {intent.mark.id: intent.name for intent in question.intents} if records else {}
        for record, mark_id, names in records:
            tunnel = by_id.get(mark_id, HOST if _is_left_over(question, mark_id) else None)
            if tunnel is not None:
                dev = ours[tunnel].name if tunnel in ours else IfName(record.rpartition(".tunctl.")[0])
                found.append(_record(tunnel, dev, record, names))
    except OSError as error:
        return [], _blind(
            [i.name for i in question.intents if i.tunnel.dns], f"records of resolvconf: {error.strerror or error}"
        )
    return found, []


def _is_left_over(question: Question, mark_id: str) -> bool:
    return question.store_id is None or (question.store_id != "" and mark_id.startswith(question.store_id))


def _record(tunnel: TunnelName, dev: IfName, record: str, names: resolvfile.Names) -> Resolver:
    """`overwritten`: the record is there, but resolv.conf, which is made of the records, names others."""
    servers = resolvfile.parse(resolvfile.read(resolvfile.place().path) or b"").servers
    local = bool(servers) and all(server[0] == 127 or server == bytes(15) + b"\1" for server in servers)
    hidden = not local and servers[:1] != names.servers[:1]
    return Resolver(
        tunnel, "resolvconf", tunnel, dev, names.servers, names.search, (EVERYTHING,), default_route=True, record=record,
        overwritten=hidden,
    )  # fmt: skip
