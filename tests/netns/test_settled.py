"""`apply` and `reconcile` that find nothing to do take a short way. They say the same, and they only take it when it is so."""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Callable

import pytest

from tests.netns.scenario import desired, exec_, handles_file, key_pair, tun, wireguard
from tests.netns.world import Host, wait_until

LONG = ("--lock-timeout", "2s")  # as ever, but no words of the short way
OVERLAP = tun("other", interface="tun-other", addresses=("10.9.1.2/32",), routes=("10.20.5.0/24",))


def applied(host: Host) -> None:
    peer = key_pair(host, "peer.key")
    key_pair(host, "wg.key")
    peers = f'[[tunnels.wg.wireguard.peers]]\npublic_key = "{peer}"\nallowed_ips = ["10.30.0.0/16"]\n'
    host.write(
        "d.toml",
        desired(
            tun(),
            OVERLAP,
            exec_("prog", addresses=("10.9.2.2/32",), routes=("10.60.0.0/16",)),
            wireguard("wg", "wg.key", peers=peers),
        ),
    )
    host.tunctl("apply", "d.toml")


def said(host: Host, *words: str) -> tuple[int, str, str]:
    done = host.tunctl(*words, expect=None)
    return done.returncode, done.stdout, done.stderr


def took_the_short_way(host: Host, *words: str) -> bool:
    trace = host.run(["strace", "-f", "-qq", "-e", "trace=openat", *host.tunctl_argv(*words)], check=False).stderr
    return re.search(r"(loop/(__pycache__/)?commands|command-change)\b", trace) is None  # what carries an order out


@pytest.mark.parametrize("words", [("apply", "d.toml"), ("apply", "d.toml", "--json"), ("reconcile",), ("reconcile", "--json")])
def test_the_same_is_said(host: Host, words: tuple[str, ...]) -> None:
    applied(host)
    if words[0] == "reconcile":
        host.tunctl("down", "other")
    assert took_the_short_way(host, *words)
    short = said(host, *words)
    assert short == said(host, *words, *LONG)
    assert short[0] == 0
    assert json.loads(short[1])["changes"] == 0 if "--json" in words else short[1].startswith("no changes")


BREAKAGES: dict[str, Callable[[Host], object]] = {
    "a route": lambda host: host.ip("route del 10.20.0.0/16 dev tun-demo"),
    "a link": lambda host: host.ip("link del tun-demo"),
    "a hint": lambda host: handles_file(host, "demo").unlink(),
    "a damaged hint": lambda host: handles_file(host, "demo").write_text("{"),
    "a hold": lambda host: host.tunctl("down", "demo"),
    "the file": lambda host: host.write("d.toml", (host.dir / "d.toml").read_text() + "# other\n"),
    "a long log": lambda host: (host.run_dir / "tunnels/prog/owner.log").write_bytes(b"x\n" * (1 << 20)),
}


@pytest.mark.parametrize("what", BREAKAGES)
def test_what_is_not_so_is_done(host: Host, what: str) -> None:
    applied(host)
    BREAKAGES[what](host)
    assert not took_the_short_way(host, "apply", "d.toml")
    assert took_the_short_way(host, "apply", "d.toml")
    host.tunctl("plan", "d.toml")
    assert handles_file(host, "demo").exists()
    assert (host.run_dir / "tunnels/prog/owner.log").stat().st_size < 1 << 20


def test_one_writer(host: Host) -> None:
    """Who holds the lock may be about to change all this."""
    applied(host)
    descriptor = os.open(host.run_dir / "lock", os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        assert said(host, "apply", "d.toml")[0] == 75
        assert said(host, "reconcile")[0] == 75
    finally:
        os.close(descriptor)
    assert said(host, "reconcile")[0] == 0


def test_a_name_is_asked_for_once(host: Host) -> None:
    """Also when there is something to do: a server that is silent is waited for once, not for the look and for the work."""
    host.write("wg.key", host.tunctl("key", "generate", "--type", "x25519").stdout, 0o600)
    peer = "6cM35egc2hX5y0Qi/YgyqaGGWF3YxsSjNRhGqlAiGQk="
    peers = f'[[tunnels.wg.wireguard.peers]]\npublic_key = "{peer}"\nendpoint = "vpn.example.net:51820"\n'
    host.write("d.toml", desired(wireguard("wg", "wg.key", peers=peers)))
    host.write_etc("resolv.conf", "nameserver 127.0.0.53\noptions timeout:30 attempts:5\n")
    host.start(["socat", "-u", "UDP4-RECV:53,bind=127.0.0.53", f"OPEN:{host.dir}/asked,creat,append"])
    wait_until(lambda: "127.0.0.53:53" in host.run(["ss", "-Hlnu"]).stdout, 30)
    host.tunctl("apply", "d.toml")
    for words in (["reconcile"], ["apply", "d.toml"]):
        host.ip("link set tun-wg down")
        host.write("asked", "")
        assert "~ link tun-wg" in host.tunctl(*words).stdout
        assert (host.dir / "asked").read_bytes().count(b"\x03vpn\x07example\x03net") == 2, "A and AAAA"
