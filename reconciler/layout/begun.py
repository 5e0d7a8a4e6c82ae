"""What the host begins itself is no answer: IPv6 must not take the way back past a tunnel that blocks. Pure.

A sender without an address of its own asks for a way. To IPv4, none is an error. IPv6 then chooses any address of the host and
asks again, from there (ip6_dst_lookup_tail, since Linux 4.2): the rule that lets answers leave by the uplink takes it for one,
and all that should have been unreachable leaves in clear. No policy rule can tell the two apart. So a filter asks the rules
again, with a mark that the way back does not take; what finds no way then is rejected, as it would have been at first. Only
packets without a mark have that way back: others are judged by nobody.
"""

from __future__ import annotations

from reconciler.kinds.rule import UNMARKED, USER_RULES, Rule
from reconciler.layout import rules
from reconciler.layout.lay import Lay
from reconciler.layout.routes import families
from reconciler.model.facts import Facts, Unknown
from reconciler.model.marks import Numbers
from reconciler.model.names import HOST, IfName, TunnelName
from reconciler.model.prefix import AF_INET6
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

JUDGED_ELSE = USER_RULES[-1]  # behind users' rules, before the tables of full tunnels
_LAST_UID = 0xFFFFFFFE  # the next one means "none"


def judged_for(lays: Iterable[Lay], facts: Facts) -> TunnelName | None:
    """The first tunnel in whose own table IPv6 may find that there is no way."""
    return next((lay.intent.name for lay in lays if facts.ipv6 and lay.owns_table and _has_ipv6(lay, facts)), None)


def _has_ipv6(lay: Lay, facts: Facts) -> bool:
    listed = any(AF_INET6 in prefixes.families for entry, prefixes in lay.entries if entry.table is None)
    return listed or AF_INET6 in families(lay, facts)


def held_back(lays: Sequence[Lay], facts: Facts, numbers: Numbers) -> Iterator[Rule]:
    """While the tunnel that takes all of IPv6 is dead, the filter finds no way at all. It is asked behind the sender: who was
    told that there is none must not be let out because one has come meanwhile. So it hears of that with the next look."""
    if isinstance(facts.leading6, Unknown):
        return
    for lay in rules.ranked(lays, facts, AF_INET6):
        if lay.intent.name in facts.leading6 and not lay.is_dead:
            return
        if lay.blocks and AF_INET6 in lay.full and lay.intent.progress.worked:
            mark = (numbers.mark_of_judged, UNMARKED[1])
            yield Rule(HOST, AF_INET6, numbers.priority_base + JUDGED_ELSE, 0, fwmark=mark, action="unreachable")
            return


def narrowed(ways_back: Iterable[Rule], lays: Sequence[Lay]) -> Iterator[Rule]:
    """The way back from IPv6 addresses, where a filter judges who takes it: without a mark, and of no user whose packets a
    tunnel selects (the filter asks as root)."""
    for rule in ways_back:
        if rule.from_ and rule.fwmark is None:
            yield from (rule._replace(fwmark=UNMARKED, uid_range=users) for users in _other_users(lays))
        else:
            yield rule


def _other_users(lays: Iterable[Lay]) -> list[tuple[int, int] | None]:
    """All but those that rules lead into a tunnel's own table, as ranges. None: all."""
    chosen = sorted(
        entry.uid_range
        for lay in lays
        for entry in lay.intent.tunnel.rules
        if entry.uid_range and entry.lookup in (None, lay.table) and not entry.from_
    )
    if not chosen:
        return [None]
    others: list[tuple[int, int] | None] = []
    free = 0
    for first, last in chosen:
        if first > free:
            others.append((free, first - 1))
        free = max(free, last + 1)
    return [*others, (free, _LAST_UID)] if free <= _LAST_UID else others


def words(ours: Iterable[IfName], numbers: Numbers) -> Iterator[str]:
    """The rules of the filter, in the words of `kinds.nat`. `ours`: the devices of tunnels."""
    names = ", ".join(f'"{dev}"' for dev in sorted({"lo", *ours}))
    judged = f"meta mark == {numbers.mark_of_judged:#x}"
    begins = f"oifname != {{ {names} }} ip6 saddr != fe80::/10 meta mark == 0x0"
    mark, unmark = f"meta mark set {numbers.mark_of_judged:#x}", "meta mark set 0x0"
    yield f"{begins} tcp flags syn {mark}"  # also of connections that nobody tracks
    yield f"{begins} ct direction original {mark}"
    yield f"{judged} tcp flags ack {unmark}"  # of TCP, only what begins: nobody knows how the others began
    yield f"{judged} tcp flags rst {unmark}"
    no_way = f"{judged} fib daddr . mark type {{ blackhole, prohibit, unreachable }}"
    yield f"{no_way} tcp flags syn reject with tcp reset"  # connect() learns of ICMP only by its second packet, a second later
    yield f"{no_way} reject with icmpv6 type no-route"
    yield f"{judged} {unmark}"
