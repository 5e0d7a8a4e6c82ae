"""The ledger of an open store, as those who change host-wide things use it."""

from __future__ import annotations

from reconciler.model.ledger import Entry
from reconciler.model.names import TunnelName
from reconciler.store.write import Store


class Book:
    """A `model.ledger.Ledger`, read once while the lock is held: nobody else writes it then. StoreError."""

    def __init__(self, store: Store, known: tuple[Entry, ...] | None = None) -> None:
        """`known`: as it was read with all else, just now."""
        self._store = store
        self._entries = known

    def entries(self) -> tuple[Entry, ...]:
        if self._entries is None:
            self._entries = self._store.ledger()
        return self._entries

    def reread(self) -> None:
        self._entries = None

    def put(self, key: str, tunnel: TunnelName, previous: bytes | None, value: bytes) -> None:
        self.reread()
        self._store.ledger_put(key, tunnel, previous, value)

    def remove(self, key: str, tunnel: TunnelName) -> None:
        self.reread()
        self._store.ledger_remove(key, tunnel)
