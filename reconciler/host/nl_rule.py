"""rtnetlink messages about policy rules: RTM_NEWRULE and its attributes (linux/fib_rules.h)."""

from __future__ import annotations

import struct
from struct import Struct

from reconciler.host.nl_codec import as_text, as_u8, as_u32, attribute, attributes, text, u8, u32
from reconciler.lean import lru_cache
from reconciler.model.prefix import AF_INET, AF_INET6, Prefix
from reconciler.typed import NamedTuple

RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34
GROUPS = {AF_INET: 8, AF_INET6: 19}  # RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE

# family, destination length, source length, TOS, table, two reserved bytes, action, flags
_RULE = Struct("=BBBBBxxBI")
_RULE_BYTES = 12
_ACTIONS = {1: "lookup", 7: "unreachable"}  # FR_ACT_TO_TBL, FR_ACT_UNREACHABLE
_ACTION_NUMBERS = {name: number for number, name in _ACTIONS.items()}
_INVERT = 2  # FIB_RULE_INVERT; the other flags are states
_DST, _SRC, _IIFNAME, _PRIORITY, _FWMARK, _TABLE, _FWMASK = 1, 2, 3, 6, 10, 15, 16  # FRA_*
_SUPPRESS_IFGROUP, _SUPPRESS_PREFIXLEN = 13, 14
_PAD, _UID_RANGE, _PROTOCOL = 18, 20, 21
_PLAIN = frozenset(
    (
        _DST,
        _SRC,
        _IIFNAME,
        _PRIORITY,
        _FWMARK,
        _SUPPRESS_IFGROUP,
        _SUPPRESS_PREFIXLEN,
        _TABLE,
        _FWMASK,
        _PAD,
        _UID_RANGE,
        _PROTOCOL,
    )
)
_NONE = 0xFFFFFFFF  # "suppresses nothing"
_UIDS = Struct("=II")
_BYTES = {AF_INET: 4, AF_INET6: 16}


class RuleRow(NamedTuple):
    """One rule. The fields before `protocol` say all about a plain one."""

    family: int
    priority: int
    table: int
    from_: Prefix | None
    to: Prefix | None
    iif: str | None
    fwmark: tuple[int, int] | None
    uid_range: tuple[int, int] | None
    action: str = "lookup"  # lookup · unreachable
    suppress_group: int | None = None  # routes whose device is in this group do not count
    suppress_length: int | None = None  # nor do routes with a prefix of this length or shorter
    protocol: int = 0
    plain: bool = True  # False: it says more than these fields

    def would_be_taken_for(self, other: RuleRow) -> bool:
        """Would a deletion of this rule also match `other`? To the kernel, what a deletion leaves out matches anything."""
        if (self[:3], self.protocol) != (other[:3], other.protocol):
            return False
        mark, mask = self.fwmark or (0, 0)
        their_mark, their_mask = other.fwmark or (0, 0)
        return (
            self.from_ in (None, other.from_)
            and self.to in (None, other.to)
            and self.iif in (None, other.iif)
            and mark in (0, their_mark)
            and mask in (0, their_mask)
            and self.uid_range in (None, other.uid_range)
            and self.action == other.action
            and self.suppress_group in (None, other.suppress_group)
            and self.suppress_length in (None, other.suppress_length)
        )


def question(family: int) -> bytes:
    """The body that asks for the rules of a family."""
    return _RULE.pack(family, 0, 0, 0, 0, 0, 0)


def wanted(row: RuleRow) -> bytes:
    """The body that adds or removes a plain rule."""
    to_length, from_length = (prefix.length if prefix else 0 for prefix in (row.to, row.from_))
    low_table = row.table if row.table < 256 else 0
    parts = [
        _RULE.pack(row.family, to_length, from_length, 0, low_table, _ACTION_NUMBERS[row.action], 0),
        u32(_PRIORITY, row.priority),
        *((u32(_TABLE, row.table),) if row.table else ()),
        u8(_PROTOCOL, row.protocol),
    ]
    if row.to:
        parts.append(attribute(_DST, row.to.packed))
    if row.from_:
        parts.append(attribute(_SRC, row.from_.packed))
    if row.iif:
        parts.append(text(_IIFNAME, row.iif))
    if row.fwmark:
        parts += (u32(_FWMARK, row.fwmark[0]), u32(_FWMASK, row.fwmark[1]))
    if row.suppress_group is not None:
        parts.append(u32(_SUPPRESS_IFGROUP, row.suppress_group))
    if row.suppress_length is not None:
        parts.append(u32(_SUPPRESS_PREFIXLEN, row.suppress_length))
    if row.uid_range:
        parts.append(attribute(_UID_RANGE, _UIDS.pack(*row.uid_range)))
    return b"".join(parts)


@lru_cache(4096)  # the daemon sees the same bytes again and again
def decode(body: bytes) -> RuleRow | None:
    """RTM_NEWRULE → the rule; None for families that are not IP. ValueError when malformed."""
    try:
        family, to_length, from_length, tos, table, action, flags = _RULE.unpack_from(body)
        if family not in _BYTES:
            return None
        found = attributes(body, _RULE_BYTES)
        uids = _UIDS.unpack(found[_UID_RANGE]) if _UID_RANGE in found else None
    except struct.error as error:
        raise ValueError(f"netlink: a rule that is cut off: {error}") from error
    mark, mask = as_u32(found.get(_FWMARK)), as_u32(found.get(_FWMASK))
    more = tos or flags & _INVERT or action not in _ACTIONS or not _PLAIN.issuperset(found)
    return RuleRow(
        family=family,
        priority=as_u32(found.get(_PRIORITY)),
        table=as_u32(found.get(_TABLE), table),
        from_=_prefix(family, from_length, found.get(_SRC)),
        to=_prefix(family, to_length, found.get(_DST)),
        iif=as_text(found[_IIFNAME]) if _IIFNAME in found else None,
        fwmark=(mark, mask) if _FWMARK in found or _FWMASK in found else None,
        uid_range=(uids[0], uids[1]) if uids else None,
        action=_ACTIONS.get(action, f"action {action}"),
        suppress_group=_suppressed(found.get(_SUPPRESS_IFGROUP)),
        suppress_length=_suppressed(found.get(_SUPPRESS_PREFIXLEN)),
        protocol=as_u8(found.get(_PROTOCOL)),
        plain=not more,
    )


def _suppressed(value: bytes | None) -> int | None:
    number = as_u32(value, _NONE)
    return None if number == _NONE else number


def _prefix(family: int, length: int, packed: bytes | None) -> Prefix | None:
    if not length:
        return None
    if packed is None or len(packed) != _BYTES[family] or length > _BYTES[family] * 8:
        raise ValueError(f"netlink: a rule with a prefix of length {length} in family {family}")
    return Prefix(packed, length)
