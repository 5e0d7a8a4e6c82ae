"""What the commands do: each is a change to the store and one pass, or only a look."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress

from reconciler.errors import InvalidFile, StoreError, TunctlError, UsageError
from reconciler.host import accounts, pulses
from reconciler.host.handles import Handles
from reconciler.host.lock import hold
from reconciler.host.machine import Machine
from reconciler.host.privilege import asking_uid, require_net_admin
from reconciler.loop.fault import Fault, point
from reconciler.loop.guard import refuse_borrowed, refuse_withdrawal
from reconciler.loop.lookup import HURRY_S, asked, look_up, names_of
from reconciler.loop.planning import desired_of, terms
from reconciler.loop.reconcile import Pass, Request, Watcher, reconcile
from reconciler.model.facts import Unknown
from reconciler.model.names import HOST, TunnelName
from reconciler.model.order import ApplyOptions
from reconciler.model.tunnel import Desired, Tunnel
from reconciler.store.desire import desire
from reconciler.store.read import read
from reconciler.store.stored import Actor, Stored
from reconciler.store.write import Store
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from reconciler.loop.probe import Round

_PATIENCE_S = {"down": HURRY_S, "forget": HURRY_S}  # for names
_NOTHING = Stored(exists=False)
_PEEK_S = 0.2  # for a look at a store that somebody has locked: it is read once more under our own lock
_NAME_S = 0.5  # for the name of whoever asks: the history can do without


class Session(NamedTuple):
    """Where a command works, and for whom."""

    state_dir: str | Path
    run_dir: str | Path
    lock_timeout_s: float = 2.0
    fault: Fault | None = None
    uid: int | None = None  # for whom, when that is not whoever runs this process
    reads_as: Callable[[], AbstractContextManager[None]] = nullcontext  # with whose rights a desired file is opened
    handles: Handles | None = None  # of the pass before, in the same process
    unmarked: dict[int, int] | None = None  # as that pass left it (process.find_marked)
    names: Mapping[str, tuple[bytes, ...] | Unknown] = {}  # what names of endpoints meant a moment ago
    gives_way: bool = False  # to others while it only waits for a program: it is a pass of the daemon
    opened: Callable[[Machine], None] = lambda _machine: None  # told of the machine that is changed, before it is


class Done(NamedTuple):
    """A command that changes something has come to its end."""

    result: Pass
    held: tuple[TunnelName, ...] = ()
    notes: tuple[str, ...] = ()  # for people, on stderr
    declared: frozenset[TunnelName] = frozenset()  # apply: what the file declares enabled


@contextmanager
def writing(
    session: Session, command: str, stored: Stored | None = None, anew: Callable[[Tunnel], bool] = lambda _tunnel: False
) -> Iterator[tuple[Machine, Store, tuple[str, ...]]]:
    """The lock, the open machine and the store, in this order. Before it the names of endpoints, so that nobody waits with us
    for a name server: those of `stored`, or of what is stored now; `anew`: of which tunnels they are looked up though they
    are known."""
    require_net_admin(command)
    stored, patience_s = _peek(session) if stored is None else stored, _PATIENCE_S.get(command)
    again = set(names_of(intent.tunnel for intent in stored.intents if anew(intent.tunnel)))
    known = {name: answer for name, answer in session.names.items() if name not in again}
    names = look_up(session.run_dir, stored, {**known, **asked}, patience_s)
    with (
        hold(session.run_dir, session.lock_timeout_s) as held,
        Machine(session.run_dir, handles=session.handles, unmarked=session.unmarked) as machine,
        Store(session.state_dir) as store,
    ):
        machine.names, machine.names_s = names, patience_s
        if session.gives_way:
            machine.turn = held
        session.opened(machine)
        yield machine, store, held.warnings


def actor(session: Session) -> Actor:
    """Who asks."""
    uid = asking_uid() if session.uid is None else session.uid
    return Actor(uid, accounts.name_of(uid, _NAME_S))


def apply(session: Session, location: str, options: ApplyOptions, watch: Watcher) -> Done:
    """Stores what the file says, makes it so, and looks again."""
    require_net_admin("apply")
    stored = _peek(session)
    with session.reads_as():
        desired = desired_of(location, stored)
        if session.reads_as is not nullcontext:
            refuse_borrowed(stored, desired)
    declared = frozenset(tunnel.name for tunnel in desired.tunnels)
    to_be = _to_be(session, stored, desired, options)
    with writing(session, "apply", to_be, lambda tunnel: tunnel.name in declared) as (machine, store, warnings):
        saved, stored = store.save(
            desired, terms(machine, declared, options), actor=actor(session), cause="apply",
            refuse=None if options.allow_withdraw else refuse_withdrawal,
        )  # fmt: skip
        point(session.fault, "stored")
        scope = frozenset(i.name for i in stored.intents if i.source == desired.source) | declared | {HOST}
        request = Request(scope, adopt=declared if options.adopt else frozenset(), cause="apply", generation=saved.generation)
        result = reconcile(machine, store, stored, request, watch, session.fault)
        enabled = frozenset(tunnel.name for tunnel in desired.tunnels if tunnel.enabled)
        return Done(result, saved.still_held, (*warnings, *desired.warnings), enabled)


def _to_be(session: Session, stored: Stored, desired: Desired, options: ApplyOptions) -> Stored:
    """What will be stored, as far as names are to be looked up for it."""
    if not any(True for _ in names_of(desired.tunnels)):
        return stored
    declared = frozenset(tunnel.name for tunnel in desired.tunnels)
    try:
        return desire(stored, desired, terms(Machine(session.run_dir), declared, options))[0]
    except TunctlError:  # it is refused when it is saved
        return stored


def _peek(session: Session) -> Stored:
    """What is stored, before the lock is held. Trouble with the store is told, and mended, when it is opened."""
    try:
        return read(session.state_dir, _PEEK_S)
    except StoreError:
        return Stored(exists=False)


def check_names(stored: Stored, names: Iterable[str]) -> frozenset[TunnelName]:
    """The names, if all of them are declared; else UsageError with those that exist."""
    there = {intent.name for intent in stored.intents}
    unknown = [name for name in names if name not in there]
    if unknown:
        raise UsageError(
            f"no tunnel {', '.join(repr(name) for name in unknown)} is declared",
            hint=_those(there),
        )
    return frozenset(TunnelName(name) for name in names)


def _those(names: Iterable[str]) -> str:
    there = sorted(names)
    return f"there are: {', '.join(there)}" if there else "nothing is declared"


def observe_health(session: Session, names: Collection[TunnelName] | None = None) -> Round | None:
    """A round of health checks for all tunnels that are due, or for those of these. None: nobody asks for any. What could
    not be looked at stays as it was known."""
    stored = _peek(session)
    if any(intent.tunnel.health for intent in stored.intents):
        from reconciler.loop.probe import make_round

        with suppress(TunctlError):  # the pass meets it, too, and says so
            return make_round(session.run_dir, stored, names)
    return None


def reconcile_all(session: Session, watch: Watcher) -> Done:
    """One pass over all intents, as a timer makes it."""
    require_net_admin("reconcile")
    made = observe_health(session)
    news = tuple(f"{name}: {words}" for name, words in made.told) if made else ()
    with writing(session, "reconcile", anew=lambda _tunnel: True) as (machine, store, warnings):
        stored = store.stored()
        store.chronicle(made.lines if made else ())
        result = reconcile(machine, store, stored, Request(None, requested=False, cause="reconcile"), watch, session.fault)
        return Done(result, tuple(i.name for i in stored.intents if i.held), (*warnings, *news))


def keep(session: Session, request: Request, watch: Watcher) -> Pass:
    """One pass of the daemon. It looks no names up but, before all, those of the first one."""
    unknown = None if request.names is None else _NOTHING
    session = session._replace(names=request.names or {})
    with writing(session, "daemon", unknown) as (machine, store, _warnings):
        machine.names_s = 0.0
        return reconcile(machine, store, store.stored(), request, watch, session.fault)


def up(session: Session, names: Sequence[str], watch: Watcher) -> Done:
    """Ends the hold and a `failed`, and brings up. No names: all that are enabled."""
    with writing(session, "up", anew=lambda tunnel: not names or tunnel.name in names) as (machine, store, warnings):
        stored = store.stored()
        chosen = check_names(stored, names) if names else frozenset(i.name for i in stored.intents if i.tunnel.enabled)
        disabled = [intent.name for intent in stored.intents if intent.name in chosen and not intent.tunnel.enabled]
        if disabled:
            raise InvalidFile(
                f"{', '.join(sorted(disabled))}: enabled = false in the desired file", hint="change it there, then tunctl apply"
            )
        store.unhold(chosen, machine.handles.boot_id, actor=actor(session), cause="up")
        for name in chosen:
            pulses.drop(session.run_dir, name)
        point(session.fault, "stored")
        result = reconcile(machine, store, store.stored(), Request(chosen | {HOST}, cause="up"), watch, session.fault)
        return Done(result, (), warnings)


def rebind(session: Session, names: Sequence[str], watch: Watcher) -> Done:
    """Lets tunnels choose their ports anew, beginning with those that their file asks for."""
    with writing(session, "endpoints rebind", anew=lambda tunnel: tunnel.name in names) as (machine, store, warnings):
        stored = store.stored()
        chosen = check_names(stored, names)
        without = sorted(i.name for i in stored.intents if i.name in chosen and not i.tunnel.listen)
        if without:
            raise UsageError(f"{', '.join(without)}: no `listen` in the desired file, so no port to choose")
        request = Request(chosen | {HOST}, cause="rebind", rebind=chosen)
        result = reconcile(machine, store, stored, request, watch, session.fault)
        boot_id = machine.handles.boot_id
        idle = (f"{i.name}: not connected" for i in stored.intents if i.name in chosen and not i.is_wanted_up(boot_id))
        return Done(result, (), (*warnings, *idle))


def down(session: Session, names: Sequence[str], watch: Watcher) -> Done:
    """Takes down and holds. No names: all of them."""
    with writing(session, "down") as (machine, store, warnings):
        stored = store.stored()
        chosen = check_names(stored, names) if names else frozenset(i.name for i in stored.intents)
        idle = [i.name for i in stored.intents if i.name in chosen and i.progress.state in ("pending", "removed")]
        store.hold(chosen, actor=actor(session), cause="down")
        point(session.fault, "stored")
        result = reconcile(machine, store, store.stored(), Request(chosen | {HOST}, cause="down"), watch, session.fault)
        quiet = () if result.plan.steps else tuple(f"{name}: not connected" for name in idle)
        return Done(result, (), (*warnings, *quiet))


def forget(session: Session, names: Sequence[str], source: str | None, watch: Watcher) -> Done:
    """Takes down and deletes from the store. No names and no source: everything."""
    with writing(session, "forget") as (machine, store, warnings):
        stored = store.stored()
        known = {s.name for s in stored.sources}
        if source is not None and source not in known:
            source = os.path.abspath(source)  # the name of a source that its file does not name
        if source is not None and source not in known:
            raise UsageError(f"no source {source!r}", hint=_those(s.name for s in stored.sources if not s.forgotten))
        if names:
            chosen = check_names(stored, names)
        else:
            chosen = frozenset(i.name for i in stored.intents if source in (None, i.source))
        store.withdraw(chosen, sources=_emptied(stored, chosen, source), actor=actor(session), cause="forget")
        point(session.fault, "stored")
        result = reconcile(machine, store, store.stored(), Request(chosen | {HOST}, cause="forget"), watch, session.fault)
        gone = tuple(f"{name}: forgotten" for name in sorted(chosen))
        return Done(result._replace(remarks=(*result.remarks, *gone)), (), warnings)


def _emptied(stored: Stored, chosen: frozenset[TunnelName], source: str | None) -> tuple[str, ...]:
    """Sources that lose their last tunnel, or that were named: their [host] goes too."""
    kept = {i.source for i in stored.intents if i.name not in chosen and not i.withdrawn}
    return tuple(s.name for s in stored.sources if s.name not in kept and source in (None, s.name))
