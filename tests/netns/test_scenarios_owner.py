"""S30, S34 to S36, S65 to S68, S75: programs that carry packets, from outside."""

from __future__ import annotations

import json
import signal
import stat
import sys
import time
from base64 import b64decode
from pathlib import Path

import pytest

from tests.netns.scenario import (
    HOLDER,
    PROGRAMS,
    alive,
    desired,
    dump,
    exec_,
    handles_file,
    key_pair,
    links,
    proto_routes,
    reasons,
    rewrite_handles,
    send,
    settled,
    tun,
    verdict,
    wireguard,
)
from tests.netns.world import Host, wait_until

PUMP = [sys.executable, str(PROGRAMS / "pump.py"), "{interface}", "127.0.0.1:5001", "127.0.0.1:5002"]


def owner_pid(host: Host, name: str = "demo") -> int:
    return int(verdict(host, name)["owner"]["pid"])


def test_a_device_that_nobody_has_opened(host: Host) -> None:
    host.write("d.toml", desired(tun()))
    host.tunctl("apply", "d.toml")
    seen = verdict(host, expect=3)
    assert (seen["verdict"], seen["reasons"]) == ("degraded", ["no process attached"])
    holder = host.start([sys.executable, str(PROGRAMS / "holder.py"), "tun-demo"])
    wait_until(lambda: host.tunctl("status", "demo", expect=None).returncode == 0)
    host.kill(holder)
    assert "NO-CARRIER" in host.ip_json("link show tun-demo")[0]["flags"]
    assert reasons(host, expect=3) == "no process attached"


def test_set_down_by_the_administrator(host: Host) -> None:
    host.write("d.toml", desired(exec_(addresses=("10.9.0.2/32", "fd00:9::2/128"), routes=("10.20.0.0/16", "fd00:20::/32"))))
    host.tunctl("apply", "d.toml")
    up = settled(host)
    host.ip("link set tun-demo down")
    assert "admin down" in reasons(host, expect=3)
    host.tunctl("reconcile")
    assert verdict(host, expect=0)["routes"] == 2
    assert settled(host) == up


@pytest.mark.parametrize("how", ["SIGTERM", "link down", "link del", "tunctl down"])
def test_an_idle_pump_ends_when_asked(host: Host, how: str) -> None:
    host.write("d.toml", desired(exec_(command=PUMP)))
    host.tunctl("apply", "d.toml")
    pid = owner_pid(host)
    if how == "link del":
        host.ip("link del tun-demo")
    elif how == "tunctl down":
        host.tunctl("down", "demo")
        assert not alive(pid)
    else:
        if how == "link down":
            host.ip("link set tun-demo down")
        send(pid, signal.SIGTERM)
    wait_until(lambda: not alive(pid), 30)


def test_a_dead_program_is_started_again(host: Host) -> None:
    host.write("d.toml", desired(exec_(options='device = "tunctl"')))
    host.tunctl("apply", "d.toml")
    index, pid = verdict(host)["ifindex"], owner_pid(host)
    send(pid)
    wait_until(lambda: not alive(pid))
    assert "owner not running" in reasons(host, expect=3)
    assert f"pid {pid} (not running)" in host.tunctl("status", expect=3).stdout
    host.tunctl("reconcile")
    seen = verdict(host, expect=0)
    assert seen["ifindex"] == index
    assert seen["owner"]["pid"] != pid
    host.tunctl("down", "demo")
    assert (links(host), host.pids()) == ([], [])


def test_somebody_elses_pid_is_not_signalled(host: Host) -> None:
    host.write("d.toml", desired(exec_()))
    host.tunctl("apply", "d.toml")
    pid = owner_pid(host)
    innocent = host.start(["sleep", "60"])
    rewrite_handles(host, pid=innocent.pid, start_ticks=_ticks(innocent.pid))
    done = host.tunctl("down", "demo")
    assert f"refusing to signal pid {innocent.pid}" in done.stderr
    assert innocent.poll() is None
    assert not alive(pid)
    assert links(host) == []


def _ticks(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def test_one_that_ignores_sigterm(host: Host) -> None:
    host.write("d.toml", desired(exec_("demo", "stubborn", "family", options='stop_grace = "1s"')))
    host.tunctl("apply", "d.toml")
    pids = host.pids()
    assert len(pids) >= 3
    begun = time.monotonic()
    done = host.tunctl("down", "demo")
    assert 1 <= time.monotonic() - begun < 10
    assert "SIGKILL" in done.stderr
    assert (host.pids(), links(host)) == ([], [])


def test_one_that_never_becomes_ready(host: Host) -> None:
    before = host.snapshot()
    host.write("d.toml", desired(exec_("demo", "never", "talk", options='ready_timeout = "1s"')))
    done = host.tunctl("apply", "d.toml", expect=1)
    lines = [line for line in done.stderr.splitlines() if line.strip().startswith("line ")]
    assert [line.split()[1] for line in lines] == [str(number) for number in range(28, 40)]
    assert "\x1b" not in done.stderr
    assert (host.pids(), host.snapshot()) == ([], before)
    seen = verdict(host, expect=1)
    assert (seen["verdict"], seen["attempt"]) == ("not-connected", 1)
    assert seen["next_retry_at"]
    host.write("d.toml", desired(exec_("demo", "die")))
    assert "dying" in host.tunctl("apply", "d.toml", expect=1).stderr
    assert (host.pids(), host.snapshot()) == ([], before)


def test_a_double_that_has_the_device_ends_before_the_next_program_begins(host: Host) -> None:
    """The next one could not open it."""
    host.write("d.toml", desired(exec_()))
    host.tunctl("apply", "d.toml")
    first = owner_pid(host)
    pairs = Path(f"/proc/{first}/environ").read_text().split("\0")
    mark = next(pair.partition("=")[2] for pair in pairs if pair.startswith("TUNCTL_TUNNEL="))
    host.ip("link del tun-demo")  # it runs on without one
    double = host.start(["setsid", *HOLDER[:2], "tun-demo"], env={"TUNCTL_TUNNEL": mark})
    wait_until(lambda: host.ip("link show dev tun-demo", check=False), what="the double has opened it")
    host.write("d.toml", desired(exec_("demo", "talk")))
    steps = [line[:7] for line in host.tunctl("apply", "d.toml").stdout.splitlines() if "owner" in line]
    assert steps == ["- owner", "! owner"]
    assert double.wait(10) == -signal.SIGTERM
    assert owner_pid(host) not in (first, double.pid)
    assert not alive(first)


def launcher(host: Host, *, own_session: bool) -> str:
    """A program that starts another one and ends."""
    words = [*HOLDER[:2], "SELF"]
    script = (
        f"#!{sys.executable}\nimport subprocess, sys\nargv = [word.replace('SELF', sys.argv[1]) for word in {words}]\n"
        f"subprocess.Popen(argv, start_new_session={own_session})\n"
    )
    return str(host.write("launcher", script, 0o755))


def test_a_program_that_leaves_its_work_to_a_child(host: Host) -> None:
    """It is started once: the child is what was wanted, whatever its command line says."""
    host.write("d.toml", desired(exec_(command=[launcher(host, own_session=False), "{interface}"])))
    assert host.tunctl("apply", "d.toml").stdout.count(" owner ") == 1
    assert verdict(host)["verdict"] == "connected"
    assert host.tunctl("apply", "d.toml").stdout == "no changes\n"
    host.tunctl("down", "demo")
    assert host.pids() == []


def test_one_that_never_is_as_wanted_does_not_keep_others_waiting(host: Host) -> None:
    """Its child begins a session of its own, with another command line. It is started again once, and the rest is done."""
    odd = exec_("odd", command=[launcher(host, own_session=True), "{interface}"], addresses=["10.9.1.2/32"], routes=[])
    host.write("d.toml", desired(odd, tun()))
    host.start(host.tunctl_argv("daemon"), log="daemon.log")  # there others have their turn while one waits for a program
    wait_until(lambda: host.json("status", expect=None)["daemon"]["running"])
    done = host.tunctl("apply", "d.toml", expect=None)
    assert done.stdout.count(" owner ") <= 3, done.stdout
    assert "demo" not in done.stderr, done.stderr
    assert proto_routes(host), "of demo"


def test_what_a_program_leaves_behind(host: Host) -> None:
    """It says that it ended well, and leaves its device and a route: only a fresh look is believed."""
    before = host.snapshot()
    script = f"""#!/bin/sh
trap 'ip route add unreachable 10.98.0.0/16 proto 115; exit 0' TERM
{" ".join(HOLDER[:2])} "$1" persist &
wait
"""
    shim = host.write("shim", script, 0o755)
    host.write("d.toml", desired(exec_(command=[str(shim), "{interface}"])))
    host.tunctl("apply", "d.toml")
    host.ip("route add 10.97.0.0/16 dev tun-demo")
    steps = host.tunctl("down", "demo").stdout.splitlines()
    assert steps[0].startswith("- owner")
    assert steps[1].startswith("- link tun-demo")
    assert steps[2] == "- route unreachable 10.98.0.0/16"
    assert (host.snapshot(), host.pids()) == (before, [])


def test_nothing_of_a_secret_is_ever_shown(host: Host) -> None:
    public = key_pair(host, "peer.key")
    key_pair(host, "wg.key")
    key_pair(host, "psk")
    secrets = [(host.dir / name).read_text().strip() for name in ("wg.key", "psk", "peer.key")]
    assert all(stat.S_IMODE((host.dir / name).stat().st_mode) == 0o600 for name in ("wg.key", "psk"))
    peers = (
        f'[[tunnels.wg.wireguard.peers]]\npublic_key = "{public}"\npreshared_key_file = "psk"\n'
        'endpoint = "192.0.2.9:51820"\nallowed_ips = ["10.30.0.0/16"]\n'
    )
    host.write("d.toml", desired(wireguard("wg", "wg.key", peers=peers)))
    looks = (["status"], ["status", "--json"], ["show", "wg", "--json"], ["show", "wg"], ["history", "--json"], ["plan"])
    said = [host.tunctl("apply", "d.toml", "--debug", "--json"), *(host.tunctl(*words, expect=None) for words in looks)]
    (host.dir / "psk").chmod(0o644)
    said.append(host.tunctl("apply", "d.toml", expect=65))
    (host.dir / "psk").chmod(0o600)
    (host.dir / "psk").write_text("not a key: sesame\n")
    said.append(host.tunctl("apply", "d.toml", "--debug", expect=None))
    texts = [done.stdout + done.stderr for done in said]
    texts += [dump(host), handles_file(host, "wg").read_text(), host.run(["ps", "-efww"]).stdout]
    texts += [path.read_text(errors="replace") for path in host.run_dir.rglob("*.log")]
    texts += [Path(f"/proc/{pid}/environ").read_text(errors="replace") for pid in host.pids()]
    for secret in [*secrets, *(bytes_hex(secret) for secret in secrets), "sesame"]:
        assert not any(secret in text for text in texts), secret
    assert host.run(["grep", "-rl", secrets[0], str(host.state_dir), str(host.run_dir)], check=False).stdout == ""


def bytes_hex(key: str) -> str:
    return b64decode(key).hex()


def test_a_program_that_loses_its_environment_is_still_ours(host: Host) -> None:
    host.write("d.toml", desired(exec_("demo", "rename")))
    host.tunctl("apply", "d.toml")
    pid = owner_pid(host)
    assert host.tunctl("apply", "d.toml").stdout == "no changes\n"
    assert json.loads(handles_file(host).read_text())["pid"] == pid
    handles_file(host).unlink()
    assert verdict(host, expect=0)["owner"]["pid"] == pid
    _leave_its_control_group(pid)
    assert verdict(host, expect=0)["owner"]["pid"] == pid, "it keeps a device that carries our mark"
    assert host.tunctl("reconcile").stdout in ("", "no changes\n")
    handles_file(host).unlink()
    host.tunctl("down", "demo")
    assert (host.pids(), links(host), proto_routes(host)) == ([], [], [])


def _leave_its_control_group(pid: int) -> None:
    for line in Path("/proc/mounts").read_text().splitlines():
        if line.split()[2] == "cgroup2":
            (Path(line.split()[1]) / "cgroup.procs").write_text(str(pid))


@pytest.mark.parametrize("name", ['"$1"', "own9"])
def test_a_slow_program_that_chooses_its_device(host: Host, name: str) -> None:
    """It is waited for, whatever the name turns out to be, and started once."""
    script = f"#!/bin/sh\necho begun\nsleep 0.4\nexec {' '.join(HOLDER[:2])} {name}\n"
    command = [str(host.write("slow", script, 0o755)), *([] if name == "own9" else ["{interface}"])]
    host.write("d.toml", desired(exec_(interface="auto", command=command)))
    host.tunctl("apply", "d.toml")
    assert (host.run_dir / "tunnels" / "demo" / "owner.log").read_text() == "begun\n"
    assert verdict(host, expect=0)["interface"] == (name if name == "own9" else "tun0")
    assert host.tunctl("apply", "d.toml").stdout == "no changes\n"
    host.tunctl("down", "demo")
    assert (host.pids(), links(host)) == ([], [])
