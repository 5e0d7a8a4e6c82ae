"""The kinds of kernel objects: what each is, and when two are the same. Pure; one file for each kind.

`KINDS` is the order in which they are removed, read backwards. A kind is complete with a module of the same name
in `observe/` and in `actuate/`.
"""

from __future__ import annotations

from reconciler.kinds.address import Address
from reconciler.kinds.link import Link
from reconciler.kinds.owner import Owner
from reconciler.kinds.peer import Peer
from reconciler.kinds.route import Route
from reconciler.kinds.rule import Rule
from reconciler.kinds.wireguard import Device

KINDS = ("link", "owner", "wireguard", "peer", "address", "route", "rule")
CLASSES = {cls.KIND: cls for cls in (Link, Owner, Device, Peer, Address, Route, Rule)}
