"""A public key that is worked out only when somebody reads it: that takes a millisecond each, and `status` has many."""

from __future__ import annotations

from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class PublicKey:
    """What belongs to one private key. Nothing of that is in here, only a digest that means something within this process."""

    __slots__ = ("_digest", "_text", "_work_out")

    def __init__(self, text: str = "", *, digest: str = "", work_out: Callable[[], str] | None = None) -> None:
        """Its base64, or who knows it; `digest` of the private key, where that was seen."""
        self._text = text
        self._digest = digest
        self._work_out = work_out

    def __str__(self) -> str:
        if not self._text and self._work_out is not None:
            self._text = self._work_out()
        return self._text

    def __repr__(self) -> str:
        return f"PublicKey({str(self)!r})"

    def __reduce__(self) -> tuple[type[PublicKey], tuple[str]]:
        return PublicKey, (str(self),)  # a digest means nothing elsewhere

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PublicKey):
            return NotImplemented
        if self._digest and other._digest:
            return self._digest == other._digest
        return str(self) == str(other)

    def __hash__(self) -> int:
        return hash(PublicKey)  # equal keys may be known by different things; there are few of them
