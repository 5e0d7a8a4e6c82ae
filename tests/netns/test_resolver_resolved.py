"""A real systemd-resolved, told over D-Bus: only of our links, only what we asked for, gone with us."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from tests.netns import managers, names
from tests.netns.layers import Rooted
from tests.netns.names import ANSWERS, NOBODY, UPLINK, answer
from tests.netns.scenario import desired, reasons, verdict
from tests.netns.world import NETNS_DIR, Uplink, wait_until

SPLIT = 'search = ["corp.example"]\ndomains = ["corp.example", "lab.example"]'


@pytest.fixture
def resolved(uplink: Uplink) -> tuple[Rooted, subprocess.Popen[bytes]]:
    return managers.resolved(names.lab(uplink).cl)


@pytest.fixture
def cl(resolved: tuple[Rooted, subprocess.Popen[bytes]]) -> Rooted:
    return resolved[0]


def up(root: Rooted, *tunnels: str, expect: int = 0) -> Path:
    file = root.write("d.toml", desired(*tunnels))
    root.tunctl("apply", file, expect=expect)
    return file


def settings(root: Rooted) -> str:
    """What it says of all links, without our own interface's number (resolvectl numbers links)."""
    words = [root.run(["resolvectl", word]).stdout for word in ("dns", "domain", "default-route")]
    return "\n".join(line for text in words for line in text.splitlines() if "tun-" not in line)


def of_tunnel(root: Rooted, name: str = "tun-demo") -> list[str]:
    """Servers, domains and default route of one link."""
    return [
        root.run(["resolvectl", word, name]).stdout.strip().partition(": ")[2] for word in ("dns", "domain", "default-route")
    ]


def test_split_names(cl: Rooted) -> None:
    """S49: servers, domains and default route on our link alone; the answers tell who was asked."""
    before = settings(cl)
    file = up(cl, names.tunnel(dns=SPLIT))
    assert of_tunnel(cl) == ["10.50.0.1", "corp.example ~lab.example", "no"]
    assert settings(cl) == before
    assert answer(cl, "a.corp.example") == answer(cl, "lab.example") == answer(cl, "a") == ANSWERS["demo"]
    assert answer(cl, "who.test") == answer(cl, "www.example") == UPLINK
    assert cl.tunctl("apply", file).stdout == "no changes\n"
    assert verdict(cl, expect=0)["verdict"] == "connected"
    cl.tunctl("down", "demo")
    assert settings(cl) == before
    assert answer(cl, "a.corp.example") == UPLINK


def test_everything(cl: Rooted) -> None:
    up(cl, names.tunnel(dns='domains = ["."]'))
    assert of_tunnel(cl) == ["10.50.0.1", "~.", "yes"]
    assert answer(cl) == ANSWERS["demo"]
    steps = cl.tunctl("down", "demo").stdout.splitlines()
    assert steps[0].startswith("- resolver resolved dev tun-demo")
    assert answer(cl) == UPLINK


def test_resolv_conf_is_left_alone(cl: Rooted) -> None:
    up(cl, names.tunnel(dns=SPLIT))
    assert cl.run(["readlink", "/etc/resolv.conf"]).stdout == "../run/systemd/resolve/stub-resolv.conf\n"
    done = cl.tunctl("apply", cl.write("d.toml", desired(names.tunnel(dns='domains = ["."]\nbackend = "file"'))), expect=69)
    assert "is kept by resolved, tunctl does not write there" in done.stderr
    assert answer(cl) == UPLINK


def test_two_that_want_everything(uplink: Uplink) -> None:
    """S54: the loser keeps the names that it named."""
    cl, _ = managers.resolved(names.lab(uplink, ("demo", "other")).cl)
    loser = names.tunnel("demo", 'search = ["corp.example"]\ndomains = ["."]')
    up(cl, loser, names.tunnel("other", 'domains = ["."]\npriority = 7'))
    assert answer(cl) == ANSWERS["other"]
    assert answer(cl, "a.corp.example") == ANSWERS["demo"]
    assert "dns owned by other" in reasons(cl, "demo", expect=3)
    assert verdict(cl, "other", expect=0)["verdict"] == "connected"
    cl.tunctl("down", "other")
    cl.tunctl("reconcile")
    assert answer(cl) == ANSWERS["demo"]


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("revert tun-demo", "DNS missing: resolver resolved dev tun-demo"),
        ("dns tun-demo 192.168.50.1", "DNS overwritten: resolver resolved dev tun-demo dns 192.168.50.1"),
        ("domain tun-demo ~.", "DNS overwritten"),
        ("default-route tun-demo yes", "DNS overwritten"),
    ],
)
def test_changed_by_others(cl: Rooted, command: str, reason: str) -> None:
    up(cl, names.tunnel(dns=SPLIT))
    cl.run(["resolvectl", *command.split()])
    assert reason in reasons(cl, expect=3)
    cl.tunctl("reconcile")
    assert of_tunnel(cl) == ["10.50.0.1", "corp.example ~lab.example", "no"]
    assert verdict(cl, expect=0)["verdict"] == "connected"


def test_restarted_with_its_memory_lost(resolved: tuple[Rooted, subprocess.Popen[bytes]]) -> None:
    """F34."""
    cl, daemon = resolved
    up(cl, names.tunnel(dns=SPLIT))
    cl.kill(daemon)
    assert "DNS" in reasons(cl, expect=3) or "dns" in reasons(cl, expect=3)
    cl.run(["sh", "-c", "rm -rf /run/systemd/resolve/netif"])
    managers.start_resolved(cl)
    cl.run(["resolvectl", "dns", "cl0", names.UPLINK_SERVER])
    assert "DNS missing" in reasons(cl, expect=3)
    cl.tunctl("reconcile")
    assert answer(cl, "a.corp.example") == ANSWERS["demo"]


def test_not_running_is_no_reason_to_take_the_tunnel_down(resolved: tuple[Rooted, subprocess.Popen[bytes]]) -> None:
    """Nobody answers names then, but no name is ever sent elsewhere, and the tunnel stays."""
    cl, daemon = resolved
    file = up(cl, names.tunnel(dns=SPLIT))
    cl.kill(daemon)
    done = cl.tunctl("apply", file, expect=69)
    assert "systemd-resolved does not run here" in done.stderr
    cl.run(["ping", "-c", "1", "-W", "2", "10.50.0.1"])
    assert verdict(cl, expect=3)["state"] == "up"
    assert answer(cl) == NOBODY
    cl.tunctl("down", "demo")


def test_that_hangs_holds_nothing_up(resolved: tuple[Rooted, subprocess.Popen[bytes]]) -> None:
    """Every call has a bound; what was not answered is unknown, and nothing is removed for it."""
    cl, daemon = resolved
    up(cl, names.tunnel(dns=SPLIT))
    daemon.send_signal(signal.SIGSTOP)
    try:
        assert "dns could not be compared: no answer within" in reasons(cl, expect=3)
        done = cl.tunctl("reconcile", expect=1)
        assert "resolver could not be read: no answer within" in done.stderr
        cl.run(["ping", "-c", "1", "-W", "2", "10.50.0.1"])
    finally:
        daemon.send_signal(signal.SIGCONT)
    assert verdict(cl, expect=0)["state"] == "up"
    assert of_tunnel(cl)[0] == "10.50.0.1"


def test_a_new_link_is_told_anew(cl: Rooted) -> None:
    """What it knows of a link goes with the link: a link of the same name is another one."""
    up(cl, names.tunnel(dns=SPLIT))
    cl.run(["kill", "-KILL", str(verdict(cl)["owner"]["pid"])])
    wait_until(lambda: "tun-demo" not in cl.ip("link"))
    cl.tunctl("reconcile")
    assert of_tunnel(cl) == ["10.50.0.1", "corp.example ~lab.example", "no"]
    assert answer(cl, "a.corp.example") == ANSWERS["demo"]


def test_no_longer_declared(cl: Rooted) -> None:
    text = desired(names.tunnel(dns=SPLIT))
    up(cl, names.tunnel(dns=SPLIT))
    cl.tunctl("apply", cl.write("d.toml", text[: text.index("[tunnels.demo.dns]")]))
    assert of_tunnel(cl)[:2] == ["", ""]
    assert answer(cl, "a.corp.example") == UPLINK
    cl.run(["resolvectl", "dns", "tun-demo", "10.50.0.1"])  # by somebody else, now that we want nothing there
    assert cl.tunctl("reconcile").stdout == "no changes\n"
    assert of_tunnel(cl)[0] == "10.50.0.1"


def test_one_of_another_namespace_is_not_asked(uplink: Uplink, resolved: tuple[Rooted, subprocess.Popen[bytes]]) -> None:
    """The bus is in the file system: from another network namespace it has other links by the same numbers."""
    cl, _ = resolved
    gw = uplink.gw
    file = gw.write("d.toml", desired(names.tunnel(dns=SPLIT)))
    there = ["nsenter", "-t", str(cl.anchor), "-m", "-r", "-w", f"--net={NETNS_DIR / gw.name}"]
    script = 'echo nameserver 192.168.50.1 > /run/gw.conf && mount --bind /run/gw.conf /etc/resolv.conf && exec "$@"'
    argv = [*there, "unshare", "-m", "sh", "-c", script, "sh", *gw.tunctl_argv("plan", file)]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, env=gw.env, timeout=30)
    assert done.returncode == 69, done.stderr
    assert "here it is file" in done.stderr


def test_status_needs_no_privilege(cl: Rooted) -> None:
    up(cl, names.tunnel(dns=SPLIT))
    cl.run(["resolvectl", "revert", "tun-demo"])
    argv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *cl.tunctl_argv("status", "demo")]
    done = cl.run(argv, check=False)
    assert done.returncode == 3, done.stderr
    assert "DNS missing" in done.stdout


def test_nothing_to_do_changes_nothing_and_starts_nothing(cl: Rooted) -> None:
    """It is asked what it has, and told nothing."""
    up(cl, names.tunnel(dns=SPLIT))
    traced = ["strace", "-f", "-qq", "-s", "4096", "-e", "trace=execve,sendmsg,sendto", "-o", str(cl.dir / "trace")]
    assert "no changes" in cl.run([*traced, *cl.tunctl_argv("reconcile")]).stdout
    text = (cl.dir / "trace").read_text()
    assert text.count("execve(") == 1
    assert "GetAll" in text
    assert "SetLink" not in text
    assert "Revert" not in text


def test_a_daemon_hears_of_it(resolved: tuple[Rooted, subprocess.Popen[bytes]]) -> None:
    """S50, F34: who tells resolved something else, and that it comes and goes, is heard on D-Bus."""
    cl, running = resolved
    text = desired(names.tunnel(dns=SPLIT), host='[host]\nreconcile_interval = "1h"\n')
    cl.tunctl("apply", cl.write("d.toml", text))
    daemon = cl.start(cl.tunctl_argv("daemon"), log="daemon.log")
    wait_until(lambda: cl.json("status", expect=None)["daemon"]["running"], 60)
    wanted = ["10.50.0.1", "corp.example ~lab.example", "no"]
    said = (cl.dir / "daemon.log").read_text
    for number in range(10):
        cl.run(["resolvectl", "revert", "tun-demo"])
        wait_until(lambda: of_tunnel(cl) == wanted, 60, said)
        assert said().count("+ resolver resolved dev tun-demo") <= number + 1, "once each time, and ours is no news"
    running.send_signal(signal.SIGKILL)
    running.wait(5)
    managers.start_resolved(cl)
    wait_until(lambda: of_tunnel(cl) == wanted, 60, said)
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(15) == 0, said()
