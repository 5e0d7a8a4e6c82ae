"""Somebody else drops what is forwarded: Docker, ufw, a firewall of the user. Our accepts stand where they count."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from reconciler.actuate import forward as actuate
from reconciler.host.machine import Machine
from reconciler.kinds.forward import Accept
from reconciler.model.marks import Numbers
from reconciler.model.names import IfName, TunnelName
from reconciler.model.prefix import parse_prefix
from reconciler.observe import forward as observe
from reconciler.observe.question import Question
from tests.netns import site as sites
from tests.netns.scenario import reasons
from tests.netns.site import HOST4, HOST6, LAN4, LAN6, SERVER4, SERVER6, Site, nat, nat_tunnel
from tests.netns.world import Host

QUESTION = Question((), "", Numbers())
DOCKER = ("-N DOCKER-USER", "-A DOCKER-USER -j RETURN", "-A FORWARD -j DOCKER-USER", "-P FORWARD DROP")
UFW = ("-N ufw-before-forward", "-A FORWARD -j ufw-before-forward", "-P FORWARD DROP")
REJECTING = ("-A FORWARD -m conntrack --ctstate INVALID -j DROP", "-A FORWARD -j REJECT")
NATIVE = (
    "table inet mine { chain f { type filter hook forward priority 0; policy drop; ct state invalid drop; }; }",
    "table ip mine { chain f { type filter hook forward priority 10; iifname lo accept; counter drop; }; }",
    "table inet firewalld { chain fw { type filter hook forward priority 10; reject with icmpx host-unreachable; }; }",
)
KEEPERS = [("iptables-nft", DOCKER), ("iptables-legacy", DOCKER), ("iptables-nft", UFW), ("iptables-legacy", UFW)]
KEEPERS += [("iptables-nft", REJECTING), ("iptables-legacy", REJECTING)]


@pytest.fixture
def site(hosts: Callable[[str], Host]) -> Site:
    return sites.build(hosts)


def wall(host: Host, keeper: str, words: tuple[str, ...]) -> None:
    for program in (keeper, keeper.replace("ip", "ip6", 1)):
        for line in words:
            host.run([program, "-w", *line.split()])


def chains(host: Host) -> str:
    """All of them, legacy ones too, without counters; a legacy table that nobody made is not made by asking."""
    texts = [host.run(["nft", "-s", "list", "ruleset"]).stdout]
    for program in ("iptables-legacy", "ip6tables-legacy"):
        names = host.run(
            ["cat", f"/proc/net/{program.partition('-')[0].replace('tables', '_tables')}_names"], check=False
        ).stdout
        texts.append(names)
        texts += [host.run([program, "-S"]).stdout] if "filter" in names else []
    return "\n".join(line.partition("counter packets")[0] for text in texts for line in text.splitlines())


@pytest.mark.parametrize("answers", [False, True])
@pytest.mark.parametrize("source", ["10.70.0.0/24", "10.70.0.0/23", "10.0.0.0/8", "10.1.2.3", "0.0.0.0/0"])
@pytest.mark.parametrize("keeper", ["iptables-nft", "iptables-legacy", "nft"])
def test_absent_present_twice_deleted(host: Host, keeper: str, source: str, *, answers: bool) -> None:
    place = ("ip", "filter", "FORWARD") if keeper != "nft" else ("inet", "mine", "f")
    wanted = Accept(TunnelName("demo"), keeper, *place, parse_prefix(source), IfName("tun-demo"), answers)
    check_kind(host, keeper, wanted)


@pytest.mark.parametrize("answers", [False, True])
@pytest.mark.parametrize("source", ["fd70::/64", "fd70::/61", "fd70::7", "::/0"])
@pytest.mark.parametrize("keeper", ["iptables-nft", "iptables-legacy", "nft"])
def test_the_same_in_ipv6(host: Host, keeper: str, source: str, *, answers: bool) -> None:
    place = ("ip6", "filter", "FORWARD") if keeper != "nft" else ("inet", "mine", "f")
    wanted = Accept(TunnelName("demo"), keeper, *place, parse_prefix(source), IfName("tun-demo"), answers)
    check_kind(host, keeper, wanted)


def check_kind(host: Host, keeper: str, wanted: Accept) -> None:
    if keeper == "nft":
        host.run(["nft", NATIVE[0]])
    else:
        wall(host, keeper, UFW)
        family = "iptables" if wanted.family == "ip" else "ip6tables"
        host.run([keeper.replace("iptables", family), "-A", "FORWARD", "-m", "comment", "--comment", "mine", "-j", "ACCEPT"])
    before = chains(host)

    def work() -> None:
        with Machine(host.run_dir) as machine:
            assert observe.look(machine, QUESTION).accepts == ()
            for _ in range(2):
                actuate.create(machine, wanted)
                assert observe.look(machine, QUESTION).accepts == (wanted,)
            for _ in range(2):
                actuate.delete(machine, wanted)
                assert observe.look(machine, QUESTION).accepts == ()

    host.in_netns(work)
    assert chains(host) == before


@pytest.mark.parametrize(("keeper", "words"), KEEPERS)
def test_iptables_that_drop(site: Site, keeper: str, words: tuple[str, ...]) -> None:
    """F65: the front end that keeps the table puts it there, the plan says so first, and takes it out again."""
    wall(site.cl, keeper, words)
    before, switches = chains(site.cl), site.cl.snapshot().rpartition("\n\n")[2]
    file = site.file(nat_tunnel("demo", nat(LAN4), nat(LAN6)))
    chain = "DOCKER-USER" if words is DOCKER else "FORWARD"
    planned = site.cl.tunctl("plan", file, expect=2).stdout
    assert f"+ forward accept from {LAN4} oif cl0 in ip filter {chain} ({keeper})" in planned
    assert chains(site.cl) == before
    site.cl.tunctl("apply", file)
    assert (site.seen_as(SERVER4), site.seen_as(SERVER6)) == (HOST4, HOST6)
    assert site.cl.tunctl("reconcile").stdout.strip() == "no changes"
    listed = site.cl.run([keeper, "-S", chain]).stdout
    assert listed.count("--comment tunctl:demo") + listed.count('--comment "tunctl:demo"') == 2
    for _ in range(2):
        site.cl.run([keeper, "-D", chain, "1"])
    assert "missing" in reasons(site.cl, expect=3)
    site.cl.tunctl("reconcile")
    assert site.seen_as() == HOST4
    site.cl.tunctl("down", "demo")
    assert site.cl.snapshot().rpartition("\n\n")[2] == switches
    assert "tunctl" not in chains(site.cl)


@pytest.mark.parametrize("words", NATIVE)
def test_a_firewall_that_drops(site: Site, words: str) -> None:
    site.cl.run(["nft", words])
    before = chains(site.cl)
    file = site.file(nat_tunnel("one"), nat_tunnel("two", address="10.9.0.3/32"))
    site.cl.tunctl("apply", file)
    assert site.seen_as() == HOST4
    site.cl.tunctl("down", "one")
    assert site.seen_as() == HOST4
    assert "tunctl:one" not in chains(site.cl)
    site.cl.tunctl("down", "two")
    assert chains(site.cl) == before


def test_what_no_longer_drops_needs_none(site: Site) -> None:
    wall(site.cl, "iptables-nft", UFW)
    site.cl.tunctl("apply", site.file(nat_tunnel()))
    site.cl.run(["iptables-nft", "-P", "FORWARD", "ACCEPT"])
    done = site.cl.tunctl("reconcile").stdout
    assert done.count("- forward accept") == 2
    assert site.seen_as() == HOST4


def test_without_the_program(site: Site) -> None:
    wall(site.cl, "iptables-legacy", DOCKER)
    programs = site.cl.dir / "bin"
    programs.mkdir()
    bare = ["env", f"PATH={programs}"]
    site.cl.run([*bare, *site.cl.tunctl_argv("apply", site.file(nat_tunnel()))])
    said = site.cl.run([*bare, *site.cl.tunctl_argv("status")], check=False).stdout
    assert "forwarding blocked by ip filter FORWARD policy drop, and iptables-legacy is not installed" in said
    assert "tunctl" not in site.cl.run(["iptables-legacy", "-S"]).stdout
    assert not site.pings()


def test_a_look_makes_no_legacy_table(site: Site) -> None:
    site.cl.tunctl("apply", site.file(nat_tunnel()))
    assert site.cl.run(["cat", "/proc/net/ip_tables_names"], check=False).stdout == ""
