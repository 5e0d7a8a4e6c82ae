"""Network interfaces. A link is known by our mark on it, wherever it stands; its name is its place."""

from __future__ import annotations

from reconciler.model.names import IfName, TunnelName
from reconciler.model.resource import Resource, differing
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable

_COMMON, _OF_A_TUN = ("type", "name", "mtu", "up", "alias", "group"), ("uid", "gid", "multi_queue")
_COMPARED = {  # by whether it must die openly, and whether a program makes it
    (openly, by_program): (*_COMMON, *(("dies_openly",) if openly else ()), *(() if by_program else _OF_A_TUN))
    for openly in (True, False)
    for by_program in (True, False)
}
_BEFORE_MTU, _BEHIND_MTU = slice(3), slice(4, 11)  # all fields that are compared but the MTU, of which most have no opinion
_REPLACE_ON = frozenset(("type", "uid", "gid", "multi_queue"))


class Link(NamedTuple):
    """One interface, wanted or found."""

    tunnel: TunnelName | None
    name: IfName
    type: str  # tun · tap · wireguard; of foreign ones whatever the kernel says
    mtu: int | None
    up: bool
    alias: str
    group: int
    uid: int | None = None  # who may attach to a TUN
    gid: int | None = None
    multi_queue: bool = False
    dies_openly: bool | None = False  # routes by it do not count while it has no carrier; wanted None: where that can be had
    by_program: bool = False  # the owner's program makes it
    ifindex: int | None = None  # found only
    carrier: bool | None = None  # found only

    @property
    def kind(self) -> str:
        return "link"

    @property
    def replace_on(self) -> frozenset[str]:
        return _REPLACE_ON

    @property
    def key(self) -> Hashable:
        return self.tunnel or ("foreign", self.name)

    @property
    def place(self) -> Hashable:
        return self.name

    @property
    def dev(self) -> IfName | None:
        return self.name

    @property
    def hangs_on(self) -> tuple[str, ...]:
        return ("owner",) if self.by_program else ()

    @property
    def yields(self) -> bool:
        return False

    @property
    def order(self) -> int:
        return 1

    def differs_from(self, found: Resource) -> tuple[str, ...]:
        assert isinstance(found, Link)
        are_equal = self[_BEHIND_MTU] == found[_BEHIND_MTU] and self[_BEFORE_MTU] == found[_BEFORE_MTU]
        if are_equal and self.mtu in (None, found.mtu):
            return ()
        return differing(self, found, _COMPARED[bool(self.dies_openly), self.by_program])

    def __str__(self) -> str:
        text = f"link {self.name} type {self.type}" if self.type else f"link {self.name}"
        if self.mtu:
            text += f" mtu {self.mtu}"
        if self.uid:  # root may always
            text += f" user {self.uid}"
        if self.gid:
            text += f" group {self.gid}"
        if self.multi_queue:
            text += " multi_queue"
        if self.up:
            text += " up"
        return f"{text} alias {self.alias}" if self.alias and not self.tunnel else text
