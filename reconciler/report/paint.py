"""Colour, for those who see it."""

from __future__ import annotations

_SIGNS = {"+": "green", "~": "yellow", "!": "yellow", "-": "red"}  # before steps: model.resource.Verb
_CODES = {"green": 32, "yellow": 33, "red": 31, "grey": 90, "bold": 1}


class Paint:
    """Puts SGR sequences around words, or does not."""

    def __init__(self, *, on: bool) -> None:
        self.on = on

    def __call__(self, text: str, colour: str) -> str:
        return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if self.on else text


PLAIN = Paint(on=False)


def painted(line: str, paint: Paint) -> str:
    """A line of a plan; what a step changes, in brackets behind it, stays as it is."""
    sign = line.partition(" ")[0]
    if sign in _SIGNS:
        text, bracket, changes = line.partition("  (")
        return paint(text, _SIGNS[sign]) + bracket + changes
    if sign == "x":
        return paint(line, "red")
    return paint(line, "yellow" if line.startswith("# warning: ") else "grey") if sign == "#" else line
