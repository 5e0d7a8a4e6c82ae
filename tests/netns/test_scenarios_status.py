"""S1 to S11, S63: what `status` tells, seen from outside."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from tests.netns.scenario import (
    PROGRAMS,
    STATUS_KEYS,
    STEP_KEYS,
    desired,
    exec_,
    files,
    handles_file,
    key_pair,
    reasons,
    rewrite_handles,
    send,
    tun,
    verdict,
    wireguard,
)
from tests.netns.world import Host, wait_until

NOBODY = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]


@pytest.fixture
def demo(host: Host) -> Host:
    """The tunnel demo is up, with a process that holds its device."""
    host.write("d.toml", desired(exec_(keys="mtu = 1420")))
    host.tunctl("apply", "d.toml")
    return host


def test_connected_is_what_the_kernel_says(demo: Host) -> None:
    seen = verdict(demo, expect=0)
    assert seen["verdict"] == "connected"
    assert seen["reasons"] == []
    assert seen["addresses"] == ["10.9.0.2/32"]
    assert seen["last_addresses"] == ["10.9.0.2/32"]
    assert seen["ifindex"] == demo.ip_json("link show tun-demo")[0]["ifindex"]
    assert (seen["mtu"], seen["routes"], seen["state"], seen["held"]) == (1420, 1, "up", False)
    shutil.rmtree(demo.run_dir)
    assert verdict(demo, expect=0) | {"duration_seconds": 0} == seen | {"duration_seconds": 0}


def test_not_declared(host: Host) -> None:
    named = host.tunctl("status", "demo", expect=1)
    assert "not-connected" in named.stdout
    assert "no tunnel 'demo' is declared" in named.stdout
    assert "nothing is declared" in host.tunctl("status").stdout
    assert verdict(host, expect=1)["verdict"] == "not-connected"
    assert not host.state_dir.exists()
    assert not host.run_dir.exists()


def test_stale_by_the_store_and_the_kernel_alone(demo: Host) -> None:
    demo.ip("link del tun-demo")
    assert "interface no longer present" in reasons(demo, expect=2)
    assert verdict(demo)["verdict"] == "stale"
    shutil.rmtree(demo.run_dir)
    seen = verdict(demo, expect=2)
    assert (seen["verdict"], seen["ifindex"], seen["addresses"]) == ("stale", None, [])
    assert "tun-demo: interface no longer present" in seen["reasons"]
    assert demo.tunctl("status", expect=2).stdout.count("●") == 1


def test_codes_that_are_not_pythons_nor_clicks(host: Host) -> None:
    host.tunctl("status", "--bogus", expect=64)
    broken = (
        "import sys, reconciler.loop.look as look\nlook.survey = None\nfrom reconciler.__main__ import main\nsys.exit(main())"
    )
    for arguments in (["status"], ["status", "--json"], ["--json", "status", "--watch"]):
        done = host.run([sys.executable, "-c", broken, *arguments], check=False)
        assert done.returncode == 70, done.stderr
        assert "Traceback" not in done.stderr
        assert "report" in done.stderr
        if "--json" in arguments:
            assert json.loads(done.stdout)["error"]["code"] == 70
    for arguments in (["status", "--debug"], ["--debug", "status", "--watch"]):
        done = host.run([sys.executable, "-c", broken, *arguments], check=False)
        assert (done.returncode, "Traceback" in done.stderr) == (70, True)


def test_a_device_without_an_intent_is_unmanaged(host: Host) -> None:
    host.ip("tuntap add tun-demo mode tun")
    host.ip("addr add 100.64.0.1/10 dev tun-demo")
    before = host.snapshot()
    seen = host.json("status", expect=0)
    assert seen["tunnels"] == []
    assert seen["unmanaged"] == [{"interface": "tun-demo", "kind": "tun", "addresses": ["100.64.0.1/10"]}]
    assert "100.64.0.1/10 (CGNAT)" in host.tunctl("status").stdout
    host.tunctl("reconcile")
    assert host.snapshot() == before


def test_a_pid_is_advice(demo: Host) -> None:
    pid = verdict(demo)["owner"]["pid"]
    before = verdict(demo, expect=0)
    rewrite_handles(demo, pid=999999)
    seen = verdict(demo, expect=0)
    assert seen["verdict"] == "connected"
    assert seen["owner"] == before["owner"] | {"pid": pid, "running": True}
    text = demo.tunctl("status", "demo", expect=0).stdout
    assert "999999 (not running)" in text
    assert f"pid {pid} (" in text


def test_the_holder_is_known_from_the_kernel(demo: Host) -> None:
    holding = [pid for pid in demo.pids() if "iff:\ttun-demo" in _fdinfo(pid)]
    assert [verdict(demo)["owner"]["pid"]] == holding
    handles_file(demo).unlink()
    assert verdict(demo)["owner"] == {"pid": holding[0], "running": True, "command": verdict(demo)["owner"]["command"]}


def _fdinfo(pid: int) -> str:
    return "\n".join(path.read_text() for path in Path(f"/proc/{pid}/fdinfo").iterdir())


def test_live_addresses_beat_remembered_ones(demo: Host) -> None:
    demo.ip("addr del 10.9.0.2/32 dev tun-demo")
    demo.ip("addr add 10.9.0.3/32 dev tun-demo")
    seen = verdict(demo, expect=3)
    assert "10.9.0.3/32" in seen["addresses"]
    assert any("address drift" in reason and "10.9.0.2/32" in reason for reason in seen["reasons"])
    demo.ip("addr del 10.9.0.3/32 dev tun-demo")
    seen = verdict(demo, expect=3)
    assert seen["addresses"] == []
    assert seen["last_addresses"] == ["10.9.0.2/32"]
    demo.tunctl("reconcile")
    assert verdict(demo, expect=0)["addresses"] == ["10.9.0.2/32"]


def test_a_foreign_address_is_shown_and_no_drift(demo: Host) -> None:
    demo.ip("addr add 10.9.0.77/32 dev tun-demo")
    demo.ip("route add 10.77.0.0/16 dev tun-demo")
    seen = verdict(demo, expect=0)
    assert sorted(seen["addresses"]) == ["10.9.0.2/32", "10.9.0.77/32"]
    assert seen["routes"] == 1
    assert demo.tunctl("apply", "d.toml").stdout == "no changes\n"
    assert "10.77.0.0/16" in demo.ip("route")


def test_an_equal_unmarked_address_is_taken_over(demo: Host) -> None:
    demo.ip("addr del 10.9.0.2/32 dev tun-demo")
    demo.ip("addr add 10.9.0.2/32 dev tun-demo")
    demo.tunctl("apply", "d.toml")
    assert verdict(demo, expect=0)["addresses"] == ["10.9.0.2/32"]


def test_status_writes_nothing(demo: Host) -> None:
    before = demo.snapshot(), files(demo.state_dir), files(demo.run_dir)
    seen = (
        f"until {sys.executable} -m reconciler status demo >/dev/null; do [ $? = 5 ] || exit 1; done"  # 5: it looked too late
    )
    demo.run(["sh", "-c", f"for i in $(seq 50); do {seen}; done"], timeout=100)
    read_only = f'mount --bind {demo.state_dir} {demo.state_dir} && mount -o remount,bind,ro {demo.state_dir} && exec "$@"'
    argv = ["unshare", "-m", "sh", "-c", read_only, "sh", *demo.tunctl_argv("status", "demo")]
    wait_until(lambda: demo.run(argv, check=False).returncode == 0, 30, "status where nothing can be written")
    assert (demo.snapshot(), files(demo.state_dir), files(demo.run_dir)) == before


def test_status_as_nobody(demo: Host) -> None:
    assert demo.run([*NOBODY, *demo.tunctl_argv("status", "demo")]).stdout.count("connected") == 1
    seen = json.loads(demo.run([*NOBODY, *demo.tunctl_argv("status", "--json")]).stdout)["tunnels"][0]
    assert seen["verdict"] == "connected"
    assert [what.partition(":")[0] for what in seen["unobserved"]] == ["owner"]
    assert (seen["addresses"], seen["routes"], seen["owner"]) == (["10.9.0.2/32"], 1, None)
    demo.ip("addr del 10.9.0.2/32 dev tun-demo")
    assert demo.run([*NOBODY, *demo.tunctl_argv("status")], check=False).returncode == 3
    demo.ip("link del tun-demo")
    assert demo.run([*NOBODY, *demo.tunctl_argv("status")], check=False).returncode == 2


def test_status_waits_for_nobody(host: Host) -> None:
    peer = key_pair(host, "peer.key")
    key_pair(host, "a.key")
    peers = f'[[tunnels.wg.wireguard.peers]]\npublic_key = "{peer}"\nallowed_ips = ["10.30.0.0/16"]\n'
    host.write("d.toml", desired(exec_(), wireguard("wg", "a.key", peers=peers)))
    host.tunctl("apply", "d.toml")
    usual = _seconds(host, expect=0)
    owners = [tunnel["owner"]["pid"] for tunnel in host.json("status")["tunnels"]]
    for pid in owners:
        send(pid, signal.SIGSTOP)
    lock = host.start([sys.executable, "-c", _HOLD_STORE, str(host.state_dir / "intent.db")], log="hold.log")
    wait_until(lambda: "held" in (host.dir / "hold.log").read_text())
    try:
        assert _seconds(host, expect=None) < usual + 1
        host.kill(lock)
        assert _seconds(host, expect=None) < usual + 1
        assert verdict(host, "demo", expect=0)["verdict"] == "connected"
        seen = verdict(host, "wg", expect=5)
        assert seen["verdict"] == "unknown"
        assert any("wireguard" in reason for reason in seen["reasons"])
    finally:
        for pid in owners:
            send(pid, signal.SIGCONT)


_HOLD_STORE = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
time.sleep(60)
"""


def _seconds(host: Host, expect: int | None) -> float:
    begun = time.monotonic()
    host.tunctl("status", expect=expect)
    return time.monotonic() - begun


def test_status_without_helpers(demo: Host) -> None:
    usual = verdict(demo, expect=0)
    done = demo.run(["env", "PATH=/nonexistent", *demo.tunctl_argv("status", "demo", "--json")])
    assert json.loads(done.stdout)["tunnels"][0]["verdict"] == usual["verdict"]
    hidden = [
        "unshare",
        "-m",
        "sh",
        "-c",
        'mount -t tmpfs none /run/dbus 2>/dev/null; mount -t tmpfs none /sys; exec "$@"',
        "sh",
    ]
    assert demo.run([*hidden, *demo.tunctl_argv("status", "demo")]).returncode == 0


def test_a_corrupt_store_is_not_a_verdict(demo: Host) -> None:
    (demo.state_dir / "intent.db").write_text("x")
    before = demo.snapshot()
    for command in (["status"], ["status", "demo"], ["plan"], ["plan", "d.toml"], ["apply", "d.toml"], ["down", "demo"],
                    ["up", "demo"], ["reconcile"], ["show", "demo"], ["history"], ["forget", "demo"]):  # fmt: skip
        done = demo.tunctl(*command, "--json", expect=74)
        assert str(demo.state_dir / "intent.db") in json.loads(done.stdout)["error"]["message"], command
    assert demo.snapshot() == before


def test_status_json_has_all_its_keys(demo: Host) -> None:
    demo.ip("route del 10.20.0.0/16")
    seen = demo.json("status", expect=3)
    assert set(seen) == {"version", "tunnels", "unmanaged", "orphans", "daemon"}
    assert seen["version"] == 1
    assert seen["daemon"] == {"running": False, "pid": None}
    (tunnel,) = seen["tunnels"]
    assert set(tunnel) == STATUS_KEYS
    assert set(tunnel["owner"]) == {"pid", "running", "command"}
    assert set(tunnel["counters"]) == {"rx_bytes", "tx_bytes", "rx_packets", "tx_packets"}
    (step,) = tunnel["pending"]
    assert set(step) == STEP_KEYS
    assert (step["verb"], step["kind"], step["tunnel"], step["found"]) == ("create", "route", "demo", None)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", tunnel["since"])
    assert tunnel["duration_seconds"] >= 0
    assert (tunnel["dns"], tunnel["nat"], tunnel["listen"], tunnel["excluded"], tunnel["peers"]) == (None, [], [], [], [])
    (unknown,) = demo.json("status", "other", expect=1)["tunnels"]
    assert set(unknown) == STATUS_KEYS


def test_the_highest_code_counts(host: Host) -> None:
    host.write("d.toml", desired(exec_(), tun("idle", addresses=(), routes=())))
    host.tunctl("apply", "d.toml")
    host.tunctl("status", "demo", expect=0)
    assert "no process attached" in reasons(host, "idle", expect=3)
    host.tunctl("status", expect=3)
    host.ip("link del tun-demo")
    host.tunctl("status", expect=3)
    host.tunctl("status", "demo", "other", expect=2)


def test_counters_are_read_when_asked(host: Host) -> None:
    pump = [sys.executable, str(PROGRAMS / "pump.py"), "{interface}", "127.0.0.1:5001", "127.0.0.1:5002"]
    host.write("d.toml", desired(exec_(command=pump)))
    host.tunctl("apply", "d.toml")
    before = verdict(host, expect=0)["counters"]
    with host.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        for _ in range(10):
            out.sendto(b"x", ("10.20.0.1", 9))
    wait_until(lambda: verdict(host)["counters"]["tx_packets"] - before["tx_packets"] >= 10)
    after = verdict(host)["counters"]
    kernel = host.ip_json("-s link show tun-demo")[0]["stats64"]
    assert (after["tx_packets"], after["rx_bytes"]) == (kernel["tx"]["packets"], kernel["rx"]["bytes"])
    host.ip("link del tun-demo")
    host.tunctl("apply", "d.toml")
    assert 0 <= verdict(host, expect=0)["counters"]["tx_packets"] < 10
