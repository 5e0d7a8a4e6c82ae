"""What a look is asked: whose things to recognise, and which places to check for foreign ones."""

from __future__ import annotations

from typing import NamedTuple

from reconciler.model.intent import Intent
from reconciler.model.marks import Numbers
from reconciler.model.names import IfName, TunnelName
from reconciler.model.resource import Resource


class Question(NamedTuple):
    """Asked of all observers in one look."""

    intents: tuple[Intent, ...]  # all of the store
    store_id: str | None  # None: there is no store; then every mark is ours to see
    numbers: Numbers
    interfaces: dict[TunnelName, IfName]  # the interface each tunnel is to have
    wanted: tuple[Resource, ...] = ()  # foreign things in these places are found too
    privileged: bool = True  # False: do not try what only root may (it becomes `unobserved`)
    stop_grace_s: float = 0.5  # how long one slow look (an engine that does not answer) may take
