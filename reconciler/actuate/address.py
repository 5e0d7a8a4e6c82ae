"""Addresses: set (many at once in `addresses`), taken over, removed. Ours carry protocol 115."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager, suppress

from reconciler.actuate.errnos import ALREADY_GONE, failed
from reconciler.errors import Foreign, NotPermitted, StepFailed
from reconciler.host import linkipv6, nl_address
from reconciler.host.machine import Machine
from reconciler.host.netlink import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, KernelError
from reconciler.host.nl_address import NODAD, NOPREFIXROUTE, AddressRow
from reconciler.kinds.address import Address
from reconciler.model.marks import PROTOCOL
from reconciler.model.names import IfName
from reconciler.model.prefix import ntop
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

NEW = NLM_F_CREATE | NLM_F_EXCL


def create(machine: Machine, wanted: Address) -> None:
    """A new address. Equal and ours is fine; Foreign when an equal one without our mark came meanwhile."""
    ifindex = _ifindex(machine, wanted)
    try:
        _new(machine, wanted, row(wanted, ifindex))
    except KernelError as error:
        if error.errno != errno.EEXIST:
            raise _failed(wanted, error) from error
        there = _rows(machine, ifindex, wanted)
        if any(found.protocol == PROTOCOL for found in there):
            return
        if not there:  # IPv4 refuses more than what is equal: another length of the same network, say
            raise failed(wanted, error) from error
        raise Foreign(f"{wanted}: an equal address that is not ours came meanwhile") from error


def row(wanted: Address, ifindex: int) -> AddressRow:
    """As the kernel is told of a new one. It is there at once: to ask first whether somebody else has it (IPv6) takes a second,
    and never ends on a TAP that nobody has opened."""
    _, _, packed, length, is_bare = wanted
    flags = NOPREFIXROUTE * is_bare | NODAD * (len(packed) == 16)
    return AddressRow(ifindex, packed, length, packed, 0, flags, PROTOCOL)


def _new(machine: Machine, wanted: Address, new: AddressRow) -> None:
    """On a host that has IPv6 switched off new devices have it off, too: on ours, that are to have it, it is switched on."""
    request = (nl_address.RTM_NEWADDR, NEW, nl_address.wanted(new))
    try:
        machine.rtnl.request(*request)
    except KernelError as error:
        if error.errno != errno.EACCES or len(wanted.packed) != 16 or not linkipv6.switch_on(wanted.dev):
            raise
        machine.rtnl.request(*request)


def change(machine: Machine, wanted: Address, found: Address, fields: tuple[str, ...]) -> None:
    """Takes an equal address over, or sets it anew with or without the route to its network."""
    if "is_bare" in fields:
        delete(machine, found)
        create(machine, wanted)
        return
    ifindex = _ifindex(machine, wanted)
    there = _rows(machine, ifindex, wanted)
    if not there:
        create(machine, wanted)
        return
    ours = [row._replace(protocol=PROTOCOL, flags=row.flags & NOPREFIXROUTE) for row in there]
    for row in ours:
        _set(machine, wanted, row, NLM_F_REPLACE)
    unmarked = [row for row in _rows(machine, ifindex, wanted) if row.protocol != PROTOCOL]
    if unmarked:  # Linux 6.1 takes the protocol of a new IPv4 address only; what hangs on the old one, the next look sees
        _remove(machine, wanted, unmarked)
        for row in ours:
            _set(machine, wanted, row, NLM_F_CREATE | NLM_F_REPLACE)


def delete(machine: Machine, found: Address) -> None:
    """Removes it, unless somebody else has set it anew."""
    index = machine.rtnl.index_of(found.dev)
    if index:
        _remove(machine, found, [row for row in _rows(machine, index, found) if row.protocol in (PROTOCOL, None)])


def _set(machine: Machine, wanted: Address, row: AddressRow, flags: int) -> None:
    try:
        machine.rtnl.request(nl_address.RTM_NEWADDR, flags, nl_address.wanted(row))
    except KernelError as error:
        raise _failed(wanted, error) from error


def _remove(machine: Machine, found: Address, targets: list[AddressRow]) -> None:
    """With the first IPv4 address of a network the kernel removes the others of it on that link, and with the last one of the
    link all its routes, unless it is told to promote the others. Where it cannot be told, they are set again.
    """
    if not targets:
        return
    before = machine.rtnl.addresses(targets[0].ifindex)
    with _promoting(found.dev):
        for row in targets:
            try:
                machine.rtnl.request(nl_address.RTM_DELADDR, 0, nl_address.wanted(row))
            except KernelError as error:
                if error.errno not in ALREADY_GONE["address"]:
                    raise failed(found, error) from error
    if len(found.packed) == 4 and len(before) > len(targets):
        _set_again(machine, found, [row for row in before if row not in targets])


@contextmanager
def _promoting(dev: IfName) -> Iterator[None]:
    """While a first address of a network is removed the next one takes its place (Documentation/networking/ip-sysctl)."""
    path = f"/proc/sys/net/ipv4/conf/{dev}/promote_secondaries"
    before = _switch(path, b"1")
    try:
        yield
    finally:
        if before is not None:
            _switch(path, before)


def _switch(path: str, value: bytes) -> bytes | None:
    """→ what was there, None where /proc/sys is not there or not ours to write (containers)."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            before = os.read(descriptor, 16).strip()
            os.pwrite(descriptor, value, 0)
            return before
        finally:
            os.close(descriptor)
    return None


def _set_again(machine: Machine, removed: Address, others: list[AddressRow]) -> None:
    there = {(row.packed, row.length, row.remote) for row in machine.rtnl.addresses(others[0].ifindex)}
    for row in others:
        if (row.packed, row.length, row.remote) in there:
            continue
        lasting = row._replace(flags=row.flags & NOPREFIXROUTE)
        try:
            machine.rtnl.request(nl_address.RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, nl_address.wanted(lasting))
        except KernelError as error:
            if error.errno != errno.EEXIST:
                raise failed(f"{removed}: {ntop(row.packed)} went with it and could not be set again", error) from error


def _rows(machine: Machine, ifindex: int, address: Address) -> list[AddressRow]:
    """What stands there now; more than one only with different peers."""
    rows = machine.rtnl.addresses(ifindex)
    return [row for row in rows if (row.packed, row.length) == (address.packed, address.length)]


def _ifindex(machine: Machine, address: Address) -> int:
    index = machine.rtnl.index_of(address.dev)
    if not index:
        raise StepFailed(f"{address}: there is no link {address.dev}")
    return index


def _failed(wanted: Address, error: KernelError) -> StepFailed | NotPermitted:
    """The kernel's words; for IPv6 it says "permission denied" when the family is switched off on the link."""
    if error.errno == errno.EACCES and len(wanted.packed) == 16:
        hint = f"Allow it with: sysctl net.ipv6.conf.{wanted.dev}.disable_ipv6=0"
        return StepFailed(f"{wanted}: IPv6 is switched off on this link ({error})", hint=hint)
    reason = failed(wanted, error)
    assert isinstance(reason, StepFailed | NotPermitted)
    return reason
