"""What the store would hold after a save: `plan` of a file asks, and nothing is written."""

from __future__ import annotations

from reconciler.model.tunnel import Desired
from reconciler.store.desire import desire
from reconciler.store.stored import Stored, Terms


def preview(stored: Stored, desired: Desired, *, keep_holds: bool, boot_id: str) -> Stored:
    """As Store.save would leave it, by the same function; new ids are made up. Conflicts between sources were judged before."""
    declared = frozenset(tunnel.name for tunnel in desired.tunnels)
    newest = max((source.generation for source in stored.sources), default=0)
    return desire(stored, desired, Terms(declared, keep_holds, boot_id, newest + 1))[0]
