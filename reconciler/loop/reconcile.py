"""One pass: look, plan, act, look again, remember. Reads like the sentence that runs the program."""

from __future__ import annotations

from reconciler.errors import Foreign, NotConverged, PortTaken, TunctlError
from reconciler.host import process
from reconciler.host.machine import Machine
from reconciler.kinds.link import Link
from reconciler.kinds.resolver import Resolver
from reconciler.loop import part, remember
from reconciler.loop.act import act
from reconciler.loop.course import Work, has_made, in_rounds
from reconciler.loop.fault import Fault, point
from reconciler.loop.survey import Survey, survey
from reconciler.model.facts import Unknown
from reconciler.model.intent import Progress
from reconciler.model.marks import parse_mark
from reconciler.model.names import HOST, TunnelName
from reconciler.model.plan import Conflict, Outcome, Plan, Step, about, attempted, failed
from reconciler.model.resource import Verb
from reconciler.store.book import Book
from reconciler.store.stored import Line, Stored
from reconciler.store.write import Store
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Hashable, Iterable, Iterator, Mapping, Sequence

    from reconciler.loop.queue import Rest

_ADOPT = "if its store was lost: `tunctl apply --adopt` takes over what that has left"
_GROUND = ("route", "rule")
LINGER_S = 0.15  # others wait so long for the one program that is started, if it takes so long


class Watcher(NamedTuple):
    """Who is told while it happens."""

    planned: Callable[[Plan], None] = lambda _plan: None
    done: Callable[[Outcome], None] = lambda _outcome: None
    said: Callable[[TunnelName, str], None] | None = None  # a program that is waited for said this
    about: Callable[[frozenset[TunnelName]], None] = lambda _names: None  # the pass is about these tunnels only


class Pass(NamedTuple):
    """What one pass planned, did, and left."""

    plan: Plan
    outcomes: tuple[Outcome, ...]
    after: Survey
    left: Plan  # what the last look would still do
    errors: tuple[tuple[TunnelName, TunctlError], ...]
    warnings: tuple[str, ...] = ()  # what was wrong with the hints when it began
    remarks: tuple[str, ...] = ()  # why something was done this way
    apart: frozenset[TunnelName] = frozenset()  # left to passes of their own
    lines: tuple[Line, ...] = ()  # of the history, still to be written
    moves: Mapping[TunnelName, tuple[Progress, str]] = {}  # what was stored since `after` was read

    @property
    def converged(self) -> bool:
        return not self.errors

    @property
    def exit_code(self) -> int:
        """0; the code of the errors if they all say the same; else 1."""
        codes = {error.exit_code for _, error in self.errors}
        return 0 if not codes else codes.pop() if len(codes) == 1 else 1


class Request(NamedTuple):
    """What a pass is about."""

    scope: frozenset[TunnelName] | None = None  # None: all tunnels, and what of ours belongs to none
    requested: bool = True  # by a user, not by a timer
    adopt: frozenset[TunnelName] = frozenset()
    cause: str = "apply"
    patient: bool = False  # a tunnel that waits for its next attempt is left alone until then
    besides: frozenset[TunnelName] = frozenset()  # other passes are at work on these
    apart: bool = False  # several tunnels whose programs are to be waited for are left to passes of their own
    withheld: Container[Hashable] = frozenset()  # (kind, key) of objects that are not to be touched now
    resting: Mapping[TunnelName, Rest] = {}  # their program is not to be started now
    rebind: frozenset[TunnelName] = frozenset()  # these choose their ports anew
    generation: int | None = None  # whose application this is: how it went is stored with it
    names: Mapping[str, tuple[bytes, ...] | Unknown] | None = None  # what those of endpoints mean; None: nobody has looked yet


def reconcile(machine: Machine, store: Store, stored: Stored, request: Request, watch: Watcher, fault: Fault | None) -> Pass:
    """Makes the machine as the intents in scope say, and keeps in the store how each of them got on."""
    machine.said, machine.rebind, machine.ledger = watch.said, request.rebind, Book(store, stored.ledger)
    before = survey(machine, stored, resolve=True, privileged=True, adopt=request.adopt)
    warnings = (*before.found.warnings, *machine.handles.warnings())  # now: what is put right is forgotten
    wide = part.tunnels(before, request)
    scope, apart = part.divided(before.plan, wide, request)
    blocking = part.armed(before, request)
    first = part.allowed(before.plan.only(scope, blocking), request)
    waiting = part.started(first)
    is_alone = request.apart and not apart and bool(waiting)
    machine.linger_s = LINGER_S if len({step.tunnel for step in waiting}) == 1 else 0.0
    if request.scope is not None or is_alone:
        watch.about(scope - {HOST})
    if first.steps and not request.patient:  # a repair is better done than written down: its history can wait
        store.ensure_writable()
    watch.planned(first)
    remember.vouched(store, before)
    point(fault, "observed")
    remember.owners(machine, before)
    rested = remember.rests(store, before, (wide - scope - apart) & request.resting.keys(), request.resting)
    course = in_rounds(Work(machine, store, request, watch, fault, scope, blocking), before, first, 2 * len(waiting))
    now, left, outcomes = course.now, course.left, course.outcomes
    errors, of_names = (_errors(now, left, outcomes, scope, names=names) for names in (False, True))
    point(fault, "verified")
    now = _take_back(machine, now, watch, outcomes, fault)
    errors += [
        (o.step.tunnel, o.error) for o in failed(outcomes) if o.error and o.error not in (e for _, e in (*errors, *of_names))
    ]
    passed = remember.Passed(
        now, scope, attempted(outcomes), _made_anew(outcomes), dict(errors), request.requested, request.cause,
        later=request.patient,
    )  # fmt: skip
    remember.handles(machine, passed)
    remember.vouched(store, now)
    errors += [*((HOST, error) for error in remember.record(machine, now)), *of_names]
    errors += [(name, NotConverged("another order has taken it down before it was up")) for name in sorted(course.overruled)]
    moved, lines = remember.progress(store, passed, remember.ending(request.generation, errors))
    point(fault, "recorded")
    return Pass(
        first, tuple(outcomes), now, left, tuple(errors), (*warnings, *machine.notes),
        tuple(_remarks(before, outcomes)), apart, lines, {**rested, **moved},
    )  # fmt: skip


def _remarks(before: Survey, outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Whom name servers were told, and all that this was decided by."""
    backends = {
        o.step.resource.backend
        for o in about(outcomes, Resolver)
        if isinstance(o.step.resource, Resolver) and o.step.verb is not Verb.DELETE and not o.skipped
    }
    if backends:
        yield f"dns: {before.facts.name_service} → {', '.join(sorted(backends))}"


def _made_anew(outcomes: Sequence[Outcome]) -> frozenset[TunnelName]:
    """The tunnels whose interface is another one than before."""
    return frozenset(o.step.tunnel for o in about(outcomes, Link) if has_made(o))


def _errors(
    now: Survey, left: Plan, outcomes: Iterable[Outcome], scope: frozenset[TunnelName], *, names: bool
) -> list[tuple[TunnelName, TunctlError]]:
    """Why not all is as wanted, one reason a tunnel and error: the steps that failed, what is foreign, what is left.

    `names`: of name servers only, or of all but them: without them a tunnel is degraded, but it is up.
    """
    without = now.wanted.refused if names else now.wanted.impossible
    those = [o for o in failed(outcomes) if _is_of_names(o.step.resource.kind) is names]
    errors = [(name, o.error) for o in those if o.error for name in sorted(_whose(now, o.step))]
    errors += [(name, error) for name, error in without if name in scope]
    errors += [(c.tunnel, _foreign(c)) for c in left.conflicts if _is_of_names(c.wanted.kind) is names]
    for blind in (u for u in now.found.unobserved if _is_of_names(u.kind) is names):
        for name in (scope - {HOST}) if blind.tunnel is None else scope & {blind.tunnel}:
            errors.append((name, NotConverged(f"{blind.kind} could not be read: {blind.reason}")))
    known = {name for name, _ in errors}
    for step in left.steps:
        if step.needs is None and _is_of_names(step.resource.kind) is names:
            for name in sorted(_whose(now, step) - known):
                known.add(name)
                errors.append((name, NotConverged(f"still to do after a second look: {step}")))
    return errors


def _whose(now: Survey, step: Step) -> frozenset[TunnelName]:
    """Who does not work when this step is not done: without the host's routes and rules, the tunnels that go by them."""
    named = now.named(step) if step.tunnel == HOST and step.resource.kind in _GROUND else frozenset()
    return named or frozenset((step.tunnel,))


def _is_of_names(kind: str) -> bool:
    return kind == "resolver"


def _take_back(machine: Machine, now: Survey, watch: Watcher, outcomes: list[Outcome], fault: Fault | None) -> Survey:
    """Removes what a first bring-up has made in which a step failed; a tunnel that worked before keeps what works.

    Only for steps that failed: a look that failed is no reason to remove anything.
    """
    of_steps = [_whose(now, o.step) for o in failed(outcomes) if not _is_of_names(o.step.resource.kind)]
    taken = {name for name, error in now.wanted.impossible if isinstance(error, PortTaken)}  # every race for a port was lost
    lost = (outcome.step.tunnel for outcome in outcomes if outcome.step.tunnel in taken) if taken else ()
    intents = [now.intents[name] for name in {*lost}.union(*of_steps) if name in now.intents]
    first = frozenset(i.name for i in intents if not i.progress.worked and i.is_wanted_up(now.facts.boot_id))
    if not first:
        return now
    for _ in range(1 + len(first)):
        without = survey(machine, now.stored, resolve=False, privileged=True, without=first).plan.steps
        removal = tuple(s for s in without if s.tunnel in first or s.resource.kind == "nat" or _is_ground(s))
        if not removal:
            return now
        watch.planned(Plan(removal))
        outcomes += act(machine, removal, fault, watch.done, 1 + len(outcomes))
        if not machine.is_overtaken:
            break
    return survey(machine, now.stored, resolve=False, privileged=True)


def _is_ground(step: Step) -> bool:
    """The host's own routes and rules, those that come too: the rule of another full tunnel moves to the place it had."""
    return step.tunnel == HOST and step.resource.kind in _GROUND


def _foreign(conflict: Conflict) -> Foreign:
    """What is in the way; of a TUN also who has it open, which only now is worth a walk through /proc."""
    found = conflict.found
    pids = process.tun_holders().get(found.name, []) if isinstance(found, Link) and found.type in ("tun", "tap") else []
    held = f" (held by process {', '.join(map(str, pids))})" if pids else ""
    return Foreign(f"{conflict.message}{held}", hint=_ADOPT if _was_ours(conflict) else "")


def _was_ours(conflict: Conflict) -> bool:
    """It has the mark of a tunnel of this name in another store: that one was lost, or somebody else is at work here."""
    mark = parse_mark(conflict.found.alias) if isinstance(conflict.found, Link) else None
    return mark is not None and mark.tunnel == conflict.tunnel
