"""Ports that are really ours: chosen, bound by real programs, found by what the kernel shows, told the same everywhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.netns.scenario import dump, files, key_pair, reasons, rewrite_handles, send, verdict
from tests.netns.serving import TOLD, handle, holding, hub, listen, occupied, ports, record, rows, served
from tests.netns.world import Host, wait_until

UNPRIVILEGED = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
ME = rf"pid {os.getpid()} \(.+\)"


def apply(host: Host, text: str, *, expect: int = 0) -> subprocess.CompletedProcess[str]:
    return host.tunctl("apply", host.write("d.toml", text), expect=expect)


def test_the_next_free_port(host: Host) -> None:
    """S60, F36: requested 8443, three busy ones: 8446; told the same by everybody who tells it; nothing of it in the store."""
    with holding(host, 8443, 8444, 8445):
        apply(host, served())
    assert "requested 8443, bound 8446" in host.tunctl("status", "demo").stdout
    assert rows(host) == {"udp": {"transport": "udp", "requested": "0.0.0.0:8443", "bound": "0.0.0.0:8446", "ours": True}}
    assert (
        "udp UNCONN" in " ".join(host.run(["ss", "-Hanup", "sport", "=", "8446"]).stdout.split())
        or ":8446" in host.run(["ss", "-Hlun"]).stdout
    )
    assert handle(host)["bound"] == {"udp": "0.0.0.0:8446"}
    assert handle(host)["requested"] == {"udp": "0.0.0.0:8443"}
    assert host.json("show", "demo")["listen"] == list(rows(host).values())
    assert host.json("endpoints", "show") == record(host)
    assert "bound 8446" in host.tunctl("endpoints", "show").stdout
    assert "8446" not in dump(host)
    assert "8443" in dump(host), "the wish is there"


def test_nothing_to_do_twice(host: Host) -> None:
    """The second apply looks, and writes nothing: no netlink, no handle, no record, no store."""
    with holding(host, 8443):
        apply(host, served(host='[host]\nruntime_file = "beside"'))
        before = {**files(host.run_dir), **files(host.state_dir), **files(host.dir / "d.toml.runtime.json")}
        with host.recording() as events:
            assert host.tunctl("apply", "d.toml").stdout == "no changes\n"
        assert events == []
        assert {**files(host.run_dir), **files(host.state_dir), **files(host.dir / "d.toml.runtime.json")} == before


def test_all_are_taken(host: Host) -> None:
    """S60, F37: the tunnel fails with the range and who holds the first; nothing is left behind; freed, it comes up."""
    before = host.snapshot()
    with occupied(host, 8443) as pid, holding(host, 8444, 8445):
        done = apply(host, served(listen(scan=3)), expect=73)
        assert f"ports 8443 to 8445: all are taken, 8443 by pid {pid} (socat)" in done.stderr
        assert host.snapshot() == before
        assert record(host) == {}
        assert verdict(host, expect=4)["verdict"] == "failed"
        assert "all are taken" in reasons(host)
    host.tunctl("reconcile")
    assert ports(host) == {"udp": 8443}


def test_one_that_may_not_look_further(host: Host) -> None:
    """S60: scan = 1 and busy names the holder."""
    with occupied(host, 8443) as pid:
        done = apply(host, served(listen(scan=1)), expect=73)
        assert f"udp 0.0.0.0:8443 is held by pid {pid} (socat)" in done.stderr
        plan = host.tunctl("plan", "d.toml", expect=73)
        assert f"held by pid {pid} (socat)" in plan.stderr


def test_transports_apart(host: Host) -> None:
    """S60: tcp and udp are judged separately; quic is UDP, and not on the port of the udp entry."""
    words = (TOLD, "tcp=0.0.0.0:{listen.tcp.port}", "udp=0.0.0.0:{listen.quic.port}")
    entries = (listen(), listen(transport="tcp"), listen(transport="quic"))
    with holding(host, 8443, transport="tcp"):
        apply(host, served(*entries, words=words))
        assert ports(host) == {"udp": 8443, "tcp": 8444, "quic": 8444}
        assert host.tunctl("apply", "d.toml").stdout == "no changes\n"


def test_only_the_asked_address_counts(host: Host) -> None:
    """A port that is taken on another address is free; one that is taken on all of them is not."""
    with holding(host, 8443, address="127.0.0.2"):
        apply(host, served(listen(address="127.0.0.1")))
        assert ports(host) == {"udp": 8443}
    host.tunctl("down", "demo")
    with holding(host, 8443, address="::"):
        apply(host, served(listen(address="127.0.0.1")))
        assert ports(host) == {"udp": 8444}


def test_it_stays_where_it_is(host: Host) -> None:
    """F38: freed, the requested port is not taken: not by the next pass, not by a restart; only rebind does, in one step."""
    with holding(host, 8443):
        apply(host, served())
    assert host.tunctl("reconcile").stdout == "no changes\n"
    assert ports(host) == {"udp": 8444}
    assert (handle(host)["requested"], handle(host)["bound"]) == ({"udp": "0.0.0.0:8443"}, {"udp": "0.0.0.0:8444"})
    send(verdict(host)["owner"]["pid"])
    wait_until(lambda: verdict(host)["verdict"] == "stale", 30)
    host.tunctl("reconcile")
    assert ports(host) == {"udp": 8444}
    assert "(fingerprint)" in host.tunctl("endpoints", "rebind", "demo").stdout
    assert ports(host) == {"udp": 8443}
    assert record(host)["tunnels"]["demo"]["endpoints"] == {"udp": "0.0.0.0:8443"}
    assert host.tunctl("endpoints", "rebind", "demo").stdout == "no changes\n"
    assert host.tunctl("reconcile").stdout == "no changes\n"


def test_the_record(host: Host) -> None:
    """S61 (i): its exact form, for all to read; gone with the tunnel; of another boot, or with a dead owner, ignored."""
    apply(host, served(host='[host]\nruntime_file = "beside"'))
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    entry = record(host)["tunnels"]["demo"]
    assert record(host) == {"version": 1, "boot_id": boot_id, "tunnels": {"demo": entry}}
    assert entry == {
        "bound_at_unix": entry["bound_at_unix"], "requested": {"udp": "0.0.0.0:8443"}, "endpoints": {"udp": "0.0.0.0:8443"},
    }  # fmt: skip
    path, beside = host.run_dir / "endpoints.json", host.dir / "d.toml.runtime.json"
    assert path.read_text() == beside.read_text()
    assert [oct(one.stat().st_mode & 0o777) for one in (path, beside)] == ["0o644", "0o644"]

    path.write_text(path.read_text().replace(boot_id, "0" * 36))
    shutil.rmtree(host.run_dir / "tunnels")
    assert ports(host) == {"udp": 8443}, "what the kernel shows counts, whatever the files say"
    host.tunctl("reconcile")
    assert record(host)["boot_id"] == boot_id

    send(verdict(host)["owner"]["pid"])
    wait_until(lambda: verdict(host)["verdict"] == "stale", 30)
    assert rows(host)["udp"]["bound"] is None, "its owner is dead"
    assert host.json("endpoints", "show")["tunnels"] == {}
    host.tunctl("reconcile")
    host.tunctl("down", "demo")
    assert not path.exists()
    assert not beside.exists()


def test_what_is_signed_is_bound_now(host: Host) -> None:
    """The record of a program that died since then counts for nothing."""
    host.tunctl("key", "generate", "--type", "ed25519", "--out", "sign.key")
    apply(host, served())
    sign = ("endpoints", "sign", "--key", "sign.key", "--host", "vpn.example.com", "--out", "m")
    assert host.json(*sign)["endpoints"] == {"demo": {"udp": 8443}}
    os.kill(verdict(host)["owner"]["pid"], signal.SIGKILL)
    wait_until(lambda: ":8443 " not in host.run(["ss", "-Hlun"]).stdout, 30)
    assert record(host)["tunnels"]["demo"]["endpoints"] == {"udp": "0.0.0.0:8443"}
    assert "no tunnel listens" in host.tunctl(*sign, expect=65).stderr
    shutil.copy(host.run_dir / "endpoints.json", host.dir / "copy.json")
    assert "no tunnel listens" in host.tunctl(*sign, "--from-runtime", "copy.json", expect=65).stderr


def test_a_stranger_on_our_port(host: Host) -> None:
    """S61 (ii), F39: the engine dies, socat takes its port: never healthy, and named; the next pass looks further."""
    key_pair(host, "k")
    apply(host, hub(listen("hub", scan=2)))
    send(verdict(host, "hub")["owner"]["pid"])
    with occupied(host, 8443) as pid:
        assert verdict(host, "hub", expect=3)["verdict"] == "degraded"
        assert f"bound port held by pid {pid} (socat)" in reasons(host, "hub")
        assert rows(host, "hub")["udp"] == {
            "transport": "udp", "requested": "0.0.0.0:8443", "bound": "0.0.0.0:8443", "ours": False,
        }  # fmt: skip
        assert host.json("endpoints", "show")["tunnels"] == {}
        done = host.tunctl("reconcile")
        assert f"bound port held by pid {pid} (socat)" in done.stdout
        assert "tunnel hub: udp moved from 0.0.0.0:8443 to 0.0.0.0:8444" in done.stderr
        assert ports(host, "hub") == {"udp": 8444}
        send(verdict(host, "hub")["owner"]["pid"])
        with holding(host, 8444):
            host.tunctl("reconcile", expect=73)
            assert re.search(f"all are taken, bound port held by {ME}", reasons(host, "hub", expect=3))
            assert verdict(host, "hub")["verdict"] == "degraded"
    host.tunctl("reconcile")
    assert verdict(host, "hub", expect=0)["verdict"] == "connected"


def test_a_program_that_lost_its_socket(host: Host) -> None:
    """F39: it lives, and a stranger answers in its place."""
    apply(host, served(words=(TOLD, "drop")))
    pid = verdict(host)["owner"]["pid"]
    send(pid, signal.SIGUSR1)
    wait_until(lambda: rows(host)["udp"]["bound"] is None, 30)
    assert "listen udp 0.0.0.0 port 8443 is not bound" in reasons(host, expect=3)
    done = host.tunctl("reconcile", expect=1)
    assert f"pid {pid} does not bind it" in done.stderr
    assert verdict(host)["owner"]["pid"] == pid, "it is not killed for that"
    with occupied(host, 8443) as stranger:
        assert f"bound port held by pid {stranger} (socat)" in reasons(host, expect=3)
        host.tunctl("reconcile")
        assert ports(host) == {"udp": 8444}


@pytest.mark.parametrize("habits", [(), ("mute",)], ids=["ends", "goes on in silence"])
def test_a_race_that_is_lost(host: Host, habits: tuple[str, ...]) -> None:
    """Between the choice and the bind somebody takes the port: the next candidate, and it is said."""
    text = served(words=(f"until:{host.dir}/go", TOLD, *habits))
    applying = host.start(host.tunctl_argv("apply", host.write("d.toml", text)), log="apply.log")
    wait_until((host.dir / "go.there").exists, 20, "the program runs and has not bound yet")
    with holding(host, 8443):
        (host.dir / "go").touch()
        assert applying.wait(30) == 0, (host.dir / "apply.log").read_text()
    log = (host.dir / "apply.log").read_text()
    assert re.search(f"udp 0.0.0.0:8443 was taken by {ME} before it was bound", log)
    assert ports(host) == {"udp": 8444}
    assert host.tunctl("apply", "d.toml").stdout == "no changes\n"


def test_a_race_that_is_lost_for_good(host: Host) -> None:
    """The last candidate is lost: the tunnel fails, and nothing of it is left behind."""
    before = host.snapshot()
    text = served(listen(scan=1), words=(f"until:{host.dir}/go", TOLD))
    applying = host.start(host.tunctl_argv("apply", host.write("d.toml", text)), log="apply.log")
    wait_until((host.dir / "go.there").exists, 20)
    with holding(host, 8443):
        (host.dir / "go").touch()
        assert applying.wait(30) == 73, (host.dir / "apply.log").read_text()
    assert re.search(f"udp 0.0.0.0:8443 is held by {ME}", (host.dir / "apply.log").read_text())
    assert host.snapshot() == before
    assert record(host) == {}


def test_a_race_that_wireguard_loses(host: Host) -> None:
    """The engine itself says that the port is in use."""
    key_pair(host, "k")
    script = host.write(
        "slow.sh", f'#!/bin/sh\ntouch {host.dir}/there\nwhile [ ! -e {host.dir}/go ]; do sleep 0.02; done\nexec "$@"\n', 0o755
    )
    command = f'userspace_command = ["{script}", "wireguard-go", "-f", "{{interface}}"]'
    applying = host.start(host.tunctl_argv("apply", host.write("d.toml", hub(options=command))), log="apply.log")
    wait_until((host.dir / "there").exists, 20)
    with holding(host, 8443, 8444):
        (host.dir / "go").touch()
        assert applying.wait(30) == 0, (host.dir / "apply.log").read_text()
    assert ports(host, "hub") == {"udp": 8445}
    assert host.tunctl("apply", "d.toml").stdout == "no changes\n"


def test_a_port_that_the_record_of_sockets_does_not_show(host: Host) -> None:
    """A connection of somebody else from our TCP port keeps a program from binding it: the kernel is asked by trying."""
    with holding(host, 9000, transport="tcp"):
        script = (
            "import socket, sys, time; s = socket.socket(); s.bind(('127.0.0.1', 8443));"
            " s.connect(('127.0.0.1', 9000)); print('there', flush=True); time.sleep(300)"
        )
        host.start(["python3", "-c", script], log="client.log")
        wait_until(lambda: "there" in (host.dir / "client.log").read_text(), 20)
        text = served(listen(transport="tcp"), words=("tcp=0.0.0.0:{listen.tcp.port}",))
        apply(host, text)
        assert ports(host) == {"tcp": 8444}


def test_one_that_never_binds(host: Host) -> None:
    """Not ready within its time: it fails with what is missing, and is taken back."""
    before = host.snapshot()
    done = apply(host, served(words=(TOLD, "never"), options='ready_timeout = "1s"'), expect=1)
    assert re.search(r"listen udp 0.0.0.0 port 8443: pid \d+ does not bind it", done.stderr)
    assert host.snapshot() == before


def test_a_child_that_listens(host: Host) -> None:
    apply(host, served(words=(TOLD, "child")))
    assert ports(host) == {"udp": 8443}


def test_without_privileges(host: Host) -> None:
    """Anybody sees what is bound, and that he cannot see by whom; nothing is reported as lost."""
    with holding(host, 8443):
        apply(host, served())
        done = host.run([*UNPRIVILEGED, *host.tunctl_argv("status", "--json")])
        (tunnel,) = json.loads(done.stdout)["tunnels"]
        assert tunnel["verdict"] == "connected"
        assert tunnel["listen"] == [{"transport": "udp", "requested": "0.0.0.0:8443", "bound": "0.0.0.0:8444", "ours": None}]
        assert any(text.startswith("listen: ") for text in tunnel["unobserved"])
        assert host.run([*UNPRIVILEGED, *host.tunctl_argv("plan")]).stdout.startswith("no changes\n")
        shown = json.loads(host.run([*UNPRIVILEGED, *host.tunctl_argv("endpoints", "show", "--json")]).stdout)
        assert shown == record(host)


def test_everything_forgotten(host: Host) -> None:
    """Without any file of ours the choice is read off the running program: nothing is restarted, nothing moves."""
    with holding(host, 8443):
        words = (TOLD, "udp=0.0.0.0:{listen.quic.port}")
        apply(host, served(listen(transport="quic"), listen(), words=words))
    pid, had = verdict(host)["owner"]["pid"], ports(host)
    shutil.rmtree(host.run_dir / "tunnels")
    (host.run_dir / "endpoints.json").unlink()
    assert host.tunctl("reconcile").stdout == "no changes\n"
    assert (verdict(host)["owner"]["pid"], ports(host)) == (pid, had)
    assert record(host)["tunnels"]["demo"]["endpoints"] == {key: f"0.0.0.0:{port}" for key, port in had.items()}


def test_hints_that_lie(host: Host) -> None:
    """A handle and a record that name other ports change nothing."""
    apply(host, served())
    rewrite_handles(host, bound={"udp": "0.0.0.0:8450"}, requested={"udp": "0.0.0.0:8443"})
    path = host.run_dir / "endpoints.json"
    path.write_text(path.read_text().replace("8443", "8455"))
    assert ports(host) == {"udp": 8443}
    assert host.tunctl("reconcile").stdout == "no changes\n"
    assert handle(host)["bound"] == {"udp": "0.0.0.0:8443"}
    assert record(host)["tunnels"]["demo"]["endpoints"] == {"udp": "0.0.0.0:8443"}


def test_another_port_is_asked_for(host: Host) -> None:
    """The file says another port that the old one would do for, too: it is what it says."""
    apply(host, served())
    apply(host, served(listen(port=8440)))
    assert ports(host) == {"udp": 8440}


def test_what_cannot_be_rebound(host: Host) -> None:
    apply(host, served())
    assert "no tunnel 'nobody'" in host.tunctl("endpoints", "rebind", "nobody", expect=64).stderr
    host.tunctl("down", "demo")
    assert "demo: not connected" in host.tunctl("endpoints", "rebind", "demo").stderr


def test_the_store_is_lost(host: Host) -> None:
    """`down --all` leaves no record either."""
    apply(host, served())
    (host.state_dir / "intent.db").write_text("damaged")
    host.tunctl("down", "--all", expect=74)
    assert record(host) == {}


def test_a_record_that_cannot_be_written(host: Host) -> None:
    """It is said, and the tunnel is up all the same."""
    (host.dir / "d.toml.runtime.json").mkdir()
    done = apply(host, served(host='[host]\nruntime_file = "beside"'), expect=1)
    assert "d.toml.runtime.json: what is bound could not be recorded" in done.stderr
    assert ports(host) == {"udp": 8443}
    assert verdict(host)["state"] == "up"
    (host.dir / "d.toml.runtime.json").rmdir()
    host.tunctl("reconcile")
    assert (host.dir / "d.toml.runtime.json").read_text() == (host.run_dir / "endpoints.json").read_text()


@pytest.mark.bound(240)
@pytest.mark.parametrize(
    "place", ["kill-at:observed", "kill-after:1", "kill-after:2", "kill-after:3", "kill-at:acted", "kill-at:verified"]
)
def test_killed_in_between(host: Host, place: str) -> None:
    """Between choice, bind and record: the next pass ends where this one would have, with one program and no port lost."""
    with holding(host, 8443):
        host.tunctl("apply", host.write("d.toml", served()), env={"TUNCTL_FAULT": place}, expect=-9)
        host.tunctl("reconcile")
        assert ports(host) == {"udp": 8444}
    assert host.tunctl("reconcile").stdout == "no changes\n"
    assert record(host)["tunnels"]["demo"]["endpoints"] == {"udp": "0.0.0.0:8444"}
    assert handle(host)["bound"] == {"udp": "0.0.0.0:8444"}
