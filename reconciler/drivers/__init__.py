"""The engines: what each wants beyond the common. Pure; one file an engine.

A driver gives the link of a tunnel, the owner process if its engine is a program, what is configured inside the
engine, the prefixes that the engine itself lets through, and the hosts it talks to.
"""

from __future__ import annotations

from reconciler.kinds.link import Link
from reconciler.kinds.owner import Owner
from reconciler.lean import cache
from reconciler.model.facts import Facts
from reconciler.model.intent import Intent
from reconciler.model.marks import Numbers
from reconciler.model.names import IfName
from reconciler.model.prefix import Prefix
from reconciler.model.resource import Resource
from reconciler.model.tunnel import Tunnel
from reconciler.typed import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable


class Driver(Protocol):
    """What a module of this room offers. Raises TunctlError where the machine cannot have such a tunnel at all."""

    def link(self, intent: Intent, facts: Facts, numbers: Numbers, dev: IfName) -> Link: ...

    def owner(self, intent: Intent, facts: Facts, dev: IfName) -> Owner | None: ...

    def engine(self, intent: Intent, facts: Facts, numbers: Numbers, dev: IfName) -> Iterable[Resource]: ...

    def prefixes(self, tunnel: Tunnel) -> Iterable[Prefix]: ...

    def endpoints(self, tunnel: Tunnel, facts: Facts) -> Iterable[str]: ...


def of(tunnel: Tunnel) -> Driver:
    """The driver of a tunnel."""
    return _driver(tunnel.driver)


@cache
def _driver(name: str) -> Driver:
    """Loaded when the first tunnel needs it: few hosts have all kinds."""
    if name == "tun":
        from reconciler.drivers import tun

        return tun
    if name == "exec":
        from reconciler.drivers import exec_

        return exec_
    from reconciler.drivers import wireguard

    return wireguard
