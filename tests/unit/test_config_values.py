"""What single values may be written as, and what they mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.config.load import load
from reconciler.model.tunnel import Endpoint, Host, RuleSettings, Tunnel
from tests.unit.config_of import EXEC, PEER, TUN, WG, prefixes, write


def one(tmp_path: Path, text: str) -> Tunnel:
    (tunnel,) = load(write(tmp_path, text)).tunnels
    return tunnel


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1s", 1), ("90s", 90), ("1.5s", 1.5), ("5m", 300), ("1h30m", 5400), ("1d", 86400), ("2500ms", 2.5), ("1m0s500ms", 60.5)],
)
def test_durations(tmp_path: Path, text: str, seconds: float) -> None:
    assert load(write(tmp_path, f'[host]\nreconcile_interval = "{text}"')).host.reconcile_interval_s == seconds


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('"0x10/0xff"', (16, 255)),
        ('"16/255"', (16, 255)),
        ('"0x10"', (16, 0xFFFFFFFF)),
        ("16", (16, 0xFFFFFFFF)),
        ('"0/1"', (0, 1)),
    ],
)
def test_marks(tmp_path: Path, text: str, value: tuple[int, int]) -> None:
    assert one(tmp_path, f"{TUN}[[tunnels.t.rules]]\nfwmark = {text}").rules[0].fwmark == value


@pytest.mark.parametrize(("text", "value"), [('"1000-2000"', (1000, 2000)), ('"7"', (7, 7)), ("0", (0, 0))])
def test_user_ids(tmp_path: Path, text: str, value: tuple[int, int]) -> None:
    assert one(tmp_path, f"{TUN}[[tunnels.t.rules]]\nuid_range = {text}").rules[0].uid_range == value


@pytest.mark.parametrize(("text", "value"), [("25s", 25), ("1m", 60), ("65535s", 65535), ("off", None), ("0s", None)])
def test_keepalive(tmp_path: Path, text: str, value: int | None) -> None:
    assert one(tmp_path, f'{WG}{PEER}keepalive = "{text}"').wireguard.peers[0].keepalive_s == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("203.0.113.7:1", Endpoint("203.0.113.7", 1)),
        ("[2001:db8::1]:65535", Endpoint("2001:db8::1", 65535)),
        ("vpn_1.example.com.:51820", Endpoint("vpn_1.example.com.", 51820)),
    ],
)
def test_endpoints(tmp_path: Path, text: str, value: Endpoint) -> None:
    assert one(tmp_path, f'{WG}{PEER}endpoint = "{text}"').wireguard.peers[0].endpoint == value
    assert str(value) == text


def test_prefixes_in_their_normal_form(tmp_path: Path) -> None:
    text = WG + PEER + 'allowed_ips = ["fd00::/8", "10.0.0.0/8", "10.0.0.0/08", "1.2.3.4", "FD00:0::/8"]'
    assert one(tmp_path, text).wireguard.peers[0].allowed_ips == prefixes("1.2.3.4/32", "10.0.0.0/8", "fd00::/8")
    rule = '[[tunnels.t.rules]]\nfrom = ["fd::/16", "10.0.0.0/8", "fd::/16"]\nto = "1.1.1.1"'
    tunnel = one(tmp_path, f'{TUN}addresses = "10.0.0.1"\n{rule}')
    assert tunnel.addresses == prefixes("10.0.0.1/32")
    assert tunnel.rules == (RuleSettings(from_=prefixes("fd::/16", "10.0.0.0/8"), to=prefixes("1.1.1.1/32")),)


def test_one_may_stand_where_a_list_may(tmp_path: Path) -> None:
    many = one(tmp_path, TUN + '[[tunnels.t.routes]]\nto = ["10.0.0.0/8"]\n[[tunnels.t.rules]]\nfrom = ["10.0.0.0/8"]')
    assert many == one(tmp_path, TUN + '[[tunnels.t.routes]]\nto = "10.0.0.0/8"\n[[tunnels.t.rules]]\nfrom = "10.0.0.0/8"')


def test_the_kernel_may_choose_the_interface(tmp_path: Path) -> None:
    assert one(tmp_path, TUN + 'interface = "auto"').interface is None
    assert one(tmp_path, EXEC.replace("[tunnels.lab.exec]", 'interface = "auto"\n[tunnels.lab.exec]')).interface is None


def test_a_user_means_a_device_made_before(tmp_path: Path) -> None:
    assert one(tmp_path, EXEC).exec_.device == "program"
    assert one(tmp_path, EXEC + 'user = "nobody"').exec_.device == "tunctl"
    assert one(tmp_path, EXEC + 'user = "nobody"\ndevice = "program"').exec_.device == "program"


def test_two_tunnels_with_one_address_are_a_warning(tmp_path: Path) -> None:
    text = TUN + 'addresses = ["10.0.0.1/24"]\n[tunnels.u]\ndriver = "tun"\naddresses = ["10.0.0.1"]'
    (warning,) = load(write(tmp_path, text)).warnings
    assert warning.endswith(f"d.toml:8: tunnels.u.addresses[0]: 10.0.0.1 is an address of tunnels.t too ({tmp_path}/d.toml:5)")


def test_numbers_of_the_host(tmp_path: Path) -> None:
    text = "[host]\ntable_base = 30000\npriority_base = 10000\nlink_group = 5\n" + TUN + "table = 20001"
    assert load(write(tmp_path, text)).host == Host(table_base=30000, priority_base=10000, link_group=5)
