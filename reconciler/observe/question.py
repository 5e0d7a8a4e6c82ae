"""What a look is asked: whose things to recognise, and how hard to try."""

from __future__ import annotations

from reconciler.model.intent import Intent
from reconciler.model.marks import Mark, Numbers
from reconciler.model.names import IfName, TunnelName
from reconciler.typed import NamedTuple


class Question(NamedTuple):
    """Asked of all observers in one look."""

    intents: tuple[Intent, ...]  # all of the store
    store_id: str | None  # "": there is no store yet; None: it is lost, then every mark is taken for ours
    numbers: Numbers
    privileged: bool = True  # False: do not try what only root may (it becomes `unobserved`)
    adopt: frozenset[TunnelName] = frozenset()  # tunnels whose marks of another store are taken for ours
    patience_s: float = 0.5  # how long one slow look (an engine that does not answer) may take

    def is_ours(self, mark: Mark) -> bool:
        """Does this mark belong to our store, or is it one that the user told us to adopt?"""
        return self.store_id is None or mark.store_id == self.store_id or mark.tunnel in self.adopt

    @property
    def interfaces(self) -> dict[TunnelName, IfName]:
        """The interface that each tunnel is to have, where the file names one."""
        return {intent.name: intent.tunnel.interface for intent in self.intents if intent.tunnel.interface is not None}
