"""A pass with nothing to do, over a full tunnel with NAT and name servers: it looks, and that is all."""

from __future__ import annotations

import re

from tests.netns.names import resolv_conf
from tests.netns.scenario import files
from tests.netns.site import Site
from tests.netns.whole import whole

__all__ = ["whole"]

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


def test_it_writes_nothing_and_starts_nothing(whole: Site) -> None:
    cl = whole.cl
    whole.cl.tunctl("apply", "d.toml")
    assert "nameserver 10.8.0.1" in resolv_conf(cl)
    assert any("masquerade" in rule for rule in whole.rules())
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
