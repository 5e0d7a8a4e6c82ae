"""What `[host]` of all sources together says."""

from __future__ import annotations

from reconciler.model.marks import Numbers
from reconciler.model.tunnel import Host
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

INTERVAL_S = 30.0


class Policy(NamedTuple):
    """The rules of this host, defaults filled in."""

    numbers: Numbers = Numbers()
    lan: str = "keep"  # keep · private · tunnel
    lan_except: tuple[str, ...] = ()  # interfaces ("docker0", "br-*") or prefixes that tunnels may cover
    uplink: str = "auto"  # or an interface name
    runtime_file: str = "run"  # run · beside: what is bound is recorded beside the desired files as well
    interval_s: float = INTERVAL_S  # between two looks of the daemon when nothing happens


def policy_of(hosts: Iterable[Host]) -> Policy:
    """The defaults, moved by what the sources declare. They never declare anything differently; the last one wins."""
    policy = Policy()
    for host in hosts:
        numbers = policy.numbers
        if host.mark is not None:
            numbers = numbers._replace(fwmark=host.mark[0], fwmask=host.mark[1])
        moved = {"table_base": host.table_base, "priority_base": host.priority_base, "link_group": host.link_group}
        numbers = numbers._replace(**{name: value for name, value in moved.items() if value is not None})
        said = {
            "lan": host.lan, "lan_except": host.lan_except, "uplink": host.uplink, "runtime_file": host.runtime_file,
            "interval_s": host.reconcile_interval_s,
        }  # fmt: skip
        policy = policy._replace(numbers=numbers, **{name: value for name, value in said.items() if value is not None})  # type: ignore[arg-type]
    return policy
