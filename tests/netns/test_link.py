"""Links on the real kernel: absent, present, twice, changed, deleted, foreign in the way."""

from __future__ import annotations

import fcntl
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.actuate import link as actuate
from reconciler.errors import Foreign, StepFailed, Unavailable
from reconciler.host.machine import Machine
from reconciler.kinds.link import Link
from reconciler.model.found import LinkState
from reconciler.model.intent import Intent
from reconciler.model.marks import Mark, Numbers
from reconciler.model.names import HOST, IfName, TunnelName
from reconciler.model.tunnel import Tunnel
from reconciler.observe import link as observe
from reconciler.observe.question import Question
from tests.netns.world import Host

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


def test_foreign_tun_that_a_process_holds_is_named(machine: Machine, host: Host) -> None:
    held = host.start(["socat", "TUN,tun-name=tun-office,tun-type=tun,iff-no-pi", "PIPE"])
    while not (Path("/proc/thread-self/net/dev").read_text()).count("tun-office"):
        pass
    with pytest.raises(Foreign, match="type tun") as caught:
        actuate.create(machine, WANTED)
    # The holder is only named to its own namespace: here the process is outside, only its thread is inside.
    assert held.poll() is None
    assert "tun-office" in caught.value.message


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


def test_change_never_renames_onto_a_foreign_link(machine: Machine, host: Host) -> None:
    actuate.create(machine, WANTED)
    host.ip("link add elsewhere type veth peer name other")
    with pytest.raises(Foreign, match="type veth"):
        actuate.change(machine, WANTED._replace(name=IfName("elsewhere")), found(machine), ("name",))


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
    with pytest.raises(StepFailed, match="has not made it"):
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


def test_a_kind_that_the_kernel_lacks(machine: Machine) -> None:
    with pytest.raises(Unavailable, match="no nonsense links"):
        actuate.create(machine, WANTED._replace(type="nonsense"))


def test_names_with_every_permitted_letter(machine: Machine) -> None:
    wanted = WANTED._replace(name=IfName("ü-@_.+x"))
    actuate.create(machine, wanted)
    assert found(machine).name == wanted.name


def test_wireguard_without_an_alias_yet_is_ours_by_group_and_name() -> None:
    """The kernel of this machine has no WireGuard links: the rule alone."""
    state = LinkState(IfName("tun-office"), 5, "wireguard", 1420, True, True, 20000, "", None, (0, 0, 0, 0))  # type: ignore[arg-type]
    rule = observe._tunnel
    names = observe.by_interface(QUESTION)
    assert rule(state, QUESTION, names) == NAME
    assert rule(state._replace(group=0), QUESTION, names) is None
    assert rule(state._replace(alias="mine"), QUESTION, names) is None
    assert rule(state._replace(type="tun"), QUESTION, names) is None
    assert rule(state._replace(name=IfName("other")), QUESTION, names) is None


def test_devices_say_whose_a_link_is(machine: Machine, host: Host) -> None:
    actuate.create(machine, WANTED)
    actuate.create(machine, WANTED._replace(name=IfName("theirs"), alias=Mark(NAME, "ffff", "0001").alias))
    states, links = observe.look(machine, QUESTION)
    whose = dict(observe.devices(states, links).values())
    assert whose == {"lo": HOST, "tun-office": NAME, "theirs": None}
