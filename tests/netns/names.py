"""Real name servers, so that an answer tells who was asked: each dnsmasq gives one address for every name.

`cl` has the server of its uplink; the tunnel `demo` (and `other`) carries packets to one beyond the gateway.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

from tests.netns.world import Host, Uplink, wait_until

PUMP = str(Path(__file__).parents[1] / "programs" / "pump.py")
UPLINK_SERVER, UPLINK = "192.168.50.1", "203.0.113.1"  # where it listens, what it answers
SERVERS = {"demo": "10.50.0.1", "other": "10.51.0.1"}
ANSWERS = {"demo": "198.51.100.1", "other": "198.51.100.2"}
PORTS = {"demo": 7000, "other": 7001}
ORIGINAL = f"# written by a person\nnameserver {UPLINK_SERVER}\noptions timeout:1 attempts:1\n"
NOBODY = ""


def serve(host: Host, address: str, answer: str, domain: str = "#") -> None:
    """A dnsmasq at this address; it answers for a domain and all below it, `#` for everything, and refuses the rest."""
    log = f"dnsmasq-{address}.log"
    host.start(
        [
            "dnsmasq", "--no-daemon", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--pid-file=", "--user=root",
            "--bind-interfaces", f"--listen-address={address}", "--cache-size=0", "--log-queries", "--log-facility=-",
            f"--address=/{domain}/{answer}",
        ],
        log=log,
    )  # fmt: skip
    wait_until(lambda: "started" in (host.dir / log).read_text(), 30, f"dnsmasq at {address}")


def asked(host: Host, address: str) -> str:
    """What the server at this address has logged."""
    return (host.dir / f"dnsmasq-{address}.log").read_text()


def far_end(uplink: Uplink, name: str = "demo") -> None:
    """The other end of a tunnel, with the server behind it."""
    gw, port, network = uplink.gw, PORTS[name], SERVERS[name]
    gw.start([sys.executable, PUMP, f"far-{name}", f"192.168.50.1:{port}", f"192.168.50.2:{port}"], log=f"pump-{name}.log")
    wait_until(lambda: f"far-{name}" in gw.ip("link"), 30, "the far end")
    gw.ip(f"addr add {network}/24 dev far-{name}")
    gw.ip(f"link set far-{name} up")
    serve(gw, network, ANSWERS[name])


def lab(uplink: Uplink, names: Iterable[str] = ("demo",)) -> Uplink:
    """The server of the uplink, and the far ends of these tunnels; `cl` asks the uplink's."""
    serve(uplink.gw, UPLINK_SERVER, UPLINK)
    for name in names:
        far_end(uplink, name)
    uplink.cl.write_etc("resolv.conf", ORIGINAL)
    return uplink


def tunnel(name: str = "demo", dns: str = 'domains = ["."]', keys: str = "") -> str:
    """Its table in a desired file: an exec tunnel with a pump, and the server behind it."""
    port, network = PORTS[name], SERVERS[name].rpartition(".")[0]
    argv = json.dumps([sys.executable, PUMP, "{interface}", f"192.168.50.2:{port}", f"192.168.50.1:{port}"])
    return (
        f'[tunnels.{name}]\ndriver = "exec"\ninterface = "tun-{name}"\naddresses = ["{network}.2/24"]\n{keys}\n'
        f"[tunnels.{name}.exec]\ncommand = {argv}\n"
        f'[tunnels.{name}.dns]\nservers = ["{SERVERS[name]}"]\n{dns}\n'
    )


def answer(host: Host, name: str = "who.test") -> str:
    """What a program on this host is told when it asks for a name; NOBODY when nobody answers."""
    done = host.run(["getent", "ahostsv4", name], check=False, timeout=15)
    return done.stdout.split()[0] if done.returncode == 0 else NOBODY


def resolv_conf(host: Host) -> str:
    """/etc/resolv.conf as programs of this host see it."""
    return host.run(["cat", "/etc/resolv.conf"]).stdout
