"""S19 to S24, S70 to S72, S80: crashes, hints, files, repair, privileges, from outside."""

from __future__ import annotations

import json
import re
import signal
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.netns.scenario import (
    alive,
    desired,
    dump,
    exec_,
    files,
    handles_file,
    links,
    proto_routes,
    reasons,
    rewrite_handles,
    send,
    settled,
    tun,
    verdict,
)
from tests.netns.world import Host, wait_until

RULES = '[[tunnels.demo.rules]]\nfrom = "192.168.50.0/24"\nlookup = "tunnel"\n'
STEPS = 5  # owner, link, address, route, rule
UNPRIVILEGED = ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]


@pytest.fixture
def demo(host: Host) -> Host:
    """A desired file with all kinds of steps, not applied yet."""
    host.write("d.toml", desired(exec_(tables=RULES)))
    return host


def killed(host: Host, *words: str, fault: str) -> None:
    done = host.tunctl(*words, env={"TUNCTL_FAULT": fault}, expect=None)
    assert done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), f"{fault}: {done.stdout}{done.stderr}"


def faulty(host: Host, *words: str, fault: str, expect: int) -> Any:
    done = host.tunctl(*words, "--json", env={"TUNCTL_FAULT": fault}, expect=expect)
    return json.loads(done.stdout)


@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_killed_after_each_step(demo: Host, step: int) -> None:
    before = demo.snapshot()
    killed(demo, "apply", "d.toml", fault=f"kill-after:{step}")
    if step % 2:
        demo.tunctl("reconcile")
        verdict(demo, expect=0)
        assert len(demo.pids()) == 1
        killed(demo, "down", "demo", fault=f"kill-after:{1 + step // 2}")
    demo.tunctl("down", "demo")
    assert (demo.snapshot(), demo.pids()) == (before, [])


def test_everything_is_killed_and_then_down(demo: Host) -> None:
    before = demo.snapshot()
    demo.tunctl("apply", "d.toml")
    for pid in demo.pids():
        send(pid)
    wait_until(lambda: demo.pids() == [])
    assert reasons(demo, expect=2).startswith("tun-demo: interface no longer present")
    assert "left over: rule" in reasons(demo)
    demo.tunctl("down", "demo")
    assert demo.snapshot() == before


@pytest.mark.parametrize("text", [None, '{"pid": ', "[]", '{"version": 1, "pid": "x"}', "\xff\x00"])
def test_handles_that_are_lost_or_broken(demo: Host, text: str | None) -> None:
    before = demo.snapshot()
    demo.tunctl("apply", "d.toml")
    path = handles_file(demo)
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    seen = files(demo.run_dir)
    told = demo.tunctl("status", "demo", expect=0)
    assert (str(path) in told.stdout + told.stderr) == (text is not None)
    assert files(demo.run_dir) == seen
    done = demo.tunctl("down", "demo")
    assert (str(path) in done.stderr) == (text is not None)
    assert (demo.snapshot(), demo.pids()) == (before, [])


def test_the_store_has_no_handles(demo: Host) -> None:
    demo.tunctl("apply", "d.toml")
    pid = verdict(demo)["owner"]["pid"]
    text = dump(demo)
    assert not re.search(r"\b(pid|ifindex|bound_port|start_ticks)\b", text, re.IGNORECASE)
    assert str(pid) not in re.findall(r"\d+", text)
    assert json.loads(handles_file(demo).read_text())["pid"] == pid


@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_a_first_bring_up_that_fails_is_taken_back(demo: Host, step: int) -> None:
    before = demo.snapshot()
    done = faulty(demo, "apply", "d.toml", fault=f"fail:{step}:EIO", expect=1)
    outcomes = [entry["outcome"] for entry in done["steps"]]
    assert outcomes.count("failed") == 1
    assert "Input/output error" in "".join(entry["error"] or "" for entry in done["steps"])
    assert done["converged"] is False
    assert (demo.snapshot(), demo.pids()) == (before, [])
    seen = verdict(demo, expect=1)
    assert (seen["verdict"], seen["state"], seen["attempt"]) == ("not-connected", "waiting", 1)
    if step == STEPS:
        demo.tunctl("reconcile")
        verdict(demo, expect=0)


def test_a_change_that_fails_keeps_what_works(demo: Host) -> None:
    demo.tunctl("apply", "d.toml")
    pid = verdict(demo)["owner"]["pid"]
    demo.write(
        "d.toml",
        desired(exec_(routes=("10.20.0.0/16", "10.21.0.0/16"), addresses=("10.9.0.2/32", "10.9.0.3/32"), tables=RULES)),
    )
    faulty(demo, "apply", "d.toml", fault="fail:2:ENOBUFS", expect=1)
    seen = verdict(demo, expect=3)
    assert (seen["verdict"], seen["addresses"], seen["owner"]["pid"]) == ("degraded", ["10.9.0.2/32", "10.9.0.3/32"], pid)
    assert "10.21.0.0/16" in "".join(seen["reasons"])
    assert proto_routes(demo) == ["10.20.0.0/16"]
    demo.tunctl("reconcile")
    assert verdict(demo, expect=0)["owner"]["pid"] == pid


def test_other_tunnels_go_on(host: Host) -> None:
    host.write("d.toml", desired(tun("a", routes=()), tun("b", addresses=("10.9.1.2/32",), routes=())))
    host.tunctl("apply", "d.toml", env={"TUNCTL_FAULT": "fail:1:EIO"}, expect=1)
    assert len(links(host)) == 1
    host.tunctl("apply", "d.toml")
    assert sorted(links(host)) == ["tun-a", "tun-b"]


def test_modes_whatever_the_umask(demo: Host) -> None:
    demo.run(["sh", "-c", 'umask 000; exec "$@"', "sh", *demo.tunctl_argv("apply", "d.toml")])
    demo.run(["sh", "-c", 'umask 077; exec "$@"', "sh", *demo.tunctl_argv("reconcile")])
    modes = {path: stat.S_IMODE(path.stat().st_mode) for base in (demo.state_dir, demo.run_dir) for path in base.rglob("*")}
    modes |= {base: stat.S_IMODE(base.stat().st_mode) for base in (demo.state_dir, demo.run_dir)}
    for path, mode in modes.items():
        if path.is_dir():
            assert mode & 0o022 == 0, path
        elif path.name in ("handles.json", "owner.log"):
            assert mode == 0o600, path
        else:
            assert mode & 0o022 == 0, path
    assert modes[demo.state_dir] == 0o755
    assert modes[demo.state_dir / "intent.db"] == 0o644


@pytest.mark.parametrize("count", [1, 40])
def test_handles_are_replaced_whole(host: Host, count: int) -> None:
    """However many there are: each is on the disk before it takes its place."""
    host.write("d.toml", "version = 1\n" + "".join(f'[tunnels.t{number}]\ndriver = "tun"\n' for number in range(count)))
    calls = "trace=rename,renameat,renameat2,fsync,fdatasync"
    host.run(["strace", "-f", "-y", "-o", "trace", "-e", calls, *host.tunctl_argv("apply", "d.toml")])
    synced: set[str] = set()
    placed: list[str] = []
    for line in (host.dir / "trace").read_text().splitlines():  # a call may go on in another one, after that of another thread
        if begun := re.search(r"fsync\(\d+<([^>]*/tunnels/[^>]*)>", line):
            synced.add(begun[1])
        elif renamed := re.search(r'rename\("(.*)", "(.*/handles\.json)"', line):
            assert renamed[1] in synced, line
            placed.append(renamed[2])
    assert len(set(placed)) == count


def test_a_planted_link_is_not_followed(demo: Host) -> None:
    victim = demo.write("victim", "mine")
    demo.tunctl("apply", "d.toml")
    path = handles_file(demo)
    path.unlink()
    path.symlink_to(victim)
    demo.tunctl("status", "demo", expect=0)
    demo.ip("link set tun-demo mtu 1300")
    demo.tunctl("reconcile")
    demo.tunctl("apply", "d.toml")
    assert victim.read_text() == "mine"
    assert not path.is_symlink()
    demo.tunctl("down", "demo")
    assert victim.read_text() == "mine"


def test_another_boot(host: Host) -> None:
    """After a reboot: nothing is left in the kernel, hints are of no use, what is held stays down."""
    quiet = tun("quiet", addresses=("10.9.2.2/32",), routes=(), keys="autostart = false")
    host.write("d.toml", desired(exec_(), tun("held", addresses=("10.9.1.2/32",), routes=()), quiet))
    host.tunctl("apply", "d.toml")
    host.tunctl("up", "quiet")
    host.tunctl("down", "held")
    for pid in host.pids():
        send(pid)
    host.ip("link del tun-quiet")
    innocent = host.start(["sleep", "60"])
    rewrite_handles(host, boot_id="00000000-0000-4000-8000-000000000000", pid=innocent.pid)
    boot = host.write("boot_id", "11111111-2222-4333-8444-555555555555\n")
    after_boot = ["unshare", "-m", "sh", "-c", f'mount --bind {boot} /proc/sys/kernel/random/boot_id && exec "$@"', "sh"]
    assert host.run([*after_boot, *host.tunctl_argv("status")], check=False).returncode == 2
    done = host.run([*after_boot, *host.tunctl_argv("reconcile")])
    assert "refusing" not in done.stderr
    assert links(host) == ["tun-demo"]
    assert innocent.poll() is None
    assert json.loads(handles_file(host).read_text())["boot_id"] == boot.read_text().strip()
    seen = json.loads(host.run([*after_boot, *host.tunctl_argv("status", "--json")]).stdout)["tunnels"]
    assert {t["name"]: (t["verdict"], t["held"]) for t in seen} == {
        "demo": ("connected", False), "held": ("not-connected", True), "quiet": ("not-connected", False)
    }  # fmt: skip


@pytest.mark.parametrize(
    "harm",
    [
        "route del 10.20.0.0/16 table 20001",
        "addr del 10.9.0.2/32 dev tun-demo",
        "addr flush dev tun-demo",
        "rule del priority 20100",
        "route flush table 20001",
        "link set tun-demo alias x",
        "link set tun-demo group 5",
        "link set tun-demo mtu 1000",
    ],
)
def test_drift_is_repaired(demo: Host, harm: str) -> None:
    demo.write("d.toml", desired(exec_(keys="mtu = 1400", tables=RULES)))
    demo.tunctl("apply", "d.toml")
    up = settled(demo)
    demo.ip(harm)
    verdict(demo, expect=3)
    done = demo.tunctl("reconcile", env={"TUNCTL_FAULT": "fail:1:EIO"}, expect=1)
    assert "Input/output error" in done.stderr
    demo.tunctl("reconcile")
    assert settled(demo) == up


def test_steady_ticks_are_silent(demo: Host) -> None:
    demo.tunctl("apply", "d.toml")
    before = files(demo.state_dir), files(demo.run_dir)
    with demo.recording() as heard:
        loop = f"for i in $(seq 20); do {sys.executable} -m reconciler reconcile || exit; done"
        done = demo.run(["sh", "-c", loop], timeout=50)
    assert (heard, done.stderr) == ([], "")
    assert set(done.stdout.splitlines()) == {"no changes"}
    assert files(demo.state_dir) == before[0]
    assert {p: s for p, s in files(demo.run_dir).items() if "lock" not in p} == {
        p: s for p, s in before[1].items() if "lock" not in p
    }


def test_without_the_capability(demo: Host) -> None:
    before = demo.snapshot()
    commands = (["apply", "d.toml"], ["down", "demo"], ["up", "demo"], ["reconcile"], ["forget", "demo"], ["down", "--orphans"])
    for command in commands:
        done = demo.run([*UNPRIVILEGED, *demo.tunctl_argv(*command)], check=False)
        assert (done.returncode, "CAP_NET_ADMIN" in done.stderr) == (77, True), (command, done.stderr)
    assert (demo.snapshot(), demo.state_dir.exists(), demo.run_dir.exists()) == (before, False, False)
    assert demo.run([*UNPRIVILEGED, *demo.tunctl_argv("plan", "d.toml")], check=False).returncode == 2
    demo.tunctl("apply", "d.toml")
    up, stored = settled(demo), files(demo.state_dir)
    for command in commands:
        done = demo.run([*UNPRIVILEGED, *demo.tunctl_argv(*command, "--json")], check=False)
        assert json.loads(done.stdout)["error"]["code"] == 77, (command, done.stderr)
    assert (settled(demo), files(demo.state_dir)) == (up, stored)
    assert demo.run([*UNPRIVILEGED, *demo.tunctl_argv("status", "demo")], check=False).returncode == 0
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    assert demo.run([*nobody, *demo.tunctl_argv("apply", "d.toml")], check=False).returncode == 77
    assert demo.run([*nobody, *demo.tunctl_argv("check", "d.toml")], check=False).returncode == 0
    planned = demo.run([*nobody, *demo.tunctl_argv("plan", "d.toml", "--json")], check=False)
    assert (planned.returncode, json.loads(planned.stdout)["changes"]) == (0, 0), planned.stdout
    assert all(alive(pid) for pid in demo.pids())
    assert Path(demo.state_dir).stat().st_mode & 0o777 == 0o755
