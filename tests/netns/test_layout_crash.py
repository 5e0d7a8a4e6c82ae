"""Full tunnels and SIGKILL after every step; and what is on the wire meanwhile (S37)."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from tests.netns import world
from tests.netns.faults import fault
from tests.netns.layouts import OUTSIDE, is_settled, tun
from tests.netns.test_full_tunnel import ENDPOINT, Ends, can_reach, capture, desired, ends
from tests.netns.warm import Warm
from tests.netns.world import Host

__all__ = ["ends"]

DIRECT = '[[tunnels.full.split.direct]]\ncidr = "198.51.100.0/24"'
FULL = '"0.0.0.0/0"'


def wire(ends: Ends) -> Callable[[], str]:
    capture(ends)
    log = ends.gw.dir / "wire"
    world.wait_until(lambda: "listening" in log.read_text(), 30, "tcpdump")
    return log.read_text


class Poll:
    """Asks all the time which way marked packets to the endpoint take, and sends to OUTSIDE."""

    def __init__(self, host: Host, *, sends: bool) -> None:
        self.host, self.seen, self._stop = host, set[str](), threading.Event()
        sender = f"ping -i 0.02 -W 1 {OUTSIDE} >/dev/null 2>&1 || sleep 0.02"
        self._sender = host.start(["sh", "-c", f"while :; do {sender}; done"]) if sends else None
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Poll:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._sender:
            self.host.kill(self._sender)

    def _work(self) -> None:
        while not self._stop.is_set():
            self.seen.add(way_to_endpoint(self.host))
            self._stop.wait(0.01)


def test_the_endpoint_never_lies_in_a_tunnel(ends: Ends) -> None:
    """S37, for a prefix in `main` and for a full tunnel, up and down and from one to the other."""
    with Poll(ends.cl, sends=False) as poll:
        for allowed, more in ((FULL, ""), ('"203.0.113.0/24"', ""), (FULL, DIRECT), ('"203.0.0.0/16", "203.0.113.0/25"', "")):
            ends.cl.tunctl("apply", ends.cl.write("d.toml", desired(ends, allowed, more)))
        ends.cl.tunctl("down", "full")
        ends.cl.tunctl("up", "full")
        ends.cl.tunctl("down", "full")
    assert poll.seen == {"cl0"}


def way_to_endpoint(host: Host) -> str:
    return host.ip(f"route get {ENDPOINT} mark 0x3174", check=False).split(" dev ")[-1].split(" ")[0]


def test_the_endpoint_can_be_reached_after_every_step(ends: Ends) -> None:
    """From a full tunnel to a prefix in `main`, and from down to up: its pin is never missing."""
    cl = ends.cl
    narrow = desired(ends, '"203.0.0.0/16", "203.0.113.0/25"')
    files = cl.write("full.toml", desired(ends, FULL)), cl.write("narrow.toml", narrow)
    with Warm(cl) as tunctl:
        for before, words in ((("apply", files[0]), ("apply", files[1])), (("down", "full"), ("up", "full"))):
            for number in range(1, 40):
                tunctl.run(*before)
                done = tunctl.run(*words, env=fault(f"kill-after:{number}"), expect=None)
                assert way_to_endpoint(cl) == "cl0", (words, number, done.stdout, cl.ip("route show table all"))
                if done.returncode == 0:
                    break
            assert number > 5


def test_no_change_of_a_tunnel_that_worked_leaks(ends: Ends) -> None:
    """Another full tunnel comes and goes, options change, the link is made anew: nothing for OUTSIDE in clear."""
    second = tun("second", "0.0.0.0/0", entry="metric = 10")
    ends.cl.tunctl("apply", ends.cl.write("d.toml", desired(ends, FULL)))
    can_reach(ends, OUTSIDE)
    text = wire(ends)
    with Poll(ends.cl, sends=True) as poll:
        for words in (
            desired(ends, FULL) + second,
            desired(ends, FULL, "metric = 50") + second,
            desired(ends, FULL, DIRECT),
            desired(ends, '"0.0.0.0/1", "128.0.0.0/1"'),
            desired(ends, FULL, 'ipv6_leak = "allow"').replace("wg-full", "wg-other"),
            desired(ends, FULL).replace('"0.0.0.0/0"', '"0.0.0.0/0", "::/0"') + second,
        ):
            ends.cl.tunctl("apply", ends.cl.write("d.toml", words))
        ends.cl.tunctl("down", "second")
        ends.cl.ip("link set cl0 down")
        ends.cl.ip("link set cl0 up")
        ends.cl.ip("route add default via 192.168.50.1 dev cl0")
        ends.cl.tunctl("reconcile")
    assert f"> {OUTSIDE}" not in text()
    assert poll.seen <= {"cl0", ""}
    can_reach(ends, OUTSIDE)


@pytest.mark.parametrize("number", range(1, 22))
def test_killed_after_each_step_of_a_repair(ends: Ends, number: int) -> None:
    """All that a full tunnel has was lost, but it worked before: nothing leaks from the first step on, and it converges."""
    cl = ends.cl
    before = cl.snapshot()
    cl.tunctl("apply", cl.write("d.toml", desired(ends, FULL, DIRECT)))
    can_reach(ends, OUTSIDE)
    cl.ip("link del wg-full")
    text = wire(ends)
    with Poll(cl, sends=True) as poll:
        cl.tunctl("reconcile", env={"TUNCTL_FAULT": f"kill-after:{number}"}, expect=None)
        cl.tunctl("reconcile")
    assert f"> {OUTSIDE}" not in text()
    assert poll.seen == {"cl0"}
    can_reach(ends, OUTSIDE)
    assert is_settled(cl)
    cl.tunctl("down", "full", env={"TUNCTL_FAULT": f"kill-after:{number}"}, expect=None)
    cl.tunctl("down", "full")
    assert cl.snapshot() == before
