"""rtnetlink messages about links: RTM_NEWLINK and its attributes (linux/if_link.h, linux/if_tun.h)."""

from __future__ import annotations

from struct import Struct

from reconciler.host.nl_codec import Attributes, Field, as_text, nest, text, u32
from reconciler.lean import lru_cache
from reconciler.model.found import Counters, LinkState
from reconciler.model.marks import parse_mark
from reconciler.model.names import IfName
from reconciler.model.prefix import AF_INET, AF_INET6

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18

_IFINFOMSG = Struct("=BxHiII")  # family, ARPHRD type, index, flags, mask of the flags to change
IFF_UP, _IFF_LOOPBACK, _IFF_POINTOPOINT = 0x1, 0x8, 0x10
_IFNAME, _MTU, _LINKINFO, _IFALIAS, _STATS64, _GROUP, _EXT_MASK, _CARRIER = 3, 4, 18, 20, 23, 27, 29, 33  # IFLA_*
_AF_SPEC = 26  # IFLA_AF_SPEC: by family, what the kernel's switches of this link are
_INET_CONF, _INET6_CONF = 1, 2  # IFLA_INET_CONF, IFLA_INET6_CONF: arrays of the kernel's switches
_LINKDOWN = (28, 39)  # ignore_routes_with_linkdown: its place in either (linux/ip.h, linux/ipv6.h)
_COUNTERS = (0, 8, 16, 24)  # rtnl_link_stats64 begins: packets received, sent, bytes received, sent
_TUNNELS = ("tun", "tap", "wireguard")
_INFO_KIND, _INFO_DATA = 1, 2  # IFLA_INFO_*
_TUN_OWNER, _TUN_GROUP, _TUN_TYPE, _TUN_PERSIST, _TUN_MULTI_QUEUE = 1, 2, 3, 6, 7  # IFLA_TUN_*
_LINK = Attributes(
    _IFINFOMSG.format,
    Field((_IFNAME,)),
    Field((_LINKINFO, _INFO_KIND)),
    Field((_LINKINFO, _INFO_DATA), absent=b""),
    Field((_MTU,), "I", 0),
    Field((_CARRIER,), "B", 0),
    Field((_GROUP,), "I", 0),
    Field((_IFALIAS,)),
    *(Field((_STATS64,), "Q", 0, at) for at in _COUNTERS),
    Field((_AF_SPEC, AF_INET, _INET_CONF), "I", at=4 * _LINKDOWN[0]),
    Field((_AF_SPEC, AF_INET6, _INET6_CONF), "I", at=4 * _LINKDOWN[1]),
)
_TUN = Attributes(
    "=",
    Field((_TUN_OWNER,), "I"),
    Field((_TUN_GROUP,), "I"),
    Field((_TUN_TYPE,), "B", 0),
    Field((_TUN_PERSIST,), "B", 0),
    Field((_TUN_MULTI_QUEUE,), "B", 0),
)
_NO_TUN = (None, None, 0, 0, 0)
_TUN_TYPES = {1: "tun", 2: "tap"}  # IFF_TUN, IFF_TAP
_SKIP_STATS = 8  # RTEXT_FILTER_SKIP_STATS; virtual functions are only listed when asked for


def question(*, index: int = 0, name: str = "") -> bytes:
    """The body that asks for one link, by index or by name; without either, for all of them."""
    head = _IFINFOMSG.pack(0, 0, index, 0, 0)
    if name:
        return head + text(_IFNAME, name) + u32(_EXT_MASK, _SKIP_STATS)
    return head


def wanted(
    *,
    index: int = 0,
    name: str | None = None,
    kind: str | None = None,
    alias: str | None = None,
    group: int | None = None,
    mtu: int | None = None,
    up: bool | None = None,
) -> bytes:
    """The body of a creation (without `index`, with `kind`) or of a change; None leaves a thing as it is."""
    mask = 0 if up is None else IFF_UP
    parts = [_IFINFOMSG.pack(0, 0, index, IFF_UP if up else 0, mask)]
    if name is not None:
        parts.append(text(_IFNAME, name))
    if mtu is not None:
        parts.append(u32(_MTU, mtu))
    if alias is not None:
        parts.append(text(_IFALIAS, alias))
    if group is not None:
        parts.append(u32(_GROUP, group))
    if kind is not None:
        parts.append(nest(_LINKINFO, text(_INFO_KIND, kind)))
    return b"".join(parts)


@lru_cache(1024)  # the daemon sees the same bytes again and again
def decode(body: bytes) -> LinkState:
    """RTM_NEWLINK → the link. ValueError when malformed."""
    (
        _family, _arphrd, index, flags, _mask, name, kind_, data, mtu, carrier, group, alias_,
        rx_packets, tx_packets, rx_bytes, tx_bytes, linkdown, linkdown6,
    ) = _LINK.of(body)  # fmt: skip
    kind, alias = as_text(kind_), as_text(alias_)
    uid, gid, type_, persist, queues = _TUN.of(data) if kind == "tun" else _NO_TUN  # which says whether it is tun or tap
    is_on = bool(linkdown or linkdown6) and 0 not in (linkdown, linkdown6)  # a family that it does not have says nothing
    return LinkState(
        IfName(as_text(name)), index, _TUN_TYPES.get(type_, kind), mtu, bool(flags & IFF_UP), carrier == 1, group,
        alias, parse_mark(alias) if alias else None, Counters(rx_bytes, tx_bytes, rx_packets, tx_packets),
        point_to_point=bool(flags & _IFF_POINTOPOINT), loopback=bool(flags & _IFF_LOOPBACK),
        uid=uid, gid=gid, multi_queue=queues == 1, persist=persist == 1, ignores_linkdown=kind in _TUNNELS and is_on,
    )  # fmt: skip
