"""What `nat` entries let through: which packets of which tunnel leave by which device, as the host is now."""

from __future__ import annotations

from reconciler.errors import InvalidFile, NotObserved, Problem, TunctlError, Unavailable
from reconciler.layout.lan import connected
from reconciler.layout.lay import Lay
from reconciler.model.facts import Facts, Unknown
from reconciler.model.names import IfName, TunnelName
from reconciler.model.prefix import AF_INET, Prefix
from reconciler.model.tunnel import Nat
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator


class Passage(NamedTuple):
    """Packets of one source that leave by one device, and the answers to them."""

    tunnel: TunnelName
    dev: IfName  # the tunnel's own
    source: Prefix
    out: IfName
    masquerade: bool
    forward: bool
    mtu: int | None = None  # of the tunnel's device, where it is known

    @property
    def words(self) -> str:
        """``ip`` or ``ip6``, as nft calls the family of the source."""
        return "ip" if self.source.family == AF_INET else "ip6"


def passages(lay: Lay, facts: Facts, mtu: int | None = None) -> tuple[Passage, ...]:
    """Those of one tunnel, whose device is to have this MTU (None: the one it has). A family for which the host has no uplink
    has none, as long as another one of the entry has.

    Unavailable when an entry needs an uplink and there never was one; InvalidFile for a source that contains its own
    outgoing side; NotObserved when the uplinks are not known.
    """
    mtu = mtu or facts.forwarding.mtus.get(lay.dev)
    found = dict.fromkeys(
        Passage(lay.intent.name, lay.dev, source, out, entry.masquerade, entry.forward, mtu)
        for at, entry in enumerate(lay.intent.tunnel.nat)
        for source, out in _sides(lay, at, entry, facts)
    )
    for passage in found:
        for dev in (passage.dev, passage.out):
            if not is_speakable(dev):
                raise Unavailable(f"nat: interface {dev!r}: nft has no words for such a name")
        _refuse_own_side(passage, lay, facts)
    return tuple(found)


def is_speakable(dev: IfName) -> bool:
    """Between quotes, nft takes these letters for something else."""
    return not any(letter in dev for letter in '"\\*')


def missing(lay: Lay, facts: Facts) -> Iterator[str]:
    """Reasons why not all of what the entries say can be."""
    for at, entry in enumerate(lay.intent.tunnel.nat):
        if entry.out not in ("uplink", "tunnel", lay.dev, *facts.forwarding.present):
            yield f"nat[{at}]: interface {entry.out} is not there"


def _sides(lay: Lay, at: int, entry: Nat, facts: Facts) -> list[tuple[Prefix, IfName]]:
    if entry.out == "tunnel":
        return [(source, lay.dev) for source in entry.source]
    if entry.out != "uplink":
        return [(source, IfName(entry.out)) for source in entry.source]
    sides = [(source, dev) for source in entry.source if (dev := _uplink(source, facts)) is not None]
    if sides:
        return sides
    kept = [(source, dev) for source in entry.source if (dev := _last(lay, source, facts)) is not None]
    if not kept and not facts.forwarding.blind:
        raise _no_uplink(at, facts)
    return kept


def _uplink(source: Prefix, facts: Facts) -> IfName | None:
    if isinstance(facts.uplinks, Unknown):
        return None
    return next((uplink.dev for uplink in facts.uplinks if uplink.family == source.family), None)


def _last(lay: Lay, source: Prefix, facts: Facts) -> IfName | None:
    """The uplink that the rules which stand there name: none now, or an unknown one, changes nothing."""
    others = {lay.dev, *(entry.out for entry in lay.intent.tunnel.nat)}
    found = facts.forwarding.outs.get((lay.intent.name, source), ())
    return next((dev for dev in found if dev not in others), None)


def _no_uplink(at: int, facts: Facts) -> TunctlError:
    if isinstance(facts.uplinks, Unknown):
        return NotObserved(f"nat[{at}]: which uplink the host has is not known: {facts.uplinks.reason}")
    hint = "bring the uplink up; tunctl reconcile tries again"
    return Unavailable(f'nat[{at}]: out = "uplink", and the host has no uplink (no default route)', hint=hint)


def _refuse_own_side(passage: Passage, lay: Lay, facts: Facts) -> None:
    """What comes from the outgoing side does not go out there."""
    for network in _networks(passage.out, lay, facts):
        if passage.source.covers(network):
            raise InvalidFile(
                f"nat source {passage.source} contains {network}, the network of its own outgoing side {passage.out}",
                hint="Name the networks on the other side only.",
                details=(Problem("", 0, f"tunnels.{passage.tunnel}.nat", f"source contains {network} of {passage.out}"),),
            )


def _networks(dev: IfName, lay: Lay, facts: Facts) -> Iterator[Prefix]:
    if dev == lay.dev:
        yield from (Prefix(*address).network for address in lay.intent.tunnel.addresses)
    yield from (one.prefix for one in connected(facts) if one.dev == dev)
    for uplink in () if isinstance(facts.uplinks, Unknown) else facts.uplinks:
        if uplink.dev == dev:
            yield from (Prefix(packed, len(packed) * 8) for packed in uplink.addresses)
