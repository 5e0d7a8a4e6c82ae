"""Many links and addresses are made at once; each that cannot be says why, as if it had been made alone, and stops no other."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from reconciler.actuate import addresses, tuns
from reconciler.actuate import link as actuate
from reconciler.errors import Foreign, NotObserved, StepFailed, TunctlError
from reconciler.host.machine import Machine
from reconciler.host.netlink import KernelError
from reconciler.kinds.address import Address
from reconciler.kinds.link import Link
from reconciler.model.marks import Mark
from reconciler.model.names import IfName, TunnelName
from reconciler.model.plan import Step
from reconciler.model.prefix import pton
from reconciler.model.resource import Resource, Verb
from tests.netns.scenario import desired, links, settled, tun
from tests.netns.world import Host

MANY = 150

pytestmark = pytest.mark.xdist_group("many links")  # they hold up whoever makes one, in any network namespace


@pytest.fixture
def machine(host: Host, tmp_path: Path) -> Iterator[Machine]:
    with host.inside(), Machine(tmp_path) as machine:
        yield machine


def link(number: int, **fields: object) -> Link:
    name = TunnelName(f"t{number}")
    mark = Mark(name, "00ab", f"{number:04x}")
    wanted = Link(name, IfName(f"tun-t{number}"), "tun", 1400, up=True, alias=mark.alias, group=20000)
    return wanted._replace(**fields)  # type: ignore[arg-type]


def creation(wanted: Resource) -> Step:
    return Step(Verb.CREATE, wanted, None, wanted.tunnel or TunnelName(""))


def make(machine: Machine, *wanted: Link) -> dict[str, TunctlError | None]:
    return {str(step.resource.dev): error for step, error in tuns.perform(machine, [creation(one) for one in wanted])}


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_all_are_there_marked_and_stay(host: Host, machine: Machine) -> None:
    port, before = machine.rtnl.port, descriptors()
    wanted = [link(n) for n in range(MANY)] + [link(MANY, type="tap", mtu=None, uid=1000, gid=100, multi_queue=True)]
    assert set(make(machine, *wanted).values()) == {None}
    assert machine.rtnl.port == port
    assert descriptors() <= before
    found = {state.name: state for state in machine.rtnl.links() if not state.loopback}
    assert len(found) == MANY + 1
    for one in wanted:
        state = found[one.name]
        assert (state.type, state.up, state.alias, state.group, state.persist) == (one.type, True, one.alias, 20000, True)
        assert (state.uid, state.gid, state.multi_queue) == (one.uid, one.gid, one.multi_queue)
        assert state.mtu == (one.mtu or 1500)


def test_nobody_sees_more_than_one_without_its_mark(machine: Machine, tmp_path: Path) -> None:
    """`status` beside it would take them for somebody else's."""
    seen: list[int] = []
    done = threading.Event()

    def look() -> None:
        with Machine(tmp_path) as other:
            while not done.is_set():
                with suppress(NotObserved):  # it changed under each try
                    seen.append(sum(state.mark is None and not state.loopback for state in other.rtnl.links()))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        assert set(make(machine, *(link(n) for n in range(MANY))).values()) == {None}
    finally:
        done.set()
        looking.join(30)
    assert max(seen, default=0) <= 1


def test_an_address_of_a_tap_that_nobody_opened_is_there(host: Host) -> None:
    """Of IPv6, too: a route has it for its source."""
    host.write(
        "d.toml",
        """version = 1
[tunnels.tap]
driver = "tun"
interface = "tap-t"
addresses = ["fd00:7::1/64", "10.7.0.1/24"]
[tunnels.tap.tun]
mode = "tap"
[[tunnels.tap.routes]]
to = ["fd00:8::/32"]
src = "fd00:7::1"
""",
    )
    host.tunctl("apply", "d.toml")
    assert "fd00:8::/32" in host.ip("-6 route")
    assert "tentative" not in host.ip("-6 address show dev tap-t scope global")
    assert host.tunctl("apply", "d.toml").stdout.startswith("no changes")


def test_each_says_why_it_could_not_be_made(host: Host, machine: Machine) -> None:
    host.ip("tuntap add name tun-t1 mode tun")  # somebody's
    ours = link(3)
    make(machine, ours)  # there already
    told = make(machine, link(0), link(1), link(2, mtu=70_000), ours, link(4))
    assert isinstance(told["tun-t1"], Foreign)
    assert isinstance(told["tun-t2"], StepFailed)
    assert [told[f"tun-t{n}"] for n in (0, 3, 4)] == [None] * 3
    assert sorted(links(host)) == ["tun-t0", "tun-t1", "tun-t3", "tun-t4"]
    assert machine.rtnl.link(name="tun-t1").alias == ""  # type: ignore[union-attr]


def test_lost_answers_leave_nothing_that_may_be_unmarked(host: Host, machine: Machine) -> None:
    """Of which mark the kernel did not take is not known then: all vanish, and each is made once more by itself."""
    machine.rtnl._wire._receive_bytes = 1
    with pytest.raises(KernelError, match="messages were lost"):
        actuate.new_tuns(machine, [link(n, mtu=70_000 if n else 1400) for n in range(actuate.MOST_TUNS)])
    assert links(host) == []
    told = make(machine, *(link(n, mtu=70_000 if n % 2 else 1400) for n in range(actuate.MOST_TUNS)))
    assert [type(told[f"tun-t{n}"]) for n in range(actuate.MOST_TUNS)] == [type(None), StepFailed] * (actuate.MOST_TUNS // 2)
    assert len(links(host)) == actuate.MOST_TUNS // 2
    assert all(state.mark for state in machine.rtnl.links() if not state.loopback)


def test_with_few_descriptors_they_are_made_all_the_same(host: Host) -> None:
    host.write("d.toml", desired(*(tun(f"t{n}", addresses=(), routes=()) for n in range(40))))
    host.run(["prlimit", "--nofile=24", *host.tunctl_argv("apply", "d.toml")])
    assert len(links(host)) == 40


def test_addresses_are_set_and_each_says_why_not(host: Host, machine: Machine) -> None:
    make(machine, link(0), link(1))
    host.ip("address add 10.9.0.3/32 dev tun-t1")  # equal to one of ours, without our mark
    host.run(["sysctl", "-qw", "net.ipv6.conf.tun-t0.disable_ipv6=1"])

    def address(number: int, text: str, length: int) -> Address:
        return Address(TunnelName(f"t{number}"), IfName(f"tun-t{number}"), pton(text), length)

    wanted = [
        address(0, "10.9.0.2", 32), address(1, "10.9.0.3", 32), address(0, "fd00:9::2", 128), address(7, "10.9.0.4", 32),
        address(1, "10.9.0.5", 24),
    ]  # fmt: skip
    told = [error for _, error in addresses.perform(machine, [creation(one) for one in wanted])]
    assert [type(error) for error in told] == [type(None), Foreign, type(None), StepFailed, type(None)]
    found = {(row.packed, row.length): row.protocol for row in machine.rtnl.addresses()}
    assert [found.get((one.packed, one.length)) for one in wanted] == [115, None, 115, None, 115]


def test_killed_in_between_nothing_is_left_that_is_nobodys(host: Host) -> None:
    """At whatever instant: what is there is ours, and the next apply makes the rest of it."""
    before = settled(host)
    host.write("d.toml", desired(*(tun(f"t{n}", addresses=(f"10.9.{n}.2/32",), routes=()) for n in range(MANY))))
    halves = 0
    for attempt in range(40):
        process = host.start(host.tunctl_argv("apply", "d.toml"), log="apply.log")
        while process.poll() is None and len(links(host)) <= attempt * 17 % MANY:
            pass
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        ours = [one for one in host.ip_json("link") if one["ifname"] != "lo"]
        halves += 0 < len(ours) < MANY
        assert all(one.get("ifalias", "").startswith("tunctl:t") for one in ours), ours
        host.tunctl("apply", "d.toml")
        assert len(links(host)) == MANY
        host.tunctl("forget", "--all")
        assert settled(host) == before
        if halves >= 3:
            break
    assert halves, "never cut off half-way"
