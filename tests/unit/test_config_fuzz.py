"""Whatever stands in a file: it loads, or it is refused in words."""

from __future__ import annotations

import io
import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reconciler.config import checks, references
from reconciler.config.declared import Checks
from reconciler.config.load import load
from reconciler.config.schema import TunnelTable
from reconciler.errors import InvalidFile, Unavailable
from reconciler.model.tunnel import Desired
from tests.unit.test_config import PRODUCT
from tests.unit.test_config_refused import TABLE

VALID = [PRODUCT.encode(), *(f'version = 1\nsource = "s"\n{row[1]}'.encode() for row in TABLE)]
PIECES = (
    rb"""1 -1 0 true nan inf 1e999 "" 'x' [] [[]] {} [{}] {a={b=1}} 1979-05-27 [1,'x'] "\u0000" "auto" """.split()
    + rb"""12:00:00 "0.0.0.0/0" "::/0" "{" "30s" "credential:x" "/" "-" "\u00e4" "[::]:1" "x:1" """.split()
)


def outcome(content: bytes) -> Desired | InvalidFile | Unavailable:
    """Never anything else; what is said can be printed and has its place."""
    try:
        return load("-", stdin=io.BytesIO(content), lenient_files=True)
    except (InvalidFile, Unavailable) as error:
        refused = error
    assert refused.details
    for problem in refused.details:
        text = str(problem).encode().decode()
        assert text.isprintable(), text
        assert len(text) < 2000, text
        assert "object at 0x" not in text
    return refused


@given(st.binary(max_size=200))
@example(b"\xef\xbb\xbfversion = 1")
def test_any_bytes(content: bytes) -> None:
    outcome(content)


@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    outcome(b'version = 1\nsource = "s"\n' + text.encode())


@settings(max_examples=400)
@given(st.sampled_from(VALID), st.randoms(use_true_random=False), st.sampled_from(PIECES))
def test_another_value_at_any_key(content: bytes, chance: random.Random, piece: bytes) -> None:
    lines = content.split(b"\n")
    assigned = [at for at, line in enumerate(lines) if b"=" in line and not line.startswith(b"#")]
    at = chance.choice(assigned)
    lines[at] = lines[at].partition(b"=")[0] + b"= " + piece
    outcome(b"\n".join(lines))


@settings(max_examples=200)
@given(st.sampled_from(VALID), st.randoms(use_true_random=False))
def test_lines_lost_doubled_and_moved(content: bytes, chance: random.Random) -> None:
    lines = content.split(b"\n")
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(lines))
        chance.choice((lines.pop, lambda i: lines.insert(i, chance.choice(lines)), lambda i: lines.append(lines[i])))(at)
        if not lines:
            return
    outcome(b"\n".join(lines))


@settings(max_examples=200)
@given(st.sampled_from(VALID), st.randoms(use_true_random=False), st.binary(max_size=3))
def test_cut_and_damaged(content: bytes, chance: random.Random, damage: bytes) -> None:
    start = chance.randrange(len(content))
    outcome(content[:start])
    outcome(content[:start] + damage + content[start + chance.randint(0, 3) :])


@pytest.mark.parametrize("content", VALID, ids=range(len(VALID)))
def test_checks_of_keys_that_are_not_there_would_find_nothing(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever line is missing, or stands there with another value."""
    lines = content.split(b"\n")
    assigned = [at for at, line in enumerate(lines) if b"=" in line and not line.startswith(b"#")]
    files = [b"\n".join(lines[:at] + lines[at + 1 :]) for at in range(len(lines))]
    files += [b"\n".join((*lines[:at], lines[at].partition(b"=")[0] + b"= 'x'", *lines[at + 1 :])) for at in assigned]
    found = [said(outcome(file)) for file in files]
    with monkeypatch.context() as patched:
        patched.setattr(checks, "_CHECKS", _All(checks._CHECKS))
        patched.setattr(references, "_LOOKS", _All(references._LOOKS))
        assert [said(outcome(file)) for file in files] == found


class _All(Checks):
    """Every check of every tunnel."""

    def __init__(self, checks: Checks) -> None:
        super().__init__(*((tuple(TunnelTable.KEYS), check) for _, check in checks._checks))


def said(result: Desired | InvalidFile | Unavailable) -> object:
    return result if isinstance(result, Desired) else (type(result), result.message, result.details)
