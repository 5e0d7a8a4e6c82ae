"""What a user asks for, as data: it is carried out where it was said, or by the daemon."""

from __future__ import annotations

from reconciler.typed import NamedTuple

COMMANDS = ("apply", "up", "down", "forget", "reconcile", "rebind")


class ApplyOptions(NamedTuple):
    """The words after `apply` and `plan`."""

    allow_withdraw: bool = False
    take_over: bool = False
    adopt: bool = False
    keep_holds: bool = False


class Order(NamedTuple):
    """One command that changes something, with its words."""

    command: str  # of COMMANDS
    names: tuple[str, ...] = ()
    every: bool = False
    orphans: bool = False  # down
    source: str | None = None  # forget
    file: str = ""  # apply
    options: ApplyOptions = ApplyOptions()
    timeout_s: float = 60.0
    wait: bool = False
