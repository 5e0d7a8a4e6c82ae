"""The store of a command that may write. It is read with the standard library, and only what really has something to
write pays for SQLAlchemy (190 ms): a second `apply` of the same file does not."""

from __future__ import annotations

import time
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from reconciler.model.tunnel import Desired
from reconciler.store import place
from reconciler.store.desire import desire
from reconciler.store.failure import Recoverable
from reconciler.store.read import read
from reconciler.store.stored import Actor, Saved, Stored, Terms

if TYPE_CHECKING:
    from reconciler.store.write import Store


class OpenStore:
    """To be made by the one writer, under the lock. StoreError before anything is changed."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir

    @cached_property
    def writer(self) -> Store:
        """Makes the store where there is none, migrates an older one."""
        from reconciler.store.write import Store

        return Store.open(self.state_dir)

    def stored(self) -> Stored:
        """All intents. What an older tunctl, or a writer that was killed, has left is put right first."""
        try:
            return read(self.state_dir)
        except Recoverable:
            return self.writer.stored()

    def save(self, desired: Desired, terms: Terms, *, actor: Actor, cause: str) -> Saved:
        """What `apply` does first; nothing is opened when nothing differs."""
        stored = self.stored()
        after, saved = desire(stored, desired, terms._replace(now_us=time.time_ns() // 1000))
        if stored.exists and after == stored:
            return saved
        return self.writer.save(
            desired, actor=actor, cause=cause, take_over=terms.take_over, keep_holds=terms.keep_holds, boot_id=terms.boot_id
        )

    def ensure_writable(self) -> None:
        """To be asked before the machine is changed: how it went must be stored afterwards."""
        place.ensure_allowed(self.state_dir)
        place.ensure_room(self.state_dir)

    def __enter__(self) -> OpenStore:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if "writer" in self.__dict__:
            self.writer.close()
