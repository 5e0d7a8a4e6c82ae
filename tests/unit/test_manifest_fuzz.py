"""Whatever stands in a manifest file: it is believed only if it was signed, and refused in words."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator

import pytest

from reconciler.host.jws import Refused
from reconciler.host.manifest import verified
from tests.unit import manifest_of
from tests.unit.manifest_of import HEADER, KEY, PAYLOAD, manifest

PUBLIC = KEY.public_key()
GOOD = manifest()
OUTSIDE, INSIDE = 70_000, 30_000  # the second are signed: what is wrong in them is only seen behind the signature
PIECES = [
    b'""', b"null", b"true", b"-1", b"0", b"1e999", b"NaN", b"[]", b"{}", b'"\\ud800"', b"\\u0000", b'{"a":1,"a":2}', b"\xff",
    b"\xc3", b"[[[[[[", b"9" * 5000, b"=", b"\0", b'"alg":"none"',
    b'"2027-01-15T08:00:00Z"', b'"::"', b"65536", b"}", b",", b'"',
]  # fmt: skip


def cut(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content) + 1)]


def flip(content: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << chance.randrange(8)]) + content[at + 1 :]


def insert(content: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(content) + 1)
    return content[:at] + chance.choice(PIECES) + content[at + chance.choice((0, 0, 1, 5)) :]


def double(content: bytes, chance: random.Random) -> bytes:
    start, end = sorted(chance.choices(range(len(content) + 1), k=2))
    return content[:end] + content[start:]


def other(content: bytes, chance: random.Random) -> bytes:
    return chance.randbytes(chance.randrange(100))


CHANGES: list[Callable[[bytes, random.Random], bytes]] = [cut, flip, flip, insert, insert, insert, double, other]


def changed(content: bytes, chance: random.Random) -> bytes:
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        content = chance.choice(CHANGES)(content or b"{}", chance)
    return content


def signed(chance: random.Random) -> bytes:
    """Damaged first, then signed."""
    header, payload = json.dumps(HEADER).encode(), json.dumps(PAYLOAD).encode()
    if chance.random() < 0.3:
        header = changed(header, chance)
    else:
        payload = changed(payload, chance)
    return json.dumps(manifest_of.jws(payload, header)).encode()


def outcome(content: bytes) -> str:
    """Never anything but a manifest or a refusal; what is said can be printed."""
    try:
        found = verified(content, PUBLIC)
    except Refused as refused:
        said = str(refused)
        assert len(said) < 500, said
        said.encode()
        return said
    assert found.ports
    assert found.expires_us > found.issued_us
    list(found.endpoints())
    return ""


def inputs(chance: random.Random) -> Iterator[tuple[bytes, bool]]:
    for _ in range(OUTSIDE):
        yield changed(GOOD, chance), False
    for _ in range(INSIDE):
        yield signed(chance), True


@pytest.mark.bound(120)
def test_a_hundred_thousand() -> None:
    reasons: set[str] = set()
    for content, is_signed in inputs(random.Random(20270115)):
        said = outcome(content)
        reasons.add(said[:20])
        if not said and not is_signed:
            assert same_parts(content), content
    assert len(reasons) > 20, "the changes reach every check"


def same_parts(content: bytes) -> bool:
    """What was not signed anew and is believed has the same three parts: only what is around them differs."""
    found, good = json.loads(content), json.loads(GOOD)
    return all(found[name] == good[name] for name in good)
