"""The way into the loop: what it needs is there, nobody else does it, and everything its passes use is loaded."""

from __future__ import annotations

import fcntl
import gc
import importlib
import os
from contextlib import suppress

from reconciler.config import shape
from reconciler.daemon.say import Log, Say
from reconciler.daemon.serve import Daemon
from reconciler.errors import Locked, TunctlError, Unavailable
from reconciler.host import files, limits, meters
from reconciler.host.board import CONTESTED, LOCK
from reconciler.host.holder import described, file_holder
from reconciler.host.machine import Machine
from reconciler.host.privilege import require_net_admin
from reconciler.loop.commands import Session
from reconciler.loop.look import KERNEL_WAIT_S
from reconciler.loop.survey import survey
from reconciler.store.read import read

_PASSES_USE = (
    "reconciler.config.load", "reconciler.lifecycle",
    "reconciler.observe.wireguard", "reconciler.observe.packetfilter", "reconciler.observe.nat", "reconciler.layout.nat",
    "reconciler.host.nft", "reconciler.observe.pulse", "reconciler.loop.turns", "reconciler.observe.engine",
    "reconciler.drivers.way", "reconciler.host.resolve", "reconciler.host.rtnl", "hashlib",
)  # fmt: skip


def serve(session: Session, say: Say) -> int:
    """Runs until SIGTERM. NotPermitted, Unavailable; Locked when another daemon of this run directory runs."""
    require_net_admin("daemon")
    for name in _PASSES_USE:  # a pass is forked: what is loaded here it need not load
        importlib.import_module(name)
    shape.prepare()
    _rehearse(session)
    limits.take_all()
    with Daemon(session, Log(say).say) as daemon:
        lock = _lock(session)
        try:
            for name in (CONTESTED, meters.FILE):  # of one that was killed
                files.sweep(session.run_dir / name)
            gc.collect()
            gc.freeze()  # passes share these pages as long as nobody looks for garbage among them
            gc.enable()  # a command lives too short for it, and switched it off
            daemon.run()
        finally:
            os.close(lock)
    return 0


def _rehearse(session: Session) -> None:
    """A look that nobody asked for, without what could hang: what it decodes and warms is there in all that are forked."""
    with suppress(TunctlError), Machine(session.run_dir, KERNEL_WAIT_S) as machine:
        survey(machine, read(session.state_dir), resolve=False, privileged=False)


def _lock(session: Session) -> int:
    path = session.run_dir / LOCK
    try:
        files.make_directory(session.run_dir)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror}", hint="choose a --run-dir that can be written") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = file_holder(os.fstat(descriptor))
        os.close(descriptor)
        raise Locked(
            f"a daemon runs already: {described(holder)}", hint="systemctl stop tunctl, or end it with SIGTERM"
        ) from None
    return descriptor
