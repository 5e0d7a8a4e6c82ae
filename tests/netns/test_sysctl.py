"""Kernel switches: turned on where packets come in, counted, and given back exactly as they were."""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Callable

import pytest

from reconciler.actuate import sysctl as actuate
from reconciler.host import sysctl
from reconciler.host.machine import Machine
from reconciler.kinds.sysctl import Sysctl
from reconciler.loop import commands
from reconciler.loop.commands import Session
from reconciler.loop.reconcile import Watcher
from reconciler.model.found import Found
from reconciler.model.names import IfName, TunnelName
from reconciler.model.order import ApplyOptions
from reconciler.observe import sysctl as observe
from reconciler.store.book import Book
from reconciler.store.write import Store
from tests.netns import site as sites
from tests.netns.scenario import reasons
from tests.netns.site import HOST4, HOST6, LAN4, LAN6, SERVER4, SERVER6, Site, nat, nat_tunnel
from tests.netns.world import Host, wait_until

NAME = "net.ipv4.conf.lo.forwarding"
PATH = "net/ipv4/conf/lo/forwarding"
A, B = TunnelName("a"), TunnelName("b")


@pytest.fixture
def site(hosts: Callable[[str], Host]) -> Site:
    return sites.build(hosts)


def test_absent_present_twice_changed_deleted(host: Host) -> None:
    """Two tunnels want the same: the last one gives it back."""
    one, two = Sysctl(A, NAME, "1", IfName("lo")), Sysctl(B, NAME, "1", IfName("lo"))

    def work() -> None:
        with Machine(host.run_dir) as machine, Store(host.state_dir) as store:
            machine.ledger = Book(store)
            assert observe.look(machine) == []
            for wanted in (one, one, two):
                actuate.create(machine, wanted)
            assert [(s.tunnel, s.name, s.value) for s in observe.look(machine)] == [(A, NAME, "1"), (B, NAME, "1")]
            host.sysctl(PATH, 0)
            (found, _) = observe.look(machine)
            assert one.differs_from(found) == ("value",)
            actuate.change(machine, one, found, ("value",))
            actuate.delete(machine, found)
            actuate.delete(machine, found)
            assert host.sysctl(PATH) == "1"
            actuate.delete(machine, two)
            assert (host.sysctl(PATH), machine.ledger.entries(), machine.notes) == ("0", (), [])

    host.in_netns(work)


def test_what_was_so_before_is_not_ours(host: Host) -> None:
    wanted = Sysctl(A, NAME, "1", IfName("lo"))
    host.sysctl(PATH, 1)

    def work() -> None:
        with Machine(host.run_dir) as machine, Store(host.state_dir) as store:
            machine.ledger = Book(store)
            assert observe.settled(machine, [wanted], Found((), {}, {})) == [wanted]
            actuate.create(machine, wanted)
            assert machine.ledger.entries() == ()

    host.in_netns(work)


@pytest.mark.parametrize(("now", "after", "noted"), [("1", "0", False), ("0", "0", False), ("2", "2", True)])
def test_only_what_is_still_ours_is_given_back(host: Host, now: str, after: str, *, noted: bool) -> None:
    name, path = "net.ipv4.conf.lo.rp_filter", "net/ipv4/conf/lo/rp_filter"
    host.sysctl(path, 0)

    def work() -> None:
        with Machine(host.run_dir) as machine, Store(host.state_dir) as store:
            machine.ledger = Book(store)
            actuate.create(machine, Sysctl(A, name, "1", IfName("lo")))
            host.sysctl(path, now)
            actuate.delete(machine, Sysctl(A, name, now))
            assert (host.sysctl(path), machine.ledger.entries()) == (after, ())
            assert bool(machine.notes) is noted

    host.in_netns(work)


def test_an_interface_with_a_dot(host: Host) -> None:
    host.ip("link add v.7 type veth peer name w.7")
    wanted = Sysctl(A, "net.ipv4.conf.v/7.forwarding", "1", IfName("v.7"))

    def work() -> None:
        with Machine(host.run_dir) as machine, Store(host.state_dir) as store:
            machine.ledger = Book(store)
            actuate.create(machine, wanted)
            assert host.sysctl("net/ipv4/conf/v.7/forwarding") == "1"
            host.ip("link del v.7")
            assert [s.value for s in observe.look(machine)] == [None]
            actuate.delete(machine, observe.look(machine)[0])
            assert machine.ledger.entries() == ()

    host.in_netns(work)


# The whole


def test_forwarding_is_given_back_by_the_last(site: Site, hosts: Callable[[str], Host]) -> None:
    """S58."""
    sites.behind(site, hosts("second"), "lan1", "10.71.0", "fd71:")
    before = site.cl.snapshot()
    both = nat("10.70.0.0/24"), nat("fd70::/64")
    site.cl.tunctl("apply", site.file(nat_tunnel("one", *both), nat_tunnel("two", *both, address="10.9.0.3/32")))
    assert (site.seen_as(SERVER4), site.seen_as(SERVER6)) == (HOST4, HOST6)
    site.cl.tunctl("down", "one")
    assert (site.seen_as(SERVER4), site.seen_as(SERVER6)) == (HOST4, HOST6)
    assert site.cl.sysctl("net/ipv4/conf/lan1/forwarding") == "0"
    site.cl.tunctl("down", "two")
    assert site.cl.snapshot() == before


def test_forwarding_that_was_on_stays_on(site: Site) -> None:
    site.cl.sysctl("net/ipv4/ip_forward", 1)
    before = site.cl.snapshot()
    site.cl.tunctl("apply", site.file(nat_tunnel()))
    assert site.cl.json("show", "demo")["ledger"] == []
    site.cl.tunctl("down", "demo")
    assert site.cl.snapshot() == before


def test_somebody_else_changes_it(site: Site) -> None:
    """F59: put back while we want it; the original stays what it was."""
    site.cl.tunctl("apply", site.file(nat_tunnel()))
    site.cl.sysctl("net/ipv4/ip_forward", 0)
    site.cl.sysctl("net/ipv4/conf/lan0/forwarding", 0)
    assert "sysctl net.ipv4.conf.lan0.forwarding=0 instead of sysctl" in reasons(site.cl, expect=3)
    site.cl.tunctl("reconcile")
    assert site.seen_as() == HOST4
    ledger = site.cl.json("show", "demo")["ledger"]
    assert {(e["key"], e["previous"]) for e in ledger} == {
        ("sysctl:net.ipv4.conf.cl0.forwarding", "0"),
        ("sysctl:net.ipv4.conf.lan0.forwarding", "0"),
    }
    site.cl.tunctl("down", "demo")
    assert site.cl.sysctl("net/ipv4/conf/lan0/forwarding") == "0"


def test_a_source_from_nobody_knows_where_needs_the_global_switch(site: Site) -> None:
    """It overwrites every interface's: each is given back as it was, those that were on, those that came meanwhile."""
    cl = site.cl
    cl.sysctl("net/ipv4/conf/lo/forwarding", 1)
    before = cl.snapshot()
    file = site.file(nat_tunnel("demo", nat("10.80.0.0/24")), nat_tunnel("near", address="10.9.0.3/32"))
    site.lan.ip("addr add 10.80.0.2/32 dev lo")
    cl.ip("route add 10.80.0.0/24 via 10.70.0.2")
    cl.tunctl("apply", file)
    assert cl.sysctl("net/ipv4/ip_forward") == "1"
    assert site.lan.run(["ping", "-c1", "-W1", "-I", "10.80.0.2", SERVER4], check=False).returncode == 0
    assert cl.tunctl("reconcile").stdout.strip() == "no changes"
    cl.ip("link add late type veth peer name later")
    cl.tunctl("reconcile")
    cl.tunctl("down", "demo")
    assert (cl.sysctl("net/ipv4/ip_forward"), cl.sysctl("net/ipv4/conf/late/forwarding")) == ("0", "0")
    assert site.seen_as() == HOST4  # the other tunnel's switches are on
    cl.tunctl("down", "near")
    cl.ip("link del late")
    cl.ip("route del 10.80.0.0/24")
    assert cl.snapshot() == before


def advertise(host: Host, dev: str) -> None:
    """One router advertisement (RFC 4861): a default route for half an hour."""
    with host.inside(), socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sending:
        sending.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, dev.encode())
        sending.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        sending.sendto(struct.pack(">BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0), (f"ff02::1%{dev}", 0))


def timeless(host: Host) -> str:
    """A snapshot without how long a route still lives."""
    return re.sub(r"expires \d+sec", "", host.snapshot())


def test_a_kernel_that_forwards_ipv6_globally_only(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 6.17: a router does not listen to router advertisements; its default route stays all the same."""
    cl = site.cl
    monkeypatch.setattr(observe, "_PER_INTERFACE6", "net.ipv6.conf.default.no_such_switch")
    cl.sysctl("net/ipv6/conf/lo/forwarding", 1)  # before: this alone makes the kernel forget routers
    site.gw.sysctl("net/ipv6/conf/all/forwarding", 1)  # it says so itself when asked: who is no router is none
    cl.ip("-6 route del default")
    advertise(site.gw, "gw0")
    wait_until(lambda: "proto ra" in cl.ip("-6 route show default"), 30, "the router was heard")
    before = timeless(cl)
    session = Session(cl.state_dir, cl.run_dir)
    file = str(site.file(nat_tunnel("demo", nat(LAN6), nat(LAN4))))

    def run(function: Callable[[], commands.Done]) -> None:
        assert cl.in_netns(function).result.errors == ()

    run(lambda: commands.apply(session, file, ApplyOptions(), Watcher()))
    assert "proto ra" in cl.ip("-6 route show default")
    assert (site.seen_as(SERVER4), site.seen_as(SERVER6)) == (HOST4, HOST6)
    assert cl.sysctl("net/ipv6/conf/cl0/accept_ra") == "2"
    run(lambda: commands.reconcile_all(session, Watcher()))
    run(lambda: commands.down(session, ["demo"], Watcher()))
    assert timeless(cl) == before


class Interrupted(BaseException):
    """As SIGKILL."""


@pytest.mark.parametrize("at", range(1, 9))
def test_killed_while_the_global_switch_is_given_back(site: Site, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """At any of its writes: the next run ends what this one began."""
    cl = site.cl
    cl.sysctl("net/ipv4/conf/lo/forwarding", 1)
    before = cl.snapshot()
    site.cl.tunctl("apply", site.file(nat_tunnel("demo", nat("10.80.0.0/24"))))
    calls = 0

    def before_each(function: Callable[..., None]) -> Callable[..., None]:
        def wrapped(*args: object) -> None:
            nonlocal calls
            calls += 1
            if calls == at:
                raise Interrupted
            function(*args)

        return wrapped

    for place, name in ((sysctl, "write"), (Book, "put"), (Book, "remove")):
        monkeypatch.setattr(place, name, before_each(getattr(place, name)))
    session = Session(cl.state_dir, cl.run_dir)
    with pytest.raises(Interrupted):
        cl.in_netns(lambda: commands.down(session, ["demo"], Watcher()))
    monkeypatch.undo()
    cl.tunctl("down", "demo")
    assert cl.snapshot() == before
    assert cl.json("show", "demo")["ledger"] == []
