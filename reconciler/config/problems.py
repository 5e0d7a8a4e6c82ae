"""What is found wrong, refused or worth a warning, each with its place."""

from __future__ import annotations

import os
import re

from reconciler.config.lines import Path, key_lines
from reconciler.errors import Problem
from reconciler.typed import Any

MOST = 500  # problems that are listed; a file with more is not read to its end by anybody
_BARE = "[A-Za-z0-9_-]+"


class Document:
    """One TOML file that was read: what errors call it, what its relative paths are relative to, what stands in it."""

    def __init__(self, file: str, base: str, text: str, tree: dict[str, Any]) -> None:
        self.file = file
        self.base = base
        self.text = text
        self.tree = tree
        self._lines: dict[Path, int] | None = None

    def line(self, path: Path) -> int:
        """The line of this key, or of the nearest table around it that is there."""
        if self._lines is None:
            self._lines = key_lines(self.text)
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

    def place(self, path: Path) -> str:
        return f"{self.file}:{self.line(path)}"

    def within(self, path: Path) -> Path:
        """The path as far as it exists in the file, and one missing key more: `to[0]` of ``to = "x"`` is `to`."""
        at: Any = self.tree
        for count, part in enumerate(path):
            if isinstance(at, dict) if isinstance(part, str) else isinstance(at, list):
                try:
                    at = at[part]
                except (KeyError, IndexError):
                    return path[: count + 1]
            else:
                return path[:count]
        return path

    def problem(self, path: Path, message: str) -> Problem:
        path = self.within(path)
        return Problem(self.file, self.line(path), path_text(path), escaped(message))


class Findings:
    """Collects; says nothing is valid until all of it has been looked at."""

    def __init__(self) -> None:
        self.errors: list[Problem] = []
        self.refusals: list[Problem] = []
        self.warnings: list[str] = []
        self.unlisted = 0  # errors that are only counted
        self._told: set[Path] = set()

    def error(self, document: Document, path: Path, message: str) -> None:
        if path not in self._told:
            self.errors.append(document.problem(path, message))

    def left_out(self, path: Path) -> None:
        """The key at this path is wrong and said to be so: what follows from its absence is not said of it or its tables."""
        self._told.update(path[:size] for size in range(len(path) + 1))

    def refuse(self, document: Document, path: Path, message: str) -> None:
        """Valid, but not built yet."""
        self.refusals.append(document.problem(path, message))

    def warn(self, document: Document, path: Path, message: str) -> None:
        self.warnings.append(str(document.problem(path, message)))


def path_text(path: Path) -> str:
    """``tunnels.office.routes[0].to``; keys that are not bare are quoted."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            word = part if re.fullmatch(_BARE, part) else _quoted(part)
            text += f".{word}" if text else word
    return text


def _quoted(part: str) -> str:
    import json  # few keys need it

    return json.dumps(shortened(part), ensure_ascii=not part.isprintable())


def escaped(text: str) -> str:
    """A text that can be written to any terminal: control characters, and what nobody can see, as escapes."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def printable(name: str) -> str:
    """A file name that can be written anywhere: bytes that are no UTF-8 as escapes as well."""
    return escaped(os.fsencode(name).decode(errors="backslashreplace")) or "''"


def shortened(text: str, most: int = 64) -> str:
    """Long texts cut, so that a line of an error stays one."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
