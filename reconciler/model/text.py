"""Words for people: those of others on one line that a terminal can be shown, and how many there are of something."""

from __future__ import annotations


def counted(number: int, word: str) -> str:
    """``1 route``, ``2 routes``."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def one_line(text: str) -> str:
    """The same, with line ends, escape sequences and what turns the direction of writing made visible."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
