"""How many descriptors a process may have. The usual limit, 1024, is for programs that use select(2); the daemon has one for
each process that it watches, and takes what it may. The programs of tunnels get the usual limit back."""

from __future__ import annotations

from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST = 1 << 16
_give_back: list[Callable[[], object]] = []


def take_all() -> None:
    """As many as we may have."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST if hard == resource.RLIM_INFINITY else min(_MOST, hard)
    if most > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        _give_back.append(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)))


def give_back() -> None:
    """In a process that is about to become another program."""
    for restore in _give_back:
        restore()
