"""Events → is a look due, and how soon. They are never believed further than that: what has happened, a look finds out.

A look sees everything for little more than it costs to see one tunnel, so nothing is kept about which tunnel it was.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from reconciler.host.events import NETFILTER, Event
from reconciler.host.nl_codec import as_u32, attributes
from reconciler.model.marks import PROTOCOL, Numbers
from reconciler.model.names import IfName, TunnelName

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_NEWLINK, _DELLINK, _NEWADDR, _DELADDR, _NEWROUTE, _DELROUTE, _NEWRULE, _DELRULE = 16, 17, 20, 21, 24, 25, 32, 33  # RTM_*
_REPLACE = 0x100  # NLM_F_REPLACE: of a route that was there before nobody tells that it went
_NEW_GENERATION = 10 << 8 | 15  # NFNL_SUBSYS_NFTABLES, NFT_MSG_NEWGEN
_LINK, _ADDRESS, _ROUTE, _RULE = struct.Struct("=BxHiII"), struct.Struct("=BBBBI"), struct.Struct("=BBBBBBBBI"), 12
_IFNAME, _OIF, _TABLE, _PRIORITY, _RULE_PROTOCOL, _PROCESS = 3, 4, 15, 6, 21, 2  # attributes
_BY_KERNEL, _MAIN, _LOCAL = 2, 254, 255  # RTPROT_KERNEL, RT_TABLE_*


class Due(IntEnum):
    """How soon to look."""

    NOT = 0
    SOON = 1  # the host around the tunnels may be another one
    NOW = 2  # something of ours may be gone


class Known(NamedTuple):
    """What the last look knew, as far as events are judged by it."""

    links: Mapping[int, TunnelName] = {}  # by ifindex
    names: Collection[IfName] = ()  # of links that are wanted
    numbers: Numbers = Numbers()
    filters: bool = False  # something of ours stands in the packet filter
    resolves: bool = False  # some tunnel has name servers


def judge(event: Event, known: Known) -> Due:
    """ValueError and struct.error when it is malformed."""
    if event.protocol == NETFILTER:
        return Due.NOW if known.filters and event.kind == _NEW_GENERATION else Due.NOT
    if event.kind in (_NEWROUTE, _DELROUTE):
        return _route(event, known)
    if event.kind in (_NEWLINK, _DELLINK):
        return _link(event, known)
    if event.kind in (_NEWADDR, _DELADDR):
        return Due.NOW if _ADDRESS.unpack_from(event.body)[4] in known.links else Due.SOON
    if event.kind in (_NEWRULE, _DELRULE):
        found = attributes(event.body, _RULE)
        ours = known.numbers.owns_priority(as_u32(found.get(_PRIORITY))) or found.get(_RULE_PROTOCOL) == bytes((PROTOCOL,))
        return Due.NOW if ours else Due.NOT
    return Due.NOT


def _link(event: Event, known: Known) -> Due:
    family, _type, index, _flags, _changed = _LINK.unpack_from(event.body)
    if family:
        return Due.NOT  # of a bridge
    if index in known.links:
        return Due.NOW
    name = attributes(event.body, _LINK.size).get(_IFNAME, b"").partition(b"\0")[0].decode(errors="replace")
    return Due.NOW if name in known.names else Due.SOON


def _route(event: Event, known: Known) -> Due:
    """There may be many thousands of others': most are judged by their heads alone."""
    _family, length, _, _, table, protocol, _, _, _ = _ROUTE.unpack_from(event.body)
    if protocol == PROTOCOL or event.flags & _REPLACE:
        return Due.NOW
    if table == _LOCAL or (length and protocol == _BY_KERNEL and event.kind == _NEWROUTE):
        return Due.NOT
    found = attributes(event.body, _ROUTE.size)
    if as_u32(found.get(_OIF)) in known.links:
        return Due.NOW
    return Due.SOON if length == 0 and as_u32(found.get(_TABLE), table) == _MAIN else Due.NOT


def author(event: Event) -> int:
    """Who caused it, as far as the kernel tells: a pid, or the port of a netlink socket; 0 when it does not."""
    if event.protocol != NETFILTER or event.kind != _NEW_GENERATION:
        return event.port
    return int.from_bytes(attributes(event.body, 4).get(_PROCESS, b""), "big")  # behind nfgenmsg; in network byte order
