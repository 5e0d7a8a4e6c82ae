"""What was found out about tunnels that ask for health checks, as far as it is about the interface that is there now."""

from __future__ import annotations

from reconciler.host import pulses
from reconciler.host.machine import Machine
from reconciler.model.found import LinkState
from reconciler.model.intent import Intent
from reconciler.model.names import IfName, TunnelName
from reconciler.model.policy import Policy
from reconciler.model.pulse import Pulse, Vital, ago
from reconciler.model.tunnel import Health
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def look(
    machine: Machine,
    intents: Iterable[Intent],
    there: Mapping[TunnelName, IfName],
    links: Mapping[IfName, LinkState],
    policy: Policy,
    now_us: int,
) -> dict[TunnelName, Vital]:
    """Of all that have an interface. A pulse that is too old says what was: nobody has looked since."""
    found = {}
    for intent in intents:
        if intent.tunnel.health is not None and intent.name in there:
            pulse = pulses.read(machine.run_dir, intent.name)
            if pulse is not None and not _is_about(pulse, machine, intent, links[there[intent.name]]):
                pulse = None
            pulse = pulse and pulse.by_clock(now_us, pulses.boot_us())
            found[intent.name] = Vital(intent.name, pulse, _blind(pulse, intent.tunnel.health, policy, now_us))
    return found


def _is_about(pulse: Pulse, machine: Machine, intent: Intent, link: LinkState) -> bool:
    """A program that we started anew may have brought a new interface: it is dead until a round says otherwise."""
    is_same = pulse.ifindex == link.ifindex or pulse.condemned is not None
    return is_same and (pulse.id, pulse.boot_id) == (intent.mark.id, machine.handles.boot_id)


def _blind(pulse: Pulse | None, health: Health, policy: Policy, now_us: int) -> str:
    """As long as `failures` rounds and two passes would take, it counts: by a timer there is one round a pass."""
    if pulse is None:
        return "not looked at yet"
    counts_s = health.failures * health.interval_s + 2 * policy.interval_s
    return f"last looked at {ago(pulse.at_us, now_us)}" if now_us - pulse.at_us > counts_s * 1e6 else ""
