"""S62: a server that moves, and clients that follow it by what it signs; with real wireguard-go on both ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from reconciler.host import keyfile
from reconciler.model.moment import rfc3339
from tests.house.test_start import RUN, imported
from tests.netns.engines import kill
from tests.netns.layouts import way
from tests.netns.scenario import HOLDER, desired, files, reasons, settled, verdict
from tests.netns.scenario import wireguard as tunnel
from tests.netns.test_daemon import Keeper
from tests.netns.warm import Warm
from tests.netns.world import Host, Uplink, wait_until
from tests.unit.manifest_of import HEADER, jws

SERVER = "203.0.113.10"  # beyond the gateway, on lo
INSIDE = "10.50.0.1"
DAY_S = 86400
SOON_S = 30  # generous: the machine is shared
MANIFEST = '{table}.endpoint_manifest]\nfile = "hub.endpoints"\npublic_key_file = "hub.pub"\n'


class Ends(NamedTuple):
    """The server (on the gateway) signs with sign.key, the client has hub.pub and a copy of what is signed."""

    server: Host
    client: Host
    public: str  # WireGuard's, of the server

    def serve(self, port: int) -> None:
        """The server listens there."""
        text = self.server.dir.joinpath("d.toml").read_text()
        lines = [f"listen_port = {port}" if line.startswith("listen_port") else line for line in text.splitlines()]
        self.server.write("d.toml", "\n".join(lines))
        self.server.tunctl("apply", "d.toml")

    def sign(self, port: int, *words: str) -> None:
        """By the record of what is bound, and copied over whole, as a deployment does it."""
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        entry = {"bound_at_unix": 1, "requested": {"udp": "0.0.0.0:8446"}, "endpoints": {"udp": f"0.0.0.0:{port}"}}
        record = {"version": 1, "boot_id": boot_id, "tunnels": {"hub": entry}}
        path = self.server.write("record.json", json.dumps(record))
        self.server.tunctl(
            "endpoints", "sign", "--key", "sign.key", "--host", SERVER, "--from-runtime", path, "--out", "hub.endpoints", *words
        )
        self.put((self.server.dir / "hub.endpoints").read_bytes())

    def put(self, content: bytes) -> None:
        """Another file in the place of the client's."""
        new = self.client.dir / "hub.endpoints.new"
        new.write_bytes(content)
        new.rename(self.client.dir / "hub.endpoints")

    def issue(self, port: int, days: float, lasts: float = 7) -> None:
        """As if it had been signed so many days from now."""
        issued_us = round((time.time() + days * DAY_S) * 1e6)
        payload = {
            "version": 1, "host": SERVER, "issued_at": rfc3339(issued_us),
            "expires_at": rfc3339(issued_us + round(lasts * DAY_S * 1e6)), "endpoints": {"hub": {"udp": port}},
        }  # fmt: skip
        key = keyfile.signing_key((self.server.dir / "sign.key").read_bytes())
        self.put(json.dumps(jws(json.dumps(payload).encode(), json.dumps(HEADER).encode(), key)).encode())

    def reaches(self) -> bool:
        return self.client.run(["ping", "-c", "1", "-W", "1", INSIDE], check=False).returncode == 0

    def flows(self, what: str) -> None:
        wait_until(self.reaches, SOON_S, f"traffic flows: {what}")

    def endpoint(self) -> str | None:
        """Of the peer, as the client's engine says."""
        (peer,) = verdict(self.client, "site")["peers"]
        return peer["endpoint"]


def wireguard_key(host: Host) -> str:
    """Its private key goes to wg.key. → the public one"""
    private = keyfile.wireguard_key()
    host.write("wg.key", private.decode(), 0o600)
    return keyfile.public_of(private).decode().strip()


@pytest.fixture
def ends(uplink: Uplink) -> Ends:
    client, server = uplink
    keys = {host: wireguard_key(host) for host in uplink}
    private = keyfile.manifest_key()
    server.write("sign.key", private.decode(), 0o600)
    client.write("hub.pub", keyfile.public_of(private).decode())
    peer = f'[[tunnels.hub.wireguard.peers]]\npublic_key = "{keys[client]}"\nallowed_ips = ["10.50.0.2"]\n'
    hub = tunnel("hub", "wg.key", keys=f'addresses = ["{INSIDE}/32"]', options="listen_port = 8446", peers=peer)
    server.write("d.toml", desired(hub.replace("addresses = []\n", "")))
    peer = (
        f'[[tunnels.site.wireguard.peers]]\nname = "hub"\npublic_key = "{keys[server]}"\nallowed_ips = ["{INSIDE}"]\n'
        f'keepalive = "1s"\n{MANIFEST.format(table="[tunnels.site.wireguard.peers")}'
    )
    site = tunnel("site", "wg.key", keys='addresses = ["10.50.0.2/32"]', peers=peer)
    client.write("d.toml", desired(site.replace("addresses = []\n", "")))
    server.tunctl("apply", "d.toml")
    return Ends(server, client, keys[server])


def owner_pid(host: Host, name: str = "site") -> int:
    return int(verdict(host, name)["owner"]["pid"])


def test_the_client_follows_the_server(ends: Ends) -> None:
    """From a timer. Only the peer is changed: the engine, its device and all around stay."""
    ends.sign(8446)
    ends.client.tunctl("apply", "d.toml")
    ends.flows("at first")
    before, pid = settled(ends.client), owner_pid(ends.client)
    written = files(ends.client.state_dir)
    assert ends.client.tunctl("apply", "d.toml").stdout == "no changes\n"
    assert ends.client.tunctl("reconcile").stdout == "no changes\n"
    assert files(ends.client.state_dir) == written, "an unchanged manifest is no reason to write"
    ends.serve(8450)
    ends.sign(8450)
    planned = ends.client.tunctl("plan", expect=2).stdout
    assert planned.startswith(f"~ peer {ends.public} (hub) dev tun-site endpoint {SERVER}:8450 ")
    assert planned.endswith("(endpoints)\n")
    assert planned.count("\n") == 1
    assert ends.client.tunctl("reconcile").stdout == planned
    ends.flows("after the server has moved")
    assert (settled(ends.client), owner_pid(ends.client)) == (before, pid)
    assert ends.client.tunctl("reconcile").stdout == "no changes\n"
    moved = [event for event in ends.client.json("history", "site")["history"] if event["event"] == "moved"]
    assert [event["cause"] for event in moved] == [f"manifest: {SERVER}:8446 → {SERVER}:8450"]
    (known,) = ends.client.json("show", "site")["intent"]["vouched"]
    assert (known["endpoint"], known["public_key"]) == (f"{SERVER}:8450", ends.public)


@pytest.mark.bound(240)
def test_the_daemon_follows_by_itself(ends: Ends) -> None:
    """Also a file that is written in place; one that is damaged is said once, and what worked stays."""
    ends.sign(8446)
    ends.client.tunctl("apply", "d.toml")
    with Warm(ends.client) as warm:
        keeper = Keeper(ends.client, warm)
        try:
            ends.flows("at first")
            pid = owner_pid(ends.client)
            ends.serve(8450)
            ends.sign(8450)
            wait_until(lambda: ends.endpoint() == f"{SERVER}:8450", SOON_S, f"it follows\n{keeper.said}")
            ends.flows("after the server has moved")
            good = (ends.client.dir / "hub.endpoints").read_bytes()
            (ends.client.dir / "hub.endpoints").write_bytes(good[:200])
            wait_until(lambda: "refused: it is not JSON" in keeper.said, SOON_S, f"it is said\n{keeper.said}")
            assert ends.reaches()
            ends.serve(8452)
            ends.sign(8452)
            in_place = (ends.client.dir / "hub.endpoints").read_bytes()
            (ends.client.dir / "hub.endpoints").write_bytes(in_place)
            wait_until(lambda: ends.endpoint() == f"{SERVER}:8452", SOON_S, f"it is picked up again\n{keeper.said}")
            ends.flows("at the third place")
            assert owner_pid(ends.client) == pid
            said = [line for line in keeper.said.splitlines() if "not JSON" in line]
            assert said == list(dict.fromkeys(said)), "once"
        finally:
            assert keeper.end() == 0, keeper.said
    assert "Traceback" not in keeper.said


def test_a_port_that_is_really_ours_reaches_the_clients(ends: Ends) -> None:
    """The server finds its port taken, takes the next, records and signs it; somebody takes that one too: all again."""
    server, client = ends.server, ends.client
    text = (server.dir / "d.toml").read_text().replace("listen_port = 8446\n", "")
    server.write("d.toml", text + '[[tunnels.hub.listen]]\ntransport = "udp"\naddress = "0.0.0.0"\nport = 8446\nscan = 20\n')
    pid: int | None = None
    for bound in (8447, 8448):
        server.tunctl("down", "hub")
        server.start(["socat", f"UDP4-RECVFROM:{bound - 1},fork", "SYSTEM:cat"])
        wait_until(lambda taken=bound - 1: f":{taken} " in server.run(["ss", "-Hlun"]).stdout, SOON_S, "the port is taken")  # type: ignore[misc]
        server.tunctl("apply", "d.toml")
        signed = server.json("endpoints", "sign", "--key", "sign.key", "--host", SERVER, "--out", "hub.endpoints")
        assert signed["endpoints"] == {"hub": {"udp": bound}}
        ends.put((server.dir / "hub.endpoints").read_bytes())
        client.tunctl("apply", "d.toml")
        ends.flows(f"at port {bound}")
        assert ends.endpoint() == f"{SERVER}:{bound}"
        assert pid in (None, owner_pid(client))
        pid = owner_pid(client)


def test_refresh_is_a_look_of_its_own(ends: Ends) -> None:
    """Where nothing tells of the change (another link in the way), `refresh` does."""
    ends.sign(8446)
    text = (ends.client.dir / "d.toml").read_text().replace('"hub.endpoints"', '"now/hub.endpoints"\nrefresh = "1s"')
    ends.client.write(
        "d.toml",
        text.replace("version = 1", 'version = 1\n[host]\nreconcile_interval = "1h"', 1).replace('source = "test"\n', ""),
    )
    for name in ("one", "two"):
        (ends.client.dir / name).mkdir()
    shutil.copy(ends.client.dir / "hub.endpoints", ends.client.dir / "one" / "hub.endpoints")
    (ends.client.dir / "now").symlink_to("one")
    ends.client.tunctl("apply", "d.toml")
    with Warm(ends.client) as warm:
        keeper = Keeper(ends.client, warm)
        try:
            ends.issue(8450, 0)
            (ends.client.dir / "hub.endpoints").rename(ends.client.dir / "two" / "hub.endpoints")
            (ends.client.dir / "then").symlink_to("two")
            (ends.client.dir / "then").rename(ends.client.dir / "now")
            wait_until(lambda: ends.endpoint() == f"{SERVER}:8450", SOON_S, f"it follows\n{keeper.said}")
        finally:
            assert keeper.end() == 0, keeper.said


DAMAGE: dict[str, tuple[Callable[[Ends], object], str]] = {
    "gone": (lambda ends: (ends.client.dir / "hub.endpoints").unlink(), "hub.endpoints: No such file"),
    "cut off": (lambda ends: os.truncate(ends.client.dir / "hub.endpoints", 100), "refused: it is not JSON"),
    "an older one": (lambda ends: ends.issue(8440, -1), "before the one that was already there"),
}


@pytest.mark.parametrize(("damage", "why"), DAMAGE.values(), ids=DAMAGE)
def test_the_last_good_one_outlives_the_machine(ends: Ends, damage: Callable[[Ends], object], why: str) -> None:
    """Everything in memory and in the run directory is gone, and what is in the file is no good."""
    ends.sign(8446)
    ends.client.tunctl("apply", "d.toml")
    damage(ends)
    done = ends.client.tunctl("apply", "d.toml")
    first, warning = done.stdout.splitlines()
    assert first == "no changes"
    assert warning.startswith("# warning: site: peer hub: ")
    assert why in warning
    assert warning.endswith(f"; the last good manifest counts: {SERVER}:8446")
    ends.flows("nothing of it was touched")
    status = ends.client.tunctl("status")
    assert ("connected" in status.stdout, why in status.stdout) == (True, True)
    kill(owner_pid(ends.client))
    ends.client.ip("link del tun-site")
    shutil.rmtree(ends.client.run_dir)
    assert why in ends.client.tunctl("reconcile").stdout
    ends.flows("after a reboot")
    assert ends.endpoint() == f"{SERVER}:8446"


@pytest.mark.parametrize("fault", ["kill-at:observed", "kill-before:1", "kill-after:1", "kill-at:verified"])
def test_killed_on_the_way(ends: Ends, fault: str) -> None:
    """What was read is kept before anything follows from it: the file may be gone when the next pass comes."""
    ends.sign(8446)
    ends.client.tunctl("apply", "d.toml")
    ends.sign(8450)
    ends.client.tunctl("reconcile", env={"TUNCTL_FAULT": fault}, expect=-signal.SIGKILL)
    (ends.client.dir / "hub.endpoints").unlink()
    ends.client.tunctl("reconcile")
    assert ends.endpoint() == f"{SERVER}:8450"
    assert ends.client.tunctl("reconcile").stdout.startswith("no changes\n")


def test_one_that_expired_is_used_and_shown_as_such(ends: Ends) -> None:
    ends.issue(8446, -8)
    assert "site: peer hub: its manifest expired at" in ends.client.tunctl("apply", "d.toml").stdout
    ends.flows("for want of a better one")
    found = verdict(ends.client, "site", expect=3)
    assert found["verdict"] == "degraded"
    (reason,) = found["reasons"]
    assert reason.startswith("peer hub: its manifest expired at ")
    assert reason.endswith(f"; there is no newer one, {SERVER}:8446 stays")
    ends.sign(8446)
    assert ends.client.tunctl("reconcile").stdout == "no changes\n"
    wait_until(lambda: verdict(ends.client, "site")["verdict"] == "connected", SOON_S, "a newer one is all it takes")


def test_without_any_good_one_the_tunnel_is_up_and_says_what_it_lacks(ends: Ends) -> None:
    """65, because the file is no good; the tunnel itself, and its other peers, are not punished for that."""
    ends.put(b"{}")
    done = ends.client.tunctl("apply", "d.toml", expect=65)
    assert "site: peer hub: no endpoint is known: " in done.stderr
    assert "refused: it has no protected" in done.stderr
    assert "peer hub: no endpoint is known" in reasons(ends.client, "site", expect=3)
    assert ends.endpoint() is None
    assert "no endpoint is known" in ends.client.tunctl("reconcile", expect=65).stderr
    ends.sign(8446)
    ends.client.tunctl("reconcile")
    ends.flows("as soon as there is one")


def test_status_of_anybody(ends: Ends) -> None:
    """What only root may read is no reason for a verdict."""
    ends.sign(8446)
    ends.client.tunctl("apply", "d.toml")
    ends.flows("at first")
    for name in ("hub.endpoints", "hub.pub"):
        (ends.client.dir / name).chmod(0o600)
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", *ends.client.tunctl_argv("status")]
    done = ends.client.run(nobody)
    assert "connected" in done.stdout
    assert "manifest" not in done.stdout + done.stderr


def test_a_program_is_told_where(ends: Ends) -> None:
    """It is started anew with another endpoint; its device, made before it, stays."""
    command = json.dumps([*HOLDER, "{endpoint}"])
    text = desired(
        f'[tunnels.site]\ndriver = "exec"\ninterface = "tun-site"\naddresses = ["10.50.0.2/32"]\n'
        f'[tunnels.site.exec]\ncommand = {command}\ndevice = "tunctl"\n' + MANIFEST.format(table="[tunnels.site.exec")
    )
    ends.client.write("d.toml", text)
    refused = ends.client.tunctl("apply", "d.toml", expect=65)
    assert "site: no endpoint is known: " in refused.stderr
    assert "No such file" in refused.stderr
    assert ends.client.ip_json("link show group 20000") == []
    ends.sign(8446)
    ends.client.tunctl("apply", "d.toml")
    assert command_of(ends.client)[-1] == f"{SERVER}:8446"
    pid, index = owner_pid(ends.client), verdict(ends.client, "site")["ifindex"]
    ends.put(b"")
    assert ends.client.tunctl("reconcile").stdout.startswith("no changes\n# warning: site: ")
    ends.sign(8450)
    ends.client.tunctl("reconcile")
    assert command_of(ends.client)[-1] == f"{SERVER}:8450"
    assert owner_pid(ends.client) != pid
    assert verdict(ends.client, "site")["ifindex"] == index


def command_of(host: Host) -> list[str]:
    return Path(f"/proc/{owner_pid(host)}/cmdline").read_text().split("\0")[:-1]


def test_what_a_manifest_names_stays_outside_a_full_tunnel(ends: Ends) -> None:
    """The pin follows it like a name that was written down."""
    command = json.dumps([*HOLDER, "{endpoint}"])
    text = desired(
        f'[tunnels.site]\ndriver = "exec"\ninterface = "tun-site"\naddresses = ["10.50.0.2/32"]\n'
        f"[tunnels.site.exec]\ncommand = {command}\n{MANIFEST.format(table='[tunnels.site.exec')}"
        '[[tunnels.site.routes]]\nto = "0.0.0.0/0"\n'
    )
    ends.client.write("d.toml", text)
    ends.sign(8446)
    ends.client.tunctl("apply", "d.toml")
    assert (way(ends.client, SERVER), way(ends.client, "198.51.100.1")) == ("cl0", "tun-site")
    assert ends.client.tunctl("apply", "d.toml").stdout.startswith("no changes\n")


@pytest.mark.parametrize("words", ["status", "plan"])
def test_an_unchanged_manifest_costs_no_cryptography(ends: Ends, words: str) -> None:
    ends.sign(8446)
    ends.client.tunctl("apply", "d.toml")
    loaded, _said = imported(ends.client, RUN, words)
    assert {name.partition(".")[0] for name in loaded} & {"cryptography", "json", "re", "datetime"} == set()
    assert "reconciler.observe.manifest" in loaded
