"""``{interface}`` and its like in commands. ``{{`` is a brace; a closing brace by itself is one too."""

from __future__ import annotations

import re

from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

KNOWN = ("interface", "mtu", "run_dir", "endpoint")
LISTEN = r"listen\.(udp|tcp|quic)\.(address|port)"
_BRACE = r"\{\{|\{([^{}]*)\}|\{"


def placeholders(text: str) -> Iterator[str]:
    """The names between braces; ValueError when one is not closed."""
    for match in re.finditer(_BRACE, text):
        if match[0] == "{":
            raise ValueError("a '{' is not closed (write '{{' for a brace)")
        if match[0] != "{{":
            yield match[1]
