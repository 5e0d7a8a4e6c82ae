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
_new = tuple.__new__  # a third of what the constructor costs


def look(machine: Machine, devices: Devices, question: Question) -> tuple[dict[IfName, tuple[Prefix, ...]], list[Address]]:
    """Every link's addresses; as resources those on links of our tunnels. NotObserved.

    Where the kernel keeps no protocol of an address, ours are those that the tunnel of the link has in its intent.
    """
    rows = machine.rtnl.addresses()
    declared = None if keeps_protocols(rows) else {intent.name: intent.tunnel.addresses for intent in question.intents}
    by_dev: defaultdict[IfName, list[Prefix]] = defaultdict(list)
    found: list[Address] = []
    for ifindex, packed, length, _remote, scope, flags, protocol, *_ in rows:
        if ifindex not in devices:
            continue  # of a link that came after its look
        dev, tunnel = devices[ifindex]
        prefix: Prefix = _new(Prefix, (packed, length))
        by_dev[dev].append(prefix)
        if tunnel and not _is_the_kernels(packed, protocol, scope):
            is_ours = protocol == PROTOCOL if declared is None else prefix in declared.get(tunnel, ())
            owner = tunnel if is_ours else None
            found.append(_new(Address, (owner, dev, packed, length, flags & NOPREFIXROUTE != 0)))
    return {dev: tuple(prefixes) for dev, prefixes in by_dev.items()}, found


def keeps_protocols(rows: Sequence[AddressRow], release: str = "") -> bool:
    """Does this kernel (uname -r, the running one by default) know whose an address is?"""
    if any(row.protocol is not None for row in rows):
        return True
    major, _, rest = (release or os.uname().release).partition(".")
    minor = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    return not (major.isdecimal() and minor) or (int(major), int(minor)) >= _FIRST_WITH_PROTOCOL


def _is_the_kernels(packed: bytes, protocol: int | None, scope: int) -> bool:
    """The link-local address that the kernel gives to every link (fe80::/10)."""
    if packed[0] != 0xFE or packed[1] & 0xC0 != 0x80 or len(packed) != 16:
        return False
    return protocol in PROTO_KERNEL or (protocol is None and scope == SCOPE_LINK)
