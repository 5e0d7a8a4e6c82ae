"""Name servers: told to systemd-resolved or resolvconf, or written into resolv.conf, whose content before is in the ledger
before the first write."""

from __future__ import annotations

import errno

from reconciler.actuate import resolvfile
from reconciler.errors import NotPermitted, StepFailed, TunctlError
from reconciler.host import resolvconf, resolved
from reconciler.host import resolvfile as host_file
from reconciler.host.bus import TIMEOUT_S, BusError
from reconciler.host.machine import Machine
from reconciler.host.resolved import LinkNames, Resolved
from reconciler.host.resolvfile import Names
from reconciler.kinds.resolver import Resolver
from reconciler.lean import suppress
from reconciler.model.nameservice import PATH

_ANSWERED = (OSError, BusError)


def create(machine: Machine, wanted: Resolver) -> None:
    """Tells them, whatever was told before."""
    try:
        if wanted.backend == "file":
            resolvfile.put(machine, wanted)
        elif wanted.backend == "resolvconf":
            _add_record(wanted)
        else:
            _set_link(machine, wanted)
    except _ANSWERED as error:
        raise _failed(wanted, error) from error


def change(machine: Machine, wanted: Resolver, found: Resolver, fields: tuple[str, ...]) -> None:
    """The whole is told anew."""
    create(machine, wanted)


def delete(machine: Machine, found: Resolver) -> None:
    """Gives back what was there before; of resolved and resolvconf nobody else's settings were touched."""
    try:
        if found.backend == "file":
            resolvfile.give_back(machine, found)
        elif found.backend == "resolvconf":
            resolvconf.delete(resolvconf.identify(), found.record)
        else:
            _revert(machine, found)
    except _ANSWERED as error:
        raise _failed(found, error) from error


def _set_link(machine: Machine, wanted: Resolver) -> None:
    link = machine.rtnl.link(name=wanted.dev) if wanted.dev else None
    if link is None:
        raise StepFailed(f"{wanted}: there is no link {wanted.dev}")
    service = _service(wanted)
    try:
        service.set_link(link.ifindex, LinkNames(wanted.servers, wanted.search, wanted.domains, wanted.default_route))
    finally:
        service.close()


def _revert(machine: Machine, found: Resolver) -> None:
    link = machine.rtnl.link(name=found.dev) if found.dev else None
    if link is None:
        return
    with suppress(StepFailed):  # it does not run any more: then it answers nobody
        service = _service(found)
        try:
            service.revert(link.ifindex)
        finally:
            service.close()


def _service(what: Resolver) -> Resolved:
    service = resolved.connect(TIMEOUT_S)
    if service is None:
        raise StepFailed(f"{what}: systemd-resolved does not run any more")
    return service


def _add_record(wanted: Resolver) -> None:
    lines = host_file.lines(Names(wanted.servers, wanted.search))
    resolvconf.add(resolvconf.identify(), wanted.record, lines)
    if not _is_in_force(wanted):
        resolvconf.update()
        if not _is_in_force(wanted):
            raise StepFailed(f"{wanted}: resolvconf has the record, but {PATH} does not name these servers")


def _is_in_force(wanted: Resolver) -> bool:
    """resolv.conf names our servers, or a local one that resolvconf feeds."""
    servers = host_file.parse(host_file.read(host_file.place().path) or b"").servers
    return servers[:1] == wanted.servers[:1] or (bool(servers) and all(server[0] == 127 for server in servers))


def _failed(what: Resolver, error: OSError | BusError) -> TunctlError:
    words = str(getattr(error, "strerror", None) or error)
    if isinstance(error, BusError) and error.name.endswith((".AccessDenied", ".InteractiveAuthorizationRequired")):
        return NotPermitted(f"{what}: {words}")
    if isinstance(error, OSError) and error.errno in (errno.EPERM, errno.EACCES) and what.backend == "file":
        return StepFailed(f"{what}: {words}", hint=f"is {what.record} immutable (lsattr), or may root not write there?")
    return StepFailed(f"{what}: {words}")
