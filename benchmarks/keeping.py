"""A daemon that runs: commands through it, and what a pass costs it that finds nothing to do."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

from benchmarks.bulk import PREFIXES, big, by_ip, must_be_there, prefixes
from benchmarks.many import desired
from benchmarks.stand import Sample, stand
from reconciler.host.rtnl import Rtnl
from reconciler.model.prefix import AF_INET, AF_INET6

Round = dict[str, Sample]

_PASSES = 20  # a round: processor time is counted in ticks of 10 ms


def route_rounds(routes: int, times: int) -> Iterator[Round]:
    """A whole `apply` of a file with so many prefixes, through a daemon that runs, and one after a prefix of it changed."""
    for _ in range(times):
        with stand() as at:
            at.write("desired.toml", big(at, 0))
            at.tunctl("apply", "desired.toml")
            with at.daemon() as running:
                at.write("desired.toml", big(at, routes))
                made = {"apply": running.tunctl("apply", "desired.toml")}
                must_be_there(routes)
                (at.dir / PREFIXES).write_text("".join(f"{one}\n" for one in [*prefixes(routes)[1:], "203.0.113.0/26"]))
                made["changed"] = running.tunctl("apply", "desired.toml")
                must_be_there(routes)
        yield {**made, **by_ip(routes)}


def idle_rounds(tunnels: int, routes: int, times: int) -> Iterator[Round]:
    """Processor time of a pass with nothing to do, and that of listing the same by raw netlink, in this process."""
    with stand() as at:
        at.write("desired.toml", desired(tunnels) + big(at, routes).removeprefix("version = 1\n"))
        at.tunctl("apply", "desired.toml")
        with at.daemon() as running:
            for _ in range(times):
                before = running.cpu_s()
                for _ in range(_PASSES):
                    os.kill(running.pid, signal.SIGHUP)  # look now
                    time.sleep(0.5)
                spent = (running.cpu_s() - before) / _PASSES
                yield {"pass": Sample(spent, spent, running.rss_mb(), 0), "lists": _lists()}


def _lists() -> Sample:
    rtnl = Rtnl()
    begun = time.process_time()
    rtnl.links(), rtnl.addresses()
    for family in (AF_INET, AF_INET6):
        rtnl.rules(family)
        rtnl.routes(family, lambda body: body)
    spent = time.process_time() - begun
    rtnl.close()
    return Sample(spent, spent, 0.0, 0)
