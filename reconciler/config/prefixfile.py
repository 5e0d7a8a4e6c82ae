"""Files with one prefix a line: 100 000 of them in a fraction of a second, and every bad line found."""

from __future__ import annotations

from hashlib import sha256
from socket import inet_pton
from typing import NamedTuple

from reconciler.config import files
from reconciler.config.netvalues import network
from reconciler.model.prefix import AF_INET, AF_INET6, Prefix, pack
from reconciler.model.tunnel import PrefixFile

MOST_PREFIXES = 100_000
MOST_PROBLEMS = 20

# (bytes of the address, text behind the slash) → length, mask of the host bits
_LENGTHS = {
    (size, text): (length, (1 << (size * 8 - length)) - 1)
    for size in (4, 16)
    for length in range(size * 8 + 1)
    for text in ((str(length), "") if length == size * 8 else (str(length),))
}


class Listed(NamedTuple):
    """What a prefix file says."""

    prefixes: tuple[Prefix, ...]  # in the order of the file, each once
    repeated: int  # lines that said nothing new
    bad: tuple[tuple[int, str], ...]  # (line, message): the first MOST_PROBLEMS
    more_bad: int

    def stored(self, path: str) -> PrefixFile:
        packed = pack(self.prefixes)
        return PrefixFile(path, sha256(packed).hexdigest(), packed)


def read(path: str, recorder: files.Recorder) -> Listed:
    """Reads and parses the file; files.Unreadable when it cannot be."""
    content = files.read(path, files.PREFIX_FILE_BYTES)
    recorder.add("file", path, content)
    return parsed(files.decoded(content))


def parsed(text: str) -> Listed:
    """Every line: a prefix (an address alone is a host), a comment, a prefix and a comment, or nothing."""
    lines = text.split("\n")
    found: list[Prefix] = []
    bad: list[tuple[int, str]] = []
    add, make, to_bytes, lengths = found.append, Prefix._make, inet_pton, _LENGTHS
    for number, line in enumerate(lines, 1):
        word = line.partition("#")[0].strip()
        if not word:
            continue
        try:  # what `network` does, without its words: three times as fast
            address, slash, length = word.partition("/")
            packed = to_bytes(AF_INET6 if ":" in address else AF_INET, address)
            size, host_bits = lengths[len(packed), length or slash]
            if host_bits and int.from_bytes(packed, "big") & host_bits:
                raise ValueError(word)
            add(make((packed, size)))
        except (OSError, ValueError, KeyError):
            _slowly(word, number, found, bad)
    unique = tuple(dict.fromkeys(found))
    if len(unique) > MOST_PREFIXES:
        bad.append((len(lines), f"{len(unique)} prefixes, at most {MOST_PREFIXES} may stand in a file"))
    return Listed(unique, len(found) - len(unique), tuple(bad[:MOST_PROBLEMS]), max(0, len(bad) - MOST_PROBLEMS))


def _slowly(word: str, number: int, found: list[Prefix], bad: list[tuple[int, str]]) -> None:
    """A line that the fast way did not take: decided, and explained, by the one that all other prefixes go."""
    try:
        found.append(network(word))
    except ValueError as error:
        bad.append((number, _message(word, error)))


def _message(word: str, error: ValueError) -> str:
    return "expected one prefix a line" if len(word.split()) > 1 else str(error)
