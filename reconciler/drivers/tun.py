"""A persistent TUN or TAP for somebody else's process. No process attached is no carrier, and `status` says so."""

from __future__ import annotations

from reconciler.errors import InvalidFile, NotObserved
from reconciler.kinds.link import Link
from reconciler.kinds.owner import Owner
from reconciler.model.facts import Facts, Unknown
from reconciler.model.intent import Intent
from reconciler.model.marks import Numbers
from reconciler.model.names import IfName
from reconciler.model.prefix import Prefix
from reconciler.model.resource import Resource
from reconciler.model.tunnel import Tunnel
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = 0  # where the file names nobody: a TUN without owner and group may be opened by every user (tun_not_capable)


def link(intent: Intent, facts: Facts, numbers: Numbers, dev: IfName) -> Link:
    tunnel = intent.tunnel
    assert tunnel.tun is not None
    mode, user, group, multi_queue = tunnel.tun
    uid = user_id(facts, user) if user else None if group else ROOT
    gid = group_id(facts, group) if group else None
    return Link(
        tunnel.name, dev, mode, tunnel.mtu, up=True, alias=intent.mark.alias, group=numbers.link_group,
        uid=uid, gid=gid, multi_queue=multi_queue,
    )  # fmt: skip


def owner(intent: Intent, facts: Facts, dev: IfName) -> Owner | None:
    return None


def engine(intent: Intent, facts: Facts, numbers: Numbers, dev: IfName) -> Iterable[Resource]:
    return ()


def prefixes(tunnel: Tunnel) -> Iterable[Prefix]:
    return ()


def endpoints(tunnel: Tunnel, facts: Facts) -> Iterable[str]:
    return ()


def user_id(facts: Facts, name: str) -> int:
    """The uid of a user that the file names; InvalidFile when this machine has none, NotObserved when it does not say."""
    ids = facts.users.get(name, Unknown("not looked up"))
    if isinstance(ids, Unknown):
        raise (NotObserved if ids.late else InvalidFile)(f"user {name!r}: {ids.reason}")
    return ids[0]


def group_id(facts: Facts, name: str) -> int:
    """The gid of a group that the file names; InvalidFile when this machine has none, NotObserved when it does not say."""
    gid = facts.groups.get(name, Unknown("not looked up"))
    if isinstance(gid, Unknown):
        raise (NotObserved if gid.late else InvalidFile)(f"group {name!r}: {gid.reason}")
    return gid
