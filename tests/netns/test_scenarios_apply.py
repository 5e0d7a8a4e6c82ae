"""S13 to S16, S27 to S33, S42, S43: what `plan`, `apply` and `down` do to the machine, seen from outside."""

from __future__ import annotations

import json
import signal
import subprocess
import time

import pytest

from tests.netns.scenario import (
    STEP_KEYS,
    desired,
    exec_,
    files,
    handles_file,
    key_pair,
    links,
    proto_routes,
    reasons,
    settled,
    tun,
    verdict,
    wireguard,
)
from tests.netns.world import Host, Uplink, wait_until

RULES = """
[[tunnels.ruled.rules]]
from = ["192.168.50.0/24", "fd00:9::/64"]
lookup = "tunnel"
"""


def everything(host: Host) -> str:
    """Three engines, both families, a table of its own with rules, routes of every form."""
    peer = key_pair(host, "peer.key")
    key_pair(host, "wg.key")
    host.write("prefixes.txt", "10.40.0.0/16 # one\n\nfd00:40::/32\n")
    peers = (
        f'[[tunnels.wg.wireguard.peers]]\nname = "p"\npublic_key = "{peer}"\nallowed_ips = ["10.30.0.0/16", "fd00:30::/32"]\n'
    )
    more = (
        '[[tunnels.demo.routes]]\nto_file = "prefixes.txt"\nmetric = 7\n'
        '[[tunnels.demo.routes]]\nto = "10.66.0.0/16"\ntype = "blackhole"\n'
    )
    demo = exec_(addresses=("10.9.0.2/32", "fd00:9::2/128"), keys='mtu = 1400\ndescription = "an engine"', tables=more)
    ruled = tun("ruled", addresses=("10.8.0.2/24",), routes=("10.50.0.0/16", "fd00:50::/32"), tables=RULES)
    return desired(demo, ruled, wireguard("wg", "wg.key", peers=peers))


def test_applied_twice_and_taken_down(host: Host) -> None:
    """The plan is what apply does, in its order; the second apply is silence; down leaves what was there before."""
    host.write("d.toml", everything(host))
    before = host.snapshot()
    planned = host.json("plan", "d.toml", expect=2)
    assert (host.snapshot(), host.state_dir.exists(), host.run_dir.exists()) == (before, False, False)
    assert host.tunctl("apply", "--dry-run", "d.toml", expect=2).stdout.splitlines() == [s["text"] for s in planned["steps"]]
    assert set(planned) == {"version", "changes", "steps", "conflicts", "warnings", "held"}
    assert planned["changes"] == len(planned["steps"])
    applied = host.json("apply", "d.toml")
    assert set(applied) >= {*planned, "converged"}
    assert applied["converged"] is True
    assert [step["text"] for step in applied["steps"]] == [step["text"] for step in planned["steps"]]
    for step in planned["steps"]:
        assert set(step) == STEP_KEYS
    for step in applied["steps"]:
        assert set(step) == STEP_KEYS | {"outcome", "seconds", "error"}
        assert (step["outcome"], step["error"]) == ("done", None)

    up = settled(host)
    stored = files(host.state_dir)
    with host.recording() as heard:
        assert host.tunctl("apply", "d.toml").stdout == "no changes\n"
        host.tunctl("plan")
    assert heard == []
    assert (settled(host), files(host.state_dir)) == (up, stored)
    assert host.json("plan", "d.toml", expect=0)["changes"] == 0

    host.tunctl("down", "--all")
    assert host.snapshot() == before
    again = host.tunctl("down", "demo")
    assert "not connected" in again.stdout + again.stderr
    unknown = host.tunctl("down", "nonesuch", expect=64)
    assert "demo, ruled, wg" in unknown.stderr
    assert host.tunctl("up", "--all").stderr == "", "and an engine has nothing to say when it starts"


def test_our_objects_carry_our_marks(host: Host) -> None:
    host.write("d.toml", everything(host))
    host.tunctl("apply", "d.toml")
    (link,) = host.ip_json("-d link show tun-demo")
    assert link["linkinfo"]["info_kind"] == "tun"
    assert (link["mtu"], link["group"]) == (1400, "20000")
    assert "UP" in link["flags"]
    assert link["ifalias"].startswith("tunctl:demo:")
    assert len(link["ifalias"]) == len("tunctl:demo:") + 8
    (entry,) = host.ip_json("addr show tun-demo")
    assert [a["local"] for a in entry["addr_info"] if a["scope"] == "global"] == ["10.9.0.2", "fd00:9::2"]
    routes = proto_routes(host)
    seen = host.json("status", expect=None)["tunnels"]
    assert len(routes) == sum(tunnel["routes"] for tunnel in seen)
    assert {"10.20.0.0/16", "10.40.0.0/16", "fd00:40::/32", "10.66.0.0/16", "10.30.0.0/16"} <= set(routes)
    rules = [*host.ip_json("rule"), *host.ip_json("-6 rule")]
    ours = [rule for rule in rules if rule.get("protocol") == "115"]
    assert [rule["priority"] for rule in ours if rule["priority"] < 20100] == [20010, 20020] * 2  # packets of the engines
    own = [rule for rule in ours if rule["priority"] >= 20100]
    assert len(own) == 2
    assert all(rule["priority"] < 20500 for rule in own)
    text = host.ip("route show table all")
    for prefix in ("10.20.0.0/16", "10.40.0.0/16", "10.66.0.0/16"):
        (line,) = [line for line in text.splitlines() if prefix in line]
        assert "proto 115" in line


def test_eight_at_once(host: Host) -> None:
    host.write("d.toml", desired(exec_()))
    argv = ["ip", "netns", "exec", host.name, *host.tunctl_argv("apply", "d.toml")]
    begun = time.monotonic()
    running = [
        subprocess.Popen(argv, env=host.env, cwd=host.dir, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    ended = [(process.communicate(timeout=30), process.returncode) for process in running]
    assert time.monotonic() - begun < 25
    assert {code for _, code in ended} <= {0, 75}, ended
    worked = [out for (out, _), code in ended if code == 0 and "+ link" in out]
    assert len(worked) == 1
    assert all(out == "no changes\n" for (out, _), code in ended if code == 0 and out not in worked)
    assert all("hold" in err or "lock" in err for (_, err), code in ended if code == 75)
    assert (links(host), proto_routes(host)) == (["tun-demo"], ["10.20.0.0/16"])


def test_the_lock_names_its_holder(host: Host) -> None:
    host.write("d.toml", desired(tun()))
    host.tunctl("apply", "d.toml")
    host.write(
        "slow.toml", desired(exec_("slow", "never", addresses=(), routes=(), options='ready_timeout = "20s"'), source="slow")
    )
    working = host.start(host.tunctl_argv("apply", "slow.toml"), log="slow.log")
    wait_until(lambda: "+ owner" in (host.dir / "slow.log").read_text(), 30)
    busy = host.json("down", "demo", "--lock-timeout", "100ms", expect=75)["error"]
    assert str(working.pid) in busy["message"]
    assert host.tunctl("status", "demo", expect=3).returncode == 3
    other = host.tunctl("--state-dir", "other", "--run-dir", "other-run", "reconcile", "--lock-timeout", "0.1s", expect=75)
    assert str(working.pid) in other.stderr
    host.tunctl("plan", expect=None)
    working.send_signal(signal.SIGTERM)
    assert working.wait(4) == 143
    host.tunctl("down", "demo")


def test_what_is_misspelt_is_named(host: Host) -> None:
    before = host.snapshot()
    host.write("d.toml", desired(tun(keys='vpn_cidrs = ["10.0.0.0/8"]')))
    for command in ("check", "plan", "apply"):
        done = host.tunctl(command, "d.toml", expect=65)
        assert "d.toml:8: tunnels.demo.vpn_cidrs" in done.stderr, done.stderr
        problem = host.json(command, "d.toml", expect=65)["error"]
        assert set(problem) == {"code", "message", "hint", "details"}
        assert problem["code"] == 65
        (detail,) = problem["details"]
        assert set(detail) == {"file", "line", "key", "message"}
        assert (detail["line"], detail["key"]) == (8, "tunnels.demo.vpn_cidrs")
    assert (host.snapshot(), host.state_dir.exists()) == (before, False)


def test_all_problems_before_anything_is_done(host: Host) -> None:
    before = host.snapshot()
    bad = [
        tun("long", interface="x" * 16),
        tun("slash", interface="a/b"),
        tun("up", interface="../x"),
        tun("none", keys="", interface=" "),
        tun("loop", interface="lo"),
        tun("small", keys="mtu = 575"),
        tun("large", keys="mtu = 65536"),
        tun("word", keys='mtu = "x"'),
        tun("six", addresses=("fd00::1/128",), keys="mtu = 1279"),
        tun("bits", routes=("10.1.2.3/8",)),
    ]
    host.write("d.toml", desired(tun("good", addresses=("10.9.9.9/32",)), *bad))
    told = host.json("apply", "d.toml", expect=65)["error"]["details"]
    by_tunnel = {detail["key"].split(".")[1]: detail["message"] for detail in told}
    assert set(by_tunnel) == {"long", "slash", "up", "none", "loop", "small", "large", "word", "six", "bits"}
    assert by_tunnel["small"] == "invalid MTU 575 (must be >= 576)"
    assert by_tunnel["word"].startswith("expected an integer")
    assert "10.0.0.0/8" in by_tunnel["bits"]
    assert all(detail["line"] > 0 for detail in told)
    assert (host.snapshot(), host.state_dir.exists()) == (before, False)


@pytest.mark.parametrize("name", ["../x", "a/b", "", "UPPER", "x" * 33, "-x"])
def test_names_that_are_none(host: Host, name: str) -> None:
    host.write("d.toml", f'version = 1\n[tunnels."{name}"]\ndriver = "tun"\n')
    assert "name" in host.tunctl("apply", "d.toml", expect=65).stderr
    assert not host.state_dir.exists()


def test_mtu_limits_and_drift(host: Host) -> None:
    for mtu in (576, 65535):
        host.write("d.toml", desired(tun(keys=f"mtu = {mtu}")))
        host.tunctl("check", "d.toml")
    host.write("d.toml", desired(tun(keys="mtu = 1420")))
    host.tunctl("apply", "d.toml")
    host.ip("link set tun-demo mtu 1300")
    assert "mtu 1300 != 1420" in reasons(host, expect=3)
    assert "(mtu 1300 → 1420)" in host.tunctl("plan", expect=2).stdout
    host.tunctl("reconcile")
    assert host.ip_json("link show tun-demo")[0]["mtu"] == 1420


def test_the_kernel_chooses_a_name(host: Host) -> None:
    host.ip("tuntap add tun0 mode tun")
    host.write("d.toml", desired(exec_(interface="auto"), tun("second", interface="auto", routes=("10.21.0.0/16",))))
    host.tunctl("apply", "d.toml")
    names = {tunnel["name"]: tunnel["interface"] for tunnel in host.json("status", expect=None)["tunnels"]}
    assert sorted(names.values()) == ["tun1", "tun2"]
    for tunnel, prefix in (("demo", "10.20.0.0/16"), ("second", "10.21.0.0/16")):
        assert json.loads(handles_file(host, tunnel).read_text())["interface"] == names[tunnel]
        assert host.ip_json(f"route show {prefix}")[0]["dev"] == names[tunnel]
    assert host.tunctl("apply", "d.toml").stdout == "no changes\n"
    host.ip(f"link del {names['second']}")
    host.tunctl("reconcile")
    assert verdict(host, "second")["interface"] == names["second"]
    host.tunctl("down", "--all")
    assert links(host) == ["tun0"]


def test_a_foreign_interface_stays(host: Host) -> None:
    host.ip("tuntap add tun-demo mode tun")
    index = host.ip_json("link show tun-demo")[0]["ifindex"]
    before = host.snapshot()
    host.write("d.toml", desired(tun(), tun("other", addresses=("10.9.1.2/32",), routes=("10.21.0.0/16",))))
    planned = host.json("plan", "d.toml", expect=73)
    (conflict,) = planned["conflicts"]
    assert "exists but is not owned by tunctl" in conflict["message"]
    assert conflict["tunnel"] == "demo"
    done = host.tunctl("apply", "d.toml", expect=73)
    assert "exists but is not owned by tunctl" in done.stdout + done.stderr
    assert links(host) == ["tun-demo", "tun-other"], "the other tunnel goes on"
    assert "foreign" in reasons(host, expect=4)
    host.tunctl("down", "--all")
    assert host.snapshot() == before
    assert host.ip_json("link show tun-demo")[0]["ifindex"] == index
    host.ip("link del tun-demo")
    host.tunctl("apply", "d.toml")
    assert verdict(host)["verdict"] == "degraded"


def test_recreated_by_hand_is_foreign(host: Host) -> None:
    host.write("d.toml", desired(tun()))
    host.tunctl("apply", "d.toml")
    host.ip("link del tun-demo")
    host.ip("tuntap add tun-demo mode tun")
    host.ip("addr add 10.9.0.2/32 dev tun-demo")
    host.ip("link set tun-demo up")
    index = host.ip_json("link show tun-demo")[0]["ifindex"]
    seen = verdict(host, expect=4)
    assert seen["verdict"] == "failed"
    assert "foreign" in "".join(seen["reasons"])
    before = host.snapshot()
    host.tunctl("reconcile", expect=73)
    host.tunctl("down", "demo")
    assert host.snapshot() == before
    assert host.ip_json("link show tun-demo")[0]["ifindex"] == index


def test_renamed_is_found_and_named_back(host: Host) -> None:
    host.write("d.toml", desired(exec_()))
    host.tunctl("apply", "d.toml")
    index = host.ip_json("link show tun-demo")[0]["ifindex"]
    host.ip("link set tun-demo down")
    host.ip("link set tun-demo name tun-zz")
    host.ip("link set tun-zz up")
    seen = verdict(host, expect=3)
    assert "renamed" in "".join(seen["reasons"])
    assert seen["ifindex"] == index
    host.tunctl("reconcile")
    assert links(host) == ["tun-demo"]
    assert host.ip_json("link show tun-demo")[0]["ifindex"] == index
    verdict(host, expect=0)
    assert proto_routes(host) == ["10.20.0.0/16"]


def test_a_route_of_the_user_stays(uplink: Uplink) -> None:
    cl = uplink.cl
    cl.ip("route add 10.20.0.0/16 via 192.168.50.1")
    cl.ip("route add 10.21.0.0/16 via 192.168.50.1 metric 5")
    before = cl.snapshot()
    cl.write("d.toml", desired(tun(routes=("10.20.0.0/16", "10.21.0.0/16"))))
    done = cl.tunctl("apply", "d.toml", expect=73)
    assert "10.20.0.0/16" in done.stdout + done.stderr
    assert "not owned by tunctl" in done.stdout + done.stderr
    assert links(cl) == ["cl0"], "a tunnel that would not come up whole does not come up"
    cl.tunctl("down", "demo")
    assert cl.snapshot() == before
    cl.write("d.toml", desired(tun(routes=("10.21.0.0/16",))))
    cl.tunctl("apply", "d.toml")
    assert len(cl.ip_json("route show 10.21.0.0/16")) == 2
    cl.tunctl("down", "demo")
    assert cl.snapshot() == before
