"""What is to be remembered after a pass: handles, as the kernel says they should be, and what manifests vouch for."""

from __future__ import annotations

from reconciler.host.handles import Handle
from reconciler.host.machine import Machine
from reconciler.kinds.owner import Owner
from reconciler.kinds.owner import fingerprint as fingerprint_of
from reconciler.loop.survey import Survey
from reconciler.model.facts import Unknown
from reconciler.model.intent import Intent, Vouched
from reconciler.model.names import TunnelName
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reconciler.model.port import Port


def handle(machine: Machine, now: Survey, name: TunnelName, *, peers_are_set: bool) -> Handle:
    """What is to be remembered of a tunnel of which something is there. `peers_are_set`: nothing of it went wrong."""
    intent, facts, known = now.intents[name], now.facts, machine.handles.get(name)
    link, owner = now.link_of(name), now.owner_of(name)
    bound, requested = _ports(facts.ports[name], known) if name in facts.ports else ({}, {})
    made = Handle(
        name, intent.mark.id, facts.boot_id,
        link.name if link else None,
        link.ifindex if link else None,
        endpoints=_endpoints(now, intent) if peers_are_set else known.endpoints if known else {},
        bound=bound, requested=requested,
        resolved=_is_resolved(now, name, known),
    )  # fmt: skip
    if owner is None:
        return made
    fingerprint = _fingerprint(owner, now.owners_wanted.get(name))
    return made._replace(pid=owner.pid, start_ticks=owner.start_ticks, fingerprint=fingerprint, starting=not owner.ready)


def _fingerprint(found: Owner, wanted: Owner | None) -> str | None:
    """As it was started; where that is not known, as it is wanted."""
    return fingerprint_of(wanted) if found.fingerprint is None and wanted is not None else found.fingerprint


def _ports(ports: Sequence[Port] | Unknown, known: Handle | None) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Bound and requested. What an engine had before it ended is kept: it gets it back where it can."""
    if isinstance(ports, Unknown):
        return (known.bound, known.requested) if known else ({}, {})
    bound, requested = {}, {}
    for port in ports:
        transport = port.entry.transport
        if port.ours and port.bound:
            bound[transport], requested[transport] = port.bound, port.requested
        elif known and transport in known.bound:
            bound[transport], requested[transport] = known.bound[transport], known.requested.get(transport, "")
    return bound, requested


def _is_resolved(now: Survey, name: TunnelName, known: Handle | None) -> bool:
    """Settings of a link in systemd-resolved carry no mark: that they are ours is only written here."""
    if known is not None and now.found.is_unobserved("resolver", name):
        return known.resolved
    return name in now.resolved


def _endpoints(now: Survey, intent: Intent) -> dict[str, str]:
    """The endpoint texts that stand in the engine after a pass without errors."""
    if intent.tunnel.wireguard is None:
        return {}
    known = {peer.public_key: now.facts.endpoint(intent.name, peer) for peer in intent.tunnel.wireguard.peers}
    return {public_key: str(endpoint) for public_key, endpoint in known.items() if endpoint}


def vouched(now: Survey, intent: Intent) -> tuple[Vouched, ...]:
    """What the store is to remember of its manifests. Of a tunnel that is to be down nobody looked at them: as it was."""
    if not (now.facts.whereabouts or intent.vouched):
        return ()  # nobody vouches for anything, nor has anybody: mostly so
    known = [now.facts.whereabouts.get((intent.name, of)) for of in intent.tunnel.manifests]
    if intent.withdrawn or None in known:
        return intent.vouched
    return tuple([one.best for one in known if one and one.best])
