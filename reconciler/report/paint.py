"""Colour, for those who see it."""

from __future__ import annotations

_CODES = {"green": 32, "yellow": 33, "red": 31, "grey": 90, "bold": 1}


class Paint:
    """Puts SGR sequences around words, or does not."""

    def __init__(self, *, on: bool) -> None:
        self._on = on

    def __call__(self, text: str, colour: str) -> str:
        return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if self._on else text


PLAIN = Paint(on=False)
