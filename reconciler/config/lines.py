"""Which line of a TOML text each key stands on. ``tomli`` does not say; only called when there is something to report."""

from __future__ import annotations

import re

import tomli

from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

Path = tuple[str | int, ...]

_PIECE = (
    r'(?P<string>"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\')'
    r"|(?P<sign>[][{}=,.\n])|(?P<bare>[^\s\[\]{}=,.\"'#]+)|[ \t\r]+|#[^\n]*"
)


class _Frame:
    """An array or an inline table that is open."""

    __slots__ = ("index", "path", "seen")

    def __init__(self, path: Path, *, is_array: bool) -> None:
        self.path = path
        self.index = 0 if is_array else -1
        self.seen = False  # the value of this element or key has begun: the rest of it says nothing


class _Scan:
    """One walk over the tokens of a text that ``tomli`` has accepted."""

    def __init__(self, text: str) -> None:
        self.lines: dict[Path, int] = {}
        self.counts: dict[Path, int] = {}  # elements so far of each array of tables
        self.tokens = _tokens(text)

    def run(self) -> dict[Path, int]:
        table: Path = ()
        for sign, word, line in self.tokens:
            if sign == "\n":
                continue
            if sign == "[":
                table = self._header(line)
            else:
                path = self._note((*table, *self._key(word)), line, len(table))
                self._value(path)
            self._skip_line()
        return self.lines

    def _header(self, line: int) -> Path:
        sign, word, _ = next(self.tokens)
        in_array = sign == "["
        if in_array:
            word = next(self.tokens)[1]
        *outer, last = self._key(word)
        path: Path = ()
        for part in outer:
            path = (*path, part)
            self.lines.setdefault(path, line)
            if path in self.counts:
                path = (*path, self.counts[path] - 1)
        path = (*path, last)
        self.lines.setdefault(path, line)
        if in_array:
            self.counts[path] = self.counts.get(path, 0) + 1
            path = (*path, self.counts[path] - 1)
            self.lines[path] = line
        return path

    def _key(self, word: str) -> list[str]:
        """The parts of a dotted key whose first part is `word`; eats the sign behind it."""
        parts = [_unquoted(word)]
        for sign, more, _ in self.tokens:
            if sign and sign in "=]\n":
                break
            if not sign:
                parts.append(_unquoted(more))
        return parts

    def _note(self, path: Path, line: int, outer: int) -> Path:
        for size in range(outer + 1, len(path) + 1):
            self.lines.setdefault(path[:size], line)
        return path

    def _value(self, path: Path) -> None:
        frames: list[_Frame] = []
        self._open(frames, path, next(self.tokens)[0])
        while frames:
            sign, word, line = next(self.tokens)
            frame = frames[-1]
            if sign in ("]", "}"):
                frames.pop()
            elif sign == ",":
                frame.seen = False
                frame.index += frame.index >= 0
            elif sign != "\n" and not frame.seen:
                frame.seen = True
                if frame.index >= 0:
                    inner: Path = (*frame.path, frame.index)
                    self.lines.setdefault(inner, line)
                else:
                    inner = self._note((*frame.path, *self._key(word)), line, len(frame.path))
                    sign = next(self.tokens)[0]
                self._open(frames, inner, sign)

    @staticmethod
    def _open(frames: list[_Frame], path: Path, sign: str) -> None:
        if sign in ("[", "{"):
            frames.append(_Frame(path, is_array=sign == "["))

    def _skip_line(self) -> None:
        for sign, _, _ in self.tokens:
            if sign == "\n":
                return


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    """Tokens as (sign or "", text, line); blanks and comments left out."""
    line = 1
    for match in re.finditer(_PIECE, text, re.DOTALL):
        kind, word = match.lastgroup, match[0]
        if kind == "sign":
            yield word, word, line
        elif kind:
            yield "", word, line
        line += word.count("\n")


def _unquoted(word: str) -> str:
    if word[0] not in "\"'":
        return word
    return str(tomli.loads(f"k={word}")["k"]) if "\\" in word else word[1:-1]


def key_lines(text: str) -> dict[Path, int]:
    """Path → line (from 1) of every table, key and array element of a valid TOML text; array elements by index."""
    try:
        return _Scan(text).run()
    except StopIteration:  # cut off in the middle: not a text that tomli accepts
        return {}
