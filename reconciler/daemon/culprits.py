"""Who was the last to change things of a kind. A program may live for a moment only: what its pid says is read at once."""

from __future__ import annotations

from reconciler.host import culprit


class Culprits:
    """By kind: link, address, route, rule, nat, resolver."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, str]] = {}  # pid or port, and who that is ("": not looked up)

    def saw(self, kind: str, author: int) -> None:
        """Somebody did something. 0: the kernel does not say who."""
        if author and self._last.get(kind, (0, ""))[0] != author:
            self._last[kind] = author, culprit.described(author) if culprit.is_pid(author) else ""

    def of(self, kind: str) -> str:
        """Who that was; "" when nobody can be named."""
        author, words = self._last.get(kind, (0, ""))
        if author and not words:
            words = culprit.described(author)
            self._last[kind] = author, words
        return words
