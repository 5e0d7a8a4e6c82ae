"""`tunctl metrics` on the real kernel: what it says is what the kernel says, with and without a daemon, as root or not."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.netns.scenario import desired, exec_, key_pair, send, tun, wireguard
from tests.netns.world import Host, Pair, wait_until

pytestmark = pytest.mark.bound(240)
NOBODY = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
SOON_S = 20
WAYS = {"receive": "rx", "transmit": "tx"}
SHORT_S = 10  # status answers within a second; the machine is shared, and Python starts first


class Told:
    """One answer."""

    def __init__(self, text: str) -> None:
        self.families: list[Metric] = list(text_string_to_metric_families(text))
        self.names = {sample.name for family in self.families for sample in family.samples}

    def __call__(self, name: str, /, **labels: str) -> float | None:
        """The one sample of this name with at least these labels."""
        samples = [sample for family in self.families for sample in family.samples]
        found = [s.value for s in samples if s.name == name and labels.items() <= s.labels.items()]
        assert len(found) <= 1, (name, labels, found)
        return found[0] if found else None


def ask(host: Host) -> Told:
    return Told(host.tunctl("metrics").stdout)


@pytest.fixture
def daemons(host: Host) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Those that a test started."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for one in started:
        host.kill(one)


def keep(host: Host, daemons: list[subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    """A daemon that has done its first pass."""
    daemons.append(host.start(host.tunctl_argv("daemon"), log="daemon.log"))
    wait_until(lambda: ask(host)("tunctl_daemon_last_pass_timestamp_seconds"), SOON_S, (host.dir / "daemon.log").read_text())
    return daemons[-1]


def test_nothing_declared(host: Host) -> None:
    told = ask(host)
    assert told.names == {
        "tunctl_build_info", "tunctl_daemon_running", "tunctl_orphan_interfaces", "tunctl_unmanaged_interfaces",
    }  # fmt: skip
    assert told("tunctl_daemon_running") == 0
    assert not host.state_dir.exists()
    assert not host.run_dir.exists()


def test_without_a_daemon(host: Host) -> None:
    host.tunctl("apply", host.write("d.toml", desired(exec_(keys="mtu = 1420"), tun("idle", addresses=(), routes=()))))
    told = ask(host)
    assert told("tunctl_tunnel_verdict", tunnel="demo", verdict="connected") == 1
    assert told("tunctl_tunnel_verdict", tunnel="demo", verdict="degraded") == 0
    assert told("tunctl_tunnel_verdict", tunnel="idle", verdict="degraded") == 1
    assert told("tunctl_tunnel_info", tunnel="demo", driver="exec", interface="tun-demo", source="test") == 1
    assert (told("tunctl_tunnel_mtu_bytes", tunnel="demo"), told("tunctl_tunnel_routes", tunnel="demo")) == (1420, 1)
    assert told("tunctl_tunnel_owner_running", tunnel="demo") == 1
    assert abs((told("tunctl_tunnel_since_timestamp_seconds", tunnel="demo") or 0) - time.time()) < 600
    assert not any(name.startswith(("tunctl_pass", "tunctl_step", "tunctl_repairs")) for name in told.names), "nobody counts"
    host.ip("link del tun-demo")
    host.tunctl("down", "idle")
    told = ask(host)
    assert told("tunctl_tunnel_verdict", tunnel="demo", verdict="stale") == 1
    assert told("tunctl_tunnel_receive_bytes_total", tunnel="demo") is None, "not zero: unknown"
    assert told("tunctl_tunnel_held", tunnel="idle") == 1
    assert (told("tunctl_tunnel_pending_steps", tunnel="demo") or 0) > 0


def counted(host: Host) -> bool:
    """Are the counters those of the kernel, and do they count? False while packets come in between."""
    told, kernel = ask(host), host.ip_json("-s link show tun-wg")[0]["stats64"]
    figures = {f"{word}_{unit}": kernel[way][unit] for word, way in WAYS.items() for unit in ("bytes", "packets")}
    return all(figures.values()) and figures == {
        figure: told(f"tunctl_tunnel_{figure}_total", tunnel="wg", interface="tun-wg") for figure in figures
    }


def test_handshakes(pair: Pair) -> None:
    keys = [key_pair(host, "wg.key") for host in pair]
    for number, (host, peer) in enumerate(zip(pair, reversed(keys), strict=True), 1):
        block = (
            f'[[tunnels.wg.wireguard.peers]]\nname = "end {3 - number}"\npublic_key = "{peer}"\n'
            f'endpoint = "192.0.2.{3 - number}:51820"\nallowed_ips = ["10.50.0.{3 - number}"]\nkeepalive = "1s"\n'
        )
        keys_ = f'addresses = ["10.50.0.{number}/24"]'
        text = desired(wireguard("wg", "wg.key", options="listen_port = 51820", peers=block))
        host.tunctl("apply", host.write("d.toml", text.replace("addresses = []", keys_)))
    peer = {"tunnel": "wg", "peer": "end 2", "public_key": keys[1]}
    wait_until(lambda: ask(pair.a)("tunctl_peer_handshake_age_seconds", **peer) is not None, SOON_S, "a handshake")
    told = ask(pair.a)
    age, at = (told(f"tunctl_peer_{name}_seconds", **peer) or -1 for name in ("handshake_age", "latest_handshake_timestamp"))
    assert 0 <= age < 60
    assert abs(at + age - time.time()) < 60
    assert told("tunctl_peer_receive_bytes_total", **peer)
    assert told("tunctl_peer_transmit_bytes_total", **peer)
    pair.a.run(["ping", "-c", "2", "-w", "10", "10.50.0.2"])
    wait_until(lambda: counted(pair.a), SOON_S, "nothing moves any more")
    nobody = Told(pair.a.run([*NOBODY, *pair.a.tunctl_argv("metrics")]).stdout)
    assert not any(name.startswith("tunctl_peer") for name in nobody.names)
    assert (nobody("tunctl_tunnel_unobserved", tunnel="wg") or 0) > 0
    assert nobody("tunctl_tunnel_transmit_bytes_total", tunnel="wg")


def test_what_a_daemon_counts(host: Host, daemons: list[subprocess.Popen[bytes]]) -> None:
    host.tunctl("apply", host.write("d.toml", desired(tun())))
    daemon = keep(host, daemons)
    told = ask(host)
    assert told("tunctl_daemon_running") == 1
    assert told("tunctl_repairs_total", tunnel="demo", kind="route") is None
    for number in (1, 2):
        host.ip("route del 10.20.0.0/16 dev tun-demo")
        wait_until(lambda: ask(host)("tunctl_repairs_total", tunnel="demo", kind="route") == number, SOON_S)  # noqa: B023
    told = ask(host)
    step = {"kind": "route", "verb": "create"}
    assert told("tunctl_step_duration_seconds_count", **step) == 2
    assert told("tunctl_step_duration_seconds_bucket", **step, le="+Inf") == 2
    assert 0 < (told("tunctl_step_duration_seconds_sum", **step) or 0) < SOON_S
    passes = told("tunctl_pass_duration_seconds_count", scope="all") or 0
    assert passes >= 3
    assert 0 < (told("tunctl_pass_duration_seconds_sum", scope="all") or 0) < passes * SOON_S
    started = told("tunctl_daemon_start_time_seconds") or 0
    send(daemon.pid, signal.SIGSTOP)
    begun = time.monotonic()
    assert ask(host)("tunctl_repairs_total", tunnel="demo", kind="route") == 2, "a daemon that hangs hinders nobody"
    assert time.monotonic() - begun < SHORT_S
    host.kill(daemon)
    told = ask(host)
    assert told("tunctl_daemon_running") == 0
    assert told("tunctl_repairs_total", tunnel="demo", kind="route") is None, "what it left behind counts no more"
    assert (host.run_dir / "meter.json").exists()
    daemon = keep(host, daemons)
    wait_until(lambda: (ask(host)("tunctl_daemon_start_time_seconds") or 0) > started, SOON_S)
    told = ask(host)
    assert told("tunctl_repairs_total", tunnel="demo", kind="route") is None, "a new daemon counts anew"
    (host.run_dir / "meter.json").write_text('{"version": 1, "passes": 7}')
    assert ask(host)("tunctl_daemon_running") == 1
    host.ip("route del 10.20.0.0/16 dev tun-demo")
    wait_until(lambda: ask(host)("tunctl_repairs_total", tunnel="demo", kind="route") == 1, SOON_S)
    assert host.kill(daemon, signal.SIGTERM, 15) == 0
    assert not (host.run_dir / "meter.json").exists()


def test_a_pass_that_cannot_do_its_work_is_counted(host: Host, daemons: list[subprocess.Popen[bytes]]) -> None:
    host.tunctl("apply", host.write("d.toml", desired(tun())))
    keep(host, daemons)
    store = host.state_dir / "intent.db"
    good = store.read_bytes()
    store.write_bytes(b"x" * len(good))
    assert host.tunctl("metrics", expect=74).stdout == ""
    send(daemons[0].pid, signal.SIGHUP)
    wait_until(lambda: '["failed", 1]' in (host.run_dir / "meter.json").read_text(), SOON_S)
    store.write_bytes(good)
    assert ask(host)("tunctl_passes_unfinished_total", reason="failed") == 1


def test_json(host: Host) -> None:
    host.tunctl("apply", host.write("d.toml", desired(tun())))
    document = host.json("metrics")
    families = {family["name"]: family for family in document["metrics"]}
    assert document["version"] == 1
    assert families["tunctl_daemon_running"]["samples"] == [{"name": "tunctl_daemon_running", "labels": {}, "value": 0}]
    assert {family.name for family in ask(host).families} == {name.removesuffix("_total") for name in families}


def test_in_another_locale(host: Host) -> None:
    """The format is UTF-8, whatever the terminal is."""
    (host.dir / "bücher").mkdir()
    host.write("bücher/d.toml", desired(tun(), source=None))
    host.tunctl("apply", f"{host.dir}/bücher/d.toml")
    done = host.run(host.tunctl_argv("metrics"), env={"LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "latin-1"})
    assert Told(done.stdout)("tunctl_tunnel_info", source=f"{host.dir}/bücher/d.toml") == 1
