"""Facts about the machine: which name an automatic interface gets, what keys say, and what could not be had."""

from __future__ import annotations

import os
from base64 import b64encode
from pathlib import Path

import pytest

from reconciler.host.handles import Handle
from reconciler.host.machine import Machine
from reconciler.kinds.owner import Owner
from reconciler.model.facts import Facts, Unknown
from reconciler.model.found import Counters, Found, LinkState
from reconciler.model.intent import Intent
from reconciler.model.marks import Mark
from reconciler.model.names import IfName, TunnelName
from reconciler.model.policy import Policy
from reconciler.model.publickey import PublicKey
from reconciler.model.tunnel import Endpoint, Exec, PeerSettings, Tun, Tunnel, WireGuard
from reconciler.observe import facts


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "run")


def _link(name: str, mark: Mark | None = None) -> LinkState:
    return LinkState(IfName(name), 5, "", mark, Counters(), "tun", 1500, up=True, carrier=True, group=0)


def _intent(name: str, interface: str | None = None, **fields: object) -> Intent:
    tunnel = Tunnel(TunnelName(name), "tun", IfName(interface) if interface else None, **(fields or {"tun": Tun()}))  # type: ignore[arg-type]
    return Intent(tunnel, Mark(TunnelName(name), "aaaa", f"{len(name):04x}"), 1, "test", 1)


def _names(machine: Machine, intents: list[Intent], *links: LinkState) -> dict[TunnelName, IfName]:
    marked = {link.mark.tunnel: link.name for link in links if link.mark}
    return facts.interfaces(machine, intents, {link.name: link for link in links}, marked)


def test_a_program_that_chooses_gets_the_first_free_name(machine: Machine) -> None:
    intents = [_intent("a"), _intent("bb", exec_=Exec(("/bin/vpn",)))]
    assert _names(machine, intents) == {"a": "tun1", "bb": "tun0"}


def test_an_unmarked_link_is_that_of_the_program_that_holds_it() -> None:
    a = _intent("a", exec_=Exec(("/bin/vpn",)))
    owner = Owner(a.name, a.mark, IfName("tun7"), ("/bin/vpn",), pid=5, holds=IfName("tun3"))
    assert facts.present(Found((owner,), {IfName("tun3"): _link("tun3")}, {})) == {"a": "tun3"}


def test_automatic_names_are_free_ones(machine: Machine) -> None:
    intents = [_intent("a"), _intent("bb"), _intent("ccc", "tun2"), _intent("dddd", tun=Tun("tap"))]
    assert _names(machine, intents, _link("tun0")) == {"a": "tun1", "bb": "tun3", "dddd": "tap0"}


def test_a_marked_link_has_its_name_already(machine: Machine) -> None:
    a, b = _intent("a"), _intent("bb")
    assert _names(machine, [a, b], _link("zz", b.mark), _link("tun7")) == {"a": "tun0", "bb": "zz"}


def test_the_name_it_had_is_kept_unless_taken(machine: Machine) -> None:
    a = _intent("a")
    machine.handles.put(Handle(a.name, a.mark.id, machine.handles.boot_id, IfName("tun5")))
    assert _names(machine, [a]) == {"a": "tun5"}
    assert _names(machine, [a], _link("tun5")) == {"a": "tun0"}
    assert _names(machine, [a], _link("tun5", a.mark)) == {"a": "tun5"}
    machine.handles.put(Handle(a.name, "ffffffff", machine.handles.boot_id, IfName("tun5")))
    assert _names(machine, [a]) == {"a": "tun0"}, "another tunnel had this name"


def _gathered(machine: Machine, intent: Intent, *, privileged: bool = True) -> Facts:
    return facts.gather(machine, [intent], Found((), {}, {}), Policy(), resolve=False, privileged=privileged)


def test_keys_by_what_is_derived_from_them(machine: Machine, tmp_path: Path) -> None:
    text = b64encode(os.urandom(32)).decode()
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_text(text)
    good.chmod(0o600)
    peers = (
        PeerSettings("p" * 44, preshared_key_file=str(good), endpoint=Endpoint("192.0.2.1", 1)),
        PeerSettings("q" * 44, preshared_key_file=str(bad), endpoint=Endpoint("vpn.example.com", 1)),
    )
    intent = _intent("office", "wg0", wireguard=WireGuard(str(good), backend="userspace", peers=peers))
    machine.handles.put(Handle(intent.name, intent.mark.id, machine.handles.boot_id, endpoints={"p" * 44: "192.0.2.1:1"}))
    found = _gathered(machine, intent)
    assert isinstance(found.public_keys[str(good)], PublicKey)
    assert isinstance(found.preshared[str(good)], str)
    assert found.preshared[str(bad)] == Unknown(f"{bad}: No such file or directory")
    assert found.resolved == {"192.0.2.1": (b"\xc0\x00\x02\x01",), "vpn.example.com": Unknown("not looked up")}
    assert found.working_endpoints == {f"office {'p' * 44}": "192.0.2.1:1"}
    assert text not in repr(found)
    assert (found.boot_id, found.run_dir) == (machine.handles.boot_id, str(tmp_path / "run"))
    blind = _gathered(machine, intent, privileged=False)
    assert blind.public_keys == {str(good): Unknown("only root may read it", privilege=True)}


def test_users_and_groups(machine: Machine) -> None:
    found = _gathered(machine, _intent("lab", "lab0", exec_=Exec(("/bin/true",), user="no-such-user")))
    assert found.users == {"no-such-user": Unknown("this machine has no such user")}
    found = _gathered(machine, _intent("lab", "lab0", tun=Tun(owner="root", group="no-such-group")))
    assert found.users == {"root": (0, 0)}
    assert found.groups == {"no-such-group": Unknown("this machine has no such group")}
