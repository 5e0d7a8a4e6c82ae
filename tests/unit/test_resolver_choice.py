"""Who is told, by all that is known of a host; and what each tunnel's `dns` comes to, alone and beside others."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.errors import TunctlError
from reconciler.layout.lay import lay
from reconciler.layout.resolvers import choose, domains_of, resolvers
from reconciler.model.facts import Connected, Facts, Uplink
from reconciler.model.intent import Intent, Progress
from reconciler.model.marks import Mark, Numbers
from reconciler.model.names import IfName, TunnelName
from reconciler.model.nameservice import NameService, Resolvers
from reconciler.model.prefix import AF_INET, AF_INET6, parse_network, pton
from reconciler.model.tunnel import Dns, Tun, Tunnel

PLAIN = NameService()
RESOLVED = NameService("yes", "resolved", path="/run/systemd/resolve/stub-resolv.conf", form="symlink", writer="resolved")
OPENRESOLV = NameService(resolvconf="openresolv", writer="resolvconf")
DEBIAN = NameService(resolvconf="debian", writer="resolvconf", path="/run/resolvconf/resolv.conf", form="symlink", first="tun")
NM = NameService(writer="NetworkManager")
SILENT = RESOLVED._replace(resolved="no answer within 0.3 s")
OURS = NameService(writer="tunctl", is_ours=True)
A, B = TunnelName("a"), TunnelName("b")

CHOICES: list[tuple[str, NameService, str]] = [
    ("auto", PLAIN, "file"),
    ("auto", NM, "file"),
    ("auto", RESOLVED, "resolved"),
    ("auto", RESOLVED._replace(resolved="no"), "69 systemd-resolved does not run here"),
    ("auto", SILENT, "1 no answer within"),
    ("auto", PLAIN._replace(resolved="yes"), "file"),  # it runs, and nobody asks it
    ("auto", PLAIN._replace(resolved="yes", nss_resolve=True), "resolved"),
    ("auto", PLAIN._replace(nss_resolve=True), "file"),
    ("auto", OURS._replace(resolved="yes", nss_resolve=True), "file"),  # what is in force stays
    ("auto", OPENRESOLV, "resolvconf"),
    ("auto", DEBIAN, "resolvconf"),
    ("auto", OPENRESOLV._replace(writer=""), "file"),
    ("auto", OPENRESOLV._replace(writer="", records=frozenset((A,))), "resolvconf"),  # written over, not given up
    ("auto", NameService(writer="resolvconf"), "file"),  # it was removed, its last file stayed
    ("auto", OPENRESOLV._replace(resolvconf="unknown"), "69 no resolvconf here that could be told"),
    ("auto", NameService(writer="resolvconf", resolvconf="resolved", resolved="yes"), "resolved"),
    ("auto", OURS, "file"),
    ("auto", OURS._replace(is_ours=False), "73 was written by tunctl with another store"),
    ("resolved", PLAIN, "69 does not run"),
    ("resolved", PLAIN._replace(resolved="yes"), "resolved"),
    ("resolvconf", PLAIN, "69 no resolvconf"),
    ("resolvconf", DEBIAN, "resolvconf"),
    ("resolvconf", RESOLVED, "resolved"),
    ("file", RESOLVED, "69 is kept by resolved"),
    ("file", DEBIAN, "69 is kept by resolvconf"),
    ("file", OPENRESOLV, "file"),
    ("file", RESOLVED._replace(path="/etc/resolv.conf"), "file"),
]


@pytest.mark.parametrize(("backend", "service", "chosen"), CHOICES, ids=range(len(CHOICES)))
def test_choice(backend: str, service: NameService, chosen: str) -> None:
    code, _, words = chosen.partition(" ")
    if not words:
        assert choose(backend, service) == chosen
        return
    with pytest.raises(TunctlError, match=words) as caught:
        choose(backend, service)
    assert caught.value.exit_code == int(code)


@pytest.mark.parametrize(
    ("dns", "full", "domains"),
    [
        (Dns(search=("a.example",)), False, ("a.example",)),
        (Dns(search=("a.example",)), True, (".",)),
        (Dns(domains=("B.Example.", "b.example")), True, ("b.example",)),
        (Dns(domains=("b.example", ".")), False, (".",)),
    ],
)
def test_domains(dns: Dns, full: bool, domains: tuple[str, ...]) -> None:
    assert domains_of(dns, is_full=full) == domains


def of(
    *tunnels: tuple[str, dict[str, Any]],
    service: NameService | None = RESOLVED,
    kept: tuple[Connected, ...] = (),
    linked: tuple[str, ...] = ("a", "b"),
    routes: str = "10.0.0.0/8",
    others: str = "",
    worked: bool = False,
    **fields: Any,
) -> Resolvers:
    """`routes` of the first tunnel, `others` of all others; `fields` of the facts."""
    lays = []
    for slot, (name, words) in enumerate(tunnels, 1):
        dns = Dns(**{"servers": (pton("10.0.0.53"),), **words})
        made = Tunnel(TunnelName(name), "tun", IfName(f"tun-{name}"), tun=Tun(), dns=dns)
        intent = Intent(made, Mark(made.name, "0000", f"000{slot}"), slot, "s", 1, progress=Progress(worked=worked))
        to = routes if slot == 1 or not others else others
        lays.append(lay(intent, IfName(f"tun-{name}"), [parse_network(to)], kept, Numbers()))
    uplink = Uplink(AF_INET, IfName("eth0"), pton("192.0.2.1"), 0)
    known = {"uplinks": (uplink,), "name_service": service, "linked": frozenset(map(TunnelName, linked)), **fields}
    facts = Facts(**known)
    return resolvers(lays, facts, kept)


ALL = {"domains": (".",)}
SPLIT = {"search": ("corp.example",), "domains": ("corp.example", "lab.example")}


@pytest.mark.parametrize(
    ("tunnels", "service", "told"),
    [
        ([("a", SPLIT)], RESOLVED, ["resolver resolved dev tun-a dns 10.0.0.53 domain corp.example ~lab.example"]),
        ([("a", ALL)], RESOLVED, ["resolver resolved dev tun-a dns 10.0.0.53 domain ~."]),
        ([("a", ALL)], PLAIN, ["resolver /etc/resolv.conf for a dns 10.0.0.53 domain ~."]),
        ([("a", ALL)], DEBIAN, ["resolver resolvconf dev tun-a dns 10.0.0.53 domain ~."]),
        ([("a", ALL), ("b", ALL)], PLAIN, ["resolver /etc/resolv.conf for a dns 10.0.0.53 domain ~."]),
        ([("a", ALL), ("b", {**ALL, "priority": 9})], PLAIN, ["resolver /etc/resolv.conf for b dns 10.0.0.53 domain ~."]),
        ([("a", ALL), ("b", {**ALL, "priority": 9})], RESOLVED, ["resolver resolved dev tun-b dns 10.0.0.53 domain ~."]),
        ([("a", SPLIT), ("b", ALL)], RESOLVED, [
            "resolver resolved dev tun-a dns 10.0.0.53 domain corp.example ~lab.example",
            "resolver resolved dev tun-b dns 10.0.0.53 domain ~.",
        ]),
    ],
)  # fmt: skip
def test_told(tunnels: list[tuple[str, dict[str, Any]]], service: NameService, told: list[str]) -> None:
    assert list(map(str, of(*tunnels, service=service).resources)) == told


def test_the_loser_of_everything_is_told_so() -> None:
    seen = of(("a", {**ALL, "search": ("corp.example",)}), ("b", {**ALL, "priority": 9}))
    assert seen.reasons == ((A, "dns owned by b"),)
    assert [(r.owner, r.search, r.domains, r.default_route) for r in seen.resources] == [
        (A, ("corp.example",), (), False),
        (B, (), (".",), True),
    ]


def test_split_is_refused_where_it_cannot_be() -> None:
    for service in (PLAIN, OPENRESOLV, DEBIAN):
        seen = of(("a", SPLIT), service=service)
        ((name, error),) = seen.refused
        assert (name, error.exit_code, seen.resources) == (A, 69, ())
        assert "only systemd-resolved can send corp.example, lab.example alone" in error.message


def test_nothing_is_said_of_what_could_not_be_seen() -> None:
    assert of(("a", ALL), service=SILENT) == Resolvers()
    assert of(("a", ALL), service=None) == Resolvers()


def test_a_server_inside_a_network_that_stays_local() -> None:
    kept = (Connected(parse_network("10.0.0.0/24"), IfName("eth0")),)
    seen = of(("a", ALL), kept=kept)
    assert seen.resources == ()
    assert seen.reasons == ((A, "UNREACHABLE: 10.0.0.53 is inside local LAN 10.0.0.0/24"),)
    two = of(("a", {**ALL, "servers": (pton("10.0.0.53"), pton("10.9.0.53"))}), kept=kept)
    assert [r.servers for r in two.resources] == [(pton("10.9.0.53"),)]
    assert two.reasons == seen.reasons


def test_a_server_that_the_tunnel_does_not_carry_packets_to() -> None:
    assert of(("a", ALL), routes="10.0.0.0/8").warnings == ()
    assert of(("a", ALL), routes="10.1.0.0/16").warnings == (
        "a: name server 10.0.0.53 is not in the tunnel, it is reached by the uplink",
    )
    seen = of(("a", ALL), ("b", {**ALL, "servers": (pton("192.0.2.1"),)}), routes="10.1.0.0/16", others="10.0.0.0/8")
    assert seen.warnings[0] == "a: name server 10.0.0.53 is not in the tunnel, it is reached by tunnel b"


def test_a_server_that_no_route_reaches_is_not_told() -> None:
    """IPv6 has an uplink, and that is no help."""
    ipv6_only = {"routes": "10.1.0.0/16", "uplinks": (Uplink(AF_INET6, IfName("eth0"), None, 0),)}
    seen = of(("a", ALL), **ipv6_only)
    assert seen.resources == ()
    assert seen.reasons == ((A, "UNREACHABLE: 10.0.0.53 is reached by no route"),)
    assert len(of(("a", ALL), **ipv6_only, reached=frozenset((pton("10.0.0.53"),))).resources) == 1
    worked = of(("a", ALL), **ipv6_only, worked=True)
    assert len(worked.resources) == 1
    assert worked.warnings == ("a: name server 10.0.0.53 is not in the tunnel, it is reached by no route",)


@pytest.mark.parametrize("service", [OURS, OPENRESOLV._replace(records=frozenset((A,)))], ids=["file", "resolvconf"])
def test_servers_of_a_tunnel_that_is_gone_are_taken_back_first(service: NameService) -> None:
    assert of(("a", ALL), service=service, linked=()).resources == ()
    assert len(of(("a", ALL), service=service, linked=("a",)).resources) == 1


def test_a_better_one_that_is_not_up_yet_waits() -> None:
    seen = of(("a", ALL), ("b", {**ALL, "priority": 9}), service=OURS, linked=("a",))
    assert [r.owner for r in seen.resources] == [A]


def test_a_record_is_sorted_before_those_of_uplinks() -> None:
    assert [r.record for r in of(("a", ALL), service=DEBIAN).resources] == ["tun-a.tunctl.00000001"]
    assert [r.record for r in of(("a", ALL), service=DEBIAN._replace(first="vpn")).resources] == ["vpn.tun-a.tunctl.00000001"]
