"""The fixtures themselves: a test that lies about its namespace would be worse than none."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from tests.conftest import machine_network
from tests.netns import world
from tests.netns.world import Host, Pair, Uplink


def links() -> list[str]:
    return sorted(name for _index, name in socket.if_nameindex())


def test_host_is_fresh_and_only_has_loopback(host: Host) -> None:
    assert [link["ifname"] for link in host.ip_json("link")] == ["lo"]
    assert host.in_netns(links) == ["lo"]


def test_outside_of_the_hosts_is_a_decoy(host: Host) -> None:
    outside = Path("/proc/thread-self/ns/net").stat().st_ino
    assert outside != world.MACHINE
    assert outside != (Path("/run/netns") / host.name).stat().st_ino


def test_inside_comes_back_after_an_error(host: Host) -> None:
    before = Path("/proc/thread-self/ns/net").stat().st_ino
    with pytest.raises(ValueError, match="wrong"), host.inside():
        assert Path("/proc/thread-self/ns/net").stat().st_ino == (Path("/run/netns") / host.name).stat().st_ino
        raise ValueError("wrong")
    assert Path("/proc/thread-self/ns/net").stat().st_ino == before


def test_a_socket_stays_in_its_namespace(pair: Pair) -> None:
    def listen() -> socket.socket:
        server = socket.create_server(("192.0.2.1", 0))
        server.settimeout(5)
        return server

    with pair.a.in_netns(listen) as server:
        port = server.getsockname()[1]
        with pair.b.in_netns(socket.create_connection, ("192.0.2.1", port), timeout=5):
            connection, (peer, _port) = server.accept()
            connection.close()
    assert peer == "192.0.2.2"


def test_exceptions_come_out_of_the_thread(host: Host) -> None:
    with pytest.raises(ZeroDivisionError):
        host.in_netns(lambda: 1 // 0)


def test_pair_speaks_both_families(pair: Pair) -> None:
    pair.a.run(["ping", "-c1", "-W2", "192.0.2.2"])
    pair.a.run(["ping", "-c1", "-W2", "2001:db8::2"])


def test_uplink_reaches_beyond_the_gateway(uplink: Uplink) -> None:
    uplink.cl.run(["ping", "-c1", "-W2", "203.0.113.10"])
    assert [route["gateway"] for route in uplink.cl.ip_json("route show default")] == ["192.168.50.1"]


@pytest.mark.parametrize(
    "change",
    [
        "link add d0 type veth peer name d1",
        "link set lo mtu 9000",
        "link set lo alias mine",
        "addr add 10.0.0.1/32 dev lo",
        "route add 10.5.0.0/16 dev lo table 77",
        "-6 route add unreachable 2001:db8:5::/48",
        "rule add priority 7 lookup 77",
        "-6 rule add priority 7 lookup 77",
    ],
)
def test_snapshot_sees(host: Host, change: str) -> None:
    before = host.snapshot()
    assert host.snapshot() == before
    host.ip(change)
    assert host.snapshot() != before


def test_snapshot_sees_nft_and_sysctls(host: Host) -> None:
    before = host.snapshot()
    host.run(["nft", "add", "table", "inet", "mine"])
    with_table = host.snapshot()
    host.sysctl("net/ipv4/ip_forward", 1)
    assert len({before, with_table, host.snapshot()}) == 3


def test_snapshot_of_an_uplink_is_still(uplink: Uplink) -> None:
    before = uplink.cl.snapshot()
    time.sleep(0.3)
    assert uplink.cl.snapshot() == before


def test_processes_and_the_namespace_go_with_the_host() -> None:
    with world.new_host("gone") as host:
        started = host.start(["sleep", "1000"])
        host.run(["sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 &"])  # one that left its starter
        world.wait_until(lambda: len(host.pids()) == 2)
        pids = host.pids()
    assert started.returncode == -9
    assert not any(Path("/proc", str(pid), "exe").exists() for pid in pids)
    assert not (Path("/run/netns") / host.name).exists()
    assert not host.dir.exists()
    assert not (Path("/etc/netns") / host.name).exists()


def test_a_namespace_that_vanished_fails_loudly() -> None:
    with pytest.raises(AssertionError, match="is gone"), world.new_host("lost") as host:
        os.system(f"ip netns del {host.name}")
        host.run(["true"])


def test_what_a_killed_run_left_is_swept() -> None:
    os.system("ip netns add tt-4194305-00000000-left")  # a pid beyond the kernel's PID_MAX_LIMIT
    world.sweep_left_over()
    assert not Path("/run/netns/tt-4194305-00000000-left").exists()


def test_recording_hears_changes_and_silence(host: Host) -> None:
    with host.recording() as quiet:
        host.snapshot()
    with host.recording() as loud:
        host.ip("link add d0 type veth peer name d1")
    assert quiet == []
    assert any("d0" in line for line in loud)


def test_commands_see_control_groups_where_the_machine_has_them(host: Host) -> None:
    has = "cgroup2" in Path("/proc/mounts").read_text()
    look = ["test", "-e", "/sys/fs/cgroup/cgroup.controllers"]
    assert (host.run(look, check=False).returncode == 0) == has
    host.control_groups = False
    assert host.run(look, check=False).returncode != 0


def test_private_run_wireguard(pair: Pair) -> None:
    for host in pair:  # the same name on both: only possible with private socket directories
        process = host.start_wireguard("wg0")
        assert "wg0" in host.run_beside(process.pid, ["wg", "show"]).stdout
        assert "wg0" in host.in_netns(links)


def test_the_machine_network_can_be_compared() -> None:
    assert machine_network() == machine_network()
