"""Answers of name servers: what counts, and that nothing in them can lead astray."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.host import dns
from reconciler.model.prefix import pton

QUESTION = dns._question("vpn.example.com", 1)


def answer(*records: bytes, flags: int = 0x8180, question: bytes = QUESTION) -> bytes:
    return question[:2] + struct.pack(">HHHHH", flags, 1, len(records), 0, 0) + question[12:] + b"".join(records)


def record(kind: int, data: bytes, name: bytes = b"\xc0\x0c") -> bytes:
    return name + struct.pack(">HHIH", kind, 1, 60, len(data)) + data


def test_addresses_behind_an_alias() -> None:
    alias = record(5, b"\x04real\xc0\x10")
    found = dns._addresses(
        answer(alias, record(1, pton("192.0.2.1"), b"\x04real\x00"), record(1, pton("192.0.2.2"))), QUESTION, 1
    )
    assert found == [pton("192.0.2.1"), pton("192.0.2.2")]


def test_no_such_name_is_an_answer() -> None:
    assert dns._addresses(answer(flags=0x8183), QUESTION, 1) == []


@pytest.mark.parametrize("flags", [0x8182, 0x8185])
def test_a_server_that_could_not_find_out(flags: int) -> None:
    with pytest.raises(OSError, match="the name server says"):
        dns._addresses(answer(flags=flags), QUESTION, 1)


MESSAGES = {
    "itself": QUESTION,
    "to another one": answer(question=dns._question("other.example.com", 1)),
    "cut": answer()[:14],
    "nothing": b"",
}


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_no_answer_to_this_question(message: bytes) -> None:
    with pytest.raises(OSError, match="malformed"):
        dns._addresses(message, QUESTION, 1)


def test_names_that_are_none() -> None:
    for name in ("a..b", "x" * 70 + ".example", ""):
        with pytest.raises(UnicodeError):
            dns._question(name, 1)


@given(st.binary(max_size=60), st.integers(0, 9))
def test_any_rubbish_is_an_error_or_an_answer(rubbish: bytes, count: int) -> None:
    message = QUESTION[:2] + struct.pack(">HHHHH", 0x8180, 1, count, 0, 0) + QUESTION[12:] + rubbish
    try:
        assert all(len(packed) == 4 for packed in dns._addresses(message, QUESTION, 1))
    except OSError:
        pass
