"""The packet filter: the table of ours, and what concerns us in the chains of others.

Most network namespaces have no table at all. That is found out by one question, and spares `status` what reads them.
"""

from __future__ import annotations

from reconciler.errors import TunctlError
from reconciler.host import xtables_names
from reconciler.host.machine import Machine
from reconciler.model.facts import Drop
from reconciler.model.found import Unobserved
from reconciler.model.names import HOST
from reconciler.model.resource import Resource
from reconciler.observe.question import Question
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_PRIVILEGE = "only root may look at the packet filter"


class Seen(NamedTuple):
    """What one look saw."""

    resources: tuple[Resource, ...] = ()
    drops: tuple[Drop, ...] = ()
    publishes: bool = False  # a chain could send connections on to other addresses
    unobserved: tuple[Unobserved, ...] = ()


def look(machine: Machine, question: Question) -> Seen:
    """The table, the accepts, and who drops what is forwarded. Only root may see that."""
    if not question.privileged:
        return Seen(unobserved=tuple(_hidden(question)))
    if _is_empty(machine):
        return Seen()
    from reconciler.observe import forward, nat

    tables, blind = nat.look(machine, question)
    passing = forward.look(machine, question)
    return Seen((*tables, *passing.accepts), passing.drops, passing.publishes, (*blind, *passing.unobserved))


def _hidden(question: Question) -> Iterator[Unobserved]:
    """It is not said of tunnels that have no business there."""
    yield Unobserved(HOST, "nat", _PRIVILEGE, privilege=True)
    for intent in question.intents:
        if intent.tunnel.nat:
            yield Unobserved(intent.name, "nat", _PRIVILEGE, privilege=True)
        if any(entry.forward for entry in intent.tunnel.nat):
            yield Unobserved(intent.name, "forward", _PRIVILEGE, privilege=True)


def _is_empty(machine: Machine) -> bool:
    """No table of anybody's, neither of nf_tables nor a legacy one; False where that cannot be seen: a closer look says why."""
    try:
        return not machine.nl_nft.has_tables() and not any(map(xtables_names.names, xtables_names.FAMILIES))
    except TunctlError:
        return False
