"""The process that moves a tunnel's packets. Known by TUNCTL_TUNNEL in its environment, never by a recorded pid."""

from __future__ import annotations

from reconciler.lean import sha256_hex
from reconciler.model.marks import Mark
from reconciler.model.names import IfName, TunnelName
from reconciler.model.resource import Resource, differing
from reconciler.model.text import one_line
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable

    from reconciler.kinds.listen import Bound

_REPLACE_ON = frozenset(("argv", "fingerprint", "condemned"))


class Owner(NamedTuple):
    """One process tree, wanted or found."""

    tunnel: TunnelName | None
    mark: Mark
    dev: IfName  # the device it opens or attaches to
    argv: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()  # beyond PATH and the mark
    user: str | None = None
    by_program: bool = False  # the program makes the device itself
    any_device: bool = False  # the program makes one, and chooses its name
    own_mounts: bool = False  # in a mount namespace of its own, with a private /run/wireguard
    restart_digest: str = ""
    ready_timeout_s: float = 12.0
    stop_grace_s: float = 5.0
    ports: tuple[Bound, ...] = ()  # wanted only: what it is to bind
    condemned: tuple[int, int] | None = None  # wanted: the process (pid, start ticks) that it is not to be any more
    fingerprint: str | None = None  # found: as recorded when it was started; None when that record is lost
    pid: int | None = None  # found only
    start_ticks: int | None = None  # found only: field 22 of /proc/PID/stat
    ready: bool = True  # found: not yet, it was started a moment ago
    members: tuple[int, ...] = ()  # found only: the pids of the whole tree
    holds: IfName | None = None  # found only: the TUN it has open, by /proc/PID/fdinfo

    @property
    def kind(self) -> str:
        return "owner"

    @property
    def replace_on(self) -> frozenset[str]:
        return _REPLACE_ON

    @property
    def key(self) -> Hashable:
        return self.tunnel

    @property
    def place(self) -> Hashable:
        return self.tunnel

    @property
    def hangs_on(self) -> tuple[str, ...]:
        return ("link",)

    @property
    def yields(self) -> bool:
        return False

    @property
    def order(self) -> int:
        return 0 if self.by_program else 2

    def differs_from(self, found: Resource) -> tuple[str, ...]:
        """By fingerprint where it is known, else by the command line that the kernel shows (if it was not wiped)."""
        assert isinstance(found, Owner)
        if self.condemned is not None and self.condemned == (found.pid, found.start_ticks):
            return ("condemned",)
        if found.fingerprint is None:
            return differing(self, found, ("argv",)) if any(found.argv) else ()
        if found.fingerprint != fingerprint(self):
            return ("fingerprint",)
        return () if found.ready else ("ready",)

    def __str__(self) -> str:
        pid = f" pid {self.pid}" if self.pid else ""
        return f"owner {one_line(' '.join(self.argv))} dev {self.dev}{pid}"


def fingerprint(owner: Owner) -> str:
    """A digest over everything that only a restart can change; hex. Recorded in handles.json at the start."""
    parts = (owner.argv, owner.environment, owner.user, owner.by_program, owner.restart_digest)
    return sha256_hex(repr(parts).encode())[:32]
