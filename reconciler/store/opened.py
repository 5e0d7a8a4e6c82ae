"""The store of a command that may write: `writer` is the store itself, which loads only what it really needs."""

from __future__ import annotations

from reconciler.store.write import Store


class OpenStore(Store):
    """To be made by the one writer, under the lock."""

    @property
    def writer(self) -> Store:
        """The store, to write to."""
        return self
