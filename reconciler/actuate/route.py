"""Routes, many at once: one message each, sent by the hundred, every error attributed to its step."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Sequence

from reconciler.actuate.errnos import ALREADY_GONE, failed
from reconciler.errors import Foreign, StepFailed, TunctlError
from reconciler.host import nl_route
from reconciler.host.machine import Machine
from reconciler.host.netlink import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE
from reconciler.host.nl_route import RTM_DELROUTE, RTM_NEWROUTE, SCOPE_LINK, SCOPE_NOWHERE, SCOPE_UNIVERSE, RouteRow
from reconciler.kinds.route import UNICAST, Route
from reconciler.model.marks import PROTOCOL
from reconciler.model.names import HOST, IfName
from reconciler.model.plan import Step
from reconciler.model.prefix import AF_INET, AF_INET6
from reconciler.model.resource import Verb

Key = tuple[bytes, int, int, int]  # packed, length, table, metric: Route.key
Request = tuple[int, int, bytes]
Result = TunctlError | None

_NEW = NLM_F_CREATE | NLM_F_EXCL
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


def perform(machine: Machine, steps: Sequence[Step]) -> list[Result]:
    """Carries out many steps: for each its error, or None. Runs of the same verb go together, their order is kept."""
    bulk = _Bulk(machine)
    work: dict[Verb, Callable[[Sequence[Route]], list[Result]]] = {
        Verb.CREATE: bulk.create,
        Verb.CHANGE: bulk.change,
        Verb.REPLACE: bulk.change,
        Verb.DELETE: bulk.delete,
    }
    results: list[Result] = []
    run: list[Route] = []
    verb = Verb.CREATE
    for step in steps:
        if step.verb is not verb and run:
            results += work[verb](run)
            run = []
        verb = step.verb
        route = step.resource
        assert isinstance(route, Route)
        run.append(route)
    return results + work[verb](run) if run else results


class _Bulk:
    """One call: links are looked up once, and routes that share all but their prefix share their bytes."""

    def __init__(self, machine: Machine) -> None:
        self._rtnl = machine.rtnl
        self._indexes: dict[IfName, int] = {}  # 0: there is no such link
        self._heads: dict[tuple[object, ...], bytes] = {}

    def create(self, routes: Sequence[Route]) -> list[Result]:
        results, exist = self._send(routes, RTM_NEWROUTE, _NEW)
        if exist:
            again = self._settle([routes[at] for at in exist])
            for at, result in zip(exist, again, strict=True):
                results[at] = result
        return results

    def change(self, routes: Sequence[Route]) -> list[Result]:
        """A replacement takes over whatever is there, silently: so only what still is ours is replaced."""
        return self._settle(routes)

    def delete(self, routes: Sequence[Route]) -> list[Result]:
        """The protocol is named, so what is somebody else's by now is ESRCH: nothing of ours is there.

        To IPv4 a deletion with metric 0 matches any metric, lowest first; link and type are named to keep it narrow.
        """
        results, _ = self._send(routes, RTM_DELROUTE, 0)
        return results

    def _settle(self, routes: Sequence[Route]) -> list[Result]:
        """Routes at whose place something stands, or did: ours is replaced unless equal, a foreign one is an error."""
        there = self._holders(routes)
        results: list[Result] = [None] * len(routes)
        replace, make = [], []
        for at, route in enumerate(routes):
            rows = there.get(route[1:5], [])
            foreign = next((row for row in rows if row[8] != PROTOCOL), None)
            if foreign:
                results[at] = Foreign(f"{route}: a route that is not ours is there ({self._words(foreign)})")
            elif not rows:
                make.append(at)
            elif not self._is(rows[0], route):
                replace.append(at)
        for chosen, flags in ((replace, NLM_F_REPLACE | NLM_F_CREATE), (make, _NEW)):
            done, exist = self._send([routes[at] for at in chosen], RTM_NEWROUTE, flags)
            for number in exist:
                done[number] = StepFailed(f"{routes[chosen[number]]}: another route comes there again and again")
            for at, result in zip(chosen, done, strict=True):
                results[at] = result
        return results

    def _send(self, routes: Sequence[Route], kind: int, flags: int) -> tuple[list[Result], list[int]]:
        """→ a result for each, and the numbers of those that the kernel says exist."""
        results: list[Result] = [None] * len(routes)
        requests: list[Request] = []
        sent: list[int] = []
        deleting = kind == RTM_DELROUTE
        head = self._head
        for at, route in enumerate(routes):
            body = head(route, deleting)
            if body is None:
                results[at] = None if deleting else StepFailed(f"{route}: there is no link {route.dev}")
                continue
            requests.append((kind, flags, body + route[1]))
            sent.append(at)
        exist = []
        for at, error in zip(sent, self._rtnl.batch(requests), strict=True):
            if error is None or (deleting and error.errno in ALREADY_GONE["route"]):
                continue
            if error.errno == errno.EEXIST:
                exist.append(at)
            else:
                results[at] = failed(routes[at], error)
        return results, exist

    def _head(self, route: Route, deleting: bool) -> bytes | None:  # noqa: FBT001 - 100 000 calls
        """All of the message but the prefix itself; None when it needs a link that is not there."""
        tunnel, packed, length, table, metric, type_, dev, via, src = route
        key = (deleting, tunnel == HOST, len(packed), length, table, metric, type_, dev, via, src)
        try:
            return self._heads[key]
        except KeyError:
            pass
        index = self._index(dev) if dev else 0
        if dev and not index and not deleting:
            return None
        scope = SCOPE_UNIVERSE
        if deleting:
            scope, via, src = SCOPE_NOWHERE, None, None
        elif type_ == UNICAST and via is None and len(packed) == 4:
            scope = SCOPE_LINK
        family = _FAMILIES[len(packed)]
        # The gateway of an uplink may be known by the default route alone (a host with a /32), or lie behind rules of ours.
        onlink = tunnel == HOST and via is not None
        head = nl_route.head(
            length, table, metric, type_, index, via, src, family=family, protocol=PROTOCOL, scope=scope, onlink=onlink
        )  # fmt: skip
        self._heads[key] = head
        return head

    def _index(self, dev: IfName) -> int:
        if dev not in self._indexes:
            link = self._rtnl.link(name=dev)
            self._indexes[dev] = link.ifindex if link else 0
        return self._indexes[dev]

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
        index = self._index(route.dev) if route.dev else 0
        return row[4:8] == (route.type, index, route.via, route.src)

    def _words(self, row: RouteRow) -> str:
        link = self._rtnl.link(index=row[5]) if row[5] else None
        return f"{Route(None, *row[:5], link.name if link else None, *row[6:8])}, protocol {row[8]}"


def _raise(results: list[Result]) -> None:
    for error in results:
        if error:
            raise error
