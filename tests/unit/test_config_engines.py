"""Mistakes in addresses and in what belongs to the engines."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.config.load import load
from reconciler.model.names import TunnelName
from reconciler.model.tunnel import EndpointManifest
from tests.unit.config_of import EXEC, KEY, PEER, PEER2, TUN, WG, judge, write
from tests.unit.manifest_of import public_pem

# id, text (line 1 is `version = 1`, line 2 empty), what is said
MANIFEST = '[tunnels.office.wireguard.peers.endpoint_manifest]\nfile = "x"\npublic_key_file = "pub"\n'
EXEC_MANIFEST = '[tunnels.lab.exec.endpoint_manifest]\nfile = "x"\npublic_key_file = "pub"\n'
TABLE = [
    # addresses
    (
        "address",
        TUN + 'addresses = ["10.0.0.1/24", "10.0.0.256"]',
        ["d.toml:5: tunnels.t.addresses[1]: '10.0.0.256' is not an IP address"],
    ),
    ("address-one", TUN + 'addresses = "10.0.0.256"', ["d.toml:5: tunnels.t.addresses: '10.0.0.256' is not an IP address"]),
    ("address-int", TUN + "addresses = [5]", ["expected an address like '10.8.0.2/32', got the integer 5"]),
    ("address-length", TUN + 'addresses = ["10.0.0.1/33"]', ["'10.0.0.1/33': the length must be a number from 0 to 32"]),
    ("address-length-zero", TUN + 'addresses = ["10.0.0.1/0"]', ["length 0 would make the whole family a connected network"]),
    ("address-any", TUN + 'addresses = ["0.0.0.0/8"]', ["is no address that an interface can have"]),
    (
        "address-multicast",
        TUN + 'addresses = ["224.0.0.1", "ff02::1"]',
        ["'224.0.0.1' is a multicast", "'ff02::1' is a multicast"],
    ),
    ("address-broadcast", TUN + 'addresses = ["255.255.255.255"]', ["is the broadcast address"]),
    ("address-zone", TUN + 'addresses = ["fe80::1%eth0/64"]', ["is not an IP address"]),
    ("address-blank", TUN + 'addresses = [" 10.0.0.1"]', ["is not an IP address"]),
    ("address-leading-zero", TUN + 'addresses = ["10.0.0.010"]', ["is not an IP address"]),
    (
        "address-twice",
        TUN + 'addresses = ["10.0.0.1/24", "10.0.0.1/24"]',
        ["tunnels.t.addresses[1]: 10.0.0.1/24 stands in the list already"],
    ),
    ("address-two-lengths", TUN + 'addresses = ["fd::1/64", "fd::1"]', ["fd::1/128 stands in the list already (as fd::1/64)"]),
    (
        "address-multiline",
        TUN + 'addresses = [\n  "10.0.0.1",\n  "x",\n]',
        ["d.toml:7: tunnels.t.addresses[1]: 'x' is not an IP address"],
    ),
    ("src-length", TUN + 'src = "10.0.0.1/8"', ["expected an address without a length, got '10.0.0.1/8'"]),
    # wireguard
    (
        "no-engine-table",
        '[tunnels.office]\ndriver = "wireguard"',
        ["d.toml:2: tunnels.office.wireguard: missing, it is required (private_key_file in [tunnels.office.wireguard])"],
    ),
    (
        "other-engine-table",
        TUN + "[tunnels.t.wireguard]\nprivate_key_file = 'k'",
        ["d.toml:5: tunnels.t.wireguard: the driver is 'tun': [tunnels.t.wireguard] says nothing to it"],
    ),
    ("listen_port", WG + "listen_port = 65536", ["must be from 1 to 65535, not 65536"]),
    ("listen_port-zero", WG + "listen_port = 0", ["must be from 1 to 65535, not 0"]),
    ("backend", WG + 'backend = "kernal"', ["did you mean 'kernel'?"]),
    ("userspace-no-interface", WG + 'userspace_command = ["wireguard-go"]', ["{interface} must stand in it"]),
    (
        "userspace-empty",
        WG + "userspace_command = []",
        ["d.toml:7: tunnels.office.wireguard.userspace_command: must not be empty"],
    ),
    (
        "userspace-relative",
        WG + 'userspace_command = ["./wg", "{interface}"]',
        ["expected an absolute path, or a name without slashes, got './wg'"],
    ),
    ("userspace-placeholder", WG + 'userspace_command = ["wg", "{interface}", "{mtu}"]', ["unknown placeholder {mtu}"]),
    (
        "peer-without-key",
        WG + "[[tunnels.office.wireguard.peers]]",
        ["d.toml:7: tunnels.office.wireguard.peers[0].public_key: missing, it is required"],
    ),
    (
        "public-key-short",
        WG + PEER.replace(KEY, KEY[1:]),
        ["d.toml:9: tunnels.office.wireguard.peers[0].public_key: is no public key: expected 32 bytes"],
    ),
    ("public-key-spare-bits", WG + PEER.replace(KEY, KEY[:-2] + "l="), ["is no public key"]),
    ("public-key-type", WG + PEER.replace(f'"{KEY}"', "5"), ["expected a public key in base64, got the integer 5"]),
    (
        "public-key-twice",
        WG + PEER + PEER,
        ["d.toml:12: tunnels.office.wireguard.peers[1].public_key: is the key of peers[0] too (d.toml:8)"],
    ),
    (
        "allowed-twice",
        WG + PEER + 'allowed_ips = ["10.0.0.0/8"]' + PEER2 + 'allowed_ips = [\n"10.1.0.0/16",\n"10.0.0.0/8"]',
        ["d.toml:15: tunnels.office.wireguard.peers[1].allowed_ips[1]: 10.0.0.0/8 is an allowed prefix of pe"],
    ),
    (
        "allowed-host-bits",
        WG + PEER + 'allowed_ips = ["10.1.0.0/8"]',
        ["'10.1.0.0/8' has host bits set, did you mean 10.0.0.0/8?"],
    ),
    ("endpoint-port", WG + PEER + 'endpoint = "vpn.example.com"', ["(with its port), got 'vpn.example.com'"]),
    ("endpoint-port-zero", WG + PEER + 'endpoint = "vpn.example.com:0"', ["the port must be from 1 to 65535"]),
    ("endpoint-port-word", WG + PEER + 'endpoint = "vpn.example.com:http"', ["the port must be from 1 to 65535"]),
    ("endpoint-ipv6", WG + PEER + 'endpoint = "2001:db8::1:51820"', ["an IPv6 address stands in brackets"]),
    ("endpoint-brackets", WG + PEER + 'endpoint = "[vpn.example.com]:1"', ["only IPv6 addresses stand in brackets"]),
    ("endpoint-numbers", WG + PEER + 'endpoint = "10.0.0.300:1"', ["'10.0.0.300' is not an IP address"]),
    ("endpoint-any", WG + PEER + 'endpoint = "0.0.0.0:1"', ["'0.0.0.0' is no address of a host"]),
    ("endpoint-name", WG + PEER + 'endpoint = "vpn example:1"', ["'vpn example' is no DNS name"]),
    ("endpoint-unicode", WG + PEER + 'endpoint = "vpn.exämple:1"', ["write names outside ASCII in their xn-- form"]),
    (
        "keepalive-int",
        WG + PEER + "keepalive = 25",
        ['expected a duration like "30s", "5m" or "250ms" (a string), got the integer 25'],
    ),
    ("keepalive-long", WG + PEER + 'keepalive = "65536s"', ["must be from 1s to 65535s, not '65536s'"]),
    ("keepalive-part", WG + PEER + 'keepalive = "1500ms"', ["must be whole seconds, not '1500ms'"]),
    (
        "endpoint-and-manifest",
        WG + PEER + 'endpoint = "a:1"\nendpoint_manifest = { file = "x", public_key_file = "pub" }',
        ["d.toml:10: tunnels.office.wireguard.peers[0].endpoint: stands beside endpoint_manifest"],
    ),
    (
        "manifest-key-absent",
        WG + PEER + MANIFEST.replace('"pub"', '"nix"'),
        ["public_key_file: nix: no such file"],
    ),
    ("manifest-key-private", WG + PEER + MANIFEST.replace('"pub"', '"k"'), ["public_key_file: k is not a public key (PEM)"]),
    (
        "manifest-key-open",
        WG + PEER + MANIFEST.replace('"pub"', '"open.pub"'),
        ["has mode 0664: others could say"],
    ),
    ("manifest-tunnel", WG + PEER + MANIFEST + 'tunnel = "Hub"', ["endpoint_manifest.tunnel: 'Hub' is no name of a tunnel"]),
    ("manifest-tcp", WG + PEER + MANIFEST + 'transport = "tcp"', ["endpoint_manifest.transport: WireGuard speaks UDP"]),
    ("manifest-refresh", WG + PEER + MANIFEST + 'refresh = "1ms"', ["endpoint_manifest.refresh: must be from"]),
    ("manifest-no-key", WG + PEER + MANIFEST.replace("public_key_file", "#"), ["public_key_file: missing, it is required"]),
    (
        "listen_port-and-listen",
        WG + 'listen_port = 5\n[[tunnels.office.listen]]\ntransport = "udp"\nport = 5',
        ["d.toml:7: tunnels.office.wireguard.listen_port: stands beside a udp `listen`"],
    ),
    # exec
    ("exec-no-table", '[tunnels.x]\ndriver = "exec"', ["(command in [tunnels.x.exec])"]),
    (
        "exec-no-command",
        '[tunnels.x]\ndriver = "exec"\n[tunnels.x.exec]',
        ["d.toml:4: tunnels.x.exec.command: missing, it is required"],
    ),
    ("exec-empty", EXEC.replace('["/usr/bin/lab"]', "[]"), ["d.toml:6: tunnels.lab.exec.command: must not be empty"]),
    ("exec-string", EXEC.replace('["/usr/bin/lab"]', '"/usr/bin/lab"'), ["expected an array, got '/usr/bin/lab'"]),
    (
        "exec-relative",
        EXEC.replace("/usr/bin/", ""),
        ["d.toml:6: tunnels.lab.exec.command[0]: expected the absolute path of a program, got 'lab'"],
    ),
    ("exec-nul", EXEC.replace('lab"]', 'lab\\u0000"]'), ["has a NUL character in it"]),
    (
        "exec-placeholder",
        EXEC.replace('lab"]', 'lab", "{interfase}"]'),
        ["unknown placeholder {interfase}, did you mean 'interface'?"],
    ),
    ("exec-placeholder-open", EXEC.replace('lab"]', 'lab", "{interface"]'), ["a '{' is not closed (write '{{' for a brace)"]),
    ("exec-placeholder-json", EXEC.replace('lab"]', 'lab", \'{"a":1}\']'), ["unknown placeholder", "'{{' is a brace"][:1]),
    (
        "exec-placeholder-no-listen",
        EXEC.replace('lab"]', 'lab", "{listen.udp.port}"]'),
        ["{listen.udp.port}: this tunnel has no `listen` with transport = 'udp'"],
    ),
    (
        "exec-placeholder-transport",
        EXEC.replace('lab"]', 'lab", "{listen.sctp.port}"]'),
        ["unknown placeholder {listen.sctp.port}"],
    ),
    ("environment-path", EXEC + 'environment = { PATH = "/x" }', ["tunnels.lab.exec.environment.PATH: PATH is set by tunctl"]),
    ("environment-mark", EXEC + 'environment = { TUNCTL_TUNNEL = "x" }', ["TUNCTL_TUNNEL is set by tunctl"]),
    (
        "environment-ld",
        EXEC + 'environment = { LD_PRELOAD = "x" }',
        ["'LD_PRELOAD' would change what the dynamic linker loads"],
    ),
    ("environment-name", EXEC + 'environment = { "a-b" = "x" }', ["'a-b' is no name of an environment variable"]),
    (
        "environment-int",
        EXEC + "environment = { A = 5 }",
        ["d.toml:7: tunnels.lab.exec.environment.A: expected a string, got the integer 5"],
    ),
    ("exec-user", EXEC + 'user = "no-such-user-here"', ["there is no user 'no-such-user-here' on this machine"]),
    (
        "exec-endpoint-nowhere",
        EXEC.replace('lab"]', 'lab", "{endpoint}"]'),
        ["{endpoint} is what [tunnels.lab.exec.endpoint_m"],
    ),
    ("exec-endpoint-untold", EXEC + EXEC_MANIFEST, ["lab.exec.endpoint_manifest: {endpoint} does not stand in the command"]),
    ("exec-remote", EXEC + 'remote = ["a b"]', ["'a b' is no DNS name"]),
    ("exec-ready", EXEC + 'ready_timeout = "2h"', ["must be from 100ms to 1h, not '2h'"]),
    # tun
    ("tun-mode", TUN + '[tunnels.t.tun]\nmode = "top"', ["got 'top', did you mean 'tap'?"]),
    ("tun-group", TUN + '[tunnels.t.tun]\ngroup = "no-such-group"', ["there is no group 'no-such-group' on this machine"]),
]


@pytest.fixture(autouse=True)
def public_keys(tmp_path: Path) -> None:
    for name, mode in (("pub", 0o644), ("open.pub", 0o664)):
        (tmp_path / name).write_bytes(public_pem())
        (tmp_path / name).chmod(mode)


def test_manifests(tmp_path: Path) -> None:
    """Their paths are kept absolute; the file itself may be absent, because an earlier one may do."""
    peers = (
        load(write(tmp_path, WG + PEER + MANIFEST + 'tunnel = "hub"\ntransport = "quic"\nrefresh = "1m"')).tunnels[0].wireguard
    )
    assert peers is not None
    wanted = EndpointManifest(f"{tmp_path}/x", f"{tmp_path}/pub", TunnelName("hub"), "quic", 60.0)
    assert peers.peers[0].manifest == wanted
    (tunnel,) = load(write(tmp_path, EXEC.replace('lab"]', 'lab", "{endpoint}"]') + EXEC_MANIFEST)).tunnels
    assert tunnel.manifests == {"": EndpointManifest(f"{tmp_path}/x", f"{tmp_path}/pub")}


def test_check_warns_of_manifests_that_are_not_there(tmp_path: Path) -> None:
    location = write(tmp_path, WG + PEER + MANIFEST.replace('"pub"', '"nix"'))
    said = [text.replace(f"{tmp_path}/", "") for text in load(location, lenient_files=True).warnings]
    assert said == [
        "d.toml:12: tunnels.office.wireguard.peers[0].endpoint_manifest.public_key_file: nix: no such file or directory",
        "d.toml:11: tunnels.office.wireguard.peers[0].endpoint_manifest.file: x: no such file or directory",
    ]


@pytest.mark.parametrize(("text", "said"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_says_what_is_wrong(tmp_path: Path, text: str, said: list[str]) -> None:
    judge(tmp_path, text, said)
