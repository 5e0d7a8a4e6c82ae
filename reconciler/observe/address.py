"""All interface addresses of the namespace in one look, and which of them are ours."""

from __future__ import annotations

import os

from reconciler.host.machine import Machine
from reconciler.host.nl_address import NOPREFIXROUTE, PROTO_KERNEL, SCOPE_LINK, AddressRow
from reconciler.kinds.address import Address
from reconciler.lean import defaultdict
from reconciler.model.marks import PROTOCOL
from reconciler.model.names import IfName, TunnelName
from reconciler.model.prefix import Prefix
from reconciler.observe.question import Question
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reconciler.observe.link import Devices

    Declared = Mapping[TunnelName, tuple[Prefix, ...]]


_FIRST_WITH_PROTOCOL = (5, 18)  # IFA_PROTO: Linux 5.18


def look(machine: Machine, devices: Devices, question: Question) -> tuple[dict[IfName, tuple[Prefix, ...]], list[Address]]:
    """Every link's addresses; as resources those on links of our tunnels. NotObserved.

    Where the kernel keeps no protocol of an address, ours are those that the tunnel of the link has in its intent.
    """
    rows = [row for row in machine.rtnl.addresses() if row.ifindex in devices]  # else of a link that came after its look
    declared = None if keeps_protocols(rows) else {intent.name: intent.tunnel.addresses for intent in question.intents}
    by_dev: defaultdict[IfName, list[Prefix]] = defaultdict(list)
    found: list[Address] = []
    for row in rows:
        dev, tunnel = devices[row.ifindex]
        by_dev[dev].append(Prefix(row.packed, row.length))
        if tunnel and not _is_the_kernels(row):
            owner = tunnel if _is_ours(row, tunnel, declared) else None
            found.append(Address(owner, dev, row.packed, row.length, bool(row.flags & NOPREFIXROUTE)))
    return {dev: tuple(prefixes) for dev, prefixes in by_dev.items()}, found


def keeps_protocols(rows: Sequence[AddressRow], release: str = "") -> bool:
    """Does this kernel (uname -r, the running one by default) know whose an address is?"""
    if any(row.protocol is not None for row in rows):
        return True
    major, _, rest = (release or os.uname().release).partition(".")
    minor = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    return not (major.isdecimal() and minor) or (int(major), int(minor)) >= _FIRST_WITH_PROTOCOL


def _is_ours(row: AddressRow, tunnel: TunnelName, declared: Declared | None) -> bool:
    return row.protocol == PROTOCOL if declared is None else (row.packed, row.length) in declared.get(tunnel, ())


def _is_the_kernels(row: AddressRow) -> bool:
    """The link-local address that the kernel gives to every link (fe80::/10)."""
    if row.packed[0] != 0xFE or row.packed[1] & 0xC0 != 0x80 or len(row.packed) != 16:
        return False
    return row.protocol in PROTO_KERNEL or (row.protocol is None and row.scope == SCOPE_LINK)
