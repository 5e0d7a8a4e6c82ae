"""Writing the store. Each method is one transaction, and none writes when nothing changes.

Most passes change nothing: what there is to do is found out by reading and pure functions, and only then a transaction begins,
in which `commit` decides once more.
"""

from __future__ import annotations

import functools
import time
from _thread import RLock  # `threading` is 2 ms and gives nothing more here
from collections.abc import Callable, Collection, Mapping, Sequence

from reconciler.errors import Bug, StoreError
from reconciler.model.intent import Vouched
from reconciler.model.ledger import Entry, is_ledger_key
from reconciler.model.names import TunnelName
from reconciler.model.tunnel import Desired
from reconciler.store import change, failure, place, read
from reconciler.store.change import Change, Who
from reconciler.store.commit import Commit
from reconciler.store.desire import desire, ensure_possible
from reconciler.store.schema import prepare
from reconciler.store.stored import TUNCTL, Actor, Ending, Event, Line, Saved, Stored, Terms
from reconciler.typed import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Concatenate, ParamSpec, Self

    from reconciler.store.change import Moves

    P = ParamSpec("P")

Names = Collection[TunnelName]
Refuse = Callable[[Stored, Desired], None]
R = TypeVar("R")

_MAX_WAIT_S = 20.0  # for the other threads of this process; each has its turn for milliseconds
_turn = RLock()


def _in_turn(method: Callable[Concatenate[Store, P], R]) -> Callable[Concatenate[Store, P], R]:
    """What a method sees first is still so when it commits, as far as this process goes. And SQLite's own waiting is not fair:
    it starves one of twenty threads."""

    @functools.wraps(method)
    def wrapped(self: Store, /, *args: P.args, **options: P.kwargs) -> R:
        if not _turn.acquire(timeout=_MAX_WAIT_S):
            raise StoreError(
                f"{self._path} is in use by another thread of this tunctl", hint="Please report this; nothing was stored."
            )
        try:
            return method(self, *args, **options)
        finally:
            _turn.release()

    return wrapped


class Store:
    """The open store. Threads may share it. Errors: StoreError, and what a method names."""

    def __init__(self, state_dir: str | Path) -> None:
        """Does nothing yet: what only looks creates nothing."""
        self.state_dir = state_dir
        self._path = place.database(state_dir)
        self._is_made = False

    @classmethod
    def open(cls, state_dir: str | Path) -> Self:
        """Makes the store where there is none, migrates an older one, finishes what a killed writer left. StoreError."""
        store = cls(state_dir)
        store._make_ready()
        return store

    def close(self) -> None:
        """Nothing is open between transactions."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ensure_writable(self) -> None:
        """StoreError unless a change could be stored now. To be asked before the machine is changed; writes nothing."""
        if not place.is_there(self.state_dir):
            return  # nothing was ever stored: a pass only sweeps, and has nothing to remember
        place.ensure_allowed(self.state_dir)
        place.ensure_room(self.state_dir)

    @_in_turn
    def stored(self) -> Stored:
        """All intents. What an older tunctl or a killed writer has left is put right first."""
        return self._recovered(read.read)

    @_in_turn
    def history(self, tunnel: TunnelName | None = None, limit: int = 100) -> tuple[Event, ...]:
        """As read.history."""
        return read.history(self.state_dir, tunnel, limit)

    @_in_turn
    def ledger(self) -> tuple[Entry, ...]:
        """As read.ledger; put right as by `stored`."""
        return self._recovered(read.ledger)

    def _recovered(self, reading: Callable[[str | Path], R]) -> R:
        try:
            return reading(self.state_dir)
        except failure.Recoverable:
            self._make_ready()
            return reading(self.state_dir)

    @_in_turn
    def save(
        self, desired: Desired, terms: Terms, *, actor: Actor, cause: str, refuse: Refuse | None = None
    ) -> tuple[Saved, Stored]:
        """What `apply` does first; `generation` and `now_us` of the terms are ours to fill in. What this changed, and all that
        is stored now. `refuse`: raises what is to be refused in view of what was stored.

        Foreign (73) when another source has declared something of it differently.
        """
        terms = terms._replace(now_us=_now_us())
        before = self.stored()
        if refuse is not None:
            refuse(before, desired)
        if before.exists:
            after, saved = desire(before, desired, terms)
            if after == before:
                return saved, before
        else:
            ensure_possible(before, desired, terms.take_over)  # before anything is made
        commit = self._commit
        place.ensure_room(self.state_dir)  # for what follows, too: an intent must not be stored by a command that says 74
        return commit.save(desired, terms, Who(actor, cause))

    @_in_turn
    def withdraw(self, names: Names, *, sources: Collection[str] = (), actor: Actor = TUNCTL, cause: str = "forget") -> None:
        """What `forget` does first: they are to go, and so are sources (also those of `sources`) left without a tunnel.

        The [host] of such a source counts until its last tunnel is deleted.
        """
        change_ = Change(frozenset(names), change.withdrawn, "forgotten")
        if sources or self._differs(change_):
            self._commit.withdraw(change_, frozenset(sources), Who(actor, cause))

    @_in_turn
    def hold(self, names: Names, *, actor: Actor = TUNCTL, cause: str = "down") -> tuple[TunnelName, ...]:
        """A user's "stay down"; returns those that were not held yet."""
        return self._change(Change(frozenset(names), change.held, "held"), Who(actor, cause))

    @_in_turn
    def unhold(self, names: Names, boot_id: str, *, actor: Actor = TUNCTL, cause: str = "up") -> tuple[TunnelName, ...]:
        """A user's `up`: ends the hold, a `failed` and the counted attempts, starts what does not start by itself.

        Returns those that this changed.
        """
        return self._change(Change(frozenset(names), change.started(boot_id, _now_us()), "released"), Who(actor, cause))

    @_in_turn
    def conclude(self, moves: Moves, vanished: Names = (), *, cause: str = "", ending: Ending | None = None) -> None:
        """What a pass came to, in one transaction, so one wait for the disk: how tunnels got on, and why; which of those that
        were withdrawn have left nothing on the machine; how the application of a generation went.

        A new state, attempt or error is a line of the history. A tunnel that was deleted meanwhile is passed over; one that
        the ledger still names, or that is declared again, is not deleted.
        """
        if (moves or vanished or ending) and place.is_there(self.state_dir):
            self._commit.conclude(moves, frozenset(vanished), cause, ending)

    @_in_turn
    def vouch(self, found: Mapping[TunnelName, tuple[Vouched, ...]]) -> None:
        """The endpoints that manifests vouch for, to outlive these. One that has moved is a line of the history."""
        change_ = Change(frozenset(found), change.vouched(found), "moved")
        if self._differs(change_):
            self._commit.vouch(change_)

    @_in_turn
    def chronicle(self, lines: Sequence[Line]) -> None:
        """Lines of the history, nothing else. Those of tunnels that are deleted are passed over."""
        if lines:
            self._commit.chronicle(lines)

    @_in_turn
    def ledger_put(self, key: str, tunnel: TunnelName, previous: bytes | None, value: bytes) -> None:
        """Before a host-wide thing is changed. The first `previous` stays: later ones are our own doing."""
        if not is_ledger_key(key):
            raise Bug(f"the ledger must not name {key!r}")
        if not any(entry.key == key and entry.value == value and tunnel in entry.tunnels for entry in self.ledger()):
            self._commit.ledger_put(key, tunnel, previous, value)

    @_in_turn
    def ledger_remove(self, key: str, tunnel: TunnelName) -> None:
        """After it was given back, or when others still need it: this tunnel does not. The entry goes with the last."""
        if any(entry.key == key and tunnel in entry.tunnels for entry in self.ledger()):
            self._commit.ledger_remove(key, tunnel)

    @property
    def _commit(self) -> Commit:
        self._make()
        return Commit(self._path)

    @_in_turn
    def _make_ready(self) -> None:
        self._make()
        prepare(self._path)

    def _make(self) -> None:
        """Once: a file that is lost later is no reason for an empty one."""
        if not self._is_made:
            place.make(self.state_dir)
            place.is_there(self.state_dir)
            place.ensure_allowed(self.state_dir)
            self._is_made = True

    def _differs(self, change_: Change) -> bool:
        return any(change_.of(intent) != intent for intent in self.stored().intents)

    def _change(self, change_: Change, who: Who) -> tuple[TunnelName, ...]:
        return self._commit.change(change_, who) if self._differs(change_) else ()


def _now_us() -> int:
    return time.time_ns() // 1000
