"""What connections of a LAN through a tunnel are told of its MTU, in both directions, whatever leads them into it."""

from __future__ import annotations

import re

import pytest

from tests.netns.site import LAN4, Site
from tests.netns.whole import whole
from tests.netns.world import wait_until

__all__ = ["whole"]

SELECTED = f'[[tunnels.full.rules]]\nfrom = "{LAN4}"\nlookup = "tunnel"\n'


@pytest.mark.parametrize("selected", [False, True], ids=["full", "selected"])
def test_both_ends_are_told(whole: Site, *, selected: bool) -> None:
    """The server offers 1460, as one behind an Ethernet would: the client is told 1380 all the same."""
    cl, gw, lan = whole.cl, whole.gw, whole.lan
    text = (cl.dir / "d.toml").read_text().replace('servers = ["10.8.0.1"]', 'servers = ["10.8.0.1"]\ndomains = ["."]')
    cl.tunctl("apply", cl.write("d.toml", text + SELECTED * selected))
    gw.ip("route replace 10.8.0.2/32 dev wgs advmss 1460")
    for host, dev in ((gw, "wgs"), (lan, "e0")):
        host.start(["tcpdump", "-nlvi", dev, "--immediate-mode", "tcp[tcpflags] & tcp-syn != 0 and port 80"], log="syn")
        wait_until(lambda host=host: "listening" in (host.dir / "syn").read_text(), 30, "tcpdump")  # type: ignore[misc]
    wait_until(lambda: whole.seen_as() == "10.8.0.2", 20, "it goes through the tunnel")
    wait_until(lambda: {"[S] 1380", "[S.] 1460"} <= told(gw.dir / "syn"), 30, "the server's end")
    wait_until(lambda: {"[S] 1460", "[S.] 1380"} <= told(lan.dir / "syn"), 30, "the client's end")
    assert "[S.] 1460" not in told(lan.dir / "syn")
    assert "[S] 1460" not in told(gw.dir / "syn")
    assert "no changes" in cl.tunctl("reconcile").stdout


def told(path: object) -> set[str]:
    """``[S] 1460``: flags and MSS of what went by."""
    with open(str(path)) as file:
        return {f"{flags} {mss}" for flags, mss in re.findall(r"Flags (\[S\.?\]).*?mss (\d+)", file.read())}
