"""rtnetlink messages about links: RTM_NEWLINK and its attributes (linux/if_link.h, linux/if_tun.h)."""

from __future__ import annotations

from struct import Struct

from reconciler.host.nl_codec import Attributes, Field, as_text, nest, text, u32
from reconciler.lean import lru_cache
from reconciler.model.found import Counters, LinkState
from reconciler.model.marks import parse_mark
from reconciler.model.prefix import AF_INET, AF_INET6
from reconciler.typed import Any

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18

_IFINFOMSG = Struct("=BxHiII")  # family, ARPHRD type, index, flags, mask of the flags to change
IFF_UP, _IFF_LOOPBACK, _IFF_POINTOPOINT = 0x1, 0x8, 0x10
_IFNAME, _MTU, _LINKINFO, _IFALIAS, _STATS64, _GROUP, _EXT_MASK, _CARRIER = 3, 4, 18, 20, 23, 27, 29, 33  # IFLA_*
_AF_SPEC = 26  # IFLA_AF_SPEC: by family, what the kernel's switches of this link are
_INET_CONF, _INET6_CONF = 1, 2  # IFLA_INET_CONF, IFLA_INET6_CONF: arrays of the kernel's switches
_LINKDOWN = (28, 39)  # ignore_routes_with_linkdown: its place in either (linux/ip.h, linux/ipv6.h)
_COUNTERS = (16, 24, 0, 8)  # rtnl_link_stats64 begins: packets received, sent, bytes received, sent
_TUNNELS = ("tun", "tap", "wireguard")
_INFO_KIND, _INFO_DATA = 1, 2  # IFLA_INFO_*
_TUN_OWNER, _TUN_GROUP, _TUN_TYPE, _TUN_PERSIST, _TUN_MULTI_QUEUE = 1, 2, 3, 6, 7  # IFLA_TUN_*
_OWN = (Field((_IFNAME,)), Field((_IFALIAS,)))
_ALIKE = (  # what many links have in common
    Field((_LINKINFO, _INFO_KIND)),
    Field((_LINKINFO, _INFO_DATA), absent=b""),
    Field((_MTU,), "I", 0),
    Field((_CARRIER,), "B", 0),
    Field((_GROUP,), "I", 0),
    Field((_AF_SPEC, AF_INET, _INET_CONF), "I", at=4 * _LINKDOWN[0]),
    Field((_AF_SPEC, AF_INET6, _INET6_CONF), "I", at=4 * _LINKDOWN[1]),
)
_LINK = Attributes(_IFINFOMSG.format, *_OWN, *_ALIKE)
_COUNTED = Attributes(_IFINFOMSG.format, *_OWN, *_ALIKE, *(Field((_STATS64,), "Q", 0, at) for at in _COUNTERS))
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
_new = tuple.__new__  # a third of what the constructor costs
_SKIP_STATS = 8  # RTEXT_FILTER_SKIP_STATS; virtual functions are only listed when asked for


def question(*, index: int = 0, name: str = "", counted: bool = False) -> bytes:
    """The body that asks for one link, by index or by name; without either, for all of them. `counted`: with counters, which
    the kernel (which ones: that depends on its age) adds up from all processors first."""
    head = _IFINFOMSG.pack(0, 0, index, 0, 0)
    which = text(_IFNAME, name) if name else b""
    return head + which if counted else head + which + u32(_EXT_MASK, _SKIP_STATS)


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
    body = switched(index, up)
    if name is not None:
        body += text(_IFNAME, name)
    if mtu is not None:
        body += u32(_MTU, mtu)
    if alias is not None:
        body += text(_IFALIAS, alias)
    if group is not None:
        body += u32(_GROUP, group)
    if kind is not None:
        body += nest(_LINKINFO, text(_INFO_KIND, kind))
    return body


def switched(index: int, up: bool | None) -> bytes:  # noqa: FBT001 - what it is about
    """The body that switches a link on or off, which None leaves as it is."""
    return _IFINFOMSG.pack(0, 0, index, IFF_UP if up else 0, 0 if up is None else IFF_UP)


def decode(body: bytes, *, counted: bool = False) -> LinkState:
    """RTM_NEWLINK → the link; `counted`: with its counters, for which was asked. ValueError when malformed."""
    return _link((_COUNTED if counted else _LINK).of(body))


def decode_first(datagram: bytes, *, counted: bool = False) -> tuple[list[LinkState], int]:
    """The links of its first messages, as long as the headers of these are alike, and where the others begin."""
    found, at = (_COUNTED if counted else _LINK).of_first(datagram)
    return [*map(_link, found)], at


@lru_cache(1024)  # the daemon is told the same again and again
def _link(said: tuple[Any, ...]) -> LinkState:
    _family, _arphrd, index, flags, _mask, name_, alias_, kind, data, mtu, carrier, group, linkdown, linkdown6, *counters = said
    name, alias = as_text(name_), as_text(alias_)
    mark = parse_mark(alias) if alias else None
    counted: Counters | None = _new(Counters, counters) if counters else None
    alike = _alike(flags, kind, data, mtu, carrier, group, linkdown, linkdown6)
    link: LinkState = _new(LinkState, (name, index, alias, mark, counted, *alike))
    return link


@lru_cache(64)  # links differ in little else
def _alike(
    flags: int,
    kind_: bytes | None,
    data: bytes,
    mtu: int,
    carrier: int,
    group: int,
    linkdown: int | None,
    linkdown6: int | None,
) -> tuple[object, ...]:
    """The fields of a link from its type on. Of a TUN the data say whether it is tun or tap, and whose it is."""
    kind = as_text(kind_)
    uid, gid, type_, persist, queues = _TUN.of(data) if kind == "tun" else _NO_TUN
    is_on = bool(linkdown or linkdown6) and 0 not in (linkdown, linkdown6)  # a family that it does not have says nothing
    return (
        _TUN_TYPES.get(type_, kind), mtu, flags & IFF_UP != 0, carrier == 1, group,
        flags & _IFF_POINTOPOINT != 0, flags & _IFF_LOOPBACK != 0, uid, gid, queues == 1, persist == 1,
        is_on and kind in _TUNNELS,
    )  # fmt: skip
