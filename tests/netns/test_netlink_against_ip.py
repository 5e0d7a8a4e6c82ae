"""What our decoders say and what `ip -j` says of the same random host: the same."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.host import nl_route
from reconciler.host.nl_route import RouteRow
from reconciler.host.rtnl import Rtnl
from reconciler.model.found import Counters
from reconciler.model.prefix import AF_INET, AF_INET6, Prefix, ntop, parse_prefix
from tests.netns import world
from tests.netns.world import Host

EXAMPLES = 12
LINKS = ["t0", "t1", "v0"]
TYPES = ["unicast", "blackhole", "unreachable", "prohibit", "throw"]

networks4 = st.builds(
    lambda n, length: str(Prefix(n.to_bytes(4, "big"), length).network), st.integers(1 << 24, 0xDF << 24), st.integers(1, 32)
)
networks6 = st.builds(
    lambda n, length: str(Prefix((0x2001 << 112 | n << 48).to_bytes(16, "big"), length).network),
    st.integers(0, 1 << 60),
    st.integers(16, 128),
)
networks = st.one_of(networks4, networks6)
hosts = st.builds(lambda n: f"10.{n % 250}.{n // 250 % 250}.{n % 200 + 1}/{8 + n % 25}", st.integers(0, 100_000))
hosts6 = st.builds(lambda n: f"fd00::{n:x}/{16 + n % 113}", st.integers(1, 0xFFFF))


@st.composite
def links(draw: st.DrawFn) -> list[str]:
    words = []
    for name in LINKS:
        words.append(f"link set {name} mtu {draw(st.integers(1280, 9000))} group {draw(st.integers(0, 1 << 31))}")
        if draw(st.booleans()):
            words.append(f"link set {name} alias {draw(st.sampled_from(['a', 'tunctl:x:00000000', 'tunctl:X:0']))}")
        if draw(st.integers(0, 3)):
            words.append(f"link set {name} up")
    return words


@st.composite
def addresses(draw: st.DrawFn) -> str:
    address = draw(st.one_of(hosts, hosts6))
    extra = draw(st.sampled_from(["", " noprefixroute", " metric 9"]))
    return f"addr add {address} dev {draw(st.sampled_from(LINKS))}{extra}"


@st.composite
def routes(draw: st.DrawFn) -> str:
    kind = draw(st.sampled_from(TYPES))
    words = f"route add {kind} {draw(networks)} proto {draw(st.sampled_from([4, 115, 186]))}"
    if kind == "unicast":
        words += f" dev {draw(st.sampled_from(LINKS))}"
    if draw(st.booleans()):
        words += f" metric {draw(st.integers(1, 0xFFFFFFFF))}"
    if draw(st.booleans()):
        words += f" table {draw(st.sampled_from([77, 200, 255, 256, 20001, 0xFFFFFFF]))}"
    return words


@st.composite
def rules(draw: st.DrawFn) -> str:
    words = f"rule add priority {draw(st.integers(20000, 20999))} protocol {draw(st.sampled_from([4, 115]))}"
    words += f" from {draw(networks)}"
    if draw(st.booleans()):
        words += f" iif {draw(st.sampled_from(LINKS))}"
    if draw(st.booleans()):
        words += f" fwmark {draw(st.integers(1, 0xFFFF))}/{draw(st.integers(1, 0xFFFF))}"
    if draw(st.booleans()):
        first = draw(st.integers(0, 1 << 20))
        words += f" uidrange {first}-{first + draw(st.integers(0, 99))}"
    return f"{words} lookup {draw(st.sampled_from([254, 77, 20001]))}"


def set_up(host: Host, words: list[str]) -> None:
    host.ip("link add v0 type veth peer name v1")
    host.ip("tuntap add t0 mode tun user 65534")
    host.ip("tuntap add t1 mode tap group 7 multi_queue")
    host.ip("link set lo up")
    host.run(["ping", "-c", "3", "-i", "0.002", "-q", "127.0.0.1"])
    for family in ("-4", "-6"):
        lines = "\n".join(w for w in words if (family == "-6") == ("::" in w or w.startswith("link")))
        host.run(["ip", family, "-force", "-batch", "-"], stdin=lines, check=False)  # some contradict each other


@given(
    links(),
    st.lists(addresses(), max_size=8),
    st.lists(routes(), min_size=10, max_size=40),
    st.lists(rules(), min_size=2, max_size=10),
)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_same_as_ip(some_links: list[str], some: list[str], some_routes: list[str], some_rules: list[str]) -> None:
    with world.new_host("ip") as host:
        set_up(host, [*some_links, *some, *some_routes, *some_rules])
        with host.inside():
            rtnl = Rtnl()
            compare_links(host, rtnl)
            compare_addresses(host, rtnl)
            for family, flag in ((AF_INET, "-4"), (AF_INET6, "-6")):
                compare_routes(host, rtnl, family, flag)
                compare_rules(host, rtnl, family, flag)
            rtnl.close()


def compare_links(host: Host, rtnl: Rtnl) -> None:
    ours = {
        link.ifindex: (link.name, link.mtu, link.up, link.group, link.alias, link.type, link.uid, link.gid, link.multi_queue)
        for link in rtnl.links()
    }
    theirs = {}
    for entry in host.ip_json("-N -d link"):
        kind = entry.get("linkinfo", {}).get("info_kind", "")
        tun = entry.get("linkinfo", {}).get("info_data", {}) if kind == "tun" else {}
        theirs[entry["ifindex"]] = (
            entry["ifname"], entry["mtu"], "UP" in entry["flags"], int(entry["group"]), entry.get("ifalias", ""),
            tun.get("type", kind), _id(tun.get("user")), _id(tun.get("group")), bool(tun.get("multi_queue", False)),
        )  # fmt: skip
    assert ours == theirs
    assert [link.counters for link in rtnl.links()] == [None] * len(ours)
    (counters,) = [link.counters for link in rtnl.links(counted=True) if link.loopback]  # nobody else uses it
    assert counters == _counters(host.ip_json("-s link show lo")[0]["stats64"])
    assert counters.rx_packets == 6


def _counters(stats: dict[str, dict[str, int]]) -> Counters:
    rx, tx = stats["rx"], stats["tx"]
    return Counters(rx["bytes"], tx["bytes"], rx["packets"], tx["packets"])


def _id(name: str | int | None) -> int | None:
    return None if name is None else int(name) if str(name).isdigit() else {"nobody": 65534, "lp": 7}[str(name)]


def compare_addresses(host: Host, rtnl: Rtnl) -> None:
    ours = Counter((row.ifindex, ntop(row.packed), row.length) for row in rtnl.addresses())
    theirs = Counter(
        (entry["ifindex"], address["local"], address["prefixlen"])
        for entry in host.ip_json("addr")
        for address in entry["addr_info"]
        if address
    )
    assert ours == theirs


def compare_routes(host: Host, rtnl: Rtnl, family: int, flag: str) -> None:
    names = {link.ifindex: link.name for link in rtnl.links()}
    ours = Counter(_our_route(row, names) for row in rtnl.routes(family, nl_route.decode))
    theirs = Counter(_their_route(entry, family) for entry in host.ip_json(f"-N {flag} -d route show table all"))
    assert ours == theirs


def _our_route(row: RouteRow, names: dict[int, Any]) -> tuple[object, ...]:
    packed, length, table, metric, kind, ifindex, via, src, protocol = row
    return str(Prefix(packed, length)), table, metric, kind, names.get(ifindex), via and ntop(via), src and ntop(src), protocol


def _their_route(entry: dict[str, Any], family: int) -> tuple[object, ...]:
    to = {"default": "0.0.0.0/0" if family == AF_INET else "::/0"}.get(entry["dst"], entry["dst"])
    kind = nl_route.TYPES[int(entry["type"])] if str(entry["type"]).isdigit() else entry["type"]
    dev = None if kind in TYPES[1:] else entry.get("dev")
    table = {"main": 254, "local": 255, "default": 253}.get(str(entry.get("table", 254)), entry.get("table", 254))
    fields = (entry.get("metric", 0), kind, dev, entry.get("gateway"), entry.get("prefsrc"), int(entry["protocol"]))
    return str(parse_prefix(to)), int(table), *fields


def compare_rules(host: Host, rtnl: Rtnl, family: int, flag: str) -> None:
    ours = [
        (row.priority, str(row.from_ or "all"), row.table, row.iif, row.fwmark, row.uid_range, row.protocol)
        for row in rtnl.rules(family)
    ]
    theirs = []
    for entry in host.ip_json(f"-N {flag} -d rule"):
        mark = int(entry["fwmark"], 16) if "fwmark" in entry else None
        from_ = f"{entry['src']}/{entry.get('srclen', 32 if family == AF_INET else 128)}" if entry["src"] != "all" else "all"
        uids = (entry["uid_start"], entry["uid_end"]) if "uid_start" in entry else None
        fwmark = (mark, int(entry.get("fwmask", "0xffffffff"), 16)) if mark is not None else None
        table = {"main": 254, "local": 255, "default": 253}.get(entry["table"], entry["table"])
        theirs.append((entry["priority"], from_, int(table), entry.get("iif"), fwmark, uids, int(entry["protocol"])))
    assert ours == theirs
