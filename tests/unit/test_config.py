"""desired.toml: what is read from it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from reconciler.config.load import load
from reconciler.errors import InvalidFile
from reconciler.model.tunnel import (
    Desired,
    Endpoint,
    Exec,
    Host,
    PeerSettings,
    Restart,
    RouteSettings,
    RuleSettings,
    Tun,
    WireGuard,
)
from tests.unit.config_of import KEY, prefixes, write

# PRODUCT section 3 as it stands there, without what is not built yet; "…" filled in.
PRODUCT = f"""
version = 1
source = "gateway"                    # optional name of this source; default: the absolute path

[host]                                # optional; defaults shown
lan = "keep"                          # connected networks stay local
lan_except = []                       # connected networks that tunnels may cover: interfaces ("docker0", "br-*") or prefixes
uplink = "auto"                       # or an interface name
reconcile_interval = "30s"
runtime_file = "run"                  # where the bound endpoints are recorded
mark = "0x3174/0x3fff"                # how tunnels' own packets are marked

[tunnels.office]                      # name: [a-z0-9][a-z0-9_-]{{0,31}}
description = ""
driver = "wireguard"                  # wireguard · tun · exec · openvpn ◇ · openconnect ◇
interface = "wg-office"               # ≤ 15 bytes; default: the tunnel's name; "auto" (tun, exec): the kernel chooses
enabled = true                        # false: always down; `up` refuses and says so
autostart = true                      # false: only `up NAME` brings it up
addresses = ["10.8.0.2/32", "fd00:8::2/128"]
mtu = "auto"                          # or 576..65535 (≥ 1280 with an IPv6 address); auto: from the endpoint's route
table = "auto"                        # or a number; with `metric` and `src` for all its routes
ipv6_leak = "block"                   # full IPv4 tunnel without IPv6: "block" (unreachable) · "allow"

[tunnels.office.wireguard]
private_key_file = "k"
listen_port = 51820                   # optional
backend = "auto"                      # auto: kernel if it has WireGuard, else userspace · kernel · userspace
userspace_command = ["wireguard-go", "-f", "{{interface}}"]
route_allowed_ips = true              # a route for each allowed prefix
[[tunnels.office.wireguard.peers]]
name = "berlin"                       # optional; shown in plan, status, metrics
public_key = "{KEY}"
preshared_key_file = "psk"              # optional
endpoint = "vpn.example.com:51820"    # or "[2001:db8::1]:51820"; names are resolved again while the tunnel lives
allowed_ips = ["10.0.0.0/8"]
keepalive = "25s"

[tunnels.lab]
driver = "exec"                       # any program that moves packets through a TUN device
[tunnels.lab.exec]
command = ["/usr/local/bin/labvpn", "--dev", "{{interface}}", "--mtu", "{{mtu}}", "{{run_dir}}", "{{{{x}}"]
device = "program"                    # the program creates it
environment = {{ LABVPN_PROFILE = "a" }}               # the environment is PATH, TUNCTL_TUNNEL and this; nothing is inherited
user = "nobody"                       # optional
restart_on = ["labvpn.conf"]     # restarted when the content of one of these differs at apply
ready_timeout = "12s"                 # until the interface is there and has carrier
stop_grace = "5s"                     # SIGTERM, then SIGKILL

[tunnels.tap0]
driver = "tun"                        # a persistent device for somebody else's process
[tunnels.tap0.tun]
mode = "tap"                          # tun · tap
owner = "nobody"                       # optional user, and `group`
multi_queue = false

# in any tunnel
[[tunnels.office.routes]]
to = "10.20.0.0/16"                   # or a list, or `to_file = "prefixes.txt"`
metric = 50                           # default 0 (IPv4), 1024 (IPv6)
table = 200
via = "10.8.0.1"
src = "192.168.50.1"
type = "unicast"                      # unicast · blackhole · unreachable · prohibit · throw

[[tunnels.office.rules]]              # policy routing
from = "192.168.50.0/24"              # from · to · iif · fwmark · uid_range, at least one; from and to may be lists
lookup = "tunnel"                     # the tunnel's own table, or a number

[tunnels.office.restart]              # when an owner process dies or a bring-up fails
base = "5s"
factor = 2
max = "60s"
attempts = 0                          # 0: never give up
"""


def test_the_example_of_the_contract_loads(tmp_path: Path) -> None:
    (tmp_path / "labvpn.conf").write_text("x")
    desired = load(write(tmp_path, PRODUCT))
    assert isinstance(desired, Desired)
    assert (desired.source, desired.path) == ("gateway", str(tmp_path / "d.toml"))
    assert desired.host == Host("keep", (), "auto", 30.0, "run", (0x3174, 0x3FFF))
    assert desired.warnings == ()
    office, lab, tap0 = desired.tunnels
    assert office.wireguard == WireGuard(
        private_key_file=str(tmp_path / "k"),
        listen_port=51820,
        peers=(
            PeerSettings(
                KEY, prefixes("10.0.0.0/8"), "berlin", str(tmp_path / "psk"), Endpoint("vpn.example.com", 51820), keepalive_s=25
            ),
        ),
    )
    assert office.addresses == prefixes("10.8.0.2/32", "fd00:8::2/128")
    assert (office.interface, office.mtu, office.table, office.restart) == ("wg-office", None, None, Restart())
    assert office.routes == (
        RouteSettings(
            to=prefixes("10.20.0.0/16"), metric=50, table=200, via=bytes((10, 8, 0, 1)), src=bytes((192, 168, 50, 1))
        ),
    )
    assert office.rules == (RuleSettings(from_=prefixes("192.168.50.0/24")),)
    assert isinstance(lab.exec_, Exec)
    assert (lab.exec_.device, lab.exec_.user, lab.exec_.environment) == ("program", "nobody", (("LABVPN_PROFILE", "a"),))
    assert lab.exec_.restart_on == (str(tmp_path / "labvpn.conf"),)
    assert tap0.tun == Tun("tap", "nobody")


def test_an_empty_document_is_a_source_without_tunnels(tmp_path: Path) -> None:
    assert load(write(tmp_path, "version = 1\n")).tunnels == ()


def test_stdin_needs_a_source() -> None:
    with pytest.raises(InvalidFile) as caught:
        load("-", stdin=io.BytesIO(b"version = 1\n"))
    assert [str(problem) for problem in caught.value.details] == [
        "<stdin>:1: source: missing: what comes from standard input has to name its source"
    ]
    desired = load("-", stdin=io.BytesIO(b'version = 1\nsource = "s"\n'))
    assert (desired.source, desired.path) == ("s", "-")
