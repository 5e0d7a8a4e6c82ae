"""Which of what manifests ever said is believed: never an older one, never one that is not signed, and never nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from reconciler.model.facts import Whereabouts
from reconciler.model.intent import Intent
from reconciler.model.marks import Mark
from reconciler.model.moment import rfc3339
from reconciler.model.names import TunnelName
from reconciler.model.tunnel import Endpoint, EndpointManifest, Exec, PeerSettings, Tunnel, WireGuard
from reconciler.observe.manifest import gather, paths
from tests.unit import manifest_of
from tests.unit.config_of import KEY as PEER
from tests.unit.manifest_of import KEY, NOW_US, OTHER, PAYLOAD, public_pem

NAME = TunnelName("office")
DAY_US = 86_400_000_000


class Place:
    """A client: its files, what it remembers, and its clock."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.file, self.key = directory / "hub.endpoints", directory / "hub.pub"
        self.key.write_bytes(public_pem())
        settings = {"file": str(self.file), "public_key_file": str(self.key)} | settings
        peer = PeerSettings(PEER, name="hub", manifest=EndpointManifest(**settings))
        tunnel = Tunnel(NAME, "wireguard", None, wireguard=WireGuard("/k", peers=(peer,)))
        self.intent = Intent(tunnel, Mark(NAME, "aaaa", "0001"), 1, "test", 1)

    def write(
        self, days: float = 0, port: int = 8446, *, key: Ed25519PrivateKey = KEY, lasts: float = 7, **changes: Any
    ) -> None:
        """A manifest that was issued so many days from now."""
        issued_us = NOW_US + round(days * DAY_US)
        times = {"issued_at": rfc3339(issued_us), "expires_at": rfc3339(issued_us + round(lasts * DAY_US))}
        self.file.write_bytes(manifest_of.manifest(key, **{**times, "endpoints": {"hub": {"udp": port}}, **changes}))

    def look(self, days: float = 0, *, privileged: bool = True) -> Whereabouts:
        (found,) = gather([self.intent], NOW_US + round(days * DAY_US), privileged=privileged).values()
        return found

    def look_and_keep(self, days: float = 0) -> Whereabouts:
        """A pass, or its end and a reboot."""
        found = self.look(days)
        self.intent = self.intent._replace(vouched=(found.best,) if found.best else ())
        return found

    def again(self, **settings: Any) -> None:
        """Another desired file."""
        (peer,) = self.intent.tunnel.wireguard.peers  # type: ignore[union-attr]
        assert peer.manifest
        peer = peer._replace(manifest=peer.manifest._replace(**settings))
        self.intent = self.intent._replace(tunnel=self.intent.tunnel._replace(wireguard=WireGuard("/k", peers=(peer,))))


def port(found: Whereabouts) -> int | None:
    return found.best.port if found.best else None


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_the_first_one(place: Place) -> None:
    place.write(-1)
    found = place.look_and_keep()
    assert (found.trouble, found.expired, found.unread) == ("", False, False)
    assert found.best
    assert found.best.endpoint == Endpoint("vpn.example.com", 8446)
    assert (found.best.of, found.best.issued_us) == (PEER, NOW_US - DAY_US)
    assert place.look() == found


def test_a_newer_one_takes_its_place(place: Place) -> None:
    place.write(-2)
    place.look_and_keep()
    place.write(-1, 8447)
    assert (port(place.look_and_keep()), place.look().trouble) == (8447, "")


def test_an_older_one_never_does(place: Place) -> None:
    """Somebody plays back what was true once. Not even when the newer one has expired."""
    place.write(-1, 8447)
    place.look_and_keep()
    place.write(-2, 8446)
    for days in (0, 6.5, 100):
        found = place.look_and_keep(days)
        assert port(found) == 8447
        assert "refused: it was issued at 2027-01-13T08:00:00.000000Z, before the one that was already there" in found.trouble
    assert found.expired


DAMAGE = {
    "gone": (lambda place: place.file.unlink(), "hub.endpoints: No such file or directory"),
    "empty": (lambda place: place.file.write_bytes(b""), "hub.endpoints: refused: it is not JSON"),
    "cut off": (lambda place: os.truncate(place.file, 100), "hub.endpoints: refused: it is not JSON"),
    "a directory": (lambda place: (place.file.unlink(), place.file.mkdir()), "hub.endpoints: is not a regular file"),
    "a pipe": (lambda place: (place.file.unlink(), os.mkfifo(place.file)), "hub.endpoints: is not a regular file"),
    "huge": (lambda place: os.truncate(place.file, 1 << 40), "hub.endpoints: is larger than 1048576 bytes"),
    "of another key": (lambda place: place.write(-1, 1, key=OTHER), "refused: its signature does not fit"),
    "not signed": (lambda place: place.file.write_text(json.dumps(PAYLOAD)), "refused: it has no protected"),
    "not valid yet": (lambda place: place.write(1, 1), "refused: it is not valid yet"),
    "expired": (lambda place: place.write(-1.5, 1, lasts=1), "refused: it expired at 2027-01-14T20:00:00.000000Z"),
    "without the tunnel": (lambda place: place.write(-1, endpoints={"b": {"udp": 1}, "c": {}}), "it names 2 tunnels (b, c)"),
    "without the port": (lambda place: place.write(-1, endpoints={"hub": {"tcp": 1}}), "it has no udp endpoint of hub"),
    "key gone": (lambda place: place.key.unlink(), "hub.pub: No such file or directory"),
    "key open": (lambda place: place.key.chmod(0o664), "hub.pub: its group may write it"),
    "key of everybody": (lambda place: place.key.chmod(0o646), "hub.pub: is writable by everybody"),
    "key of another sort": (lambda place: place.key.write_text("x"), "its public key file is not a public key (PEM)"),
    "another key": (lambda place: place.key.write_bytes(public_pem(OTHER)), "refused: its signature does not fit"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "why"), DAMAGE.values(), ids=DAMAGE)
def test_the_last_good_one_stays(place: Place, damage: Any, why: str) -> None:
    place.write(-2)
    good = place.look_and_keep().best
    damage(place)
    for _ in range(2):  # not forgotten by the next pass either
        found = place.look_and_keep()
        assert found.best == good
        assert why in found.trouble
    for path in (place.file, place.key):
        if path.is_dir():
            path.rmdir()
        path.unlink(missing_ok=True)
    place.key.write_bytes(public_pem())
    place.write(-0.5, 8448)
    assert (port(place.look_and_keep()), place.look().trouble) == (8448, "")


@pytest.mark.parametrize(("damage", "why"), DAMAGE.values(), ids=DAMAGE)
def test_and_when_there_was_never_a_good_one(place: Place, damage: Any, why: str) -> None:
    place.write(-2)
    damage(place)
    found = place.look()
    if "expired" in why:
        assert (port(found), found.trouble, found.expired) == (1, "", True), "it is used for want of a better one"
    else:
        assert found.best is None
        assert why in found.trouble


def test_one_that_expires_while_it_is_there(place: Place) -> None:
    place.write(-1, lasts=2)
    assert not place.look_and_keep().expired
    assert place.look(1.5).expired
    place.write(1, 8447, lasts=0.1)  # newer, and expired too: the newest of them
    assert (port(place.look_and_keep(2)), place.look(2).expired) == (8447, True)


def test_the_clock_went_back(place: Place) -> None:
    """What was believed once is not disbelieved because the machine woke up in 1970."""
    place.write(-1)
    place.look_and_keep()
    found = place.look(-20000)
    assert (port(found), found.trouble) == (8446, "")


def test_the_signer_has_another_key(place: Place) -> None:
    """Until its manifest comes the last good one counts; then even one with an earlier time: another signer's clock."""
    place.write(-1)
    place.look_and_keep()
    place.key.write_bytes(public_pem(OTHER))
    assert port(place.look_and_keep()) == 8446
    place.write(-2, 8450, key=OTHER)
    assert port(place.look_and_keep()) == 8450
    place.write(-1, 8446)
    assert port(place.look_and_keep()) == 8450


def test_the_same_key_in_another_form_is_the_same_signer(place: Place) -> None:
    """Who saves the file of the key again opens no door for what was signed before."""
    place.write(-1, 8447)
    place.look_and_keep()
    place.key.write_bytes(b"# ours\n" + public_pem() + b"\n")
    assert (port(place.look_and_keep()), place.look().trouble) == (8447, "")
    place.write(-2, 8446)
    for content in (b"# again\n" + public_pem(), public_pem()):
        place.key.write_bytes(content)
        found = place.look_and_keep()
        assert port(found) == 8447
        assert "before the one that was already there" in found.trouble


def test_the_file_was_moved(place: Place) -> None:
    place.write(-1)
    place.look_and_keep()
    elsewhere = place.file.with_name("elsewhere")
    place.again(file=str(elsewhere))
    found = place.look_and_keep()
    assert (port(found), found.trouble) == (8446, f"{elsewhere}: No such file or directory")
    place.file.rename(elsewhere)
    assert (port(place.look_and_keep()), place.look().trouble) == (8446, "")


def test_what_is_asked_for_is_something_else(place: Place) -> None:
    """Then what was known says nothing about it."""
    place.write(-1, endpoints={"hub": {"udp": 8446, "quic": 8447}, "b": {"udp": 1}})
    place.again(tunnel=TunnelName("hub"))
    assert port(place.look_and_keep()) == 8446
    place.again(transport="quic")
    assert port(place.look()) == 8447
    place.file.unlink()
    assert port(place.look()) is None
    place.again(transport="udp")
    assert port(place.look()) == 8446
    place.again(tunnel=TunnelName("b"))
    assert port(place.look()) is None


def test_a_program_has_one_too(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.write(-1)
    manifest = EndpointManifest(str(place.file), str(place.key))
    intent = place.intent._replace(tunnel=Tunnel(NAME, "exec", None, exec_=Exec(("/bin/x", "{endpoint}"), manifest=manifest)))
    found = gather([intent], NOW_US, privileged=True)[NAME, ""]
    assert found.best
    assert found.best.of == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become nobody")
@pytest.mark.parametrize("hidden", ["file", "key"])
def test_what_may_not_be_read_is_no_trouble_of_the_manifest(place: Place, hidden: str) -> None:
    place.write(-1)
    place.look_and_keep()
    getattr(place, hidden).chmod(0o600)
    place.file.parent.chmod(0o755)
    os.seteuid(65534)
    try:
        seen = place.look(privileged=False)
    finally:
        os.seteuid(0)
    assert seen.best is None or (port(seen), seen.unread) == (8446, True)
    assert not place.look().unread


def test_the_files_whose_change_counts(place: Place) -> None:
    link = place.file.with_name("link")
    link.symlink_to(place.file)
    place.again(file=str(link))
    assert paths([place.intent]) == {str(link), os.path.realpath(place.file), str(place.key), os.path.realpath(place.key)}
