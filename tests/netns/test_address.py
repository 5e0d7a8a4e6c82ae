"""Addresses on the real kernel: absent, present, twice, taken over, deleted, foreign beside them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from reconciler.actuate import address as actuate
from reconciler.actuate import link as actuate_link
from reconciler.errors import Foreign, StepFailed
from reconciler.host import linkipv6
from reconciler.host.machine import Machine
from reconciler.kinds.address import Address
from reconciler.model.names import IfName
from reconciler.model.prefix import Prefix, parse_prefix
from reconciler.observe import address as observe
from reconciler.observe import link as observe_link
from tests.netns.test_link import NAME, QUESTION, WANTED, attach
from tests.netns.test_link import settled as settled_link
from tests.netns.world import Host, wait_until

DEV = WANTED.name
TEXTS = ["10.8.0.2/32", "10.9.0.2/24", "0.0.0.1/8", "fd00:8::2/128", "fd00:9::2/64", "fe80::7/64"]


def settled(host: Host) -> str:
    """Without what the first IPv6 address brings to a link, and leaves there."""
    return "\n".join(line for line in settled_link(host).splitlines() if "ff00::/8" not in line)


def wanted(text: str, dev: str = DEV) -> Address:
    return Address(NAME, IfName(dev), *parse_prefix(text))


@pytest.fixture
def machine(host: Host, tmp_path: Path) -> Iterator[Machine]:
    with host.inside(), Machine(tmp_path) as machine:
        actuate_link.create(machine, WANTED)
        yield machine


def look(machine: Machine) -> tuple[Mapping[IfName, Sequence[Prefix]], list[Address]]:
    return observe.look(machine, observe_link.devices(*observe_link.look(machine, QUESTION)), QUESTION)


def found(machine: Machine) -> list[Address]:
    return look(machine)[1]


def test_absent(machine: Machine) -> None:
    everything, ours = look(machine)
    assert ours == []
    assert parse_prefix("127.0.0.1/8") in everything[IfName("lo")]
    assert DEV not in everything


def test_link_local_ones_of_the_kernel_are_none_of_ours(machine: Machine) -> None:
    descriptor = attach(DEV)
    try:
        wait_until(lambda: DEV in look(machine)[0], 20)  # it gives one to what gets carrier
        everything, ours = look(machine)
        assert ours == []
        assert [p.length for p in everything[DEV]] == [64]
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("text", TEXTS)
def test_create_twice_and_delete_twice(machine: Machine, host: Host, text: str) -> None:
    before = settled(host)
    address = wanted(text)
    actuate.create(machine, address)
    assert found(machine) == [address]
    actuate.create(machine, address)
    assert found(machine) == [address]
    actuate.delete(machine, address)
    assert found(machine) == []
    actuate.delete(machine, address)
    assert settled(host) == before


def test_all_together(machine: Machine) -> None:
    for text in TEXTS:
        actuate.create(machine, wanted(text))
    assert set(found(machine)) == {wanted(text) for text in TEXTS}


@pytest.mark.parametrize("text", ["10.9.0.2/24", "fd00:9::2/64"])
@pytest.mark.parametrize("more", ["", "noprefixroute", "metric 77"])
def test_take_over_keeps_what_it_had(machine: Machine, host: Host, text: str, more: str) -> None:
    host.ip(f"addr add {text} dev {DEV} {more}")
    before = settled(host)
    (foreign,) = found(machine)
    address = wanted(text)._replace(is_bare=more == "noprefixroute")
    assert foreign.tunnel is None
    assert foreign.key == address.key
    with pytest.raises(Foreign):
        actuate.create(machine, address)
    actuate.change(machine, address, foreign, ("protocol",))
    assert found(machine) == [address]
    assert settled(host) == before
    actuate.change(machine, address, foreign, ("protocol",))
    actuate.delete(machine, address)
    assert found(machine) == []


def test_take_over_of_a_peer_address(machine: Machine, host: Host) -> None:
    host.ip(f"addr add 10.8.0.2 peer 10.7.0.1/32 dev {DEV}")
    before = settled(host)
    address = wanted("10.8.0.2/32")
    actuate.change(machine, address, found(machine)[0], ("protocol",))
    assert found(machine) == [address]
    assert settled(host) == before
    actuate.delete(machine, address)
    assert found(machine) == []


def test_change_of_one_that_went_makes_it(machine: Machine) -> None:
    address = wanted("10.8.0.2/32")
    actuate.change(machine, address, address._replace(tunnel=None), ("protocol",))
    assert found(machine) == [address]


def test_foreign_addresses_on_our_link_are_seen_as_such(machine: Machine, host: Host) -> None:
    actuate.create(machine, wanted("10.8.0.2/32"))
    host.ip(f"addr add 10.77.0.1/24 dev {DEV}")
    assert {a.tunnel for a in found(machine)} == {NAME, None}


def test_delete_leaves_another_length(machine: Machine, host: Host) -> None:
    host.ip(f"addr add 10.8.0.2/24 dev {DEV}")
    address = wanted("10.8.0.2/32")
    actuate.create(machine, address)
    actuate.delete(machine, address)
    assert [str(a) for a in found(machine)] == [f"address 10.8.0.2/24 dev {DEV}"]


@pytest.mark.parametrize("promote", [0, 1])
def test_delete_leaves_the_others_of_its_network(machine: Machine, host: Host, promote: int) -> None:
    """The kernel takes the secondary ones along."""
    host.sysctl(f"net/ipv4/conf/{DEV}/promote_secondaries", promote)
    first, second = wanted("10.8.0.2/24"), wanted("10.8.0.3/24")
    actuate.create(machine, first)
    actuate.create(machine, second)
    host.ip(f"addr add 10.8.0.4/24 brd + dev {DEV}")
    actuate.delete(machine, first)
    assert set(found(machine)) == {second, wanted("10.8.0.4/24")._replace(tunnel=None)}
    assert "brd 10.8.0.255" in host.ip(f"addr show dev {DEV}")
    assert "10.8.0.0/24" in host.ip(f"route show dev {DEV}")


def test_no_link(machine: Machine) -> None:
    with pytest.raises(StepFailed, match="there is no link gone"):
        actuate.create(machine, wanted("10.8.0.2/32", "gone"))
    actuate.delete(machine, wanted("10.8.0.2/32", "gone"))


def test_ipv6_switched_off(machine: Machine, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a device of ours it is switched on; the kernel's own words where that cannot be."""
    host.sysctl(f"net/ipv6/conf/{DEV}/disable_ipv6", 1)
    assert found(machine) == []
    actuate.create(machine, wanted("fd00:8::2/128"))
    assert found(machine) == [wanted("fd00:8::2/128")]
    host.sysctl(f"net/ipv6/conf/{DEV}/disable_ipv6", 1)
    monkeypatch.setattr(linkipv6, "PATH", "/nowhere/{}")
    with pytest.raises(StepFailed, match="IPv6 is switched off on this link"):
        actuate.create(machine, wanted("fd00:8::2/128"))
    actuate.delete(machine, wanted("fd00:8::2/128"))


def test_only_links_of_ours_have_resources(machine: Machine, host: Host) -> None:
    host.ip("addr add 10.1.1.1/32 dev lo")
    assert found(machine) == []


@pytest.mark.parametrize(
    ("release", "expected"), [("5.17.0", False), ("5.18.0-rc1", True), ("6.1.0-50-amd64", True), ("x", True)]
)
def test_which_kernels_keep_the_protocol(release: str, expected: bool) -> None:
    assert observe.keeps_protocols([], release) is expected


OWN_NETWORK = """
version = 1
[tunnels.t]
driver = "tun"
addresses = ["10.83.0.2/24", "10.83.9.2/24", "fd00:83::2/64"]
"""
OWN_PREFIXES = """
[[tunnels.t.routes]]
to = ["10.83.0.0/24", "10.84.0.0/16", "fd00:83::/64"]
"""


def test_a_prefix_of_the_tunnel_is_the_network_of_its_address(host: Host) -> None:
    """The tunnel's route stands in place of the one that would come with the address, and gives way to it again."""

    def connected() -> list[str]:
        lines = (host.ip("route show dev t") + host.ip("-6 route show dev t")).splitlines()
        return sorted(line.split()[0] for line in lines if "proto kernel" in line and "fe80" not in line)

    before = settled(host)
    host.tunctl("apply", host.write("d.toml", OWN_NETWORK + OWN_PREFIXES))
    assert connected() == ["10.83.9.0/24", "fd00:83::/64"], "routes of IPv6 stand beside each other"
    assert host.ip("route get 10.83.0.7").split()[2] == "t"
    assert host.tunctl("apply", host.dir / "d.toml").stdout == "no changes\n"
    host.tunctl("apply", host.write("d.toml", OWN_NETWORK))
    assert connected() == ["10.83.0.0/24", "10.83.9.0/24", "fd00:83::/64"]
    host.tunctl("apply", host.write("d.toml", OWN_NETWORK + OWN_PREFIXES))
    assert connected() == ["10.83.9.0/24", "fd00:83::/64"], "routes of IPv6 stand beside each other"
    host.tunctl("down", "--all")
    assert settled(host) == before


_NEAR = "10.83.0.2/24"


@pytest.mark.parametrize(
    ("before", "after"),
    [((_NEAR,), (_NEAR,)), ((_NEAR, "10.83.0.3/24"), (_NEAR,)), ((_NEAR,), ("10.83.0.2/32",)), ((_NEAR,), ("10.84.0.2/24",))],
    ids=["same addresses", "one of two", "as a host", "another one"],
)
def test_what_is_planned_is_what_is_done(host: Host, before: tuple[str, ...], after: tuple[str, ...]) -> None:
    """A tunnel gets its own connected network as a prefix: the kernel's route to it is in nobody's way."""

    def file(addresses: tuple[str, ...], to: str) -> Path:
        head = f'version = 1\nsource = "t"\n[tunnels.t]\ndriver = "tun"\naddresses = {json.dumps(addresses)}\n'
        return host.write("d.toml", f'{head}[[tunnels.t.routes]]\nto = ["10.85.0.0/16", "{to}"]\n')

    host.tunctl("apply", file(before, "10.86.0.0/16"))
    assert "10.83.0.0/24 proto kernel" in host.ip("route show dev t")
    planned = host.tunctl("plan", file(after, "10.83.0.0/24"), expect=2)
    done = host.tunctl("apply", host.dir / "d.toml")
    assert "exists" not in planned.stdout + planned.stderr
    assert done.stdout.startswith(planned.stdout)
    assert "10.83.0.0/24 proto 115" in host.ip("route show dev t")
    assert host.tunctl("plan").stdout == "no changes\n"
