"""A location (file, directory, ``-``) → its TOML documents. Says what is wrong with files as such, not with what is in them."""

from __future__ import annotations

import os
import re
import sys

import tomli

from reconciler.config import files
from reconciler.config.files import Unreadable
from reconciler.config.problems import Document, Findings, escaped, printable
from reconciler.errors import InvalidFile, Problem
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO

STDIN = "-"
STDIN_NAME = "<stdin>"
_AT = r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)$"
_DEEP = 200  # parts of a key; a DNS name has 127 at most
_DEEP_KEY = rf"""(?<![\w."'-])(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){{{_DEEP}}}"""
_TWICE = r"Cannot declare \((.*)\) twice"
_QUOTED = r"'([^']*)'"
_PLAINER = (  # tomli's words → ours
    ("Cannot overwrite a value", "a key of this name stands here already"),
    ("Cannot mutate immutable namespace .*", "this table is complete already (it was written inline)"),
)


def absolute(location: str) -> str:
    """The location as typed, made absolute; links are not followed."""
    return STDIN if location == STDIN else absolute_path(location)


def absolute_path(path: str) -> str:
    try:
        return os.path.abspath(path)
    except OSError as error:
        words = f"the working directory is gone ({(error.strerror or '').lower()})"
        raise InvalidFile(f"{printable(path)}: {words}", details=(Problem(printable(path), 0, "", words),)) from None


def documents(
    location: str, *, stdin: BinaryIO | None, base_dir: str | None, findings: Findings, recorder: files.Recorder
) -> list[Document]:
    """All of them that could be parsed; what could not be is in `findings`."""
    if location == STDIN:
        try:
            content = _read_stdin(stdin)
        except Unreadable as error:
            findings.errors.append(Problem(STDIN_NAME, 0, "", str(error)))
            return []
        return _parsed([(STDIN_NAME, base_dir or absolute_path("."), content)], findings)
    read = []
    names = _names(location, findings)
    if names != [location]:
        recorder.add("directory", absolute(location), listing(names))
    for name in names:
        try:
            _refuse_if_others_can_write(name)
            content = files.read(name, files.TOML_BYTES)
            recorder.add("toml", absolute(name), content)
        except (Unreadable, OSError) as error:
            hint = " (`-` reads standard input)" if "FIFO" in str(error) else ""
            findings.errors.append(Problem(printable(name), 0, "", _words(error) + hint))
            continue
        if not content and name != location:  # a file that was cut to nothing withdraws its tunnels; a comment says it is meant
            findings.errors.append(Problem(printable(name), 0, "", "is empty; remove it, or leave a comment in it"))
            continue
        read.append((printable(name), base_dir or os.path.dirname(absolute_path(name)), content))
    return _parsed(read, findings)


def _read_stdin(stdin: BinaryIO | None) -> bytes:
    if stdin is None and sys.stdin is None:  # started with it closed
        raise Unreadable("standard input is closed")
    try:
        content = (stdin or sys.stdin.buffer).read(files.TOML_BYTES + 1)
    except (OSError, ValueError) as error:
        raise Unreadable(f"cannot be read ({error})") from None
    if len(content) > files.TOML_BYTES:
        raise Unreadable(f"too large (more than {files.TOML_BYTES >> 20} MiB)")
    return content


def _names(location: str, findings: Findings) -> list[str]:
    """The files of a location: itself, or the `*.toml` of a directory in byte order, without hidden ones."""
    if not _is_directory(location):
        return [location]
    try:
        _refuse_if_others_can_write(location, directory=True)
        names = sorted(os.fsencode(name) for name in os.listdir(location))
    except (Unreadable, OSError) as error:
        findings.errors.append(Problem(printable(location), 0, "", _words(error)))
        return []
    chosen = [
        os.path.join(location, os.fsdecode(name)) for name in names if name.endswith(b".toml") and not name.startswith(b".")
    ]
    if not chosen:
        findings.errors.append(Problem(printable(location), 0, "", "there is no *.toml file in this directory"))
    return chosen


def listing(names: Sequence[str]) -> bytes:
    """The names of the files in a directory, as one content."""
    return b"\0".join(os.fsencode(os.path.basename(name)) for name in names)


def _is_directory(location: str) -> bool:
    try:
        return os.path.isdir(location)
    except ValueError:
        return False


def _refuse_if_others_can_write(name: str, *, directory: bool = False) -> None:
    """What everybody can write must not tell root what to do."""
    if os.geteuid() != 0:
        return
    if not directory:
        files.status(name)
    problem = files.others_can_write(name, directory=directory)
    if problem:
        raise Unreadable(problem)


def _parsed(read: list[tuple[str, str, bytes]], findings: Findings) -> list[Document]:
    result = []
    for file, base, content in read:
        try:
            text = files.decoded(content)
            if _has_deep_key(text):  # tomli would take the square of its length in time and memory
                raise RecursionError
            result.append(Document(file, base, text, tomli.loads(text)))
        except Unreadable as error:
            findings.errors.append(Problem(file, _line_in(str(error)), "", str(error)))
        except RecursionError:
            findings.errors.append(Problem(file, 0, "", "arrays or tables are nested too deeply"))
        except ValueError as error:  # TOMLDecodeError, and a number with more digits than Python converts
            findings.errors.append(_syntax_problem(file, content, error))
    return result


def _has_deep_key(text: str) -> bool:
    """Most files have no line that is long enough, or none with so many dots."""
    lines = text.split("\n")
    if max(map(len, lines)) < 2 * _DEEP or all(line.count(".") < _DEEP for line in lines):
        return False
    return re.search(_DEEP_KEY, text) is not None


def _line_in(message: str) -> int:
    match = re.search(r"in line (\d+)\)$", message)
    return int(match[1]) if match else 0


def _syntax_problem(file: str, content: bytes, error: ValueError) -> Problem:
    message = str(error) if isinstance(error, tomli.TOMLDecodeError) else "a number has too many digits"
    place = re.search(_AT, message)
    line = content.count(b"\n") + (not content.endswith(b"\n"))
    column = ""
    if place:
        message = message[: place.start()]
        if place[1]:
            line, column = int(place[1]), f", column {place[2]}"
    for pattern, ours in _PLAINER:
        message = re.sub(pattern, ours, message)
    twice = re.fullmatch(_TWICE, message)
    if twice:
        message = f"the table [{'.'.join(re.findall(_QUOTED, twice[1]))}] stands in this file already"
    message = escaped(message)
    return Problem(file, max(line, 1), "", f"not valid TOML: {message[:1].lower()}{message[1:]}{column}")


def _words(error: Exception) -> str:
    return (error.strerror or "cannot be read").lower() if isinstance(error, OSError) else str(error)
