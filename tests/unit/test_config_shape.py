"""Mistakes in the shape of a desired file, in names, numbers and [host]."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.config_of import PEER, TUN, WG, judge

# id, text (line 1 is `version = 1`, line 2 empty), what is said
TABLE = [
    # shape
    ("no-table", "tunnels = 3", ["d.toml:2: tunnels: expected a table, got the integer 3"]),
    ("tunnel-no-table", "[tunnels]\nt = 3", ["d.toml:3: tunnels.t: expected a table, got the integer 3"]),
    ("no-driver", "[tunnels.t]", ["d.toml:2: tunnels.t.driver: missing, it is required"]),
    (
        "driver",
        '[tunnels.t]\ndriver = "wiregaurd"',
        [
            'd.toml:3: tunnels.t.driver: expected "wireguard", "tun", "exec", "openvpn" or "openconnect", got \'wiregaurd\'',
        ],
    ),
    ("unknown", TUN + "mtuu = 5", ["d.toml:5: tunnels.t.mtuu: unknown key 'mtuu', did you mean 'mtu'?"]),
    ("unknown-top", "colour = 5", ["d.toml:2: colour: unknown key 'colour'"]),
    ("unknown-top-table", "[tunnel.x]", ["d.toml:2: tunnel: unknown key 'tunnel', did you mean 'tunnels'?"]),
    (
        "belongs-in-engine",
        WG.replace("[tunnels.office.wireguard]\n", ""),
        [
            "d.toml:5: tunnels.office.private_key_file: unknown key 'private_key_file', it belongs in [tunnels.office.wireg",
            "d.toml:3: tunnels.office.wireguard: missing, it is required (private_key_file in ",
        ],
    ),
    (
        "belongs-in-tunnel",
        WG + 'addresses = ["10.0.0.1"]',
        ["d.toml:7: tunnels.office.wireguard.addresses: unknown key 'addresses', it belongs in [tunnels.office]"],
    ),
    (
        "belongs-in-any-tunnel",
        "[host]\nmtu = 1400",
        ["d.toml:3: host.mtu: unknown key 'mtu', it belongs in [tunnels.X]"],
    ),
    (
        "old-flat-key",
        TUN + 'vpn_cidrs = ["10.0.0.0/8"]',
        ["d.toml:5: tunnels.t.vpn_cidrs: unknown key 'vpn_cidrs', did you mean 'cidr' in [[tunnels.t.split.vpn]]?"],
    ),
    (
        "wg-quick-key",
        WG + PEER + 'PersistentKeepalive = "25s"',
        [
            (
                "d.toml:10: tunnels.office.wireguard.peers[0].PersistentKeepalive: unknown key 'PersistentKeepalive', "
                "did you mean 'keepalive'?"
            ),
        ],
    ),
    (
        "wg-quick-spelling",
        WG + PEER + 'AllowedIPs = ["10.0.0.0/8"]',
        ["d.toml:10: tunnels.office.wireguard.peers[0].AllowedIPs: unknown key 'AllowedIPs', did you mean 'allowed_ips'?"],
    ),
    (
        "single-brackets",
        WG + PEER.replace("[[", "[").replace("]]", "]"),
        [
            "d.toml:8: tunnels.office.wireguard.peers: expected an array, got a table: write [[tunnels.office.wireguard.",
        ],
    ),
    (
        "double-brackets",
        '[[tunnels.t]]\ndriver = "tun"',
        ["d.toml:2: tunnels.t: expected a table, got an array: write [tunnels.t]"],
    ),
    # names
    (
        "name-case",
        '[tunnels.Office]\ndriver = "tun"',
        [
            (
                "d.toml:2: tunnels.Office: 'Office' is no name for a tunnel: a-z, 0-9, _ and -, at most 32, "
                "beginning with a letter or digit, did you mean 'office'?"
            ),
        ],
    ),
    (
        "name-empty",
        '[tunnels.""]\ndriver = "tun"',
        ["d.toml:2: tunnels.\"\": '' is no name for a tunnel: a-z, 0-9, _ and -, at most 32, beginning with a letter or digit"],
    ),
    (
        "name-too-long-for-interface",
        '[tunnels.a-name-of-17-byte]\ndriver = "tun"',
        [
            (
                "d.toml:2: tunnels.a-name-of-17-byte.interface: missing: the tunnel's name cannot be the interface's, "
                "'a-name-of-17-byte' has 17 bytes, an interface name at most 15"
            ),
        ],
    ),
    ("ifname-long", TUN + 'interface = "sixteen-bytes-xx"', ["'sixteen-bytes-xx' has 16 bytes, an interface name at most 15"]),
    ("ifname-slash", TUN + 'interface = "a/b"', ["'a/b' is no interface name (no '/', ':', '%' or blanks)"]),
    ("ifname-percent", TUN + 'interface = "tun%d"', ["'tun%d' is no interface name"]),
    ("ifname-empty", TUN + 'interface = ""', ["an interface name must not be empty"]),
    ("ifname-lo", TUN + 'interface = "lo"', ["'lo' is reserved by the kernel"]),
    ("ifname-type", TUN + "interface = 7", ["expected the name of an interface, got the integer 7"]),
    (
        "ifname-auto-wireguard",
        WG.replace('driver = "wireguard"', 'driver = "wireguard"\ninterface = "auto"'),
        ["d.toml:5: tunnels.office.interface: \"auto\" is for the drivers tun and exec, not for 'wireguard'"],
    ),
    # numbers
    ("mtu-low", TUN + "mtu = 575", ["d.toml:5: tunnels.t.mtu: invalid MTU 575 (must be >= 576)"]),
    ("mtu-high", TUN + "mtu = 65536", ["invalid MTU 65536 (must be <= 65535)"]),
    ("mtu-huge", TUN + "mtu = " + "9" * 400, ["invalid MTU 10^20 or more (must be <= 65535)"]),
    ("mtu-negative", TUN + "mtu = -1", ["invalid MTU -1 (must be >= 576)"]),
    ("mtu-word", TUN + 'mtu = "x"', ["expected an integer or \"auto\", got 'x'"]),
    ("mtu-quoted", TUN + 'mtu = "1400"', ["expected an integer or \"auto\", got '1400'"]),
    ("mtu-bool", TUN + "mtu = true", ['expected an integer or "auto", got the boolean true']),
    ("mtu-float", TUN + "mtu = 1400.0", ['expected an integer or "auto", got the float 1400.0']),
    ("mtu-date", TUN + "mtu = 2020-01-01", ['expected an integer or "auto", got a date or time']),
    ("mtu-table", TUN + "mtu = { x = 1 }", ['expected an integer or "auto", got a table']),
    ("mtu-array", TUN + "mtu = [1400]", ['expected an integer or "auto", got an array']),
    (
        "mtu-ipv6",
        TUN + 'mtu = 1279\naddresses = ["fd00::1/64"]',
        ["d.toml:5: tunnels.t.mtu: invalid MTU 1279 (must be >= 1280 with an IPv6 address)"],
    ),
    ("bool-int", TUN + "enabled = 1", ["d.toml:5: tunnels.t.enabled: expected true or false, got the integer 1"]),
    ("bool-text", TUN + 'enabled = "true"', ["expected true or false, got 'true'"]),
    ("metric-high", TUN + "metric = 4294967296", ["must be from 0 to 4294967295, not 4294967296"]),
    ("metric-text", TUN + 'metric = "5"', ["expected an integer, got '5'"]),
    ("metric-bool", TUN + "metric = false", ["expected an integer, got the boolean false"]),
    ("table-zero", TUN + "table = 0", ["must be from 1 to 4294967295, not 0"]),
    ("table-local", TUN + "table = 255", ["table 255 (local) belongs to the kernel"]),
    ("table-word", TUN + 'table = "main"', ["expected the number of a table or \"auto\", got 'main'"]),
    ("table-ours", TUN + "table = 20001", ["d.toml:5: tunnels.t.table: tables 20000 to 20999 are tunctl's own"]),
    (
        "table-moved",
        '[host]\ntable_base = 30000\n[tunnels.t]\ndriver = "tun"\ntable = 30999',
        ["d.toml:6: tunnels.t.table: tables 30000 to 30999 are tunctl's own"],
    ),
    ("description-control", TUN + 'description = "a\\u001b[31m"', ["has a control character in it: 'a\\x1b[31m'"]),
    # host
    ("lan", '[host]\nlan = "keeep"', ['expected "keep", "private" or "tunnel", got \'keeep\', did you mean \'keep\'?']),
    (
        "lan_except",
        '[host]\nlan_except = ["a/b", "10.0.0.1/8", 3]',
        ["'a' is not an IP", "did you mean 10.0.0.0/8?", "expected an interface"],
    ),
    ("mark-outside", '[host]\nmark = "0x4000/0x3fff"', ["d.toml:3: host.mark: 0x4000 has bits outside the mask 0x3fff"]),
    ("mark-zero", '[host]\nmark = "0x0/0x3fff"', ["the mark must not be 0: every unmarked packet has that"]),
    ("mark-mask-zero", '[host]\nmark = "0/0"', ["the mask must not be 0"]),
    ("mark-wide", '[host]\nmark = "4294967296"', ["a mark has 32 bits"]),
    ("mark-word", '[host]\nmark = "red"', ["expected a mark like \"0x10/0xff\", got 'red'"]),
    ("mark-bool", "[host]\nmark = true", ['expected a mark like "0x10/0xff", got the boolean true']),
    ("mark-slash", '[host]\nmark = "0x10/"', ["expected a mark like"]),
    ("table_base", "[host]\ntable_base = 255", ["must be from 256 to 4294966296, not 255"]),
    ("priority_base", "[host]\npriority_base = 31767", ["must be from 1 to 31766, not 31767"]),
    ("link_group", "[host]\nlink_group = 0", ["must be from 1 to 2147483647, not 0"]),
    (
        "interval-int",
        "[host]\nreconcile_interval = 30",
        ['expected a duration like "30s", "5m" or "250ms" (a string), got the integer 30'],
    ),
    ("interval-unit", '[host]\nreconcile_interval = "30"', ["expected a duration like"]),
    ("interval-word", '[host]\nreconcile_interval = "30 s"', ["expected a duration like"]),
    ("interval-order", '[host]\nreconcile_interval = "30s5m"', ["expected a duration like"]),
    ("interval-empty", '[host]\nreconcile_interval = ""', ["expected a duration like"]),
    ("interval-zero", '[host]\nreconcile_interval = "0s"', ["must be from 1s to 1d, not '0s'"]),
    ("interval-long", '[host]\nreconcile_interval = "25h"', ["must be from 1s to 1d, not '25h'"]),
    ("interval-negative", '[host]\nreconcile_interval = "-5s"', ["expected a duration like"]),
    ("source-empty", 'source = ""', ["d.toml:2: source: must not be empty"]),
    ("source-type", "source = 3", ["d.toml:2: source: expected a string, got the integer 3"]),
]


@pytest.mark.parametrize(("text", "said"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_says_what_is_wrong(tmp_path: Path, text: str, said: list[str]) -> None:
    judge(tmp_path, text, said)
