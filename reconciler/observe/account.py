"""Users and groups that tunnels name, as this machine knows them. Loaded only where one does."""

from __future__ import annotations

from reconciler.host import accounts
from reconciler.model.facts import Unknown
from reconciler.typed import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")
_PATIENT_S, _HURRIED_S = 3.0, 0.2  # for a name service that asks the network; in a pass, in `status`


def users(names: Iterable[str], *, patient: bool) -> dict[str, tuple[int, int] | Unknown]:
    """uid and gid of each."""
    return {name: _account(accounts.user, name, "user", patient=patient) for name in names}


def groups(names: Iterable[str], *, patient: bool) -> dict[str, int | Unknown]:
    """gid of each."""
    return {name: _account(accounts.group, name, "group", patient=patient) for name in names}


def _account(look: Callable[[str, float], T | None], name: str, kind: str, *, patient: bool) -> T | Unknown:
    seconds = _PATIENT_S if patient else _HURRIED_S
    try:
        found = look(name, seconds)
    except TimeoutError:
        return Unknown(f"could not be read within {seconds:g} s: the name service of this machine does not answer", late=True)
    return Unknown(f"this machine has no such {kind}") if found is None else found
