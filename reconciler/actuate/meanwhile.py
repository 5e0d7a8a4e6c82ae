"""While a program is waited for, others have their turn: in the daemon other passes go on."""

from __future__ import annotations

from contextlib import contextmanager

from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reconciler.host.machine import Machine

AGAIN_S = 30.0  # until it is our turn again: other commands wait for programs, too


@contextmanager
def waiting(machine: Machine) -> Iterator[None]:
    """Around what only waits. Locked when it cannot go on after it."""
    if machine.turn is None:
        yield
        return
    machine.is_overtaken = True
    machine.turn.release()
    try:
        yield
    finally:
        try:
            machine.turn.hold_again(AGAIN_S)
        finally:
            machine.handles.look_again()
            machine.ledger.reread()
