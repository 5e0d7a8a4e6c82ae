"""What `show` says of one tunnel."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from reconciler.model.intent import Intent, Vouched
from reconciler.model.ledger import Entry
from reconciler.model.moment import rfc3339
from reconciler.model.plan import Plan
from reconciler.model.port import Port
from reconciler.model.resource import Resource, each, number
from reconciler.report.changes import plan_json, step_line
from reconciler.report.plain import VERSION, plain, resource
from reconciler.report.statusjson import listen_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LINES = 200  # of wanted and found for people; JSON has all


class Details(NamedTuple):
    """One tunnel, from all sides."""

    intent: Intent
    wanted: tuple[Resource, ...]
    found: tuple[Resource, ...]
    handle: Any  # host.handles.Handle or None
    ledger: tuple[Entry, ...]
    left: Plan
    listen: tuple[Port, ...] = ()


def document(seen: Details) -> dict[str, Any]:
    intent = seen.intent
    settings = {name: value for name, value in intent.tunnel._asdict().items() if value not in (None, (), "")}
    return {
        "version": VERSION,
        "intent": {
            "tunnel": _settings(settings),
            "mark": str(intent.mark),
            "slot": intent.slot,
            "source": intent.source,
            "generation": intent.generation,
            "held": intent.held,
            "withdrawn": intent.withdrawn,
            "progress": plain(intent.progress._asdict()),
            "vouched": [_vouched(one) for one in intent.vouched],
        },
        "wanted": [{"kind": r.kind, "text": str(r), **(resource(r) or {})} for r in each(seen.wanted)],
        "found": [{"kind": r.kind, "text": str(r), **(resource(r) or {})} for r in each(seen.found)],
        "handles": plain(seen.handle._asdict()) if seen.handle else None,
        "ledger": [{"key": e.key, "previous": _decoded(e.previous), "value": _decoded(e.value)} for e in seen.ledger],
        "listen": [listen_json(port) for port in seen.listen],
        "pending": plan_json(seen.left, ())["steps"],
    }


def _vouched(one: Vouched) -> dict[str, Any]:
    """The best that a manifest ever said of an endpoint."""
    return {
        "public_key": one.of or None,
        "endpoint": str(one.endpoint),
        "issued_at": rfc3339(one.issued_us),
        "expires_at": rfc3339(one.expires_us),
        "file": one.file,
    }


def _settings(value: Any) -> Any:
    """Settings are named tuples in named tuples; a prefix file is told by its name and size."""
    if hasattr(value, "packed") and hasattr(value, "digest"):
        return {"path": value.path, "digest": value.digest}
    if hasattr(value, "_asdict") and type(value).__name__ != "Prefix":
        value = value._asdict()
    if isinstance(value, dict):
        shown = {name.rstrip("_"): _settings(item) for name, item in value.items() if item not in (None, ())}
        if "environment" in shown:  # values may be meant for the program alone
            shown["environment"] = [name for name, _ in value["environment"]]
        return shown
    if isinstance(value, tuple | list) and type(value).__name__ != "Prefix":
        return [_settings(item) for item in value]
    return plain(value)


def _decoded(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")


def text(seen: Details) -> Iterator[str]:
    intent = seen.intent
    progress = intent.progress
    words = [word for word, true in (("held", intent.held), ("withdrawn", intent.withdrawn)) if true]
    yield f"{intent.name}: {intent.tunnel.driver}, generation {intent.generation}, source {intent.source}"
    yield f"  mark {intent.mark}, slot {intent.slot}, state {progress.state}{''.join(f', {word}' for word in words)}"
    if progress.since_us:
        yield f"  since {rfc3339(progress.since_us)}{f', attempt {progress.attempt}' if progress.attempt else ''}"
    if progress.error:
        yield f"  last error: {progress.error}"
    for one in intent.vouched:
        yield f"  endpoint {one.endpoint} by {one.file}, issued {rfc3339(one.issued_us)}, expires {rfc3339(one.expires_us)}"
    yield from _lines("wanted", seen.wanted)
    yield from _lines("found", seen.found)
    if seen.listen:
        from reconciler.report.served import listen_words

        yield "listen:"
        yield from (f"  {listen_words(port)}" for port in seen.listen)
    yield "left to do:" if seen.left.steps else "left to do: nothing"
    yield from (f"  {step_line(step)}" for step in islice(seen.left.each(), LINES))
    yield f"handles: {plain(seen.handle._asdict())}" if seen.handle else "handles: none"
    yield from (f"ledger: {entry.key} was {_decoded(entry.previous)!r}" for entry in seen.ledger)


def _lines(title: str, resources: Sequence[Resource]) -> Iterator[str]:
    yield f"{title}:"
    yield from (f"  {r}" for r in islice(each(resources), LINES))
    more = sum(map(number, resources)) - LINES
    if more > 0:
        yield f"  and {more} more"
