"""Who is ready, of those that a selector waits for."""

from __future__ import annotations

from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import selectors
    from collections.abc import Iterator


def ready(selector: selectors.BaseSelector, patience_s: float) -> Iterator[selectors.SelectorKey]:
    """Waits for at most so long. Of those that are ready at once, who is heard first may have dismissed another one (a pass
    reports that a program is dead, whose end is heard next): that one is no longer meant, though its descriptor may be."""
    registered = selector.get_map()
    for key, _ in selector.select(patience_s):
        if registered.get(key.fd) is key:
            yield key
