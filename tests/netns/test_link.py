"""Links on the real kernel: absent, present, twice, changed, deleted, foreign in the way."""

from __future__ import annotations

import fcntl
import os
import re
import resource
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.actuate import link as actuate
from reconciler.errors import Foreign, LookAgain, StepFailed, Unavailable
from reconciler.host import tun
from reconciler.host.machine import Machine
from reconciler.kinds.link import Link
from reconciler.model.found import LinkState
from reconciler.model.intent import Intent
from reconciler.model.marks import Mark, Numbers
from reconciler.model.names import HOST, IfName, TunnelName
from reconciler.model.tunnel import Tunnel
from reconciler.observe import link as observe
from reconciler.observe.question import Question
from tests.netns.world import Host, wait_until

NAME = TunnelName("office")
MARK = Mark(NAME, "00ab", "12cd")
INTENT = Intent(Tunnel(NAME, "tun", IfName("tun-office")), MARK, 1, "test", 1)
QUESTION = Question((INTENT,), "00ab", Numbers())
WANTED = Link(NAME, IfName("tun-office"), "tun", 1400, up=True, alias=MARK.alias, group=20000)


@pytest.fixture
def machine(host: Host, tmp_path: Path) -> Iterator[Machine]:
    with host.inside(), Machine(tmp_path) as machine:
        yield machine


def ours(machine: Machine, question: Question = QUESTION) -> list[Link]:
    return [link for link in observe.look(machine, question)[1] if link.tunnel]


def found(machine: Machine) -> Link:
    (link,) = ours(machine)
    return link


def settled(host: Host) -> str:
    """What a host is like, but for what follows the carrier of a TUN up to a second late."""
    return re.sub(r" linkdown\b|,?\b(NO-CARRIER|LOWER_UP)\b", "", host.snapshot())


def state_of(machine: Machine, name: str) -> LinkState:
    return observe.look(machine, QUESTION)[0][IfName(name)]


def attach(name: str, flags: int = 0x1001) -> int:
    descriptor = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(descriptor, 0x400454CA, struct.pack("16sH22x", name.encode(), flags))
    return descriptor


def test_an_empty_host_has_only_lo(machine: Machine) -> None:
    states, links = observe.look(machine, QUESTION)
    assert list(states) == ["lo"]
    assert states[IfName("lo")].loopback
    assert [(link.tunnel, link.name) for link in links] == [(None, "lo")]


@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param(WANTED, id="tun"),
        pytest.param(WANTED._replace(type="tap", mtu=None), id="tap"),
        pytest.param(WANTED._replace(uid=65534), id="user"),
        pytest.param(WANTED._replace(uid=1 << 31, gid=(1 << 32) - 2), id="large numbers"),
        pytest.param(WANTED._replace(gid=12345), id="group"),
        pytest.param(WANTED._replace(uid=1000, gid=100, multi_queue=True), id="everything"),
        pytest.param(WANTED._replace(up=False), id="down"),
    ],
)
def test_create_then_nothing_differs(machine: Machine, wanted: Link) -> None:
    actuate.create(machine, wanted)
    link = found(machine)
    assert wanted.differs_from(link) == ()
    assert link == wanted._replace(mtu=wanted.mtu or 1500, ifindex=link.ifindex, carrier=False)
    assert state_of(machine, wanted.name).persist


def test_create_twice_is_one(machine: Machine) -> None:
    actuate.create(machine, WANTED)
    first = found(machine)
    actuate.create(machine, WANTED)
    assert found(machine) == first


def test_create_completes_our_own_half(machine: Machine, host: Host) -> None:
    actuate.create(machine, WANTED)
    host.ip("link set tun-office down mtu 1280 group 7")
    actuate.create(machine, WANTED)
    assert WANTED.differs_from(found(machine)) == ()


def test_create_refuses_ours_of_another_shape(machine: Machine) -> None:
    actuate.create(machine, WANTED)
    with pytest.raises(StepFailed, match="another user"):
        actuate.create(machine, WANTED._replace(uid=5))


def test_foreign_link_of_that_name_is_left_alone(machine: Machine, host: Host) -> None:
    host.ip("link add tun-office type veth peer name other")
    before = host.snapshot()
    with pytest.raises(Foreign, match=r"not ours is there \(type veth\)"):
        actuate.create(machine, WANTED)
    assert host.snapshot() == before
    assert ours(machine) == []


def test_foreign_tun_that_a_process_holds_is_named(host: Host) -> None:
    holder = host.start(["socat", "TUN,tun-name=tun-office,tun-type=tun,iff-no-pi", "PIPE"])
    wait_until(lambda: host.ip("link show dev tun-office", check=False), what="socat has made it")
    said = attempt(host)
    assert said.startswith("Foreign: link tun-office type tun mtu 1400 up: a link of this name that is not ours is there")
    assert f"(type tun, held by process {holder.pid})" in said


@pytest.mark.parametrize("off", [(), ("ipv4",), ("ipv6",), ("ipv4", "ipv6")], ids=["both", "v6", "v4", "none"])
def test_whether_routes_without_carrier_count_is_seen(machine: Machine, off: tuple[str, ...]) -> None:
    """The kernel tells its switches by number: they must be those that have this name in /proc."""
    actuate.create(machine, WANTED._replace(dies_openly=True))
    assert found(machine).dies_openly
    for family in off:
        Path(f"/proc/sys/net/{family}/conf/tun-office/ignore_routes_with_linkdown").write_text("0")
    assert found(machine).dies_openly == (not off)


def test_a_family_that_the_link_does_not_have_has_no_say(machine: Machine, host: Host) -> None:
    actuate.create(machine, WANTED._replace(dies_openly=True))
    host.ip("link set tun-office mtu 1000")  # below 1280 there is no IPv6
    assert not Path("/proc/sys/net/ipv6/conf/tun-office").exists()
    assert found(machine).dies_openly
    actuate.create(machine, WANTED._replace(mtu=1000, dies_openly=True))


def test_a_switch_that_cannot_be_written(machine: Machine) -> None:
    """Though nothing is promised, nobody is told that it is on, or that it cannot be."""
    actuate.create(machine, WANTED)
    wanted, link = WANTED._replace(mtu=1300, dies_openly=None), found(machine)
    _, most = limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, most))
    try:
        with pytest.raises(StepFailed, match="ignore_routes_with_linkdown: Too many open files"):
            actuate.change(machine, wanted, link, ("mtu",))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    actuate.change(machine, wanted, found(machine), ("mtu",))
    assert found(machine).dies_openly


def test_switches_that_a_container_may_not_write(host: Host, machine: Machine) -> None:
    script = 'mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys && exec "$@"'
    prefix = ("unshare", "-m", "sh", "-c", script, "sh")
    said = attempt(host, *prefix, kind="promised")
    assert said.startswith("StepFailed: ")
    assert "ignore_routes_with_linkdown: Read-only file system" in said
    assert ours(machine) == []
    assert attempt(host, *prefix, kind="possible") == ""
    assert not found(machine).dies_openly


def attempt(host: Host, *prefix: str, kind: str = "link") -> str:
    """Creates one thing of a kind in a process of its own; what it says."""
    (host.dir / "attempt.py").write_text(ATTEMPT)
    done = host.run([*prefix, sys.executable, str(host.dir / "attempt.py"), kind], check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


ATTEMPT = f"""
import sys
from importlib import import_module
from pathlib import Path
from reconciler.errors import TunctlError
from reconciler.host.machine import Machine
from reconciler.kinds.address import Address
from reconciler.kinds.link import Link
from reconciler.kinds.route import Route
from reconciler.kinds.rule import Rule

link = Link("office", "tun-office", "tun", 1400, up=True, alias={MARK.alias!r}, group=20000)
wanted = dict(
    link=link,
    promised=link._replace(dies_openly=True),
    possible=link._replace(dies_openly=None),
    wireguard=Link("office", "wg-office", "wireguard", 1400, up=True, alias={MARK.alias!r}, group=20000),
    address=Address("office", "lo", bytes((10, 0, 0, 1)), 32),
    route=Route("office", bytes((10, 0, 0, 0)), 8, 254, 0, "unicast", "lo"),
    rule=Rule("office", 2, 20100, 20001),
)[sys.argv[1]]
with Machine(Path("/nowhere")) as machine:
    assert machine.rtnl.links()
    try:
        import_module(f"reconciler.actuate.{{wanted.kind}}").create(machine, wanted)
    except TunctlError as error:
        print(f"{{type(error).__name__}}: {{error}} {{error.hint}}")
"""
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all")


@pytest.mark.parametrize("kind", ["link", "wireguard", "address", "route", "rule"])
def test_without_privileges_nothing_is_made_and_the_capability_is_named(host: Host, kind: str) -> None:
    before = host.snapshot()
    said = attempt(host, *NOBODY, kind=kind)
    assert said.startswith("NotPermitted: ")
    assert re.search("Operation not permitted|Permission denied", said)  # the latter where /dev/net/tun is for root only
    assert "CAP_NET_ADMIN" in said
    assert host.snapshot() == before


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        pytest.param(
            "true", "Unavailable: link tun-office type tun mtu 1400 up: this machine has no TUN devices", id="no node"
        ),
        pytest.param("mknod -m 600 /dev/net/tun c 10 199", "Unavailable: ", id="no driver"),
        pytest.param("mknod -m 0 /dev/net/tun c 10 200", "NotPermitted: ", id="closed"),
    ],
)
def test_machines_without_tun(host: Host, inside: str, expected: str) -> None:
    as_nobody = " ".join(NOBODY) if "-m 0 " in inside else ""
    script = f'mount -t tmpfs none /dev/net; {inside}; exec {as_nobody} "$@"'
    said = attempt(host, "unshare", "-m", "sh", "-c", script, "sh")
    assert said.startswith(expected)
    assert "/dev/net/tun" in said


def test_cut_off_before_the_end_nothing_unmarked_is_left(machine: Machine) -> None:
    """What `create` has done when it is killed just before its last ioctl."""
    descriptor = tun.create(WANTED.name, "tun")
    machine.rtnl.change_link(state_of(machine, WANTED.name).ifindex, alias=WANTED.alias, group=20000, mtu=1400, up=True)
    os.close(descriptor)
    assert list(observe.look(machine, QUESTION)[0]) == ["lo"]


def test_mark_of_another_store_is_foreign(machine: Machine, host: Host) -> None:
    actuate.create(machine, WANTED._replace(alias=Mark(NAME, "ffff", "0001").alias))
    assert ours(machine) == []
    with pytest.raises(Foreign, match="alias 'tunctl:office:ffff0001'"):
        actuate.create(machine, WANTED)
    assert ours(machine, QUESTION._replace(store_id=None)) != []
    assert ours(machine, QUESTION._replace(adopt=frozenset((NAME,)))) != []


def test_a_tun_without_a_process_has_no_carrier(machine: Machine) -> None:
    actuate.create(machine, WANTED)
    assert found(machine).carrier is False
    descriptor = attach("tun-office")
    assert found(machine).carrier is True
    os.close(descriptor)
    assert found(machine).carrier is False


@pytest.mark.parametrize(
    ("drift", "fields"),
    [
        ("mtu 1300", ("mtu",)),
        ("down", ("up",)),
        ("group 0", ("group",)),
        ("down mtu 1300 group 0", ("mtu", "up", "group")),
    ],
)
def test_change_undoes_drift(machine: Machine, host: Host, drift: str, fields: tuple[str, ...]) -> None:
    actuate.create(machine, WANTED)
    host.ip(f"link set tun-office {drift}")
    before = found(machine)
    assert WANTED.differs_from(before) == fields
    actuate.change(machine, WANTED, before, fields)
    assert WANTED.differs_from(found(machine)) == ()
    actuate.change(machine, WANTED, before, fields)
    assert found(machine).ifindex == before.ifindex


def test_change_renames_a_link_that_is_up(machine: Machine, host: Host) -> None:
    actuate.create(machine, WANTED)
    other = WANTED._replace(name=IfName("elsewhere"), mtu=1300)
    before = found(machine)
    actuate.change(machine, other, before, ("name", "mtu"))
    after = found(machine)
    assert other.differs_from(after) == ()
    assert after.ifindex == before.ifindex


def test_rename_on_kernels_that_want_it_down(machine: Machine) -> None:
    actuate.create(machine, WANTED)
    other = WANTED._replace(name=IfName("elsewhere"), mtu=1300)
    actuate._rename_down(machine, state_of(machine, WANTED.name).ifindex, other, ("name", "mtu"))
    assert other.differs_from(found(machine)) == ()


def test_change_never_renames_onto_a_foreign_link(machine: Machine, host: Host) -> None:
    actuate.create(machine, WANTED)
    host.ip("link add elsewhere type veth peer name other")
    other = WANTED._replace(name=IfName("elsewhere"))
    with pytest.raises(Foreign, match="type veth"):
        actuate.change(machine, other, found(machine), ("name",))
    with pytest.raises(Foreign, match="type veth"):
        actuate._rename_down(machine, state_of(machine, WANTED.name).ifindex, other, ("name",))
    assert WANTED.differs_from(found(machine)) == (), "it is still up"


def test_delete_and_delete_again(machine: Machine) -> None:
    actuate.create(machine, WANTED)
    link = found(machine)
    actuate.delete(machine, link)
    assert list(observe.look(machine, QUESTION)[0]) == ["lo"]
    actuate.delete(machine, link)


def test_delete_refuses_a_link_whose_mark_went(machine: Machine, host: Host) -> None:
    actuate.create(machine, WANTED)
    link = found(machine)
    host.ip("link set tun-office alias somebody")
    with pytest.raises(Foreign, match="its alias is 'somebody'"):
        actuate.delete(machine, link)
    with pytest.raises(Foreign, match="its alias is 'somebody'"):
        actuate.change(machine, WANTED, link, ("mtu",))
    assert "tun-office" in observe.look(machine, QUESTION)[0]


def test_delete_of_an_unmarked_one_wants_the_very_same(machine: Machine, host: Host) -> None:
    host.ip("tuntap add half mode tun")
    half = next(link for link in observe.look(machine, QUESTION)[1] if link.name == "half")
    with pytest.raises(Foreign):
        actuate.delete(machine, half._replace(name=IfName("other")))
    actuate.delete(machine, half)
    assert "half" not in observe.look(machine, QUESTION)[0]


def test_a_link_of_a_program_is_claimed(machine: Machine) -> None:
    wanted = WANTED._replace(by_program=True)
    with pytest.raises(LookAgain, match="has not made it"):
        actuate.create(machine, wanted)
    descriptor = attach("tun-office")
    try:
        actuate.create(machine, wanted)
        link = found(machine)
        assert wanted.differs_from(link) == ()
        assert link.carrier is True
        actuate.create(machine, wanted)
    finally:
        os.close(descriptor)
    assert ours(machine) == []


def test_a_program_that_makes_something_else(machine: Machine, host: Host) -> None:
    wanted = WANTED._replace(by_program=True)
    host.ip("tuntap add tun-office mode tap")
    with pytest.raises(StepFailed, match="its program made a tap"):
        actuate.create(machine, wanted)
    host.ip("link del tun-office")
    host.ip("link add v0 type veth peer name v1")
    host.ip("link property add dev v0 altname tun-office")
    for link in (wanted, WANTED):
        with pytest.raises(Foreign, match=r"\(type veth, v0\)"):
            actuate.create(machine, link)


def test_a_kind_that_the_kernel_lacks(machine: Machine) -> None:
    with pytest.raises(Unavailable, match="no nonsense links"):
        actuate.create(machine, WANTED._replace(type="nonsense"))


def test_names_with_every_permitted_letter(machine: Machine) -> None:
    wanted = WANTED._replace(name=IfName("ü-@_.+x"))
    actuate.create(machine, wanted)
    assert found(machine).name == wanted.name


def test_wireguard_without_an_alias_yet_is_ours_by_group_and_name() -> None:
    """The kernel of this machine has no WireGuard links: the rule alone."""
    state = LinkState(IfName("tun-office"), 5, "", None, None, "wireguard", 1420, up=True, carrier=True, group=20000)
    rule = observe._tunnel
    assert rule(state, QUESTION) == NAME
    assert rule(state._replace(group=0), QUESTION) is None
    assert rule(state._replace(alias="mine"), QUESTION) is None
    assert rule(state._replace(type="tun"), QUESTION) is None
    assert rule(state._replace(name=IfName("other")), QUESTION) is None


def test_devices_say_whose_a_link_is(machine: Machine, host: Host) -> None:
    actuate.create(machine, WANTED)
    actuate.create(machine, WANTED._replace(name=IfName("theirs"), alias=Mark(NAME, "ffff", "0001").alias))
    states, links = observe.look(machine, QUESTION)
    whose = dict(observe.devices(states, links).values())
    assert whose == {"lo": HOST, "tun-office": NAME, "theirs": None}
