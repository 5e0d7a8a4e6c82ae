"""What the tests of faults share: a desired file with every driver and kind, and what "clean" and "converged" mean."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from reconciler.host import process, x25519
from tests.netns.engines import PROGRAMS
from tests.netns.warm import Warm
from tests.netns.world import Host

PYTHON = "/usr/bin/python3"  # one that other users may execute, too

_TUN = """
[tunnels.plain]
driver = "tun"
interface = "tun-plain"
addresses = ["10.83.0.2/24", "fd00:83::2/64"]
mtu = 1400
[[tunnels.plain.routes]]
to = ["10.84.0.0/16", "fd00:84::/32"]
metric = 30
[[tunnels.plain.routes]]
to = "10.84.66.0/24"
type = "blackhole"
[[tunnels.plain.rules]]
to = ["10.84.5.0/24", "fd00:84:5::/48"]
lookup = 200
"""
_PROGRAM = """
[tunnels.prog]
driver = "exec"
interface = "tun-prog"
addresses = ["10.81.0.2/24", "fd00:81::2/64"]
exec = {{ command = ["{python}", "{dir}/holder.py", "{{interface}}"], stop_grace = "1s" }}
[[tunnels.prog.routes]]
to = ["10.85.0.0/16", "fd00:85::/32"]
[[tunnels.prog.rules]]
from = ["10.85.9.0/24", "fd00:85:9::/48"]
lookup = "tunnel"
"""
_MADE = """
[tunnels.made]
driver = "exec"
interface = "tun-made"
addresses = ["10.82.0.2/24"]
exec = {{ command = ["{python}", "{dir}/holder.py", "{{interface}}"], device = "tunctl", user = "nobody", stop_grace = "1s" }}
[[tunnels.made.routes]]
to = "10.86.0.0/16"
via = "10.82.0.1"
metric = 77
"""
_WIREGUARD = """
[tunnels.wg]
driver = "wireguard"
interface = "wg-a"
addresses = ["10.80.0.2/24"]
[tunnels.wg.wireguard]
private_key_file = "wg.key"
listen_port = 51900
backend = "userspace"
[[tunnels.wg.wireguard.peers]]
public_key = "{peer_a}"
endpoint = "127.0.0.1:51901"
allowed_ips = ["10.87.0.0/16", "fd00:87::/32"]
[[tunnels.wg.wireguard.peers]]
public_key = "{peer_b}"
endpoint = "127.0.0.1:51902"
allowed_ips = ["10.88.0.0/16"]
"""
EVERYTHING = "version = 1\n" + _TUN + _PROGRAM + _MADE + _WIREGUARD

# Each tunnel but the first changes, in what can be changed in place and in what cannot; one goes, one comes.
_CHANGES = (
    ("mtu = 1400", "mtu = 1380"),
    ('"10.83.0.2/24", ', '"10.83.0.3/24", '),
    ("metric = 30", "metric = 31"),
    ('type = "blackhole"', 'type = "unreachable"'),
    ("lookup = 200", "lookup = 201"),
    ('holder.py", "{interface}"], stop', 'holder.py", "{interface}", "again"], stop'),
    ('"10.85.0.0/16"', '"10.85.0.0/17"'),
    ("listen_port = 51900", "listen_port = 51910"),
    ("127.0.0.1:51902", "127.0.0.1:51903"),
    ('"10.87.0.0/16"', '"10.89.0.0/16"'),
    ("[tunnels.made", "[tunnels.other"),
    ("tun-made", "tun-other"),
)


def write_programs(host: Host) -> None:
    """Copies of the engines where users of the host may read them, and a key."""
    for name in ("holder.py", "tun_device.py"):
        host.write(name, (PROGRAMS / name).read_text())
    host.write("wg.key", b64encode(bytes(range(32))).decode() + "\n", 0o600)


def everything(host: Host) -> Path:
    """The file that has all drivers and kinds."""
    write_programs(host)
    peers = {f"peer_{letter}": b64encode(x25519.public(letter.encode() * 32)).decode() for letter in "ab"}
    head, body = EVERYTHING.split("\n", 1)
    return host.write("d.toml", f"{head}\nsource = 'all'\n{body.format(python=PYTHON, dir=host.dir, **peers)}")


def changed(host: Host) -> Path:
    """The same file after an edit: everything in it can still be reached, in many steps."""
    text = everything(host).read_text()
    for old, new in _CHANGES:
        assert old in text, old
        text = text.replace(old, new)
    return host.write("changed.toml", text)


def state(host: Host) -> str:
    """The snapshot without what is by chance: link-local addresses of TUNs, indexes, the numbers in marks."""
    lines = [line for line in host.snapshot().splitlines() if " fe80::" not in f" {line}"]
    text = re.sub(r"(alias tunctl:\S+:)\w{8}$", r"\1", "\n".join(lines), flags=re.MULTILINE)
    links, addresses, *rest = re.sub(r"^\d+: ", "", text, flags=re.MULTILINE).split("\n\n")
    return "\n\n".join([links, "\n".join(sorted(addresses.splitlines())), *rest])


def store_id(host: Host) -> str | None:
    """The half of the marks that all tunnels of a store share; None when there is no store."""
    path = host.state_dir / "intent.db"
    if not path.exists():
        return None
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
        try:
            return str(connection.execute("SELECT store_id FROM meta").fetchone()[0])
        except sqlite3.OperationalError:  # its creation was cut off
            return None


def marked(host: Host) -> list[str]:
    """Processes with a mark of this host's store, wherever they are: name and pid."""
    mine = store_id(host)
    return [
        f"{one.mark.tunnel} pid {one.pid}" for one in process.find_marked().processes if one.mark and one.mark.store_id == mine
    ]


def control_groups(host: Host) -> list[str]:
    """Control groups of this host's tunnels."""
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if line.split()[2] == "cgroup2"]
    return [str(path) for mount in mounts for path in Path(mount).glob(f"tunctl-*-{store_id(host)}????")]


def left_behind(host: Host) -> list[str]:
    """All that a host without tunnels must not have, but for what the snapshot shows."""
    tunnels = host.run_dir / "tunnels"
    files = sorted(str(path) for path in tunnels.rglob("*")) if tunnels.exists() else []
    strays = _strays(host)
    if strays:  # a daemon that runs may just have been writing
        time.sleep(0.2)
        strays = [path for path in strays if path in _strays(host)]
    return [*marked(host), *control_groups(host), *files, *strays]


def _strays(host: Host) -> list[str]:
    """Files that nobody knows."""
    return [str(p) for d in (host.run_dir, host.state_dir) if d.exists() for p in d.iterdir() if p.name not in KNOWN_FILES]


# The journal is how SQLite takes back a change that was cut off; it goes with the next change.
KNOWN_FILES = {
    "lock",
    "daemon.lock",
    "control.sock",
    "meter.json",
    "tunnels",
    "intent.db",
    "intent.db-journal",
    "endpoints.json",
}


def assert_clean(host: Host, before: str, told: object = "") -> None:
    """Nothing of ours is left: kernel, processes, run directory, control groups."""
    now = state(host)
    assert now == before, f"not clean ({told}):\n{difference(before, now)}"
    left = left_behind(host)
    assert left == [], f"left behind ({told}): {left}"


def assert_converged(host: Host, tunctl: Warm, wanted: str, told: object = "") -> None:
    """The plan is empty, the kernel is as it is after an undisturbed apply, and nothing is doubled."""
    plan = tunctl.run("plan", expect=None)
    assert plan.returncode == 0, f"not converged ({told}): {plan.stdout}{plan.stderr}"
    now = state(host)
    assert now == wanted, f"not as after an undisturbed apply ({told}):\n{difference(wanted, now)}"
    aliases = [link["ifalias"] for link in host.ip_json("link") if link.get("ifalias", "").startswith("tunctl:")]
    assert len(aliases) == len(set(aliases)), f"doubled links ({told}): {aliases}"
    owners = [line.split()[0] for line in marked(host)]
    assert len(owners) == len(set(owners)), f"doubled owners ({told}): {owners}"
    groups = {path: (Path(path) / "cgroup.procs").read_text().split() for path in control_groups(host)}
    assert sorted(Path(path).name.split("-")[1] for path in groups) in ([], sorted(owners)), f"{told}: {groups} for {owners}"
    temporary = [str(path) for path in (host.run_dir / "tunnels").rglob(".*")]
    assert temporary == [], f"temporary files ({told})"


def difference(before: str, now: str) -> str:
    """What came and what went."""
    old, new = before.splitlines(), now.splitlines()
    gone = [f"- {line}" for line in old if line not in new]
    return "\n".join([*gone, *(f"+ {line}" for line in new if line not in old)]) or "the same lines in another number"


def fault(text: str) -> Mapping[str, str]:
    """The environment that asks for trouble."""
    return {"TUNCTL_FAULT": text}


def was_killed(done: subprocess.CompletedProcess[str]) -> bool:
    return done.returncode == -9


def tun_file(host: Host, *names: str, name: str = "d.toml", more: str = "", source: str = "all") -> Path:
    """A cheap desired file: for each name a TUN with one address and one route."""
    blocks = [tun_block(tunnel) for tunnel in names]
    return host.write(name, f"version = 1\nsource = '{source}'\n{''.join(blocks)}\n{more}")


def tun_block(name: str, number: int = 9, extra: Sequence[str] = ()) -> str:
    """One `tun` tunnel, with interface tun-NAME."""
    octet = number if name == "demo" else 10 + sum(map(ord, name)) % 200
    return "\n".join([
        f"\n[tunnels.{name}]", 'driver = "tun"', f'interface = "tun-{name}"', f'addresses = ["10.{octet}.0.2/32"]', *extra,
        f"[[tunnels.{name}.routes]]", f'to = "10.{octet}.128.0/20"', "",
    ])  # fmt: skip


def kernel_lines(text: str) -> list[str]:
    """Lines of a plan: those that begin with a verb."""
    return [line for line in text.splitlines() if re.match(r"[-+~!] ", line)]


class Case(NamedTuple):
    """A host with one exec tunnel `demo` on tun-demo, up; `before` and `wanted` are its states without and with it."""

    host: Host
    tunctl: Warm
    file: Path
    before: str
    wanted: str

    @property
    def handles(self) -> Path:
        return self.host.run_dir / "tunnels" / "demo" / "handles.json"


def exec_file(host: Host, device: str, *, words: Sequence[str] = (), command: str = "", more: str = "") -> Path:
    """A desired file with the exec tunnel `demo`; `words` are holder.py's habits, `more` lines for its table."""
    write_programs(host)
    program = command or f'"{PYTHON}", "{host.dir}/holder.py"'
    spoken = "".join(f', "{word}"' for word in words)
    return host.write(
        "demo.toml",
        f"""version = 1
source = "demo"
[tunnels.demo]
driver = "exec"
interface = "tun-demo"
addresses = ["10.9.0.2/24", "fd00:9::2/64"]
mtu = 1400
{more}
exec = {{ command = [{program}, "{{interface}}"{spoken}], device = "{device}", stop_grace = "1s", ready_timeout = "5s" }}
[[tunnels.demo.routes]]
to = ["10.9.128.0/20", "fd00:9:1::/48"]
[[tunnels.demo.rules]]
from = "10.9.5.0/24"
lookup = 200
""",
    )


@contextlib.contextmanager
def cases(host: Host, device: str, *, words: Sequence[str] = (), command: str = "", more: str = "") -> Iterator[Case]:
    """The tunnel of `exec_file`, applied."""
    with Warm(host) as tunctl:
        before = state(host)
        file = exec_file(host, device, words=words, command=command, more=more)
        tunctl.run("apply", file)
        yield Case(host, tunctl, file, before, state(host))
