"""What `history` says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from reconciler.model.moment import rfc3339
from reconciler.report.plain import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Event(Protocol):
    """As store.stored.Event."""

    @property
    def at_us(self) -> int: ...
    @property
    def tunnel(self) -> str | None: ...
    @property
    def source(self) -> str | None: ...
    @property
    def generation(self) -> int | None: ...
    @property
    def actor(self) -> str: ...
    @property
    def event(self) -> str: ...
    @property
    def cause(self) -> str: ...
    @property
    def outcome(self) -> str: ...


def document(events: Iterable[Event]) -> dict[str, Any]:
    rows = [
        {
            "at": rfc3339(event.at_us),
            "tunnel": event.tunnel,
            "source": event.source,
            "generation": event.generation,
            "actor": event.actor,
            "event": event.event,
            "cause": event.cause,
            "outcome": event.outcome,
        }
        for event in events
    ]
    return {"version": VERSION, "history": rows}


def text(events: Iterable[Event]) -> Iterator[str]:
    for event in events:
        generation = f" generation {event.generation}" if event.generation else ""
        cause = f" ({event.cause})" if event.cause else ""
        outcome = f": {event.outcome}" if event.outcome else ""
        where = event.tunnel or (f"source {event.source}" if event.source else "host")
        yield f"{rfc3339(event.at_us)} {where} {event.event}{generation} by {event.actor}{cause}{outcome}"
