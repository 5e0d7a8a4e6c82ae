"""Words of others on one line that a terminal can be shown."""

from __future__ import annotations


def one_line(text: str) -> str:
    """The same, with line ends, escape sequences and what turns the direction of writing made visible."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
