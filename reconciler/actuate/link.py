"""Links: made, changed, removed; many at once: see `tuns` and `links`. Each is looked at once more before: the name may be
somebody else's by now."""

from __future__ import annotations

import errno
import os

from reconciler.actuate.errnos import ALREADY_GONE, failed
from reconciler.errors import Foreign, LookAgain, NotPermitted, StepFailed, TunctlError, Unavailable
from reconciler.host import linkdown, nl_link, process, tun
from reconciler.host.machine import Machine
from reconciler.host.netlink import NLM_F_CREATE, NLM_F_EXCL, KernelError
from reconciler.kinds.link import Link
from reconciler.model.found import LinkState
from reconciler.model.names import IfName
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TUNS = ("tun", "tap")
MOST_TUNS = 64  # made at once: each holds a descriptor, and more gain nothing
_NO_SUCH_KIND = frozenset((errno.EOPNOTSUPP, errno.EAFNOSUPPORT))
_NO_TUN = frozenset((errno.ENOENT, errno.ENODEV, errno.ENXIO))
_NOT_FOR_US = frozenset((errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT))  # /proc/sys, in a container


def create(machine: Machine, wanted: Link) -> None:
    """A new link, up, marked (marked and down, when switching it on fails). One that a program made is claimed; its program is
    waited for elsewhere.

    Foreign, NotPermitted, Unavailable (no such kind of link here), StepFailed.
    """
    if wanted.by_program:
        _claim(machine, wanted)
    elif wanted.type in TUNS:
        _create_tun(machine, wanted)
    else:
        _create_other(machine, wanted)


def change(machine: Machine, wanted: Link, found: Link, fields: tuple[str, ...]) -> None:
    """Makes `fields` (name, mtu, up, alias, group) as wanted, in one message where the kernel lets it."""
    state = _again(machine, found)
    if state is None:
        raise StepFailed(f"{wanted}: it is gone")
    name = wanted.name if "name" in fields and state.name != wanted.name else None
    try:
        _set(machine, state.ifindex, wanted, fields, name)
    except KernelError as error:
        if name is None or error.errno not in (errno.EBUSY, errno.EEXIST):
            raise failed(wanted, error) from error
        if error.errno == errno.EEXIST:
            raise _taken(machine, wanted) from error
        _rename_down(machine, state.ifindex, wanted, fields)


def delete(machine: Machine, found: Link) -> None:
    """Removes this very link: same index, same alias. Foreign when it is not marked as it was."""
    state = _again(machine, found)
    if state is None:
        return
    try:
        machine.rtnl.request(nl_link.RTM_DELLINK, 0, nl_link.question(index=state.ifindex))
    except KernelError as error:
        if error.errno not in ALREADY_GONE["link"]:
            raise failed(found, error) from error


def _create_tun(machine: Machine, wanted: Link) -> None:
    try:
        made = new_tuns(machine, [wanted])[wanted.name]
        if isinstance(made, Exception):
            raise made
        machine.rtnl.change_link(made, up=wanted.up)  # only now: see `tuns`
    except KernelError as error:
        raise failed(wanted, error) from error
    except OSError as error:
        if error.errno == errno.EBUSY:
            _adopt(machine, wanted)
            return
        raise _no_tun(wanted, error) from error


def new_tuns(machine: Machine, links: Sequence[Link]) -> dict[IfName, int | OSError | TunctlError]:
    """New TUN devices, `MOST_TUNS` at once, marked and still down → the index of each, or why there is none: OSError as of
    `tun.create`, KernelError, StepFailed. Raises KernelError, NotObserved when that cannot be said; then there are none.

    Cut off anywhere, those that are not to stay yet vanish with us: nothing without a mark is left.
    """
    made: dict[IfName, int | OSError | TunctlError] = {}
    held: list[int] = []  # descriptors that they live by
    marked: list[tuple[Link, int, int]] = []  # with index and descriptor

    def marks() -> Iterator[bytes]:
        for wanted in links:
            try:
                descriptor = tun.create(wanted.name, wanted.type, wanted.uid, wanted.gid, multi_queue=wanted.multi_queue)
            except OSError as error:
                made[wanted.name] = error
                continue
            held.append(descriptor)
            index = machine.rtnl.index_of(wanted.name)
            if index:
                marked.append((wanted, index, descriptor))
                yield nl_link.wanted(index=index, alias=wanted.alias, group=wanted.group, mtu=wanted.mtu)
            else:
                made[wanted.name] = StepFailed(f"{wanted}: it vanished while it was made")

    try:
        errors = machine.rtnl.in_turn(nl_link.RTM_NEWLINK, 0, marks())
        for (wanted, index, descriptor), error in zip(marked, errors, strict=True):
            made[wanted.name] = error or _kept(wanted, index, descriptor)
    finally:
        for descriptor in held:
            os.close(descriptor)
    return made


def _kept(wanted: Link, index: int, descriptor: int) -> int | OSError | TunctlError:
    """It is marked: now it can stay."""
    try:
        _open_its_death(wanted)
        tun.persist(descriptor)
    except (OSError, TunctlError) as error:
        return error
    return index


def _create_other(machine: Machine, wanted: Link) -> None:
    body = nl_link.wanted(name=wanted.name, kind=wanted.type, group=wanted.group)
    try:
        machine.rtnl.request(nl_link.RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body)
    except KernelError as error:
        if error.errno == errno.EEXIST:
            _adopt(machine, wanted)
            return
        if error.errno in _NO_SUCH_KIND:
            hint = f"Load the kernel module {wanted.type}, or let a program do it in user space."
            raise Unavailable(f"{wanted}: this kernel has no {wanted.type} links ({error})", hint=hint) from error
        raise failed(wanted, error) from error
    index = machine.rtnl.index_of(wanted.name)
    if not index:
        raise StepFailed(f"{wanted}: it vanished while it was made")
    try:
        _set(machine, index, wanted)
    except KernelError as error:
        raise failed(wanted, error) from error


def _claim(machine: Machine, wanted: Link) -> None:
    state = machine.rtnl.link(name=wanted.name)
    if state is None:
        raise LookAgain(f"{wanted}: its program has not made it")
    if state.name != wanted.name or state.alias not in ("", wanted.alias):  # another name: ours is an altname of it
        raise _taken(machine, wanted)
    if state.type != wanted.type:
        raise _taken(machine, wanted) if state.type not in TUNS else StepFailed(f"{wanted}: its program made a {state.type}")
    try:
        _set(machine, state.ifindex, wanted)
    except KernelError as error:
        raise failed(wanted, error) from error


def _adopt(machine: Machine, wanted: Link) -> None:
    """The name is taken: fine when it is by our own link, as far as a change can make it so."""
    state = machine.rtnl.link(name=wanted.name)
    if state is None:
        raise StepFailed(f"{wanted}: another link of this name came and went meanwhile")
    half_made = wanted.type == "wireguard" and not state.alias and state.group == wanted.group
    if (state.name, state.type) != (wanted.name, wanted.type) or not (state.alias == wanted.alias or half_made):
        raise _taken(machine, wanted)
    if (wanted.uid, wanted.gid, wanted.multi_queue) != (state.uid, state.gid, state.multi_queue):
        raise StepFailed(f"{wanted}: it is there already, for another user or with other queues")
    try:
        _set(machine, state.ifindex, wanted)
    except KernelError as error:
        raise failed(wanted, error) from error


_ALL = ("mtu", "alias", "group", "up")


def _set(machine: Machine, ifindex: int, wanted: Link, fields: tuple[str, ...] = _ALL, name: IfName | None = None) -> None:
    machine.rtnl.change_link(
        ifindex,
        name=name,
        alias=wanted.alias if "alias" in fields else None,
        group=wanted.group if "group" in fields else None,
        mtu=wanted.mtu if "mtu" in fields else None,
        up=wanted.up if "up" in fields else None,
    )
    _open_its_death(wanted, name)


def _open_its_death(wanted: Link, name: IfName | None = None) -> None:
    """Routes by it do not count while it has no carrier, if that is wanted. StepFailed; but not where nothing is promised and
    we may not write it."""
    if wanted.dies_openly is not False:
        try:
            linkdown.switch_on(name or wanted.name)
        except OSError as error:
            if wanted.dies_openly is None and error.errno in _NOT_FOR_US:
                return
            raise StepFailed(f"{wanted}: ignore_routes_with_linkdown: {error.strerror}") from error


def _rename_down(machine: Machine, ifindex: int, wanted: Link, fields: tuple[str, ...]) -> None:
    """Kernels before 6.2 rename only links that are down, and say so before they look whether the name is free. Its routes
    go with that, and the next look sees it."""
    if machine.rtnl.link(name=wanted.name) is not None:
        raise _taken(machine, wanted)
    try:
        machine.rtnl.change_link(ifindex, up=False)
        machine.rtnl.change_link(ifindex, name=wanted.name)
        _set(machine, ifindex, wanted, (*fields, "up"))
    except KernelError as error:
        raise failed(wanted, error) from error


def _again(machine: Machine, found: Link) -> LinkState | None:
    """The link that was found, looked at once more; None: gone."""
    assert found.ifindex is not None
    state = machine.rtnl.link(index=found.ifindex)
    if state is None:
        return None
    unmarked_other = not found.alias and (state.name, state.type) != (found.name, found.type)
    if state.alias != found.alias or unmarked_other:
        raise Foreign(f"link {state.name} ({state.ifindex}) is not {found} any more: its alias is {state.alias!r}")
    return state


def _taken(machine: Machine, wanted: Link) -> TunctlError:
    state = machine.rtnl.link(name=wanted.name)
    if state is None:
        return StepFailed(f"{wanted}: another link of this name came and went meanwhile")
    alias = f", alias {state.alias!r}" if state.alias else ""
    pids = process.tun_holders().get(state.name, []) if state.type in TUNS else []
    held = f", held by process {', '.join(map(str, pids))}" if pids else ""
    kind = f"type {state.type}" if state.type else "hardware"
    other_name = f", {state.name}" if state.name != wanted.name else ""
    return Foreign(f"{wanted}: a link of this name that is not ours is there ({kind}{other_name}{alias}{held})")


def _no_tun(wanted: Link, error: OSError) -> TunctlError:
    if error.errno in _NO_TUN:
        hint = "Load the kernel module tun; a container needs the device /dev/net/tun."
        return Unavailable(f"{wanted}: this machine has no TUN devices (/dev/net/tun: {error.strerror})", hint=hint)
    if error.filename and isinstance(error, PermissionError):
        hint = "This needs CAP_NET_ADMIN; run it as root. A container must be allowed to use that device."
        return NotPermitted(f"{wanted}: /dev/net/tun may not be opened ({error.strerror})", hint=hint)
    return failed(wanted, error)
