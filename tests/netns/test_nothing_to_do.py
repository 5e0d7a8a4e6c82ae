"""A pass with nothing to do, over a full tunnel with NAT and name servers: it looks, and that is all."""

from __future__ import annotations

import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.netns.names import resolv_conf
from tests.netns.scenario import files
from tests.netns.site import Site
from tests.netns.whole import whole
from tests.netns.world import wait_until

__all__ = ["whole"]

PASSES = 20

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
    cl.tunctl("apply", "d.toml")
    for _ in range(2):
        cl.tunctl("reconcile", cold=True)  # its byte code is kept: found by the first, all of it executed by the second
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


def test_it_loads_little(whole: Site) -> None:
    """Each of these costs as much as the look at the machine, or more."""
    cl = whole.cl
    cl.tunctl("apply", "d.toml")
    nothing_kept = {"PYTHONPYCACHEPREFIX": str(cl.dir / "none"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = cl.tunctl("reconcile", env={"PYTHONPROFILEIMPORTTIME": "1", **nothing_kept}, cold=True)
    loaded = set(re.findall(r"^import time:.*\| +([\w.]+)$", done.stderr, re.MULTILINE))
    assert "ctypes" in loaded  # of libnftables: so it went all the way
    assert loaded.isdisjoint(
        ("click", "enum", "json", "pathlib", "re", "selectors", "socket", "subprocess", "threading", "typing")
    )


def test_a_pass_of_the_daemon_costs_less_than_python_starts_with(whole: Site) -> None:
    """Processor time, of all its processes, over many passes. A bare interpreter is 15 ms where such a pass is 13."""
    cl = whole.cl
    cl.tunctl("apply", "d.toml")
    daemon = cl.start(cl.tunctl_argv("daemon"), log="daemon.log")
    wait_until(lambda: (cl.run_dir / "control.sock").exists() and _cpu_s(daemon.pid), 30, "the daemon")
    wait_until(lambda: not _grows(daemon.pid), 30, "its first pass")
    begun_s = _cpu_s(daemon.pid)
    for _ in range(PASSES):
        before_s = _cpu_s(daemon.pid)
        daemon.send_signal(signal.SIGHUP)
        wait_until(lambda before_s=before_s: _cpu_s(daemon.pid) > before_s + 0.005, 10, "a pass")  # type: ignore[misc]
        wait_until(lambda: not _grows(daemon.pid), 10, "its end")
    spent_s = _cpu_s(daemon.pid) - begun_s
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(PASSES):
        subprocess.run([sys.executable, "-c", "pass"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    bare_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert spent_s < 2 * bare_s, f"{spent_s / PASSES * 1e3:.1f} ms beside {bare_s / PASSES * 1e3:.1f} ms"


def _grows(pid: int) -> bool:
    before_s = _cpu_s(pid)
    time.sleep(0.1)
    return _cpu_s(pid) > before_s


def _cpu_s(pid: int) -> float:
    """proc(5): schedstat, in nanoseconds; of its threads and its children, too."""
    ran = sum(int(_text(path).split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))
    children = _text(Path(f"/proc/{pid}/task/{pid}/children"), "").split()
    return ran / 1e9 + sum(map(_cpu_s, map(int, children)))


def _text(path: Path, gone: str = "0") -> str:
    """Of a thread or a child that may end while we look."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return gone
