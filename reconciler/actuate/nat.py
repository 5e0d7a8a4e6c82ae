"""The table ``inet tunctl``: replaced as a whole in one transaction, read back, removed."""

from __future__ import annotations

from reconciler.errors import StepFailed
from reconciler.host.machine import Machine
from reconciler.kinds.nat import TABLE, Table
from reconciler.observe.nat import listed
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_EMPTY = f"add table inet {TABLE}\ndelete table inet {TABLE}\n"  # also where there is none; no version lacks these two


def create(machine: Machine, wanted: Table) -> None:
    """The old one goes and the new one comes in the same moment. StepFailed when it does not read back the same."""
    machine.nft.apply(_EMPTY + "\n".join(_lines(wanted)))
    found = listed(machine.nft.listing(f"table inet {TABLE}"))
    if found != wanted:
        raise StepFailed(f"table inet {TABLE} does not read back as it was written: {_difference(wanted, found)}")


def change(machine: Machine, wanted: Table, found: Table, fields: tuple[str, ...]) -> None:
    create(machine, wanted)


def delete(machine: Machine, found: Table) -> None:
    machine.nft.apply(_EMPTY)


def _lines(table: Table) -> Iterator[str]:
    yield f"table inet {TABLE} {{"
    for chain in table.chains:
        yield f"chain {chain.name} {{"
        yield f"type {chain.type} hook {chain.hook} priority {chain.priority}; policy accept;"
        yield from map(str, chain.rules)
        yield "}"
    yield "}\n"


def _difference(wanted: Table, found: Table) -> str:
    there = {*map(str, found.rules)}
    lost = [str(rule) for rule in wanted.rules if str(rule) not in there]
    came = [text for text in (*map(str, found.rules), *found.strange) if text not in {*map(str, wanted.rules)}]
    return f"{'; '.join(lost) or 'nothing'} became {'; '.join(came) or 'nothing'}"
