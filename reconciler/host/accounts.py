"""Users and groups, as the machine's name services know them. Those may ask the network and have no bound of their own."""

from __future__ import annotations

from reconciler.host.bounded import Call


def user(name: str, seconds: float) -> tuple[int, int] | None:
    """uid and gid; None: there is no such user. TimeoutError."""
    import pwd

    try:
        entry = Call(lambda: pwd.getpwnam(name)).result(seconds)
    except KeyError:
        return None
    return entry.pw_uid, entry.pw_gid


def group(name: str, seconds: float) -> int | None:
    """gid; None: there is no such group. TimeoutError."""
    import grp

    try:
        return Call(lambda: grp.getgrnam(name)).result(seconds).gr_gid
    except KeyError:
        return None


def groups_of(name: str, gid: int, seconds: float) -> tuple[int, ...]:
    """All groups of a user. TimeoutError."""
    import os

    return tuple(Call(lambda: os.getgrouplist(name, gid)).result(seconds))


def name_of(uid: int, seconds: float) -> str:
    """The user's name; the number where there is none, or none in time."""
    import pwd

    try:
        return Call(lambda: pwd.getpwuid(uid)).result(seconds).pw_name
    except (KeyError, TimeoutError):
        return str(uid)
