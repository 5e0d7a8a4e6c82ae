"""What every kernel object has in common, so that the planner needs to know no kind."""

from __future__ import annotations

from _operator import ne
from itertools import compress, repeat

from reconciler.model.names import IfName, TunnelName
from reconciler.typed import TYPE_CHECKING, Enum, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterable, Iterator
    from typing import TypeGuard

FEW = 32  # so many are repaired one by one, however they are told: each with a line, a name and a history of its own


class Verb(Enum):
    """What a step does; the value is what stands in front of it in a plan."""

    CREATE = "+"
    CHANGE = "~"
    REPLACE = "!"
    DELETE = "-"


class Resource(Protocol):
    """One object on the machine, wanted or found. Two with the same kind and `key` are the same object.

    Equal values mean: nothing to do. `None` in a wanted field means "no opinion".
    """

    @property
    def kind(self) -> str:
        """The name of its files in kinds, observe and actuate."""

    @property
    def replace_on(self) -> frozenset[str]:
        """Fields that the kernel cannot change in place."""

    @property
    def tunnel(self) -> TunnelName | None:
        """Whose it is, read from our marks. HOST: ours, but of no tunnel that could be named. None: foreign."""

    @property
    def key(self) -> Hashable: ...

    @property
    def place(self) -> Hashable:
        """What can be taken by one object only: something of somebody else with the same place is a conflict."""

    @property
    def dev(self) -> IfName | None:
        """The link it stands on."""

    @property
    def hangs_on(self) -> tuple[str, ...]:
        """Kinds of the same tunnel it cannot outlive: made anew, they take this along."""

    @property
    def yields(self) -> bool:
        """True of a found foreign one that an equal wanted one may take over."""

    @property
    def order(self) -> int:
        """Creations go by rising order."""

    def differs_from(self, found: Resource) -> tuple[str, ...]:
        """Names of the fields in which the found one is not as this wanted one says."""

    def __str__(self) -> str:
        """One line in the idiom of `ip`, the kind first: ``route 10.8.0.0/16 dev wg-office``."""


class Many(Resource, Protocol):
    """Many objects as one: alike, and each meant as if it stood there by itself."""

    @property
    def number(self) -> int: ...

    @property
    def alike(self) -> Hashable:
        """What they have in common."""

    def each(self) -> Iterator[Resource]: ...

    def lines(self, sign: str = "") -> list[str]:
        """What `str` says of each, behind this."""


def is_many(resource: Resource) -> TypeGuard[Many]:
    return hasattr(resource, "each")


def number(resource: Resource) -> int:
    """For how many objects it stands."""
    count: int = getattr(resource, "number", 1)  # of many only
    return count


def each(resources: Iterable[Resource]) -> Iterator[Resource]:
    """All of them, one by one."""
    for resource in resources:
        if is_many(resource):
            yield from resource.each()
        else:
            yield resource


def are_equal(wanted: Collection[Resource], found: Collection[Resource]) -> bool:
    """The same objects on both sides, each of them once."""
    return len(wanted) == len(found) and len(set(wanted).intersection(found)) == len(wanted)


def differing(wanted: Resource, found: Resource, fields: tuple[str, ...]) -> tuple[str, ...]:
    """The one place that knows that None in a wanted field is no opinion."""
    odd = compress(fields, map(ne, map(getattr, repeat(wanted), fields), map(getattr, repeat(found), fields)))
    return tuple([name for name in odd if getattr(wanted, name) is not None])
