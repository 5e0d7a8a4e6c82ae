"""Switches: turned on with a note in the ledger before, given back by the last tunnel that needed them."""

from __future__ import annotations

import errno
import os

from reconciler.errors import LookAgain, NotPermitted, StepFailed
from reconciler.host import sysctl
from reconciler.host.machine import Machine
from reconciler.kinds.sysctl import GLOBAL, PREFIX, Sysctl, interface_key
from reconciler.model.ledger import Entry, is_ledger_key
from reconciler.model.names import TunnelName


def create(machine: Machine, wanted: Sysctl) -> None:
    """First the ledger, then the kernel. LookAgain when the interface is not there yet."""
    now = sysctl.read(wanted.name)
    if now is None:
        raise LookAgain(f"{wanted}: there is no such interface yet")
    if not is_ledger_key(PREFIX + wanted.name):
        raise StepFailed(f"{wanted}: tunctl cannot keep a switch of such a name")
    value = str(wanted.value)
    entry = _entry(machine, wanted.name)
    if entry is None and now == value and not wanted.always:
        return  # somebody else was quicker: it is theirs
    machine.ledger.put(PREFIX + wanted.name, wanted.tunnel or TunnelName(""), _previous(machine, wanted, now), value.encode())
    if now != value:
        _write(wanted.name, value)


def change(machine: Machine, wanted: Sysctl, found: Sysctl, fields: tuple[str, ...]) -> None:
    create(machine, wanted)


def delete(machine: Machine, found: Sysctl) -> None:
    """The last tunnel gives back what was there, if what is there is still what we set; then the ledger forgets it."""
    entry = _entry(machine, found.name)
    tunnel = found.tunnel or TunnelName("")
    if entry is None or tunnel not in entry.tunnels:
        return
    now = sysctl.read(found.name)
    if entry.tunnels == (tunnel,) and now is not None and entry.previous is not None:
        ours, before = entry.value.decode(), entry.previous.decode()
        if now == ours != before:
            _give_back(machine, found.name, before, tunnel)
        elif now not in (ours, before):
            machine.notes.append(f"{found.name} is {now}, which is not what tunctl had set ({ours}): left as it is")
    machine.ledger.remove(entry.key, tunnel)


def _previous(machine: Machine, wanted: Sysctl, now: str) -> bytes:
    """What was there. An interface that came while the global switch was ours began as we had told all to begin."""
    if wanted.always:
        family = wanted.name.partition(".conf.")[0]
        default = _entry(machine, interface_key(family, "default", "forwarding"))
        is_ours = any(_entry(machine, name) for name, of in GLOBAL.items() if of == family)
        if is_ours and default is not None and default.previous is not None:
            return default.previous
    return now.encode()


def _give_back(machine: Machine, name: str, before: str, tunnel: TunnelName) -> None:
    family = GLOBAL.get(name)
    if family is None:
        _write(name, before)
        return
    on = [key for key in _switches(family) if sysctl.read(key) == "1"]
    known = {entry.key for entry in machine.ledger.entries()}
    for key in on:  # the global switch turns them off: whoever finds the machine after a crash in between is to know
        if PREFIX + key not in known:
            machine.ledger.put(PREFIX + key, tunnel, b"1", b"0")
    _write(name, before)
    for key in on:
        if sysctl.read(key) is not None:
            _write(key, "1")
        if PREFIX + key not in known:
            machine.ledger.remove(PREFIX + key, tunnel)


def _switches(family: str) -> list[str]:
    """The forwarding switches of all interfaces."""
    directory = sysctl.path(f"{family}.conf")
    keys = [interface_key(family, dev, "forwarding") for dev in sorted(os.listdir(directory)) if dev != "all"]
    return [key for key in keys if is_ledger_key(PREFIX + key)]


def _entry(machine: Machine, name: str) -> Entry | None:
    return next((entry for entry in machine.ledger.entries() if entry.key == PREFIX + name), None)


def _write(name: str, value: str) -> None:
    try:
        sysctl.write(name, value)
    except FileNotFoundError:
        return  # the interface went meanwhile
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES, errno.EROFS):
            raise NotPermitted(
                f"sysctl {name}={value}: {error.strerror}", hint="This needs a /proc/sys that may be written; run it as root."
            ) from error
        raise StepFailed(f"sysctl {name}={value}: {error.strerror}") from error
