"""The netlink socket on the real kernel: interrupted, overflown, cut off, lied to, and still right."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from reconciler.errors import NotObserved
from reconciler.host import nl_address, nl_link, nl_route
from reconciler.host.netlink import NLM_F_CREATE, NLM_F_EXCL, KernelError, Netlink
from reconciler.host.nl_address import AddressRow
from reconciler.host.nl_codec import HEADER
from reconciler.host.nl_route import RouteRow
from reconciler.host.nl_wire import Witness
from reconciler.host.rtnl import NETLINK_ROUTE, Rtnl
from reconciler.model.prefix import AF_INET, AF_INET6
from tests.netns.world import Host

NEW = NLM_F_CREATE | NLM_F_EXCL
Request = tuple[int, int, bytes]


@pytest.fixture
def rtnl(host: Host) -> Iterator[Rtnl]:
    with host.inside():
        rtnl = Rtnl()
        yield rtnl
        rtnl.close()


def address(number: int, kind: int = nl_address.RTM_NEWADDR) -> Request:
    packed = (0x0A000000 + number).to_bytes(4, "big")
    return kind, NEW if kind == nl_address.RTM_NEWADDR else 0, nl_address.wanted(AddressRow(1, packed, 32, packed, 0, 0, 115))


def blackhole(number: int, family: int = AF_INET, kind: int = nl_route.RTM_NEWROUTE) -> Request:
    packed = (0x0A000000 + number).to_bytes(4, "big") if family == AF_INET else (0x20010DB8 << 96 | number).to_bytes(16, "big")
    scope = 0 if kind == nl_route.RTM_NEWROUTE else nl_route.SCOPE_NOWHERE
    head = nl_route.head(254, 7, "blackhole", None, None, family=family, protocol=115, scope=scope)
    return kind, NEW if kind == nl_route.RTM_NEWROUTE else 0, route(head, packed, len(packed) * 8)


def route(head: bytes, packed: bytes, length: int, ifindex: int = 0) -> bytes:
    (body,) = nl_route.bodies(head, ifindex, bytes((length,)), (packed,))
    return body


def batch(by: Netlink, requests: Sequence[Request]) -> list[int | None]:
    """What became of requests of one type: None, or the number of the error."""
    (kind,), (flags,) = ({request[at] for request in requests} for at in (0, 1))
    return [error and error.errno for error in by.batch(kind, flags, [body for _, _, body in requests])]


def interfered(netlink: Netlink, times: int) -> tuple[list[AddressRow], int]:
    """Lists addresses; in the middle of the first `times` attempts one comes. → what was listed, how many attempts."""
    other = Rtnl()
    attempts = [0]
    seen: set[int] = set()

    def decode(body: bytes) -> AddressRow | None:
        row = nl_address.decode(body)
        assert row is not None
        if row.packed == b"\x7f\0\0\1":  # the first on lo: a new attempt
            attempts[0] += 1
        if attempts[0] <= times and attempts[0] not in seen:
            seen.add(attempts[0])
            assert batch(other, [address(100_000 + attempts[0])]) == [None]
        return row

    try:
        return netlink.dump(nl_address.RTM_GETADDR, nl_address.question(), decode), attempts[0]
    finally:
        other.close()


def test_an_interrupted_dump_is_repeated(rtnl: Rtnl) -> None:
    assert batch(rtnl, [address(n) for n in range(2000)]) == [None] * 2000
    rows, attempts = interfered(rtnl, 3)
    assert attempts == 4
    assert len([row for row in rows if row.protocol == 115]) == 2003


def test_a_dump_that_is_always_interrupted_is_not_observed(rtnl: Rtnl) -> None:
    assert batch(rtnl, [address(n) for n in range(2000)]) == [None] * 2000
    with pytest.raises(NotObserved, match="what was being listed changed meanwhile, 8 times"):
        interfered(rtnl, 100)
    assert len(rtnl.addresses()) == 2000 + 8 + 2


def test_every_error_belongs_to_its_message(rtnl: Rtnl) -> None:
    requests, expected = mixed(1500)
    assert batch(rtnl, requests) == expected
    assert rtnl.batch(nl_route.RTM_NEWROUTE, NEW, []) == []


def mixed(count: int) -> tuple[list[Request], list[int | None]]:
    """Routes, and what is to become of each: some come twice, and some need a link that is not there."""
    head = nl_route.head(254, 7, "unicast", None, None, family=AF_INET, protocol=115, scope=nl_route.SCOPE_LINK)
    nowhere = route(head, bytes(4), 32, ifindex=9999)
    requests = [blackhole(n // 2) if n % 3 else (nl_route.RTM_NEWROUTE, NEW, nowhere) for n in range(count)]
    expected: list[int | None] = []
    done: set[bytes] = set()
    for _, _, body in requests:
        expected.append(errno.ENODEV if body == nowhere else errno.EEXIST if body in done else None)
        done.add(body)
    return requests, expected


def test_in_turn_each_is_done_before_the_next_is_made(rtnl: Rtnl) -> None:
    requests, expected = mixed(200)
    other = Rtnl()

    def bodies() -> Iterator[bytes]:
        for number, (_, _, body) in enumerate(requests):
            if number % 20 == 0:
                done = len([error for error in expected[:number] if error is None])
                assert len(other.routes(AF_INET, nl_route.decode, protocol=115)) == done
            yield body

    assert [error and error.errno for error in rtnl.in_turn(nl_route.RTM_NEWROUTE, NEW, bodies())] == expected
    assert rtnl.in_turn(nl_route.RTM_NEWROUTE, NEW, ()) == []
    other.close()


def test_in_turn_lost_answers_are_an_error(host: Host) -> None:
    with host.inside():
        netlink = Netlink(NETLINK_ROUTE, receive_bytes=1)
        bodies = [body for _, _, body in (blackhole(n) for n in range(256))]
        assert netlink.in_turn(nl_route.RTM_NEWROUTE, NEW, bodies) == [None] * 256
        with pytest.raises(KernelError, match="messages were lost"):
            netlink.in_turn(nl_route.RTM_NEWROUTE, NEW, bodies)
        assert netlink.in_turn(nl_route.RTM_DELROUTE, 0, bodies) == [None] * 256
        netlink.close()


def test_in_turn_cut_off_leaves_a_clean_socket(rtnl: Rtnl) -> None:
    def bodies() -> Iterator[bytes]:
        for _ in range(2):
            yield blackhole(1)[2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rtnl.in_turn(nl_route.RTM_NEWROUTE, NEW, bodies())
    assert batch(rtnl, [blackhole(1), blackhole(2)]) == [errno.EEXIST, None]


@pytest.mark.parametrize("receive_bytes", [1, 4096, 20_000])
def test_an_overflow_loses_no_error(host: Host, receive_bytes: int) -> None:
    """Errors of 256 messages do not fit: the socket is thrown away and each message is sent alone."""
    with host.inside():
        netlink = Netlink(NETLINK_ROUTE, receive_bytes=receive_bytes)
        assert batch(netlink, [blackhole(n) for n in range(600)]) == [None] * 600
        assert batch(netlink, [blackhole(n) for n in range(600)]) == [errno.EEXIST] * 600
        rows = netlink.dump(nl_route.RTM_GETROUTE, nl_route.question(AF_INET, protocol=115), nl_route.decode)
        assert len(rows) == 600
        netlink.close()


def test_silence_has_a_bound(host: Host) -> None:
    with host.inside():
        netlink = Netlink(NETLINK_ROUTE, timeout_s=0.05)
        with pytest.raises(NotObserved, match=r"no answer within 0\.05 s"):
            netlink._wire.receive()
        netlink.close()


def test_answers_longer_than_the_buffer_are_asked_for_again(rtnl: Rtnl) -> None:
    rtnl._wire.datagram_bytes = 100
    assert [link.name for link in rtnl.links()] == ["lo"]


def test_a_malformed_answer_is_not_observed_and_the_next_one_is_clean(rtnl: Rtnl) -> None:
    assert batch(rtnl, [blackhole(n) for n in range(2000)]) == [None] * 2000

    def broken(_body: bytes) -> object:
        raise ValueError("broken")

    with pytest.raises(NotObserved, match="routes could not be read: the kernel's answer is malformed: broken"):
        rtnl.routes(AF_INET, broken, protocol=115)
    assert len(rtnl.routes(AF_INET, nl_route.decode, protocol=115)) == 2000


def test_any_exception_in_the_middle_leaves_a_clean_socket(rtnl: Rtnl) -> None:
    assert batch(rtnl, [blackhole(n) for n in range(2000)]) == [None] * 2000

    def stopped(_body: bytes) -> object:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rtnl.routes(AF_INET, stopped, protocol=115)
    assert len(rtnl.routes(AF_INET, nl_route.decode, protocol=115)) == 2000


def forge(rtnl: Rtnl, times: int, sequences: Callable[[int], int]) -> None:
    """Another process sends what looks like the end of a dump."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_ROUTE) as other:
        for number in range(times):
            other.sendto(HEADER.pack(20, 3, 2, sequences(number), rtnl.port) + bytes(4), (rtnl.port, 0))


def test_what_others_send_to_our_port_is_not_believed(rtnl: Rtnl) -> None:
    first = rtnl._wire.sequence + 1
    forge(rtnl, 20, lambda number: first + number)
    assert [link.name for link in rtnl.links()] == ["lo"]
    forge(rtnl, 20, lambda _number: rtnl._wire.sequence + 1)
    assert rtnl.link(name="lo") is not None
    forge(rtnl, 20, lambda _number: rtnl._wire.sequence + 1)
    assert batch(rtnl, [blackhole(1), blackhole(1)])[0] is None


def test_a_flood_of_others_is_given_up(rtnl: Rtnl) -> None:
    forge(rtnl, 200, lambda number: number)
    with pytest.raises(NotObserved, match="not from the kernel"):
        rtnl.links()
    assert [link.name for link in rtnl.links()] == ["lo"]


def test_an_unknown_request_has_the_kernels_words(rtnl: Rtnl) -> None:
    with pytest.raises(KernelError, match="Operation not supported"):
        rtnl.request(15 << 4, 0, b"\0" * 16)
    with pytest.raises(KernelError) as caught:
        rtnl.request(nl_link.RTM_NEWLINK, NEW, nl_link.wanted(name="x", kind="nonsense"))
    assert str(caught.value) == "Operation not supported: Unknown device type"


def test_an_unknown_family_is_an_error_not_a_crash() -> None:
    with pytest.raises(KernelError, match="Protocol not supported"):
        Netlink(31).request(16, 0, b"")


def test_the_port_is_the_one_events_carry(rtnl: Rtnl) -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_ROUTE) as events:
        events.bind((0, 1 << 6))  # RTMGRP_IPV4_ROUTE
        events.settimeout(5)
        assert batch(rtnl, [blackhole(1)]) == [None]
        assert HEADER.unpack_from(events.recv(65536))[4] == rtnl.port


def test_a_family_that_the_kernel_lacks_has_no_routes_and_no_rules(rtnl: Rtnl) -> None:
    """As IPv6 where it is switched off at boot: the kernel answers with the routes of all families that it has."""
    assert batch(rtnl, [blackhole(1), blackhole(1, AF_INET6)]) == [None, None]
    decnet = 12
    assert len(rtnl.dump(nl_route.RTM_GETROUTE, nl_route.question(decnet), nl_route.decode)) > 1
    assert rtnl.routes(decnet, nl_route.decode) == []
    assert rtnl.rules(decnet) == []


@pytest.mark.parametrize("table", [99, 254, 255, 256, 20001, 0xFFFFFFFF])
@pytest.mark.parametrize("family", [AF_INET, AF_INET6])
def test_tables_are_filtered_and_absent_ones_are_empty(rtnl: Rtnl, family: int, table: int) -> None:
    assert [row for row in rtnl.routes(family, nl_route.decode, table=table) if row[2] != table] == []
    packed = bytes(4) if family == AF_INET else bytes(16)
    head = nl_route.head(table, 7, "blackhole", None, None, family=family, protocol=115, scope=0)
    assert batch(rtnl, [(nl_route.RTM_NEWROUTE, NEW, route(head, packed, 0))]) == [None]
    (row,) = rtnl.routes(family, nl_route.decode, table=table, protocol=115)
    assert row[2] == table


@pytest.mark.parametrize(("group", "family"), [(nl_route.GROUP_IPV6, AF_INET6), (7, AF_INET)])
def test_a_witness_hears_of_changes(rtnl: Rtnl, group: int, family: int) -> None:
    with Witness(NETLINK_ROUTE, group) as witness, Witness(NETLINK_ROUTE, 0) as deaf:
        assert not witness.heard()
        assert batch(rtnl, [blackhole(1, family)]) == [None]
        assert witness.heard()
        assert not witness.heard()
        assert not deaf.heard()


def test_a_list_that_changes_without_a_word_is_repeated(rtnl: Rtnl) -> None:
    """IPv6 routes: the kernel never says that the list was interrupted."""
    assert batch(rtnl, [blackhole(n, AF_INET6) for n in range(1000)]) == [None] * 1000
    other = Rtnl()
    seen: list[RouteRow] = []

    def decode(body: bytes) -> RouteRow | None:
        row = nl_route.decode(body)
        assert row is not None
        if not seen:
            assert batch(other, [blackhole(n, AF_INET6, nl_route.RTM_DELROUTE) for n in range(100)]) == [None] * 100
        seen.append(row)
        return row

    rows = rtnl.routes(AF_INET6, decode, protocol=115)
    other.close()
    assert len(rows) == len(set(rows)) == 900
    assert len(seen) > 1000


@pytest.mark.parametrize("family", [AF_INET, AF_INET6])
def test_routes_that_stay_are_listed_while_others_come_and_go(rtnl: Rtnl, family: int, host: Host) -> None:
    """Listing IPv6 routes while others go leaves out some, and the kernel does not say so: we must notice it ourselves."""
    stay = {blackhole(n * 2, family)[2][-4:] for n in range(3000)}
    assert batch(rtnl, [blackhole(n * 2, family) for n in range(3000)]) == [None] * 3000
    stop = threading.Event()

    def come_and_go() -> None:
        with host.inside():
            other = Rtnl()
            while not stop.is_set():
                for kind in (nl_route.RTM_NEWROUTE, nl_route.RTM_DELROUTE):
                    batch(other, [blackhole(n * 2 + 1, family, kind) for n in range(0, 3000, 30)])
                stop.wait(0.02)
            other.close()

    def last_four(body: bytes) -> bytes | None:
        row: RouteRow | None = nl_route.decode(body)
        return row[0][-4:] if row else None

    missing: list[int] = []
    writer = threading.Thread(target=come_and_go, daemon=True)
    writer.start()
    try:
        for _ in range(100):  # where others are busy, too, most are interrupted eight times
            if len(missing) == 6:
                break
            with contextlib.suppress(NotObserved):
                missing.append(len(stay - set(rtnl.routes(family, last_four, protocol=115))))
    finally:
        stop.set()
        writer.join(10)
    assert missing == [0] * len(missing)
    assert missing
