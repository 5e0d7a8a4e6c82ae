"""Which port a `listen` entry gets: a table, and what is so whatever the machine looks like."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.drivers.exec_ import told_ports
from reconciler.layout.ports import Ask, choose
from reconciler.model.names import TunnelName
from reconciler.model.port import ANY4, ANY6, TCP, UDP, Port, Remembered, Socket, fixed_ports, place
from reconciler.model.prefix import pton
from reconciler.model.tunnel import Listen, Tunnel, WireGuard

LOCAL, OTHER, LOCAL6 = pton("127.0.0.1"), pton("192.0.2.1"), pton("::1")


def ask(name: str = "a", first: int = 8443, scan: int = 4, transport: str = "udp", **fields: object) -> Ask:
    protocol = TCP if transport == "tcp" else UDP
    addresses = fields.pop("addresses", (ANY4,))
    return Ask((TunnelName(name), transport), protocol, addresses, first, scan, **fields)  # type: ignore[arg-type]


def udp(
    *ports: int, address: bytes = ANY4, tunnel: str | None = None, protocol: int = UDP, v6only: bool = False
) -> list[Socket]:
    return [Socket(protocol, address, port, 7, v6only, TunnelName(tunnel) if tunnel else None) for port in ports]


# id, asks, sockets, the ports they get
TABLE: list[tuple[str, list[Ask], list[Socket], list[int | None]]] = [
    ("free", [ask()], [], [8443]),
    ("next", [ask()], udp(8443, 8444), [8445]),
    ("none", [ask()], udp(8443, 8444, 8445, 8446), [None]),
    ("one only", [ask(scan=1)], udp(8443), [None]),
    ("other protocol", [ask()], udp(8443, protocol=TCP), [8443]),
    ("other address", [ask(addresses=(LOCAL,))], udp(8443, address=OTHER), [8443]),
    ("wildcard keeps out", [ask(addresses=(LOCAL,))], udp(8443), [8444]),
    ("is kept out of the wildcard", [ask()], udp(8443, address=LOCAL), [8444]),
    ("IPv6 for both", [ask()], udp(8443, address=ANY6), [8444]),
    ("IPv6 only", [ask()], udp(8443, address=ANY6, v6only=True), [8443]),
    ("IPv6 address", [ask()], udp(8443, address=LOCAL6), [8443]),
    ("wants both", [ask(addresses=(ANY4, ANY6))], udp(8443, address=LOCAL6), [8444]),
    ("has", [ask(has=8445)], udp(8445, tunnel="a"), [8445]),
    ("has, out of reach", [ask(has=8450)], udp(8450, tunnel="a"), [8443]),
    ("had", [ask(had=8445)], [], [8445]),
    ("had, taken", [ask(had=8445)], udp(8445), [8443]),
    ("refused", [ask(refused=frozenset((8443, 8444)))], [], [8445]),
    ("refused what it had", [ask(had=8444, refused=frozenset((8444,)))], udp(8443), [8445]),
    ("its own is not in its way", [ask()], udp(8443, tunnel="a"), [8443]),
    ("its own further on", [ask()], [*udp(8443), *udp(8444, tunnel="a"), *udp(8445)], [8444]),
    ("another tunnel's is", [ask()], udp(8443, tunnel="b"), [8444]),
    ("two of one tunnel", [ask(), ask(transport="quic")], [], [8443, 8444]),
    ("tcp beside", [ask(), ask(transport="tcp")], [], [8443, 8443]),
    ("who asks for it first", [ask("a", 8443), ask("b", 8444)], udp(8443), [8445, 8444]),
    ("who can have no other first", [ask("a"), ask("b", scan=1)], [], [8444, 8443]),
    ("who has it first", [ask("a"), ask("b", has=8443)], udp(8443, tunnel="b"), [8444, 8443]),
    ("who had it before who asks", [ask("a", 8444), ask("b", had=8444)], [], [8445, 8444]),
    ("at the end", [ask(first=65534, scan=2)], udp(65534), [65535]),
    ("beyond the end", [ask(first=65535, scan=1)], udp(65535), [None]),
]


@pytest.mark.parametrize(("asks", "sockets", "wanted"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_choice(asks: list[Ask], sockets: list[Socket], wanted: list[int | None]) -> None:
    chosen = choose(asks, sockets)
    assert [chosen[one.key] for one in asks] == wanted


def test_ports_of_wireguard_are_left_alone() -> None:
    assert choose([ask()], [], {8443: TunnelName("wg"), 8444: TunnelName("wg2")}) == {("a", "udp"): 8445}
    assert choose([ask(transport="tcp")], [], {8443: TunnelName("wg")}) == {("a", "tcp"): 8443}


PORTS = st.integers(1, 12)
ADDRESSES = st.sampled_from([(ANY4,), (ANY6,), (LOCAL,), (OTHER,), (LOCAL6,), (ANY4, ANY6)])
NAMES = st.sampled_from("abcd")
SOCKETS = st.lists(
    st.builds(
        Socket, st.sampled_from([TCP, UDP]), st.sampled_from([ANY4, ANY6, LOCAL, OTHER, LOCAL6]), PORTS, st.just(1),
        st.booleans(), st.none() | NAMES,
    ),
    max_size=12,
)  # fmt: skip
OPTIONAL = st.none() | PORTS
REFUSED = st.frozensets(PORTS, max_size=2)


@st.composite
def asked(draw: st.DrawFn) -> list[Ask]:
    keys = draw(st.lists(st.tuples(NAMES, st.sampled_from(["udp", "tcp", "quic"])), unique=True, max_size=8))
    return [
        Ask(
            (TunnelName(name), transport), TCP if transport == "tcp" else UDP, draw(ADDRESSES), draw(PORTS),
            draw(st.integers(1, 6)), draw(OPTIONAL), draw(OPTIONAL), draw(REFUSED),
        )
        for name, transport in keys
    ]  # fmt: skip


def in_the_way(one: Ask, port: int, sockets: Sequence[Socket]) -> bool:
    return any(
        s.protocol == one.protocol and s.port == port and s.tunnel != one.key[0] and any(map(s.keeps_out, one.addresses))
        for s in sockets
    )


@given(asked(), SOCKETS)
def test_what_is_always_so(asks: list[Ask], sockets: list[Socket]) -> None:
    chosen = choose(asks, sockets)
    assert chosen.keys() == {one.key for one in asks}
    for one in asks:
        port = chosen[one.key]
        kept = one.has is not None and one.may_have(one.has)
        assert port is None or one.may_have(port), "never outside of what was asked for"
        if kept:
            assert port == one.has, "what is bound stays"
        elif port is not None:
            assert port not in one.refused
            assert not in_the_way(one, port, sockets), "never where somebody else is"
    fresh = [one for one in asks if not (one.has is not None and one.may_have(one.has))]
    for at, one in enumerate(fresh):
        for other in fresh[at + 1 :]:
            port = chosen[one.key]
            if port is not None and port == chosen[other.key] and one.protocol == other.protocol:
                claims = [Socket(one.protocol, address, port) for address in one.addresses]
                assert not any(claim.keeps_out(address) for claim in claims for address in other.addresses)


@given(asked(), SOCKETS)
def test_none_only_when_all_are_taken(asks: list[Ask], sockets: list[Socket]) -> None:
    chosen = choose(asks, sockets)
    for one in asks:
        if chosen[one.key] is None:
            for port in range(one.first, one.first + one.scan):
                others = [
                    Socket(other.protocol, address, port)
                    for other in asks
                    if other is not one and chosen[other.key] == port and other.protocol == one.protocol
                    for address in other.addresses
                ]
                assert port in one.refused or in_the_way(one, port, [*sockets, *others])


@given(asked(), SOCKETS)
def test_choosing_again_is_the_same(asks: list[Ask], sockets: list[Socket]) -> None:
    """With what was chosen bound, nothing moves: a second look gives no steps."""
    asks = [one._replace(has=None) for one in asks]
    chosen = choose(asks, sockets)
    now = [
        *(s for s in sockets if s.tunnel is None),
        *(
            Socket(a.protocol, address, port, tunnel=a.key[0])
            for a in asks
            if (port := chosen[a.key])
            for address in a.addresses
        ),
    ]
    again = choose([one._replace(has=chosen[one.key]) for one in asks], now)
    assert {key: port for key, port in again.items() if chosen[key] is not None} == {k: p for k, p in chosen.items() if p}


def test_a_single_entry_gets_the_first_that_is_free() -> None:
    for taken in range(1 << 6):
        busy = [8443 + bit for bit in range(6) if taken >> bit & 1]
        free = [port for port in range(8443, 8449) if port not in busy]
        assert choose([ask(scan=6)], udp(*busy)) == {("a", "udp"): free[0] if free else None}


def _cost_s(count: int) -> float:
    """All ask for the same port, so that each has to look behind all that came before."""
    asks = [ask(f"t{number}", 20000, 30000) for number in range(count)]
    best = 1e9
    for _ in range(3):
        begun = time.process_time()
        chosen = choose(asks, [])
        best = min(best, time.process_time() - begun)
    assert sorted(port or 0 for port in chosen.values()) == list(range(20000, 20000 + count))
    return best


def test_a_thousand_are_no_quadratic_work() -> None:
    assert _cost_s(8000) < _cost_s(1000) * 24, "eight times as many: eight times the work, and not 64 times"


@pytest.mark.parametrize(
    ("command", "argv", "told"),
    [
        (["lab", "{listen.udp.port}"], ["lab", "8446"], {"udp": 8446}),
        (["lab", "--port={listen.tcp.port}/x", "-v"], ["lab", "--port=443/x", "-v"], {"tcp": 443}),
        (["lab", "{listen.udp.address}:{listen.udp.port}"], ["lab", "0.0.0.0:8446"], {"udp": 8446}),
        (["lab", "{listen.udp.port}"], ["lab", "0x1"], {}),
        (["lab", "{listen.udp.port}"], ["lab", "8446", "more"], {}),
        (["lab", "{listen.udp.port}"], [], {}),
        (["lab", "{interface}"], ["lab", "tun0"], {}),
    ],
)
def test_told_ports(command: list[str], argv: list[str], told: dict[str, int]) -> None:
    assert told_ports(command, argv) == told


@pytest.mark.parametrize(
    ("bound", "port"), [("0.0.0.0:8446", 8446), ("[::]:1", 1), ("", None), ("x:99999", None), ("x:٣", None), ("a:-1", None)]
)
def test_remembered(bound: str, port: int | None) -> None:
    assert Remembered("", bound).port == port


def test_places() -> None:
    assert (place(ANY4, 1), place(ANY6, 65535), place(LOCAL6, 2)) == ("0.0.0.0:1", "[::]:65535", "[::1]:2")


def test_words_of_a_refusal() -> None:
    entry = Listen("udp", ANY4, 8443, 20)
    assert Port(entry, None, holder="pid 812 (socat)").refusal == (
        "udp 0.0.0.0, ports 8443 to 8462: all are taken, 8443 by pid 812 (socat)"
    )
    assert Port(entry._replace(scan=1), None, holder="pid 812 (socat)").refusal == "udp 0.0.0.0:8443 is held by pid 812 (socat)"
    lost = Port(entry, None, "0.0.0.0:8446", False, "pid 812 (sing-box)")
    assert lost.lost == "bound port held by pid 812 (sing-box): udp 0.0.0.0:8446"
    assert lost.refusal == f"udp 0.0.0.0, ports 8443 to 8462: all are taken, {lost.lost}"


def test_fixed_ports() -> None:
    wireguard = Tunnel(TunnelName("a"), "wireguard", None, wireguard=WireGuard("k", listen_port=5))
    assert list(fixed_ports(wireguard)) == [Socket(UDP, ANY4, 5), Socket(UDP, ANY6, 5)]
    listening = Tunnel(TunnelName("a"), "exec", None, listen=(Listen("tcp", LOCAL, 6), Listen("udp", LOCAL, 7, 2)))
    assert list(fixed_ports(listening)) == [Socket(TCP, LOCAL, 6)]
