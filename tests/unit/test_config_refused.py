"""What the format has and tunctl does not do yet: refused by name (69), and only when the file is valid."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.config.load import load
from tests.unit.config_of import EXEC, PEER, PEER2, TUN, WG, problems, refusals, write

FULL = '[[tunnels.t.routes]]\nto = "0.0.0.0/0"\n'

# id, text, (line, key) of each refusal
TABLE = [
    (
        "openvpn",
        '[tunnels.c]\ndriver = "openvpn"\n[tunnels.c.openvpn]\nconfig_file = "c.ovpn"',
        [(3, "tunnels.c.driver"), (4, "tunnels.c.openvpn")],
    ),
    ("openconnect", '[tunnels.c]\ndriver = "openconnect"', [(3, "tunnels.c.driver")]),
    ("accept", '[tunnels.c]\ndriver = "openconnect"\naccept = ["dns"]', [(3, "tunnels.c.driver"), (4, "tunnels.c.accept")]),
    (
        "several",
        '[tunnels.c]\ndriver = "openconnect"\naccept = ["dns"]',
        [(3, "tunnels.c.driver"), (4, "tunnels.c.accept")],
    ),
]


@pytest.mark.parametrize(("text", "keys"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_refuses_by_name(tmp_path: Path, text: str, keys: list[tuple[int, str]]) -> None:
    found = refusals(write(tmp_path, text))
    assert [(problem.line, problem.key) for problem in found] == keys
    assert all(problem.file.endswith("d.toml") and "not supported by this version" in problem.message for problem in found)


@pytest.mark.parametrize("text", [row[1] for row in TABLE], ids=[row[0] for row in TABLE])
def test_what_is_invalid_comes_first(tmp_path: Path, text: str) -> None:
    (found,) = problems(write(tmp_path, "colour = 1\n" + text))
    assert found == "d.toml:2: colour: unknown key 'colour'"


ACCEPTED = [
    (
        "defaults",
        '[host]\nlan = "keep"\nlan_except = []\nuplink = "auto"\nruntime_file = "run"\n'
        + TUN
        + 'on_failure = "bypass"\nipv6_leak = "block"',
    ),
    ("split", TUN + '[[tunnels.t.split.vpn]]\ncidr = ["10.0.0.0/8"]\n[[tunnels.t.split.direct]]\ncidr = "10.1.0.0/16"'),
    ("on-failure", TUN + 'on_failure = "block"\nipv6_leak = "allow"'),
    ("health", TUN + '[tunnels.t.health]\nping = ["10.0.0.1", "fd00::1"]\nfailures = 2'),
    ("health-of-wireguard", WG + PEER + '[tunnels.office.health]\naction = "restart"'),
    ("dns", TUN + '[tunnels.t.dns]\nservers = ["10.0.0.53"]\nsearch = ["corp.example"]'),
    (
        "dns-file",
        TUN + '[tunnels.t.dns]\nservers = ["10.0.0.53"]\nsearch = ["corp.example"]\ndomains = ["."]\nbackend = "file"',
    ),
    ("dns-of-a-full-tunnel", TUN + FULL + '[tunnels.t.dns]\nservers = ["10.0.0.53"]\nsearch = ["a.b"]\nbackend = "file"'),
    ("remote", EXEC + 'remote = ["203.0.113.10", "vpn.example.com"]'),
    ("host", '[host]\nlan = "private"\nlan_except = ["docker0", "br-*", "10.0.0.0/8"]\nuplink = "eth0"\n' + TUN),
    ("full", TUN + FULL),
    ("full-halves-of-ipv6", WG + PEER + 'allowed_ips = "::/1"' + PEER2 + 'allowed_ips = "8000::/1"'),
    ("nothing-in-it", TUN + "nat = []\nlisten = []\n"),
    ("one-half", TUN + FULL.replace("/0", "/1")),
    ("all-but-one", TUN + FULL.replace('"0.0.0.0/0"', '["0.0.0.0/1", "128.0.0.0/2", "224.0.0.0/3"]')),
    ("in-a-table", TUN + FULL + "table = 200\n"),
    ("in-the-tunnel's-table", TUN + "table = 200\n" + FULL),
    ("by-rules", TUN + FULL + '[[tunnels.t.rules]]\niif = "eth1"\n'),
    ("allowed-not-routed", WG + "route_allowed_ips = false" + PEER + 'allowed_ips = ["0.0.0.0/0"]'),
    ("remote-of-nothing", EXEC + "remote = []"),
    ("braces", EXEC.replace('lab"]', 'lab", "{{endpoint}", "}", "}}"]')),
]


@pytest.mark.parametrize("text", [row[1] for row in ACCEPTED], ids=[row[0] for row in ACCEPTED])
def test_takes_what_it_does(tmp_path: Path, text: str) -> None:
    assert load(write(tmp_path, text)).tunnels


def test_refuses_what_a_file_cannot(tmp_path: Path) -> None:
    text = TUN + '[tunnels.t.dns]\nservers = ["10.0.0.53"]\nsearch = ["corp.example"]\nbackend = "file"'
    (problem,) = refusals(write(tmp_path, text))
    assert (problem.line, problem.key) == (8, "tunnels.t.dns.backend")
    assert "resolv.conf cannot send only some names to a server" in problem.message
