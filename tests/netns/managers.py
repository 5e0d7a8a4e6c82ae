"""Those who keep resolv.conf on real machines, running in a private root: systemd-resolved with its D-Bus, openresolv,
Debian's resolvconf. Nothing is installed: files are unpacked over the root, daemons are started by hand."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.netns.layers import Rooted, rooted, unpacked
from tests.netns.names import UPLINK_SERVER
from tests.netns.world import Host, wait_until

_DBUS = "mkdir -p /run/dbus /run/systemd/resolve; exec dbus-daemon --system --nofork --nopidfile --nosyslog"
_USER = "systemd-resolve:x:64982:64982::/:/usr/sbin/nologin"
_CONFIG = """[Resolve]
DNS=
FallbackDNS=
LLMNR=no
MulticastDNS=no
DNSSEC=no
Cache=no
"""


def resolved(host: Host, *, dev: str = "cl0") -> tuple[Rooted, subprocess.Popen[bytes]]:
    """A root whose names go through a real systemd-resolved, which has the uplink's server on `dev`."""
    root = rooted(host, unpacked("systemd-resolved"))
    for file, line in (("/etc/passwd", _USER), ("/etc/group", "systemd-resolve:x:64982:")):
        root.run(["sh", "-c", 'grep -q ^systemd-resolve: "$1" || echo "$2" >> "$1"', "sh", file, line])
    root.write_root("/etc/systemd/resolved.conf", _CONFIG)
    root.start(["sh", "-c", _DBUS], log="dbus.log")
    wait_until(lambda: not root.run(["test", "-S", "/run/dbus/system_bus_socket"], check=False).returncode, 30, "D-Bus")
    root.run(["chown", "systemd-resolve:", "/run/systemd/resolve"])
    daemon = start_resolved(root)
    root.run(["ln", "-sf", "../run/systemd/resolve/stub-resolv.conf", "/etc/resolv.conf"])
    root.run(["resolvectl", "dns", dev, UPLINK_SERVER])
    root.run(["resolvectl", "default-route", dev, "yes"])
    return root, daemon


def start_resolved(root: Rooted) -> subprocess.Popen[bytes]:
    """The daemon; ready when it answers."""
    daemon = root.start(["/lib/systemd/systemd-resolved"], log="resolved.log")
    ready = lambda: not root.run(["resolvectl", "status"], check=False).returncode  # noqa: E731
    wait_until(ready, 20, "systemd-resolved: " + (root.dir / "resolved.log").read_text())
    return daemon


def openresolv(host: Host) -> Rooted:
    """A root whose resolv.conf is made by openresolv, with a record of the uplink."""
    return _with_uplink(rooted(host, unpacked("openresolv")))


def debian_resolvconf(host: Host) -> Rooted:
    """A root whose resolv.conf is made by Debian's resolvconf, with a record of the uplink."""
    root = rooted(host, unpacked("resolvconf"))
    root.run(["mkdir", "-p", "/run/resolvconf/interface"])
    root.run(["ln", "-sf", "../run/resolvconf/resolv.conf", "/etc/resolv.conf"])
    root.run(["resolvconf", "--enable-updates"])
    return _with_uplink(root)


def _with_uplink(root: Rooted) -> Rooted:
    root.run(["resolvconf", "-a", "cl0.dhcp"], stdin=f"nameserver {UPLINK_SERVER}\n")
    return root


def records(root: Rooted) -> list[str]:
    """The names of all records that resolvconf has."""
    places = [Path("/run/resolvconf") / name for name in ("interface", "interfaces", "keys")]
    found = root.run(["sh", "-c", f"ls {' '.join(map(str, places))} 2>/dev/null || true"]).stdout.split()
    return sorted(word for word in found if not word.endswith(":"))
