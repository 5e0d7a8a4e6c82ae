"""Netlink's bytes without a kernel: what we write we read again, and whatever comes, nothing but ValueError."""

from __future__ import annotations

import contextlib
import itertools
import struct
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.host import nl_address, nl_codec, nl_link, nl_route, nl_rule
from reconciler.host.nl_address import AddressRow
from reconciler.host.nl_error import KernelError, error_in
from reconciler.host.nl_rule import RuleRow
from reconciler.model.prefix import AF_INET, AF_INET6, Prefix, parse_prefix, pton
from reconciler.model.prefixes import Prefixes

DECODERS: list[Callable[[bytes], object]] = [
    nl_link.decode,
    nl_address.decode,
    nl_route.decode,
    nl_rule.decode,
    lambda body: list(nl_codec.messages(body)),
    nl_codec.attributes,
]
V4, V6 = pton("10.8.0.2"), pton("fd00:8::2")


def route(to: bytes, length: int, *more: object, family: int) -> bytes:
    table, metric, type_, ifindex, via, src = more or (254, 0, "unicast", 7, None, None)
    head = nl_route.head(table, metric, type_, via, src, family=family, protocol=115, scope=0)  # type: ignore[arg-type]
    (body,) = nl_route.bodies(head, ifindex, bytes((length,)), (to,))  # type: ignore[arg-type]
    return body


GOOD = [
    nl_link.wanted(index=3, name="tun-office", kind="tun", alias="tunctl:a:00000000", group=20000, mtu=1400, up=True),
    nl_address.wanted(AddressRow(3, V4, 24, V4, 0, 0x200, 115, V4, 7)),
    nl_address.wanted(AddressRow(3, V6, 64, V6, 0, 0, None)),
    route(V4, 32, family=AF_INET),
    route(V6, 128, 200, 9, "unicast", 3, V6, V6, family=AF_INET6),
    route(V4, 32, 200, 9, "unicast", 3, V6, V4, family=AF_INET),
    nl_rule.wanted(RuleRow(AF_INET, 20100, 20001, Prefix(V4, 32), Prefix(V4, 32), "lan0", (1, 255), (1, 2), protocol=115)),
    nl_codec.HEADER.pack(20, 3, 2, 1, 1) + b"\0\0\0\0",
]


@st.composite
def hostile(draw: st.DrawFn) -> bytes:
    """A good body with some bytes changed and its end cut off, or anything."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=120))
    body = bytearray(draw(st.sampled_from(GOOD)))
    for _ in range(draw(st.integers(0, 4))):
        body[draw(st.integers(0, len(body) - 1))] = draw(st.integers(0, 255))
    return bytes(body[: draw(st.integers(0, len(body)))]) + draw(st.binary(max_size=9))


@given(hostile())
@settings(max_examples=1500, deadline=None)
def test_hostile_bytes_are_a_value_error_at_most(body: bytes) -> None:
    for decode in DECODERS:
        with contextlib.suppress(ValueError):
            decode(body)


@given(hostile(), st.integers(0, 0xFFFF), st.booleans())
@settings(deadline=None)
def test_hostile_errors_are_a_value_error_at_most(answer: bytes, flags: int, with_request: bool) -> None:
    with contextlib.suppress(ValueError):
        error = error_in(answer, flags, with_request=with_request)
        assert error is None or str(error)


FIELDS = (
    nl_codec.Field((1,)),
    nl_codec.Field((2,), absent=b""),
    nl_codec.Field((3, 1)),
    nl_codec.Field((3, 2), "I", 7),
    nl_codec.Field((4, 1, 2), "B"),
    nl_codec.Field((5,), "B", 0, at=1),
    nl_codec.Field((5,), "B", 0, at=3),
)


def by_path(body: bytes, field: nl_codec.Field) -> object:
    """What `Attributes` promises, one attribute after the other."""
    value: bytes | None = body[4:]
    for kind in field.path:
        value = None if value is None else nl_codec.attributes(value).get(kind)
    if value is None or field.form == "s":
        return field.absent if value is None else value
    if field.at is not None:
        return value[field.at] if len(value) > field.at else field.absent
    return nl_codec.as_u32(value) if field.form == "I" else nl_codec.as_u8(value)


@st.composite
def nested(draw: st.DrawFn, depth: int = 3) -> bytes:
    """Few types and few lengths, so that many have the same layout, or the same length with another one."""
    out = b""
    for kind in draw(st.lists(st.integers(1, 6), max_size=4)):
        inner = draw(nested(depth - 1)) if depth and kind in (3, 4) else draw(st.sampled_from([b"", b"a", b"1234", b"4321"]))
        flags = draw(st.sampled_from([0, nl_codec.NESTED]))
        out += nl_codec.attribute(kind | flags, inner)
    return out


@given(st.lists(nested(), min_size=1, max_size=6), st.data())
@settings(max_examples=400, deadline=None)
def test_known_places_are_those_that_one_finds_step_by_step(bodies: list[bytes], data: st.DataObject) -> None:
    some = nl_codec.Attributes("=BBH", *FIELDS)
    for inner in bodies * 2:
        body = bytearray(b"head" + inner)
        for _ in range(data.draw(st.integers(0, 2))):
            if len(body) > 4:
                body[data.draw(st.integers(4, len(body) - 1))] = data.draw(st.integers(0, 255))
        try:
            expected: object = (*struct.unpack_from("=BBH", body), *(by_path(bytes(body), field) for field in FIELDS))
        except ValueError:
            with contextlib.suppress(ValueError):  # nobody asks for what is malformed inside of what is passed over
                some.of(bytes(body))
            continue
        assert some.of(bytes(body)) == expected


@given(st.lists(nested(2), min_size=1, max_size=4), st.lists(st.integers(0, 3), max_size=8), st.integers(0, 24), st.data())
@settings(max_examples=400, deadline=None)
def test_first_messages_are_read_together_as_one_by_one(
    bodies: list[bytes], order: list[int], cut: int, data: st.DataObject
) -> None:
    """The same again and again, others between them, one of another type, ends that are not padded, bytes that are changed."""
    said = [b"head" + bodies[at % len(bodies)] + data.draw(st.sampled_from([b"", b"", b"", b"\0"])) for at in [0, *order]]
    kinds = [data.draw(st.sampled_from([24, 24, 24, 3])) for _ in said]
    whole = bytearray(
        b"".join(
            nl_codec.HEADER.pack(nl_codec.HEADER_BYTES + len(body), kind, 2, 1, 9) + body + bytes(-len(body) % 4)
            for kind, body in zip(kinds, said, strict=True)
        )
    )
    for _ in range(data.draw(st.integers(0, 2))):
        whole[data.draw(st.integers(nl_codec.HEADER_BYTES, len(whole) - 1))] = data.draw(st.integers(0, 255))
    datagram = bytes(whole[: max(nl_codec.HEADER_BYTES, len(whole) - cut)])
    some = nl_codec.Attributes("=BBH", *FIELDS)
    first, at = nl_codec.alike(datagram)
    try:
        expected = [nl_codec.Attributes("=BBH", *FIELDS).of(body) for body in first]
    except ValueError:
        with pytest.raises(ValueError, match="netlink"):
            some.of_first(datagram)
        return
    assert some.of_first(datagram) == some.of_first(datagram) == (expected, at)


def test_layouts_that_take_turns_are_all_known() -> None:
    """Names of many lengths make messages of the same length that look otherwise inside."""
    some = nl_codec.Attributes("=", nl_codec.Field((1,)), nl_codec.Field((2,)))
    short, long = (nl_codec.text(1, "abcd") + nl_codec.text(2, "a"), nl_codec.text(1, "a") + nl_codec.text(2, "abcd"))
    assert [some.of(body) for body in (short, long) * 2] == [(b"abcd\0", b"a\0"), (b"a\0", b"abcd\0")] * 2
    assert [len(known) for known in some._known.values()] == [2]


@pytest.mark.parametrize(("body", "start"), list(zip(GOOD, (16, 8, 8, 12, 12, 12, 12), strict=False)))
def test_an_attribute_that_is_cut_off_is_never_taken_for_a_shorter_one(body: bytes, start: int) -> None:
    whole = nl_codec.attributes(body, start)
    assert whole
    for end in range(start, len(body)):
        with contextlib.suppress(ValueError):
            assert set(nl_codec.attributes(body[:end], start).items()) <= set(whole.items())


@pytest.mark.parametrize("size", [4, 5, 7])
def test_a_number_of_a_route_that_is_too_short(size: int) -> None:
    for kind in (4, 6, 15):  # RTA_OIF, RTA_PRIORITY, RTA_TABLE
        body = route(V4, 32, family=AF_INET) + nl_codec.ATTRIBUTE.pack(size, kind) + bytes(12)
        with pytest.raises(ValueError, match="claims"):
            nl_route.decode(body)


def test_attributes_carry_all_lengths() -> None:
    values = {kind: b"x" * kind for kind in range(1, 9)}
    body = b"".join(nl_codec.attribute(kind, value) for kind, value in values.items())
    assert len(body) % 4 == 0
    assert nl_codec.attributes(body) == values
    assert nl_codec.attributes(nl_codec.nest(18, body))[18] == body
    assert nl_codec.attributes(b"") == {}


def test_numbers_and_texts() -> None:
    body = nl_codec.u32(1, 0xFFFFFFFF) + nl_codec.u8(2, 115) + nl_codec.text(3, "ü-0")
    found = nl_codec.attributes(body)
    assert (nl_codec.as_u32(found[1]), nl_codec.as_u8(found[2]), nl_codec.as_text(found[3])) == (0xFFFFFFFF, 115, "ü-0")
    assert (nl_codec.as_u32(None, 7), nl_codec.as_u8(None, 8), nl_codec.as_text(None)) == (7, 8, "")
    assert nl_codec.as_text(b"a\xffb\0rest") == r"a\xffb"
    with pytest.raises(ValueError, match="3 bytes where a number of 4"):
        nl_codec.as_u32(b"abc")


@pytest.mark.parametrize("length", [0, 15, 21, 0xFFFFFFFF])
def test_a_length_that_lies(length: int) -> None:
    with pytest.raises(ValueError, match="claims"):
        list(nl_codec.messages(nl_codec.HEADER.pack(length, 24, 2, 1, 1) + b"\0\0\0\0"))
    with pytest.raises(ValueError, match="claims"):
        nl_codec.attributes(nl_codec.ATTRIBUTE.pack(min(length, 0xFFFF) or 3, 1) + b"\0\0\0")


def test_messages_of_one_datagram() -> None:
    one = nl_codec.HEADER.pack(19, 24, 2, 1, 9) + b"abc" + b"\0"
    two = nl_codec.HEADER.pack(16, 3, 2, 2, 9)
    assert list(nl_codec.messages(one + two)) == [(24, 2, 1, 9, b"abc"), (3, 2, 2, 9, b"")]


@given(st.lists(st.tuples(st.sampled_from([3, 24]), st.binary(max_size=9)), min_size=1, max_size=6), st.integers(0, 40))
def test_first_messages_that_are_alike_and_the_others(said: list[tuple[int, bytes]], cut: int) -> None:
    whole = b"".join(
        nl_codec.HEADER.pack(nl_codec.HEADER_BYTES + len(body), kind, 2, 1, 9) + body + bytes(-len(body) % 4)
        for kind, body in said
    )
    datagram = whole[: max(nl_codec.HEADER_BYTES, len(whole) - cut)]
    bodies, at = nl_codec.alike(datagram)
    first = [body for kind, body in itertools.takewhile(lambda one: one[0] == said[0][0], said)]
    assert bodies == first[: len(bodies)]
    assert cut or len(bodies) == len(first)
    try:
        expected = [body for *_, body in nl_codec.messages(datagram)]
    except ValueError:  # said by whoever reads on
        with pytest.raises(ValueError, match="netlink"):
            list(nl_codec.messages(datagram, at))
    else:
        assert [*bodies, *(body for *_, body in nl_codec.messages(datagram, at))] == expected


prefixes4 = st.tuples(st.binary(min_size=4, max_size=4), st.integers(0, 32))
prefixes6 = st.tuples(st.binary(min_size=16, max_size=16), st.integers(0, 128))


@given(
    st.one_of(prefixes4, prefixes6),
    st.integers(1, 0xFFFFFFFF),
    st.integers(0, 0xFFFFFFFF),
    st.sampled_from(["unicast", "blackhole", "throw", "local"]),
    st.integers(0, 0x7FFFFFFF),
    st.booleans(),
)
def test_routes_there_and_back(
    prefix: tuple[bytes, int], table: int, metric: int, type_: str, ifindex: int, more: bool
) -> None:
    packed, length = prefix
    family = AF_INET if len(packed) == 4 else AF_INET6
    via = src = packed if more and any(packed) else None
    body = route(packed, length, table, metric, type_, ifindex, via, src, family=family)
    index = 0 if type_ in ("blackhole", "throw") else ifindex
    assert nl_route.decode(body) == (packed, length, table, metric, type_, index, via, src, 115)


@given(st.one_of(st.lists(prefixes4, min_size=1), st.lists(prefixes6, min_size=1)), st.sampled_from([0, 7]))
def test_many_routes_there_and_back(prefixes: list[tuple[bytes, int]], ifindex: int) -> None:
    some = Prefixes.of(Prefix(*one) for one in prefixes)
    size = len(prefixes[0][0])
    family = AF_INET if size == 4 else AF_INET6
    head = nl_route.head(254, 0, "unicast", None, None, family=family, protocol=115, scope=0)
    rows = map(nl_route.decode, nl_route.bodies(head, ifindex, *some.columns(size)))
    assert [*rows] == [(*one, 254, 0, "unicast", ifindex, None, None, 115) for one in some]


@given(
    st.lists(st.tuples(prefixes4, st.sampled_from([0, 0, 0, 7]), st.sampled_from([24, 24, 24, 3])), min_size=1, max_size=6),
    st.integers(0, 9),
)
def test_a_default_route_is_never_passed_over(said: list[tuple[tuple[bytes, int], int, int]], cut: int) -> None:
    """What is seen at once is what a look at each message says, and is seen where all messages are alike."""
    bodies = [route(*prefix, 254, metric, "unicast", 7, None, None, family=AF_INET) for prefix, metric, _ in said]
    kinds = [kind for *_, kind in said]
    sent = [nl_codec.HEADER.pack(16 + len(body), kind, 2, 1, 9) + body for body, kind in zip(bodies, kinds, strict=True)]
    has_default = any(not length for (_, length), *_ in said)
    alike = len({(len(body), kind) for body, kind in zip(bodies, kinds, strict=True)}) == 1
    assert nl_route.has_no_default(b"".join(sent)) == (alike and not has_default)
    cut_off = b"".join(sent)[: -cut or None]
    assert not (nl_route.has_no_default(cut_off) and (cut or has_default))


@given(st.binary(max_size=120))
def test_hostile_bytes_are_at_most_not_seen_through_at_once(datagram: bytes) -> None:
    if nl_route.has_no_default(datagram):
        assert all(body[1] for *_, body in nl_codec.messages(datagram))


@given(st.sampled_from([(AF_INET, "10.0.0.0/8", "192.0.2.0/24"), (AF_INET6, "fd00::/8", "2001:db8::/32")]), st.data())
def test_rules_there_and_back(family: tuple[int, str, str], data: st.DataObject) -> None:
    maybe = lambda value: data.draw(st.sampled_from([None, value]))  # noqa: E731
    row = RuleRow(
        family[0], data.draw(st.integers(0, 0xFFFFFFFF)), data.draw(st.integers(1, 0xFFFFFFFF)),
        maybe(parse_prefix(family[1])), maybe(parse_prefix(family[2])), maybe("lan0"), maybe((7, 255)), maybe((1, 2)),
        "lookup", maybe(20000), maybe(0), 115,
    )  # fmt: skip
    assert nl_rule.decode(nl_rule.wanted(row)) == row


@pytest.mark.parametrize("kind", [4, 11, 17, 19, 22, 23])  # FRA_GOTO, FLOW, OIFNAME, L3MDEV, IP_PROTO, SPORT
def test_a_rule_that_says_more_is_not_plain(kind: int) -> None:
    row = RuleRow(AF_INET, 20100, 20001, None, None, None, None, None, protocol=115)
    decoded = nl_rule.decode(nl_rule.wanted(row) + nl_codec.attribute(kind, b"\1\0\0\0"))
    assert decoded == row._replace(plain=False)


@pytest.mark.parametrize(
    ("target", "other", "expected"),
    [
        ({}, {"from_": Prefix(V4, 32)}, True),
        ({}, {"fwmark": (1, 255), "iif": "a", "uid_range": (1, 2)}, True),
        ({"from_": Prefix(V4, 32)}, {}, False),
        ({"fwmark": (0, 255)}, {"fwmark": (5, 255)}, True),
        ({"fwmark": (5, 255)}, {"fwmark": (0, 255)}, False),
        ({}, {"protocol": 4}, False),
        ({}, {"priority": 1}, False),
        ({}, {"table": 1}, False),
        ({}, {"family": AF_INET6}, False),
    ],
)
def test_what_a_deletion_of_a_rule_would_hit(target: dict[str, object], other: dict[str, object], expected: bool) -> None:
    plain = RuleRow(AF_INET, 20100, 20001, None, None, None, None, None, protocol=115)
    assert plain._replace(**target).would_be_taken_for(plain._replace(**other)) is expected  # type: ignore[arg-type]


def test_cache_entries_and_routes_for_some_packets_are_left_out() -> None:
    plain = bytearray(route(V4, 32, family=AF_INET))
    assert nl_route.decode(bytes(plain)) is not None
    for at, value in ((2, 8), (3, 0x10), (9, 0x02)):  # source length, TOS, RTM_F_CLONED
        odd = bytearray(plain)
        odd[at] = value
        assert nl_route.decode(bytes(odd)) is None


def test_the_words_of_anerror_in() -> None:
    request = nl_codec.HEADER.pack(28, 24, 5, 1, 1)
    words = nl_codec.text(1, "Nexthop has invalid gateway")
    capped = struct.pack("=i", -101) + request + words
    echoed = struct.pack("=i", -101) + request + bytes(12) + words
    for answer, flags in ((capped, 0x300), (echoed, 0x200)):
        error = error_in(answer, flags, with_request=True)
        assert isinstance(error, KernelError)
        assert (error.errno, str(error)) == (101, "Network is unreachable: Nexthop has invalid gateway")
    assert str(error_in(capped, 0x100, with_request=True)) == "Network is unreachable"
    with pytest.raises(ValueError, match="number"):
        error_in(struct.pack("=i", -1 << 31) + request, 0x100, with_request=True)
    assert error_in(struct.pack("=i", 0) + request, 0x100, with_request=True) is None
    done = error_in(struct.pack("=i", -2) + words, 0x200, with_request=False)
    assert str(done) == "No such file or directory: Nexthop has invalid gateway"
