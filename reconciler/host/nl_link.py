"""rtnetlink messages about links: RTM_NEWLINK and its attributes (linux/if_link.h, linux/if_tun.h)."""

from __future__ import annotations

import struct
from struct import Struct

from reconciler.host.nl_codec import Attributes, as_text, as_u8, as_u32, nest, text, u32
from reconciler.lean import lru_cache
from reconciler.model.found import Counters, LinkState
from reconciler.model.marks import parse_mark
from reconciler.model.names import IfName
from reconciler.model.prefix import AF_INET, AF_INET6

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18

_IFINFOMSG = Struct("=BxHiII")  # family, ARPHRD type, index, flags, mask of the flags to change
_IFINFOMSG_BYTES = 16
IFF_UP, _IFF_LOOPBACK, _IFF_POINTOPOINT = 0x1, 0x8, 0x10
_IFNAME, _MTU, _LINKINFO, _IFALIAS, _STATS64, _GROUP, _EXT_MASK, _CARRIER = 3, 4, 18, 20, 23, 27, 29, 33  # IFLA_*
_AF_SPEC = 26  # IFLA_AF_SPEC: by family, what the kernel's switches of this link are
_INET_CONF, _INET6_CONF = 1, 2  # IFLA_INET_CONF, IFLA_INET6_CONF: arrays of the kernel's switches
_LINKDOWN = (28, 39)  # ignore_routes_with_linkdown: its place in either (linux/ip.h, linux/ipv6.h)
_TUNNELS = ("tun", "tap", "wireguard")
_INFO_KIND, _INFO_DATA = 1, 2  # IFLA_INFO_*
_TUN_OWNER, _TUN_GROUP, _TUN_TYPE, _TUN_PERSIST, _TUN_MULTI_QUEUE = 1, 2, 3, 6, 7  # IFLA_TUN_*
_LINK = Attributes(
    _IFINFOMSG_BYTES,
    (_IFNAME,), (_MTU,), (_LINKINFO, _INFO_KIND), (_LINKINFO, _INFO_DATA), (_IFALIAS,), (_STATS64,), (_GROUP,), (_CARRIER,),
    (_AF_SPEC, AF_INET, _INET_CONF), (_AF_SPEC, AF_INET6, _INET6_CONF),
)  # fmt: skip
_TUN = Attributes(0, (_TUN_OWNER,), (_TUN_GROUP,), (_TUN_TYPE,), (_TUN_PERSIST,), (_TUN_MULTI_QUEUE,))
_TUN_TYPES = {1: "tun", 2: "tap"}  # IFF_TUN, IFF_TAP
_STATS = Struct("=QQQQ")  # rtnl_link_stats64 begins: packets received, sent, bytes received, sent
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
    name, mtu, info, data, alias_, stats, group, carrier, conf, conf6 = _LINK.of(body)
    try:
        _family, _arphrd, index, flags, _ = _IFINFOMSG.unpack_from(body)
        rx_packets, tx_packets, rx_bytes, tx_bytes = _STATS.unpack_from(stats) if stats else (0, 0, 0, 0)
    except struct.error as error:
        raise ValueError(f"netlink: a link that is cut off: {error}") from error
    alias, kind = as_text(alias_), as_text(info)
    uid = gid = type_ = persist = queues = None
    if kind == "tun":  # a TUN says whether it is tun or tap
        uid, gid, type_, persist, queues = _TUN.of(data or b"")
    return LinkState(
        name=IfName(as_text(name)),
        ifindex=index,
        type=_TUN_TYPES.get(as_u8(type_), kind) if kind == "tun" else kind,
        mtu=as_u32(mtu),
        up=bool(flags & IFF_UP),
        carrier=as_u8(carrier) == 1,
        group=as_u32(group),
        alias=alias,
        mark=parse_mark(alias) if alias else None,
        counters=Counters(rx_bytes, tx_bytes, rx_packets, tx_packets),
        point_to_point=bool(flags & _IFF_POINTOPOINT),
        loopback=bool(flags & _IFF_LOOPBACK),
        uid=None if uid is None else as_u32(uid),
        gid=None if gid is None else as_u32(gid),
        multi_queue=as_u8(queues) == 1,
        persist=as_u8(persist) == 1,
        ignores_linkdown=kind in _TUNNELS and _ignores_linkdown(conf, conf6),
    )


def _ignores_linkdown(*switches: bytes | None) -> bool:
    """On for every family that the link has; one that the kernel, or the link, does not have is not there."""
    places = [(values, 4 * place) for values, place in zip(switches, _LINKDOWN, strict=True) if values]
    values = [as_u32(values[place : place + 4]) for values, place in places if len(values) >= place + 4]
    return bool(values) and all(values)
