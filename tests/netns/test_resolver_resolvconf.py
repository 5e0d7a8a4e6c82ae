"""The real openresolv and Debian's resolvconf: one record of ours, in force while we are up, and gone with us."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.netns import layers, managers, names
from tests.netns.layers import Rooted
from tests.netns.names import ANSWERS, UPLINK, answer, resolv_conf
from tests.netns.scenario import desired, reasons, verdict
from tests.netns.world import Host, Uplink

FLAVOURS = {"openresolv": managers.openresolv, "debian": managers.debian_resolvconf}
both = pytest.mark.parametrize("flavour", FLAVOURS)


@pytest.fixture
def root(uplink: Uplink, flavour: str) -> Rooted:
    make: Callable[[Host], Rooted] = FLAVOURS[flavour]
    return make(names.lab(uplink, ("demo", "other")).cl)


def up(host: Host, *tunnels: str, expect: int = 0) -> Path:
    file = host.write("d.toml", desired(*(tunnels or (names.tunnel(),))))
    host.tunctl("apply", file, expect=expect)
    return file


def ours(host: Rooted) -> list[str]:
    return [name for name in managers.records(host) if ".tunctl." in name]


@both
def test_one_record_while_up(root: Rooted, flavour: str) -> None:
    """S49."""
    before, content = managers.records(root), resolv_conf(root)
    assert answer(root) == UPLINK
    file = up(root)
    (record,) = ours(root)
    assert record.startswith("tun-demo.tunctl.")
    assert answer(root) == ANSWERS["demo"]
    assert root.tunctl("apply", file).stdout == "no changes\n"
    assert verdict(root, expect=0)["verdict"] == "connected"
    root.tunctl("down", "demo")
    assert managers.records(root) == before
    assert resolv_conf(root) == content
    assert answer(root) == UPLINK


@both
def test_a_name_that_would_be_sorted_behind(root: Rooted, flavour: str) -> None:
    """Debian's sorts records by the beginning of their names: wg… would stand behind every uplink."""
    up(root, names.tunnel().replace("tun-demo", "wg-demo"))
    (record,) = ours(root)
    assert record.startswith("tun.wg-demo.tunctl." if flavour == "debian" else "wg-demo.tunctl.")
    assert answer(root) == ANSWERS["demo"]
    assert root.tunctl("reconcile").stdout == "no changes\n"
    root.tunctl("down", "demo")
    assert ours(root) == []
    assert answer(root) == UPLINK


@both
def test_overwritten_is_seen_and_put_back(root: Rooted, flavour: str) -> None:
    up(root)
    root.run(["sh", "-c", "echo nameserver 192.168.50.1 > /etc/resolv.conf"])
    assert "DNS overwritten" in reasons(root, expect=3)
    root.tunctl("reconcile")
    assert answer(root) == ANSWERS["demo"]
    assert verdict(root, expect=0)["verdict"] == "connected"


@both
def test_record_removed_by_others(root: Rooted, flavour: str) -> None:
    up(root)
    root.run(["resolvconf", "-d", *ours(root)])
    assert "DNS missing" in reasons(root, expect=3)
    root.tunctl("reconcile")
    assert answer(root) == ANSWERS["demo"]


@both
def test_others_records_come_and_go(root: Rooted, flavour: str) -> None:
    up(root)
    root.run(["resolvconf", "-a", "eth9.dhcp"], stdin="nameserver 192.168.50.1\nsearch lan.example\n")
    assert answer(root) == ANSWERS["demo"]
    root.tunctl("down", "demo")
    assert managers.records(root) == ["cl0.dhcp", "eth9.dhcp"]
    assert answer(root) == UPLINK


@both
def test_two_that_want_everything(root: Rooted, flavour: str) -> None:
    up(root, names.tunnel("demo"), names.tunnel("other", 'domains = ["."]\npriority = 1'))
    assert [name.partition(".")[0] for name in ours(root)] == ["tun-other"]
    assert answer(root) == ANSWERS["other"]
    assert "dns owned by other" in reasons(root, "demo", expect=3)
    root.tunctl("down", "other")
    root.tunctl("reconcile")
    assert answer(root) == ANSWERS["demo"]
    root.tunctl("down", "demo")
    assert answer(root) == UPLINK
    assert ours(root) == []


@both
def test_split_is_refused(root: Rooted, flavour: str) -> None:
    file = root.write("d.toml", desired(names.tunnel(dns='domains = ["corp.example"]')))
    done = root.tunctl("apply", file, expect=69)
    assert "only systemd-resolved can send corp.example alone to a server, and here it is resolvconf" in done.stderr
    assert ours(root) == []
    assert answer(root) == UPLINK


@both
def test_an_engine_that_is_gone(root: Rooted, flavour: str) -> None:
    up(root)
    root.run(["kill", "-KILL", str(verdict(root)["owner"]["pid"])])
    root.run(["sh", "-c", "while ip link show tun-demo >/dev/null 2>&1; do sleep 0.05; done"], timeout=10)
    assert root.tunctl("plan", expect=2).stdout.startswith("- resolver resolvconf dev tun-demo")
    root.tunctl("reconcile")
    assert answer(root) == ANSWERS["demo"]


def test_one_that_does_not_work_degrades(uplink: Uplink) -> None:
    """It ends with 99: told, and the tunnel stays as it is."""
    root = managers.openresolv(names.lab(uplink).cl)
    root.write_root("/sbin/resolvconf", "#!/bin/sh\necho no such thing >&2\nexit 99\n")
    done = root.tunctl("apply", root.write("d.toml", desired(names.tunnel())), expect=1)
    assert "resolvconf -a ended with 99: no such thing" in done.stderr
    root.run(["ping", "-c", "1", "-W", "2", "10.50.0.1"])
    assert verdict(root, expect=3)["state"] == "up"
    assert answer(root) == UPLINK


def test_resolvectl_by_this_name_is_resolved(uplink: Uplink) -> None:
    root, _ = managers.resolved(names.lab(uplink).cl)
    assert root.run(["readlink", "-f", "/sbin/resolvconf"]).stdout.endswith("resolvectl\n")
    up(root, names.tunnel(dns='domains = ["corp.example"]\nbackend = "resolvconf"'))
    assert answer(root, "a.corp.example") == ANSWERS["demo"]
    assert answer(root) == UPLINK


def test_not_there(uplink: Uplink) -> None:
    root = layers.rooted(names.lab(uplink).cl)
    root.write_root("/etc/resolv.conf", names.ORIGINAL)
    root.run(["sh", "-c", 'rm -f "$(command -v resolvconf)"'])
    file = root.write("d.toml", desired(names.tunnel(dns='domains = ["."]\nbackend = "resolvconf"')))
    assert "there is no resolvconf here" in root.tunctl("apply", file, expect=69).stderr
    assert resolv_conf(root) == names.ORIGINAL


@both
def test_nothing_to_do_starts_nothing(root: Rooted, flavour: str) -> None:
    up(root)
    traced = ["strace", "-f", "-qq", "-e", "trace=execve", "-o", str(root.dir / "trace"), *root.tunctl_argv("reconcile")]
    assert "no changes" in root.run(traced).stdout
    assert (root.dir / "trace").read_text().count("execve(") == 1
