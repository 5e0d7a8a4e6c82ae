"""Routes, many at once: one message each, sent by the hundred, every error attributed to its step."""

from __future__ import annotations

import errno
from _operator import attrgetter
from itertools import chain, groupby, repeat

from reconciler.actuate.errnos import ALREADY_GONE, failed
from reconciler.errors import Foreign, StepFailed, TunctlError
from reconciler.host import linkipv6, nl_route
from reconciler.host.machine import Machine
from reconciler.host.netlink import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, KernelError
from reconciler.host.nl_route import RTM_DELROUTE, RTM_NEWROUTE, SCOPE_LINK, SCOPE_NOWHERE, SCOPE_UNIVERSE, RouteRow
from reconciler.kinds.route import UNICAST, Route
from reconciler.kinds.routes import Routes, Some
from reconciler.lean import lru_cache
from reconciler.model.marks import PROTOCOL
from reconciler.model.names import HOST, IfName
from reconciler.model.plan import Step
from reconciler.model.prefix import AF_INET, AF_INET6, Prefix
from reconciler.model.prefixes import Prefixes
from reconciler.model.resource import Verb, each
from reconciler.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

Key = tuple[bytes, int, int, int]  # packed, length, table, metric: Route.key
Request = tuple[int, int, bytes]
Result = TunctlError | None
Failures = dict[int, TunctlError]  # by the number of the route, counted over all single ones

_NEW = NLM_F_CREATE | NLM_F_EXCL
_NO_LINK = KernelError(errno.ENODEV)
_FAMILIES = {4: AF_INET, 16: AF_INET6}


def create(machine: Machine, wanted: Route) -> None:
    """A new route. Equal and ours is fine, ours but different is made equal; Foreign when it is somebody else's."""
    _raise(_Bulk(machine).create([wanted]))


def change(machine: Machine, wanted: Route, found: Route, fields: tuple[str, ...]) -> None:
    """Replaces the route of this prefix, table and metric in one go."""
    _raise(_Bulk(machine).change([wanted]))


def delete(machine: Machine, found: Route) -> None:
    """Removes it if it still is ours."""
    _raise(_Bulk(machine).delete([found]))


def perform(machine: Machine, steps: Sequence[Step]) -> list[tuple[Step, Result]]:
    """Carries out many steps: each with its error, or None. Runs of the same verb go together, their order is kept. A step
    about many routes of which some failed comes back in parts: those that are done, and each of the others."""
    bulk = _Bulk(machine)
    work: dict[Verb, Callable[[Sequence[Any]], Failures]] = {  # their resources are `Some`
        Verb.CREATE: bulk.create,
        Verb.CHANGE: bulk.change,
        Verb.REPLACE: bulk.change,
        Verb.DELETE: bulk.delete,
    }
    results: list[tuple[Step, Result]] = []
    for verb, several in groupby(steps, key=attrgetter("verb")):
        run = list(several)
        failures = work[verb]([step.resource for step in run])
        results += _by_step(run, failures) if failures else zip(run, repeat(None))
    return results


def _by_step(steps: Sequence[Step], failures: Failures) -> Iterator[tuple[Step, Result]]:
    first = 0
    for step in steps:
        yield from _parts(step, {at - first: failures[at] for at in failures if first <= at < first + step.number})
        first += step.number


def _parts(step: Step, failures: Failures) -> Iterator[tuple[Step, Result]]:
    """`failures`: by the number of the route among those of the step."""
    many = step.resource
    if not isinstance(many, Routes) or not failures:
        yield step, failures.get(0)
        return
    single = list(step.each())
    failed = Prefixes.of(Prefix(*route[1:3]) for at in failures if isinstance(route := single[at].resource, Route))
    done = many._replace(prefixes=many.prefixes - failed)
    if done.number:
        yield step._replace(resource=done, found=done if step.found else None), None
    yield from ((single[at], error) for at, error in failures.items())


class _Bulk:
    """One call: links are looked up once."""

    def __init__(self, machine: Machine) -> None:
        self._rtnl = machine.rtnl
        self._indexes: dict[IfName, int] = {}  # 0: there is no such link
        self._switched: set[IfName] = set()

    def create(self, routes: Sequence[Some]) -> Failures:
        failures, exist = self._send(routes, RTM_NEWROUTE, _NEW)
        if exist:
            single = _single(routes)
            again = self._settle([single[at] for at in exist])
            failures |= {exist[number]: error for number, error in again.items()}
        return failures

    def change(self, routes: Sequence[Some]) -> Failures:
        """A replacement takes over whatever is there, silently: so only what still is ours is replaced."""
        return self._settle(_single(routes))

    def delete(self, routes: Sequence[Some]) -> Failures:
        """The protocol is named, so what is somebody else's by now is ESRCH: nothing of ours is there.

        To IPv4 a deletion with metric 0 matches any metric, lowest first; link and type are named to keep it narrow.
        """
        failures, _ = self._send(routes, RTM_DELROUTE, 0)
        return failures

    def _settle(self, routes: Sequence[Route]) -> Failures:
        """Routes at whose place something stands, or did: ours is replaced unless equal, a foreign one is an error."""
        self._look_up({route.dev for route in routes})
        there = self._holders(routes)
        failures: Failures = {}
        replace, make = [], []
        for at, route in enumerate(routes):
            rows = there.get(route[1:5], [])
            foreign = next((row for row in rows if row[8] != PROTOCOL), None)
            if foreign:
                failures[at] = Foreign(f"{route}: a route that is not ours is there ({self._words(foreign)})")
            elif not rows:
                make.append(at)
            elif not self._is(rows[0], route):
                replace.append(at)
        for chosen, flags in ((replace, NLM_F_REPLACE | NLM_F_CREATE), (make, _NEW)):
            failed, exist = self._send([routes[at] for at in chosen], RTM_NEWROUTE, flags)
            for number in exist:
                failed[number] = StepFailed(f"{routes[chosen[number]]}: another route comes there again and again")
            failures |= {chosen[number]: error for number, error in failed.items()}
        return failures

    def _send(self, routes: Sequence[Some], kind: int, flags: int) -> tuple[Failures, list[int]]:
        """→ what failed, and the numbers of those that the kernel says exist; counted over all single routes. StepFailed when
        they cannot be sent."""
        deleting = kind == RTM_DELROUTE
        self._look_up({one.dev for one in routes})
        bodies = [*chain.from_iterable([self._bodies(one, deleting=deleting) for one in routes])]
        try:
            answers = self._rtnl.batch(kind, flags, [*filter(None, bodies)])
        except KernelError as unsent:
            raise failed("routes", unsent) from unsent
        if len(answers) == len(bodies) and not any(answers):
            return {}, []
        told = iter(answers)
        errors = {at: error for at, body in enumerate(bodies) if (error := next(told) if body else _NO_LINK)}
        failures: Failures = {}
        exist: list[int] = []
        single = _single(routes)
        for at, error in errors.items():
            if deleting and (error is _NO_LINK or error.errno in ALREADY_GONE["route"]):
                continue
            if error.errno == errno.EEXIST:
                exist.append(at)
            elif error is _NO_LINK:
                failures[at] = StepFailed(f"{single[at]}: there is no link {single[at].dev}")
            else:
                failures[at] = failed(single[at], error)
        return failures, exist

    def _bodies(self, some: Some, *, deleting: bool) -> Iterable[bytes | None]:
        """The message of each route; None when it needs a link that is not there."""
        tunnel, packed, length, table, metric, type_, dev, via, src = some if isinstance(some, Route) else some.like
        columns = (bytes((length,)), (packed,)) if isinstance(some, Route) else some.prefixes.columns(len(packed))
        index = self._indexes[dev] if dev else 0
        if dev and not deleting:
            if not index:
                return repeat(None, len(columns[0]))
            if len(packed) == 16 and tunnel != HOST:
                self._switch_on(dev)
        head = _head(len(packed), table, metric, type_, via, src, of_host=tunnel == HOST, deleting=deleting)
        return nl_route.bodies(head, index, *columns)

    def _switch_on(self, dev: IfName) -> None:
        """IPv6, as for addresses: a tunnel may have routes of a family that it has no address of."""
        if dev not in self._switched:
            self._switched.add(dev)
            linkipv6.switch_on(dev)

    def _look_up(self, devs: set[IfName | None]) -> None:
        """Each is asked for once."""
        new = [dev for dev in devs if dev and dev not in self._indexes]
        self._indexes |= {**dict.fromkeys(new, 0), **self._rtnl.indexes_of(new)}

    def _holders(self, routes: Iterable[Route]) -> dict[Key, list[RouteRow]]:
        """What stands at the places of these routes now, whosever it is."""
        keys = {route[1:5] for route in routes}

        def decode(body: bytes) -> RouteRow | None:
            row = nl_route.decode(body)
            return row if row and row[:4] in keys else None

        there: dict[Key, list[RouteRow]] = {}
        for family, table in sorted({(_FAMILIES[len(packed)], table) for packed, _, table, _ in keys}):
            for row in self._rtnl.routes(family, decode, table=table):
                there.setdefault(row[:4], []).append(row)
        return there

    def _is(self, row: RouteRow, route: Route) -> bool:
        index = self._indexes[route.dev] if route.dev else 0
        return row[4:8] == (route.type, index, route.via, route.src)

    def _words(self, row: RouteRow) -> str:
        link = self._rtnl.link(index=row[5]) if row[5] else None
        return f"{Route(None, *row[:5], link.name if link else None, *row[6:8])}, protocol {row[8]}"


@lru_cache(64)  # tunnels differ in little else
def _head(
    size: int,
    table: int,
    metric: int,
    type_: str,
    via: bytes | None,
    src: bytes | None,
    *,
    of_host: bool,
    deleting: bool,
) -> bytes:
    """What the messages of routes have in common, but for their interface."""
    scope = SCOPE_LINK if type_ == UNICAST and via is None and size == 4 else SCOPE_UNIVERSE
    if deleting:
        scope, via, src = SCOPE_NOWHERE, None, None
    # The gateway of an uplink may be known by the default route alone (a host with a /32), or lie behind rules of ours.
    onlink = of_host and via is not None
    return nl_route.head(
        table, metric, type_, via, src, family=_FAMILIES[size], protocol=PROTOCOL, scope=scope, onlink=onlink
    )  # fmt: skip


def _single(routes: Iterable[Some]) -> list[Route]:
    return [one for one in each(routes) if isinstance(one, Route)]


def _raise(failures: Failures) -> None:
    for error in failures.values():
        raise error
