"""Faults of the kernel's side: links, routes and rules that others delete, rename, take or own; looks that fail."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from tests.netns.engines import PROGRAMS
from tests.netns.faults import Case, assert_clean, cases, exec_file, kernel_lines, marked, state, tun_file, write_programs
from tests.netns.warm import Warm
from tests.netns.world import Host, wait_until


@pytest.fixture(params=["program", "tunctl"])
def case(host: Host, request: pytest.FixtureRequest) -> Iterator[Case]:
    """tun-demo, held by a program, made by it or by tunctl."""
    with cases(host, request.param) as made:
        yield made


@pytest.fixture
def tunctl(host: Host) -> Iterator[Warm]:
    with Warm(host) as warm:
        yield warm


def _ifindex(host: Host, dev: str = "tun-demo") -> int:
    return int(host.ip_json(f"link show dev {dev}")[0]["ifindex"])


def test_a_deleted_interface_comes_back_whole(case: Case) -> None:
    old = _ifindex(case.host)
    case.host.ip("link del tun-demo")
    (tunnel,) = case.tunctl.json("status", "demo", expect=2)["tunnels"]
    assert "tun-demo: interface no longer present" in tunnel["reasons"]
    case.tunctl.run("reconcile")
    assert state(case.host) == case.wanted
    assert len(marked(case.host)) == 1
    assert json.loads(case.handles.read_text())["ifindex"] == _ifindex(case.host) != old


@pytest.mark.parametrize("alias", ["", "somebody's", "tunctl:demo:ffff0000", "tunctl:demo"])
def test_an_interface_recreated_by_somebody_else_is_foreign(case: Case, alias: str) -> None:
    host = case.host
    host.ip("link del tun-demo")
    host.ip("tuntap add tun-demo mode tun")
    if alias:
        host.run(["ip", "link", "set", "tun-demo", "alias", alias])
    host.ip("addr add 10.77.0.1/24 dev tun-demo")
    theirs, index = host.ip("-d link show dev tun-demo"), _ifindex(host)
    (tunnel,) = case.tunctl.json("status", "demo", expect=4)["tunnels"]
    assert tunnel["reasons"][0].startswith("foreign")
    assert case.tunctl.run("reconcile", expect=None).returncode == 73
    done = case.tunctl.run("apply", case.file, expect=73)
    assert "not owned by tunctl" in done.stdout + done.stderr
    case.tunctl.run("down", "demo", expect=None)
    assert (host.ip("-d link show dev tun-demo"), _ifindex(host)) == (theirs, index)
    assert "10.77.0.1/24" in host.ip("addr show dev tun-demo")
    assert marked(host) == []
    host.ip("link del tun-demo")
    case.tunctl.run("down", "demo")
    assert_clean(host, case.before)


def test_a_renamed_interface_is_renamed_back(case: Case) -> None:
    index = _ifindex(case.host)
    case.host.ip("link set tun-demo down")
    case.host.ip("link set tun-demo name tun-zz")
    case.host.ip("link set tun-zz up")
    (tunnel,) = case.tunctl.json("status", "demo", expect=3)["tunnels"]
    assert "interface renamed to tun-zz" in tunnel["reasons"]
    case.tunctl.run("reconcile")
    assert _ifindex(case.host) == index
    assert state(case.host) == case.wanted
    assert len(marked(case.host)) == 1


def test_a_renamed_interface_goes_with_down(case: Case) -> None:
    case.host.ip("link set tun-demo down")
    case.host.ip("link set tun-demo name tun-zz")
    case.tunctl.run("down", "demo")
    assert_clean(case.host, case.before)


def test_renamed_and_its_name_taken(case: Case) -> None:
    """Ours has another name, and a foreign link stands under its own: neither is lost, neither is touched."""
    host = case.host
    host.ip("link set tun-demo down")
    host.ip("link set tun-demo name tun-zz")
    host.ip("tuntap add tun-demo mode tun")
    index = _ifindex(host)
    case.tunctl.json("status", "demo", expect=4)
    assert case.tunctl.run("apply", case.file, expect=None).returncode == 73
    case.tunctl.run("down", "demo")
    assert _ifindex(host) == index
    assert "tun-zz" not in host.ip("link")
    host.ip("link del tun-demo")
    assert_clean(host, case.before)


def test_a_route_that_was_there_before_stays_the_users(host: Host, tunctl: Warm) -> None:
    host.ip("tuntap add eth0 mode tap")
    host.ip("link set eth0 up")
    host.ip("route add 10.9.128.0/20 dev eth0")
    host.ip("route add 10.9.128.0/20 dev eth0 metric 500")
    before = state(host)
    done = tunctl.run("apply", tun_file(host, "demo"), expect=73)
    assert "10.9.128.0/20 dev eth0" in done.stdout + done.stderr
    assert "not owned by tunctl" in done.stdout + done.stderr
    tunctl.run("down", "demo", expect=None)
    assert_clean(host, before)
    host.ip("route del 10.9.128.0/20 dev eth0 metric 0")
    tunctl.run("apply", tun_file(host, "demo"))
    tunctl.run("down", "demo")
    assert "10.9.128.0/20 dev eth0 scope link metric 500" in host.ip("route")
    assert "tun-demo" not in host.ip("route")


def test_a_users_route_added_to_our_link_later_is_no_drift_and_is_not_swept(host: Host, tunctl: Warm) -> None:
    tunctl.run("apply", tun_file(host, "demo", more="[tunnels.two]\ndriver='tun'\ninterface='tun-two'\n"))
    host.ip("route add 10.44.0.0/16 dev tun-demo")
    host.ip("addr add 10.45.0.1/32 dev tun-demo")
    assert "no changes" in tunctl.run("reconcile").stdout
    host.ip("route del 10.9.128.0/20")
    tunctl.run("reconcile")
    assert "10.44.0.0/16 dev tun-demo" in host.ip("route")
    assert "10.45.0.1/32" in host.ip("addr")


@pytest.mark.parametrize(
    "words",
    ["route del 10.9.128.0/20", "-6 route del fd00:9:1::/48", "addr del 10.9.0.2/24 dev tun-demo", "rule del lookup 200",
     "link set tun-demo down", "link set tun-demo mtu 1300", "route flush proto 115", "link set tun-demo group 0",
     "route replace 10.9.128.0/20 dev lo proto 115", "route change 10.9.128.0/20 via 10.9.0.1 dev tun-demo proto 115"],
)  # fmt: skip
def test_what_others_change_is_seen_and_put_right_by_one_pass(case: Case, words: str) -> None:
    case.host.ip(words)
    tunnel = case.tunctl.json("status", "demo", expect=3)["tunnels"][0]
    assert tunnel["reasons"]
    case.tunctl.run("reconcile")
    assert state(case.host) == case.wanted
    case.tunctl.run("status", "demo")
    case.host.ip(words)
    case.tunctl.run("down", "demo")
    assert_clean(case.host, case.before)


def test_down_of_what_was_never_done(case: Case) -> None:
    """All of it is gone already: every removal finds nothing, which is success."""
    for owner in marked(case.host):
        subprocess.run(["kill", "-9", owner.split()[-1]], check=True)
    case.host.ip("link del tun-demo", check=False)
    case.host.ip("rule del lookup 200")
    wait_until(lambda: not marked(case.host))
    done = case.tunctl.run("down", "demo")
    assert done.stderr == "demo: not connected\n" or "no changes" in done.stdout
    assert_clean(case.host, case.before)


def test_the_name_is_held_by_a_foreign_process(host: Host, tunctl: Warm) -> None:
    write_programs(host)
    holder = host.start([sys.executable, PROGRAMS / "holder.py", "tun-demo"])
    wait_until(lambda: host.ip("link show dev tun-demo", check=False))
    before = state(host)
    begun = time.monotonic()
    done = tunctl.run("apply", tun_file(host, "demo"), expect=73)
    assert time.monotonic() - begun < 5
    assert f"process {holder.pid}" in done.stdout + done.stderr or f"pid {holder.pid}" in done.stdout + done.stderr, done
    assert state(host) == before


@pytest.mark.parametrize(
    ("mounts", "code", "word"),
    [
        ("mount -t tmpfs tmpfs /dev/net", 69, "no TUN devices"),
        ("mount --bind /dev/null /dev/net/tun", 1, "tun"),
    ],
)
def test_no_tun_device(host: Host, mounts: str, code: int, word: str) -> None:
    before = state(host)
    script = f'{mounts} && exec "$@"'
    argv = ["unshare", "-m", "sh", "-c", script, "sh", *host.tunctl_argv("apply", tun_file(host, "demo"))]
    done = host.run(argv, check=False)
    assert (done.returncode, word in done.stderr, "Traceback" in done.stderr) == (code, True, False), done
    assert_clean(host, before)


def test_no_net_admin(host: Host) -> None:
    before = state(host)
    for words in (("apply", tun_file(host, "demo")), ("reconcile",), ("down", "--all"), ("up", "--all"), ("forget", "--all")):
        argv = ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin", *host.tunctl_argv(*words)]
        done = host.run(argv, check=False)
        assert (done.returncode, "CAP_NET_ADMIN" in done.stderr) == (77, True), done
    assert_clean(host, before)
    assert not host.state_dir.exists(), "nothing was stored either"


def test_blind_to_the_processes_of_other_users(host: Host) -> None:
    """Root without CAP_SYS_PTRACE may not read a user's environment: that is not "no owner", and nobody is started twice."""
    with cases(host, "tunctl", more="") as case:
        text = case.file.read_text().replace('device = "tunctl"', 'device = "tunctl", user = "nobody"')
        case.tunctl.run("apply", host.write("demo.toml", text))
        owners, wanted = marked(host), state(host)
        assert len(owners) == 1
        case.handles.unlink()
        blind = ["setpriv", "--bounding-set", "-sys_ptrace", "--inh-caps", "-sys_ptrace"]
        done = host.run([*blind, *host.tunctl_argv("status", "demo", "--json")], check=False)
        (tunnel,) = json.loads(done.stdout)["tunnels"]
        assert tunnel["verdict"] in ("connected", "unknown"), tunnel
        done = host.run([*blind, *host.tunctl_argv("reconcile")], check=False)
        assert (marked(host), state(host)) == (owners, wanted), done
        case.tunctl.run("reconcile")
        assert marked(host) == owners
        assert wait_until(lambda: True) is None


def test_without_privileges_nothing_is_reported_as_gone(case: Case) -> None:
    host = case.host
    done = host.run(
        ["setpriv", "--reuid", "65534", "--clear-groups", *host.tunctl_argv("status", "demo", "--json")], check=False
    )
    if "No module named" in done.stderr or done.returncode == 126:
        pytest.fail(f"the interpreter of the tests is not for everybody: {done.stderr}")
    (tunnel,) = json.loads(done.stdout)["tunnels"]
    assert (done.returncode, tunnel["verdict"]) == (0, "connected")
    assert any(line.startswith("owner") for line in tunnel["unobserved"])
    assert tunnel["owner"] is None


def test_lists_that_are_interrupted_never_cause_a_removal(host: Host, tunctl: Warm) -> None:
    """Links and rules come and go all the time: the kernel marks lists as interrupted, and they are asked for again."""
    names = [f"n{number}" for number in range(6)]
    file = tun_file(host, *names)
    tunctl.run("apply", file)
    wanted = state(host)
    stop = threading.Event()
    randomly = random.Random(54)

    def churn() -> None:
        while not stop.is_set():
            number = randomly.randrange(50)
            for line in (f"link add d{number} type veth peer name p{number}", f"link set d{number} up", f"link del d{number}",
                         f"rule add priority {100 + number} lookup 99", f"rule del priority {100 + number}"):  # fmt: skip
                host.ip(line, check=False)

    threads = [threading.Thread(target=churn) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(40):
            done = tunctl.run("plan", expect=None)
            assert kernel_lines(done.stdout) == [], done
            done = tunctl.run("reconcile", expect=None)
            assert kernel_lines(done.stdout) == [], done
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert state(host) == wanted


def test_a_pass_that_cannot_open_a_socket_changes_nothing(case: Case) -> None:
    """No descriptor is left for netlink: not observed, told, and nothing removed."""
    host = case.host
    for limit in range(3, 24):
        argv = ["prlimit", f"--nofile={limit}", *host.tunctl_argv("reconcile")]
        done = host.run(argv, check=False)
        assert kernel_lines(done.stdout) == [], (limit, done)
        if done.returncode == 0:
            break
    assert state(host) == case.wanted
    assert len(marked(host)) == 1


def test_exec_file_is_what_the_tests_think(host: Host) -> None:
    """The desired file of these tests is valid on its own."""
    assert host.run(host.tunctl_argv("check", exec_file(host, "program"))).returncode == 0
