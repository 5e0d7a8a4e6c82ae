"""What `nat` entries do to real packets, and what the packet filter looks like before, meanwhile and after."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from reconciler.actuate import nat as actuate
from reconciler.errors import StepFailed, Unavailable
from reconciler.host.machine import Machine
from reconciler.host.nft import Library, Program, objects, open_nft
from reconciler.kinds.nat import Chain, NatRule, Table
from reconciler.layout.filter import WayBack, table
from reconciler.layout.passage import Passage
from reconciler.model.marks import Numbers
from reconciler.model.names import IfName, TunnelName
from reconciler.model.prefix import parse_prefix
from reconciler.observe import nat as observe
from reconciler.observe.question import Question
from tests.netns import site as sites
from tests.netns.scenario import reasons, verdict
from tests.netns.site import HOST4, HOST6, LAN4, LAN6, SERVER4, SERVER6, Site, nat, nat_tunnel
from tests.netns.world import Host, wait_until

QUESTION = Question((), "", Numbers())


@pytest.fixture
def site(hosts: Callable[[str], Host]) -> Site:
    return sites.build(hosts)


def passage(name: str, source: str, out: str, *, masquerade: bool = True, forward: bool = True) -> Passage:
    return Passage(TunnelName(name), IfName(f"tun-{name}"), parse_prefix(source), IfName(out), masquerade, forward)


EVERYTHING = table(
    [
        passage("a", "10.70.0.0/24", "cl0"),
        passage("a", "10.71.0.7", "cl0", forward=False),
        passage("a", "10.0.0.0/15", "tun-a", masquerade=False),
        passage("b", "fd70::/64", "cl0"),
        passage("b", "fd70::7", "it is.a-name+"[:15].replace(" ", "")),
        passage("b", "::/0", "tun-b"),
        passage("b", "0.0.0.0/0", "tun-b"),
    ],
    Numbers(),
    WayBack(TunnelName("a"), (IfName("cl1"), IfName("cl0")), (IfName("cl0"),)),
)


# The room


def test_absent_present_twice_changed_deleted(host: Host) -> None:
    assert EVERYTHING is not None

    def work() -> None:
        with Machine(host.run_dir) as machine:
            assert observe.look(machine, QUESTION) == ([], [])
            for _ in range(2):
                actuate.create(machine, EVERYTHING)
                assert observe.look(machine, QUESTION) == ([EVERYTHING], [])
            less = EVERYTHING._replace(chains=EVERYTHING.chains[:1])
            actuate.change(machine, less, EVERYTHING, ("rules",))
            assert observe.look(machine, QUESTION) == ([less], [])
            for _ in range(2):
                actuate.delete(machine, less)
                assert observe.look(machine, QUESTION) == ([], [])

    host.in_netns(work)


@pytest.mark.parametrize("one_uplink", [False, True])
@pytest.mark.parametrize("mark", [(0x3174, 0x3FFF), (0x1, 0xFF), (0x10000, 0x30000), (0xFFFFFFFF, 0xFFFFFFFF)])
def test_any_mark_reads_back(host: Host, mark: tuple[int, int], *, one_uplink: bool) -> None:
    uplinks = tuple(map(IfName, ("cl0",) if one_uplink else ("cl0", "br.5", "eth0")))
    wanted = table([], Numbers(*mark), WayBack(TunnelName("a"), uplinks, uplinks))
    assert wanted is not None

    def work() -> list[Table]:
        with Machine(host.run_dir) as machine:
            actuate.create(machine, wanted)
            return observe.look(machine, QUESTION)[0]

    assert host.in_netns(work) == [wanted]


@pytest.mark.parametrize(
    "words",
    [
        "add rule inet tunctl source_nat counter drop",
        'add rule inet tunctl source_nat ip saddr 10.1.0.0/16 masquerade comment "mine"',
        'add rule inet tunctl source_nat ip saddr 10.1.0.0/16 masquerade random comment "tunctl:a"',
        "add chain inet tunctl other",
        "add set inet tunctl other { type ipv4_addr; }",
        "flush chain inet tunctl source_nat",
        "add chain inet tunctl forwarded { policy drop; }",
        "delete table inet tunctl",
    ],
)
def test_whatever_others_do_to_it_is_seen_and_undone(host: Host, words: str) -> None:
    assert EVERYTHING is not None

    def work() -> None:
        with Machine(host.run_dir) as machine:
            actuate.create(machine, EVERYTHING)
            machine.nft.apply(words)
            found, _ = observe.look(machine, QUESTION)
            assert found != [EVERYTHING]
            assert not found or EVERYTHING.differs_from(found[0])
            actuate.create(machine, EVERYTHING)
            assert observe.look(machine, QUESTION)[0] == [EVERYTHING]

    host.in_netns(work)


def test_a_transaction_that_fails_changes_nothing(host: Host) -> None:
    assert EVERYTHING is not None
    bad = Table((Chain("source_nat", "nat", "postrouting", 100, (NatRule("ip saddr nonsense masquerade", TunnelName("a")),)),))

    def work() -> None:
        with Machine(host.run_dir) as machine:
            actuate.create(machine, EVERYTHING)
            with pytest.raises(StepFailed, match="nft: "):
                actuate.create(machine, bad)
            assert observe.look(machine, QUESTION)[0] == [EVERYTHING]

    host.in_netns(work)


def test_what_does_not_read_back_is_told(host: Host) -> None:
    odd = Table((Chain("source_nat", "nat", "postrouting", 100, (NatRule("ip saddr 10.0.0.0/8 counter", TunnelName("a")),)),))

    def work() -> None:
        with Machine(host.run_dir) as machine, pytest.raises(StepFailed, match=r"does not read back .* ip saddr 10\.0\.0\.0/8"):
            actuate.create(machine, odd)

    host.in_netns(work)


def test_the_program_says_the_same_as_the_library(host: Host) -> None:
    assert EVERYTHING is not None
    program = host.run(["sh", "-c", "command -v nft"]).stdout.strip()

    def work() -> None:
        with Machine(host.run_dir) as machine:
            actuate.create(machine, EVERYTHING)
            by_library = machine.nft.listing("table inet tunctl")
            machine._nft = Program(program)
            assert observe.listed(machine.nft.listing("table inet tunctl")) == observe.listed(by_library)
            actuate.create(machine, EVERYTHING)
            with pytest.raises(StepFailed, match=r"nft: .*syntax error"):
                machine.nft.apply("nonsense")
            actuate.delete(machine, EVERYTHING)
            assert observe.look(machine, QUESTION) == ([], [])

    host.in_netns(work)


def test_without_library_and_program(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(open_nft(), Library)
    assert isinstance(open_nft("libno-such.so.1"), Program)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Unavailable, match="nor nft is installed"):
        open_nft("libno-such.so.1")


def test_a_program_that_hangs_is_given_up(tmp_path: os.PathLike[str]) -> None:
    slow = os.path.join(tmp_path, "nft")
    with open(slow, "w", encoding="ascii") as file:
        file.write("#!/bin/sh\nexec sleep 60\n")
    os.chmod(slow, 0o755)
    with pytest.raises(StepFailed, match=r"did not answer within 0\.1 s"):
        Program(slow, 0.1).apply("")


def test_one_library_for_many_threads(host: Host) -> None:
    def work() -> None:
        nft = Library()
        nft.apply("add table inet x")

        def one(number: int) -> int:
            nft.apply(f"add chain inet x c{number}")
            return len(objects(nft.listing("table inet x")))

        with ThreadPoolExecutor(8) as pool:
            assert min(pool.map(one, range(40))) >= 2
        assert len(objects(nft.listing("table inet x"))) == 41
        nft.close()

    host.in_netns(work)


# The whole


def test_the_lan_goes_out_as_the_host_and_every_run_leaves_the_same(site: Site) -> None:
    """S55, S64."""
    before = site.cl.snapshot()
    file = site.file(nat_tunnel("demo", nat(LAN4), nat(LAN6)))
    assert not site.pings()
    site.cl.tunctl("apply", file)
    assert (site.seen_as(SERVER4), site.seen_as(SERVER6)) == (HOST4, HOST6)
    assert site.pings(SERVER4)
    assert site.pings(SERVER6)
    rules = site.rules()
    assert len([rule for rule in rules if "masquerade" in rule]) == 2
    assert all(rule.endswith('comment "tunctl:demo"') for rule in rules)
    for _ in range(5):
        assert site.cl.tunctl("apply", file).stdout.strip() == "no changes"
        assert site.cl.tunctl("reconcile").stdout.strip() == "no changes"
    assert site.rules() == rules
    assert verdict(site.cl)["nat"] == [
        {"source": LAN4, "out": "cl0", "masquerade": True, "forward": True},
        {"source": LAN6, "out": "cl0", "masquerade": True, "forward": True},
    ]
    site.cl.tunctl("down", "demo")
    assert not site.pings()
    assert site.cl.snapshot() == before


def test_forward_only(site: Site) -> None:
    site.gw.ip(f"route add {LAN4} via 192.168.50.2")
    site.cl.tunctl("apply", site.file(nat_tunnel("demo", nat(more="masquerade = false"))))
    assert site.seen_as() == "10.70.0.2"


def test_masquerade_only_turns_nothing_on(site: Site) -> None:
    site.cl.tunctl("apply", site.file(nat_tunnel("demo", nat(more="forward = false"))))
    assert not site.pings()
    assert site.cl.sysctl("net/ipv4/conf/lan0/forwarding") == "0"
    site.cl.sysctl("net/ipv4/ip_forward", 1)
    assert site.seen_as() == HOST4


def test_no_uplink_no_nat(site: Site) -> None:
    """S56: a fresh one fails by name; one that runs keeps what it has, and goes without an uplink."""
    before = site.cl.snapshot()
    sourceless = site.cl.tunctl("apply", site.file(nat_tunnel("demo", '[[tunnels.NAME.nat]]\nout = "uplink"\n')), expect=65)
    assert "tunnels.demo.nat[0].source" in sourceless.stderr
    file = site.file(nat_tunnel())
    site.cl.ip("route del default")
    failed = site.cl.tunctl("apply", file, expect=69)
    assert "uplink" in failed.stderr
    site.cl.tunctl("plan", file, expect=69)
    assert site.cl.ip_json("link show type tun") == []
    site.cl.ip("route add default via 192.168.50.1 dev cl0")
    site.cl.tunctl("reconcile")
    assert site.seen_as() == HOST4
    rules = site.rules()
    site.cl.ip("route del default")
    assert site.cl.tunctl("reconcile").stdout.strip() == "no changes"
    assert site.rules() == rules
    site.cl.tunctl("down", "demo")
    site.cl.ip("route add default via 192.168.50.1 dev cl0")
    assert site.cl.snapshot() == before


def test_nat_follows_the_uplink(site: Site, hosts: Callable[[str], Host]) -> None:
    """S57, F22."""
    site.cl.tunctl("apply", site.file(nat_tunnel()))
    other = hosts("other")
    site.cl.ip(f"link add cl1 type veth peer name gw1 netns {other.name}")
    site.cl.ip("addr add 192.168.60.2/24 dev cl1")
    site.cl.ip("link set cl1 up")
    other.ip("addr add 192.168.60.1/24 dev gw1")
    other.ip("link set gw1 up")
    other.ip(f"addr add {SERVER4}/32 dev lo")
    sites.answer(other, "4")
    site.cl.ip("route replace default via 192.168.60.1 dev cl1")
    site.cl.tunctl("reconcile")
    assert [rule for rule in site.rules() if "cl0" in rule] == []
    assert any("cl1" in rule for rule in site.rules())
    assert site.cl.sysctl("net/ipv4/conf/cl0/forwarding") == "0"
    assert site.seen_as() == "192.168.60.2"
    site.cl.tunctl("down", "demo")
    assert site.rules() == []
    assert site.cl.sysctl("net/ipv4/conf/cl1/forwarding") == "0"


def test_an_uplink_that_is_unplugged(site: Site) -> None:
    """F61."""
    site.cl.tunctl("apply", site.file(nat_tunnel()))
    site.cl.ip("link del cl0")
    site.cl.tunctl("down", "demo")
    assert site.rules() == []
    assert site.cl.sysctl("net/ipv4/conf/lan0/forwarding") == "0"
    assert site.cl.json("show", "demo")["ledger"] == []


def test_what_others_have_stays_and_a_flush_is_repaired(site: Site) -> None:
    """S59, F30."""
    theirs = "table ip theirs { chain post { type nat hook postrouting priority srcnat; ip daddr 198.51.100.1 masquerade; }; }"
    site.cl.run(["nft", theirs])
    before = site.cl.run(["nft", "list", "ruleset"]).stdout
    site.cl.tunctl("apply", site.file(nat_tunnel()))
    rules = site.rules()
    site.cl.run(["nft", "flush", "ruleset"])
    assert "nat rules missing" in reasons(site.cl, expect=3)
    site.cl.tunctl("reconcile")
    assert site.rules() == rules
    assert site.seen_as() == HOST4
    site.cl.run(["nft", theirs])
    site.cl.run(["nft", "add rule inet tunctl source_nat counter"])
    assert "nat rules differ" in reasons(site.cl, expect=3)
    site.cl.tunctl("down", "demo")
    assert site.cl.run(["nft", "list", "ruleset"]).stdout == before


def test_two_tunnels_share_a_table(site: Site, hosts: Callable[[str], Host]) -> None:
    second = hosts("second")
    sites.behind(site, second, "lan1", "10.71.0", "fd71:")
    before = site.cl.snapshot()
    site.cl.tunctl("apply", site.file(nat_tunnel("one"), nat_tunnel("two", nat("10.71.0.0/24"), address="10.9.0.3/32")))
    assert (site.seen_as(), site.seen_as(client=second)) == (HOST4, HOST4)
    site.cl.tunctl("down", "one")
    assert (site.seen_as(), site.seen_as(client=second)) == ("", HOST4)
    assert all("tunctl:two" in rule for rule in site.rules())
    site.cl.tunctl("down", "two")
    assert site.cl.snapshot() == before


def test_into_the_tunnel(site: Site) -> None:
    """out = "tunnel": the way from the LAN into a tunnel, whose other end is the gateway's here."""
    site.cl.tunctl("apply", site.file(nat_tunnel("demo", nat(out="tunnel"), address="10.9.0.2/24")))
    assert any('oifname "tun-demo" masquerade' in rule for rule in site.rules())
    assert site.cl.sysctl("net/ipv4/conf/tun-demo/forwarding") == "1"
    site.cl.ip("link del tun-demo")
    site.cl.tunctl("reconcile")
    assert site.cl.sysctl("net/ipv4/conf/tun-demo/forwarding") == "1"
    site.cl.tunctl("down", "demo")
    assert site.cl.json("show", "demo")["ledger"] == []


def test_a_source_on_its_own_outgoing_side(site: Site) -> None:
    file = site.file(nat_tunnel("demo", nat("192.168.0.0/16")))
    refused = site.cl.tunctl("plan", file, expect=65)
    assert "192.168.0.0/16 contains 192.168.50.0/24, the network of its own outgoing side cl0" in refused.stderr
    site.cl.tunctl("apply", file, expect=65)
    assert site.rules() == []


def test_an_outgoing_interface_that_is_not_there(site: Site) -> None:
    site.cl.tunctl("apply", site.file(nat_tunnel("demo", nat(out="eth7"))))
    assert "nat[0]: interface eth7 is not there" in reasons(site.cl, expect=3)


def test_connections_are_told_what_fits(site: Site) -> None:
    """The MSS that the server is offered is that of the narrow way."""
    site.cl.tunctl("apply", site.file(nat_tunnel("demo", nat(), nat("10.9.0.0/24", out="cl0"), address="10.9.0.1/24")))
    dump = site.gw.start(["tcpdump", "-n", "-i", "gw0", "-c", "1", "-v", "tcp[tcpflags] & tcp-syn != 0"], log="syn.log")
    wait_until(lambda: "listening" in (site.gw.dir / "syn.log").read_text(), 30, "tcpdump listens")
    program = (
        "import fcntl, os, struct\n"
        "f = os.open('/dev/net/tun', os.O_RDWR)\n"
        "fcntl.ioctl(f, 0x400454CA, struct.pack('16sH', b'tun-demo', 0x1001))\n"
        "def total(b): s = sum(struct.unpack(f'>{len(b) // 2}H', b)); s = (s >> 16) + (s & 65535);"
        " return ~(s + (s >> 16)) & 65535\n"
        "src, dst = bytes((10, 9, 0, 7)), bytes((203, 0, 113, 10))\n"
        "tcp = struct.pack('>HHIIBBHHHBBH', 999, 80, 1, 0, 0x60, 2, 65535, 0, 0, 2, 4, 1460)\n"
        "c = total(src + dst + struct.pack('>HH', 6, len(tcp)) + tcp)\n"
        "tcp = tcp[:16] + struct.pack('>H', c) + tcp[18:]\n"
        "ip = struct.pack('>BBHHHBBH', 0x45, 0, 20 + len(tcp), 1, 0, 64, 6, 0) + src + dst\n"
        "ip = ip[:10] + struct.pack('>H', total(ip)) + ip[12:]\n"
        "os.write(f, ip + tcp)\n"
    )
    site.cl.ip("link set tun-demo mtu 1300")
    site.cl.run([sys.executable, "-c", program])
    dump.wait(5)
    log = (site.gw.dir / "syn.log").read_text()
    assert f"{HOST4}." in log
    assert "mss 1260" in log


def test_nobody_sees_what_only_root_may_see(site: Site) -> None:
    site.cl.tunctl("apply", site.file(nat_tunnel()))
    argv = ["setpriv", "--reuid=65534", "--clear-groups", "--bounding-set=-all", *site.cl.tunctl_argv("status", "--json")]
    done = site.cl.run(argv, check=False)

    (tunnel,) = json.loads(done.stdout)["tunnels"]
    assert tunnel["nat"] is None
    assert "nat: only root may look at the packet filter" in tunnel["unobserved"]
    assert tunnel["reasons"] == ["no process attached"]


def test_nothing_to_do_writes_nothing_and_starts_nothing(site: Site) -> None:
    site.cl.tunctl("apply", site.file(nat_tunnel()))
    argv = ["strace", "-f", "-qq", "-e", "trace=execve,openat", "-o", "trace", *site.cl.tunctl_argv("reconcile")]
    site.cl.run(argv)
    lines = (site.cl.dir / "trace").read_text().splitlines()
    assert len([line for line in lines if "execve(" in line and "= 0" in line]) == 1
    assert [line for line in lines if "/proc/sys/" in line and "O_WRONLY" in line] == []
    with site.cl.inside():
        monitor = subprocess.Popen(["nft", "monitor"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        site.cl.tunctl("reconcile")
        site.cl.run(["nft", "add", "table", "inet", "the_end"])
        assert monitor.stdout
        assert b"the_end" in monitor.stdout.readline()
    finally:
        monitor.kill()
        monitor.wait()
