"""A pass with nothing to do, over a full tunnel with NAT and name servers: it looks, and that is all."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.netns import site as sites
from tests.netns import world
from tests.netns.names import resolv_conf
from tests.netns.scenario import files
from tests.netns.site import LAN4, LAN6, Site, nat
from tests.netns.world import Host

_CALLS = (
    "execve,execveat,fork,vfork,clone,clone3,open,openat,openat2,creat,write,writev,pwrite64,pwritev,ftruncate,fallocate,"
    "fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,link,linkat,symlink,symlinkat,mkdir,mkdirat,rmdir,mknod,"
    "mknodat,chmod,fchmod,fchmodat,chown,fchown,lchown,fchownat,mount,umount2,setns,unshare,kill,pidfd_send_signal,"
    "sendto,sendmsg,sendmmsg,bind,connect,ioctl"
)
_ALLOWED = (
    r"execve\(.*\bpython",  # the command itself
    r"clone3?\(.*CLONE_THREAD",  # a thread of its own: a bound for what may hang
    r"open(at)?\(.*O_RDONLY(?!.*O_CREAT)",
    r"openat\(.*/run/lock\", O_RDWR\|O_CREAT",  # held, never written
    r"openat\(.*/owner\.log\", O_RDWR\|O_APPEND",  # the same: its size has a bound
    r"openat\(.*/intent\.db\", O_RDWR",
    r"write\([12], ",  # what it says
    r"bind\(",
    r"connect\(",
    r"ioctl\(\d+, (TCGETS|FIOCLEX|FIONBIO|TIOCGWINSZ|SIOCGIFINDEX)",
    r"send(to|msg)\(\d+, .*nlmsg_type=(RTM_GET\w+|NFNL_SUBSYS_NFTABLES<<8\|NFT_MSG_GET\w+|nlctrl|0xa10)\b",
    r"sendto\(\d+, \"get=1\\n\\n\"",  # the engine is asked
)
NOTHING = re.compile("|".join(_ALLOWED))


@pytest.fixture
def site(hosts: Callable[[str], Host]) -> Site:
    """With a WireGuard server on the gateway, and everything behind it."""
    site = sites.build(hosts)
    cl, gw = site.cl, site.gw
    keys = {host: host.run(["wg", "genkey"]).stdout.strip() for host in (cl, gw)}
    public = {host: host.run(["wg", "pubkey"], stdin=key).stdout.strip() for host, key in keys.items()}
    files_ = {host: host.write("wg.key", key + "\n", 0o600) for host, key in keys.items()}
    owner = gw.start(["wireguard-go", "-f", "wgs"], own_run_wireguard=True)
    words = f"set wgs private-key {files_[gw]} listen-port 51820 peer {public[cl]} allowed-ips 10.8.0.2/32"
    world.wait_until(lambda: gw.run_beside(owner.pid, ["wg", *words.split()], check=False).returncode == 0, 25, "the server")
    gw.ip("addr add 10.8.0.1/24 dev wgs")
    gw.ip("link set wgs up")
    entries = (nat(LAN4), nat(LAN6), nat(LAN4, out="tunnel"))
    cl.write("d.toml", DESIRED.format(public=public[gw]) + "".join(entries).replace("NAME", "full"))
    cl.tunctl("apply", "d.toml")
    world.wait_until(lambda: cl.json("status", expect=None)["tunnels"][0]["peers"][0]["latest_handshake"], 15, "a handshake")
    return site


DESIRED = """
version = 1
source = "full"
[tunnels.full]
driver = "wireguard"
interface = "wg-full"
addresses = ["10.8.0.2/32"]
[tunnels.full.wireguard]
private_key_file = "wg.key"
[[tunnels.full.wireguard.peers]]
public_key = "{public}"
endpoint = "203.0.113.10:51820"
allowed_ips = ["0.0.0.0/0", "::/0"]
keepalive = "1s"
[tunnels.full.dns]
servers = ["10.8.0.1"]
"""


def test_it_writes_nothing_and_starts_nothing(site: Site) -> None:
    cl = site.cl
    assert "nameserver 10.8.0.1" in resolv_conf(cl)
    assert any("masquerade" in rule for rule in site.rules())
    before, stored = cl.snapshot(), files(cl.state_dir)
    hints = {path: state for path, state in files(cl.run_dir).items() if not path.endswith("owner.log")}
    traced = ["strace", "-f", "-qq", "-e", f"trace={_CALLS}", "-o", "trace", *cl.tunctl_argv("reconcile")]
    assert "no changes" in cl.run(traced).stdout
    lines = [line for line in (cl.dir / "trace").read_text().splitlines() if " = -1 " not in line]
    assert [line for line in lines if not re.search(r"resumed>|\+\+\+|---", line) and not NOTHING.search(line)] == []
    assert sum("execve(" in line for line in lines) == 1
    assert cl.snapshot() == before
    assert files(cl.state_dir) == stored
    assert {path: files(cl.run_dir)[path] for path in hints} == hints
