"""Mistakes in routes and rules, in what is not built yet, and between tunnels."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.config_of import EXEC, PEER, TUN, WG, judge

# id, text (line 1 is `version = 1`, line 2 empty), what is said
TABLE = [
    # routes
    (
        "route-nothing",
        TUN + "[[tunnels.t.routes]]\nmetric = 1",
        ["d.toml:5: tunnels.t.routes[0]: 'to' or 'to_file' is required"],
    ),
    (
        "route-host-bits",
        TUN + '[[tunnels.t.routes]]\nto = "10.0.0.1/8"',
        ["d.toml:6: tunnels.t.routes[0].to: '10.0.0.1/8' has host bits set, did you mean 10.0.0.0/8?"],
    ),
    ("route-short", TUN + '[[tunnels.t.routes]]\nto = "5"', ["'5' is not an IP address"]),
    (
        "route-twice",
        TUN + '[[tunnels.t.routes]]\nto = ["10.0.0.0/8",\n"10.0.0.0/8"]',
        ["d.toml:7: tunnels.t.routes[0].to[1]: 10.0.0.0/8 stands in the list already"],
    ),
    (
        "route-in-two-entries",
        TUN + '[[tunnels.t.routes]]\nto = "fd::/64"\n[[tunnels.t.routes]]\nto = "fd::/64"\nmetric = 1024',
        ["d.toml:8: tunnels.t.routes[1].to: fd::/64 is routed by tunnels.t.routes[0].to (d.toml:6)"],
    ),
    (
        "route-of-allowed",
        WG + PEER + 'allowed_ips = "10.0.0.0/8"\n[[tunnels.office.routes]]\nto = "10.0.0.0/8"',
        ["10.0.0.0/8 is routed by tunnels.office.wireguard.peers[0].allowed_ips (d.toml:10) already"],
    ),
    (
        "route-via-family",
        TUN + '[[tunnels.t.routes]]\nto = "10.0.0.0/8"\nvia = "fd::1"',
        ["d.toml:7: tunnels.t.routes[0].via: an IPv6 next hop for an IPv4 prefix"],
    ),
    (
        "route-via-mixed",
        TUN + '[[tunnels.t.routes]]\nto = ["10.0.0.0/8", "fd::/16"]\nvia = "10.0.0.1"',
        ["an IPv4 next hop for an IPv6 prefix"],
    ),
    (
        "route-src-family",
        TUN + '[[tunnels.t.routes]]\nto = "10.0.0.0/8"\nsrc = "fd::1"',
        ["an IPv6 source for IPv4 prefixes only"],
    ),
    (
        "route-type-via",
        TUN + '[[tunnels.t.routes]]\nto = "10.0.0.0/8"\nvia = "10.0.0.1"\ntype = "blackhole"',
        ["a route of type 'blackhole' leads nowhere: it cannot have 'via'"],
    ),
    ("route-type", TUN + '[[tunnels.t.routes]]\nto = "10.0.0.0/8"\ntype = "blakhole"', ["did you mean 'blackhole'?"]),
    (
        "route-table-ours",
        TUN + '[[tunnels.t.routes]]\nto = "10.0.0.0/8"\ntable = 20500',
        ["d.toml:7: tunnels.t.routes[0].table: tables 20000 to 20999 are tunctl's own"],
    ),
    # rules
    (
        "rule-nothing",
        TUN + '[[tunnels.t.rules]]\nlookup = "tunnel"',
        ["d.toml:5: tunnels.t.rules[0]: at least one of from, to, iif, fwmark and uid_range is required"],
    ),
    (
        "rule-families",
        TUN + '[[tunnels.t.rules]]\nfrom = "10.0.0.0/8"\nto = "fd::/16"',
        ["from and to have no address family in common"],
    ),
    ("rule-empty", TUN + "[[tunnels.t.rules]]\nfrom = []", ["must not be empty: the rule would match nothing"]),
    (
        "rule-lookup",
        TUN + '[[tunnels.t.rules]]\niif = "eth0"\nlookup = "main"',
        ["expected \"tunnel\" or the number of a table (main is 254), got 'main'"],
    ),
    (
        "rule-lookup-ours",
        TUN + '[[tunnels.t.rules]]\niif = "eth0"\nlookup = 20001',
        ["d.toml:7: tunnels.t.rules[0].lookup: tables 20000 to 20999"],
    ),
    (
        "rule-uid",
        TUN + '[[tunnels.t.rules]]\nuid_range = "2000-1000"',
        ["2000-1000 is empty: the first is greater than the last"],
    ),
    ("rule-uid-word", TUN + '[[tunnels.t.rules]]\nuid_range = "alice"', ['expected user ids like "1000-2000" or 1000']),
    ("rule-uid-bool", TUN + "[[tunnels.t.rules]]\nuid_range = true", ["expected user ids like"]),
    ("rule-uid-high", TUN + "[[tunnels.t.rules]]\nuid_range = 4294967295", ["a user id is at most 4294967294"]),
    ("rule-uid-hex", TUN + "[[tunnels.t.rules]]\nuid_range = 0x" + "f" * 5000, ["expected user ids like"]),
    (
        "rule-fwmark",
        TUN + '[[tunnels.t.rules]]\nfwmark = "0x100/0xff"',
        ["0x100 has bits outside the mask 0xff: no packet could match"],
    ),
    (
        "rule-twice",
        TUN + '[[tunnels.t.rules]]\niif = "eth0"\n[[tunnels.t.rules]]\niif = "eth0"',
        ["d.toml:7: tunnels.t.rules[1]: says what rules[0] says (d.toml:5)"],
    ),
    # restart
    ("restart-max", TUN + '[tunnels.t.restart]\nbase = "2m"', ["tunnels.t.restart.max: 1m is less than base (2m)"]),
    ("restart-factor", TUN + "[tunnels.t.restart]\nfactor = 0.5", ["must be from 1 to 100"]),
    ("restart-factor-inf", TUN + "[tunnels.t.restart]\nfactor = inf", ["must be from 1 to 100"]),
    ("restart-factor-nan", TUN + "[tunnels.t.restart]\nfactor = nan", ["must be from 1 to 100"]),
    ("restart-factor-huge", TUN + "[tunnels.t.restart]\nfactor = 1" + "0" * 400, ["must be from 1 to 100"]),
    ("restart-attempts", TUN + "[tunnels.t.restart]\nattempts = -1", ["must be from 0 to 1000000, not -1"]),
    # parts
    (
        "dns-neither",
        TUN + '[tunnels.t.dns]\nservers = ["10.0.0.1"]',
        ["d.toml:5: tunnels.t.dns: domains or search is required"],
    ),
    ("dns-servers", TUN + '[tunnels.t.dns]\ndomains = ["."]', ["d.toml:5: tunnels.t.dns.servers: missing, it is required"]),
    (
        "dns-search",
        TUN
        + '[tunnels.t.dns]\nservers = ["10.0.0.1"]\nsearch = ["a.Corp.example", "lab.example"]\ndomains = ["corp.example."]',
        ["d.toml:7: tunnels.t.dns.search[1]: lab.example is not in domains"],
    ),
    ("dns-server", TUN + '[tunnels.t.dns]\nservers = ["ns.example"]\ndomains = ["."]', ["'ns.example' is not an IP address"]),
    (
        "dns-unknown",
        TUN + '[tunnels.t.dns]\nserver = "10.0.0.1"\ndomains = ["."]',
        ["unknown key 'server', did you mean 'servers'?"],
    ),
    ("nat-source", TUN + '[[tunnels.t.nat]]\nout = "uplink"', ["d.toml:5: tunnels.t.nat[0].source: missing, it is required"]),
    ("nat-nothing", TUN + '[[tunnels.t.nat]]\nsource = "10.0.0.0/8"\nmasquerade = false\nforward = false', ["does nothing"]),
    ("nat-out", TUN + '[[tunnels.t.nat]]\nsource = "10.0.0.0/8"\nout = "a/b"', ["'a/b' is no interface name"]),
    ("split-nothing", TUN + "[[tunnels.t.split.vpn]]", ["d.toml:5: tunnels.t.split.vpn[0]: 'cidr' or 'cidr_file' is required"]),
    (
        "health-age",
        TUN + '[tunnels.t.health]\nhandshake_max_age = "180s"',
        ["is for the driver wireguard, not for 'tun'", "ping: missing"],
    ),
    ("health-of-nothing", EXEC + "[tunnels.lab.health]", ["ping: missing, it is required for the driver 'exec'"]),
    ("health-restart", TUN + '[tunnels.t.health]\nping = ["10.0.0.1"]\naction = "restart"', ["nothing to restart"]),
    (
        "accept",
        TUN + 'accept = ["dns"]',
        ["d.toml:5: tunnels.t.accept: is for the drivers openvpn and openconnect, not for 'tun'"],
    ),
    ("accept-word", '[tunnels.c]\ndriver = "openvpn"\naccept = ["dsn"]', ["got 'dsn', did you mean 'dns'?"]),
    (
        "openconnect",
        '[tunnels.c]\ndriver = "openconnect"\n[tunnels.c.openconnect]\nsever = "x"',
        ["unknown key 'sever', did you mean 'server'?"],
    ),
    ("on_failure", TUN + 'on_failure = "blok"', ["did you mean 'block'?"]),
    # two tunnels
    (
        "interface-twice",
        TUN + '[tunnels.u]\ndriver = "tun"\ninterface = "t"',
        ["d.toml:7: tunnels.u.interface: interface t is that of tunnels.t already (d.toml:3)"],
    ),
    (
        "port-twice",
        WG + "listen_port = 5\n" + WG.replace("office", "home") + "listen_port = 5",
        ["d.toml:13: tunnels.home.wireguard.listen_port: listen port 5 is that of tunnels.office already (d.toml:7)"],
    ),
    (
        "table-twice",
        TUN + 'table = 7\n[tunnels.u]\ndriver = "tun"\ntable = 7',
        ["d.toml:8: tunnels.u.table: table 7 is that of tunnels.t already (d.toml:5)"],
    ),
]


@pytest.mark.parametrize(("text", "said"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_says_what_is_wrong(tmp_path: Path, text: str, said: list[str]) -> None:
    judge(tmp_path, text, said)


def test_prefixes_stand_in_the_file_or_in_another(tmp_path: Path) -> None:
    (tmp_path / "p").write_text("10.1.0.0/16\n")
    judge(
        tmp_path,
        TUN + '[[tunnels.t.routes]]\nto = "10.0.0.0/8"\nto_file = "p"',
        ["d.toml:7: tunnels.t.routes[0].to_file: stands beside 'to': make two entries of it"],
    )
