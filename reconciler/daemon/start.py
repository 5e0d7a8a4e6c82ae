"""The way into the loop: what it needs is there, nobody else does it, and everything its passes use is loaded."""

from __future__ import annotations

import gc
import importlib
import time

from reconciler import actuate
from reconciler.daemon.place import Place
from reconciler.daemon.rehearsal import rehearse
from reconciler.daemon.say import Log, Say
from reconciler.daemon.serve import Daemon
from reconciler.host import limits, x25519
from reconciler.host.machine import Machine
from reconciler.host.privilege import require_net_admin
from reconciler.lean import sha256_hex, suppress
from reconciler.loop.commands import Session
from reconciler.loop.look import KERNEL_WAIT_S

_REHEARSALS, _REHEARSAL_S = 5, 0.2  # as often, if it does not take longer: by then Python has adapted the code
_PASSES_USE = (
    "reconciler.config.load", "reconciler.config.words", "reconciler.loop.relisted", "reconciler.compared",
    "reconciler.parted", "reconciler.ordered", "reconciler.drivers.wireguard", "reconciler.drivers.way",
    "reconciler.observe.wireguard", "reconciler.observe.packetfilter", "reconciler.observe.nat", "reconciler.layout.nat",
    "reconciler.host.nft", "reconciler.observe.pulse", "reconciler.loop.turns", "reconciler.observe.engine",
    "reconciler.host.keyfile", "reconciler.host.resolve", "reconciler.host.rtnl", "difflib", "hashlib", "json", "shlex",
    "reconciler.loop.salvage", "reconciler.loop.wait", *(f"reconciler.actuate.{name}" for name in actuate.MODULES),
    "cryptography.hazmat.primitives.asymmetric.x25519", "pwd", "grp",
)  # fmt: skip


def serve(session: Session, say: Say) -> int:
    """Runs until SIGTERM. NotPermitted, Unavailable; Locked when another daemon of this run directory runs, also later: when
    somebody has removed our lock, and it was faster than we."""
    require_net_admin("daemon")
    load()
    _rehearse(session)
    limits.take_all()
    with Daemon(session, Log(say).say) as daemon:
        place = Place(session.run_dir)
        try:
            gc.collect()
            gc.freeze()  # passes share these pages as long as nobody looks for garbage among them
            gc.enable()  # a command lives too short for it, and switched it off
            daemon.run(place)
        finally:
            place.leave()
    return 0


def load() -> None:
    """A pass is forked: what is loaded here it need not load. It could not, while it reads files with the rights of somebody
    who may not read Python's."""
    for name in _PASSES_USE:
        importlib.import_module(name)
    x25519.public(bytes(32))  # the library loads the most of itself for the first key
    sha256_hex(b"")


def _rehearse(session: Session) -> None:
    """Without what could hang: what it decodes and warms is there in all that are forked."""
    begun_s = time.monotonic()
    with suppress(Exception), Machine(session.run_dir, KERNEL_WAIT_S) as machine:  # a pass says what is wrong
        for _ in range(_REHEARSALS):
            rehearse(session, machine, privileged=False)
            if time.monotonic() - begun_s > _REHEARSAL_S:
                return
