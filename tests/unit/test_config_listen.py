"""`listen` in a desired file: what it means, what is wrong with it, what is only worth a warning."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from reconciler.config.load import load
from reconciler.errors import InvalidFile
from reconciler.model.port import ANY4, ANY6
from reconciler.model.tunnel import Listen
from tests.unit.config_of import EXEC, TUN, WG, judge, write

TOLD = EXEC.replace('lab"]', 'lab", "{listen.udp.address}", "{listen.udp.port}", "{listen.tcp.port}", "{listen.quic.port}"]')
UDP = '[[tunnels.lab.listen]]\ntransport = "udp"\nport = 8443\n'
TCP, QUIC = UDP.replace("udp", "tcp"), UDP.replace("udp", "quic")
HUB = "[[tunnels.office.listen]]\nport = 51820\n"

TABLE = [
    ("scan", EXEC + UDP.replace("8443", "65000") + "scan = 600", ["port 65000 and 599 more go beyond 65535"]),
    ("of-a-device", TUN + "[[tunnels.t.listen]]\nport = 5", ["is for the drivers wireguard and exec: 'tun' has no program"]),
    (
        "twice",
        EXEC + UDP + UDP.replace("8443", "9"),
        ["tunnels.lab.listen[1].transport: udp is that of listen[0] too (d.toml:7)"],
    ),
    ("same-port", TOLD + UDP + TCP + QUIC, ["tunnels.lab.listen[2].port: udp port 8443 is that of tunnels.lab.listen[0].port"]),
    ("wireguard-tcp", WG + HUB + 'transport = "tcp"', ["WireGuard listens on udp only"]),
    ("wireguard-address", WG + HUB + 'address = "192.0.2.1"', ['WireGuard listens on all addresses: "0.0.0.0" or "::"']),
    (
        "listen_port-of-another",
        WG + "listen_port = 8443\n" + EXEC + UDP,
        ["tunnels.lab.listen[0].port: udp port 8443 is that of tunnels.office.wireguard.listen_port already (d.toml:7)"],
    ),
    (
        "of-another-tunnel",
        EXEC + UDP + (EXEC + UDP).replace("lab", "lab2") + 'address = "127.0.0.1"',
        ["tunnels.lab2.listen[0].port: udp port 8443 is that of tunnels.lab.listen[0].port already"],
    ),
    ("placeholder", EXEC.replace('lab"]', 'lab", "{listen.tcp.port}"]') + UDP, ["no `listen` with transport = 'tcp'"]),
]


@pytest.mark.parametrize(("text", "said"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_says_what_is_wrong(tmp_path: Path, text: str, said: list[str]) -> None:
    judge(tmp_path, text, said)


ACCEPTED = [
    ("one", EXEC + UDP, (Listen("udp", ANY4, 8443),)),
    (
        "all",
        TOLD + UDP + TCP + QUIC + "scan = 2",
        (Listen("udp", ANY4, 8443), Listen("tcp", ANY4, 8443), Listen("quic", ANY4, 8443, 2)),
    ),
    ("address", EXEC + UDP + 'address = "::"', (Listen("udp", ANY6, 8443),)),
]


@pytest.mark.parametrize(("text", "wanted"), [row[1:] for row in ACCEPTED], ids=[row[0] for row in ACCEPTED])
def test_means(tmp_path: Path, text: str, wanted: tuple[Listen, ...]) -> None:
    (tunnel,) = load(write(tmp_path, text)).tunnels
    assert tunnel.listen == wanted


def test_wireguard(tmp_path: Path) -> None:
    (tunnel,) = load(write(tmp_path, WG + HUB + "scan = 20")).tunnels
    assert tunnel.listen == (Listen("udp", ANY4, 51820, 20),)


def test_same_port_of_other_addresses_or_with_a_choice(tmp_path: Path) -> None:
    other = (EXEC + UDP).replace("lab", "lab2")
    assert load(write(tmp_path, EXEC + UDP + 'address = "127.0.0.1"' + other + 'address = "127.0.0.2"')).tunnels
    desired = load(write(tmp_path, EXEC + UDP + other + "scan = 2"))
    (warning,) = desired.warnings
    assert "tunnels.lab2.listen[0].scan: the program is not told which port was chosen: {listen.udp.port}" in warning


def test_beside_standard_input(tmp_path: Path) -> None:
    text = 'version = 1\nsource = "x"\n[host]\nruntime_file = "beside"\n'
    assert load(write(tmp_path, text)).host.runtime_file == "beside"
    with pytest.raises(InvalidFile) as caught:
        load("-", stdin=io.BytesIO(text.encode()))
    assert "nothing can stand beside what comes from standard input" in str(caught.value.details[0])
