"""Intents and facts → wanted. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from reconciler import drivers
from reconciler.errors import TunctlError
from reconciler.kinds import address, route, rule
from reconciler.model.facts import Facts
from reconciler.model.intent import Intent
from reconciler.model.marks import Numbers
from reconciler.model.names import IfName, TunnelName
from reconciler.model.resource import Resource


class Wanted(NamedTuple):
    """The objects that are to be there."""

    resources: tuple[Resource, ...]
    impossible: tuple[tuple[TunnelName, TunctlError], ...] = ()  # what this machine cannot have, and why


def wanted(intents: Iterable[Intent], facts: Facts, numbers: Numbers) -> Wanted:
    """The kernel objects that follow from intents and facts; nothing for a tunnel that is to be down."""
    resources: list[Resource] = []
    impossible: list[tuple[TunnelName, TunctlError]] = []
    for intent in intents:
        if intent.is_wanted_up(facts.boot_id):
            try:
                resources.extend(of_tunnel(intent, facts, numbers))
            except TunctlError as error:
                impossible.append((intent.name, error))
    return Wanted(tuple(resources), tuple(impossible))


def of_tunnel(intent: Intent, facts: Facts, numbers: Numbers) -> Iterator[Resource]:
    """What one tunnel wants when it is up, links before what stands on them."""
    dev = interface(intent, facts)
    driver = drivers.of(intent.tunnel)
    yield driver.link(intent, facts, numbers, dev)
    owner = driver.owner(intent, facts, dev)
    if owner is not None:
        yield owner
    yield from driver.engine(intent, facts, dev)
    yield from address.wanted(intent, dev)
    yield from route.wanted(intent, dev, driver.prefixes(intent.tunnel), numbers)
    yield from rule.wanted(intent, numbers)


def interface(intent: Intent, facts: Facts) -> IfName:
    """The name of a tunnel's link; for "auto" the one that the facts found for it."""
    return intent.tunnel.interface or facts.interfaces[intent.name]
