"""What a pass and an `apply` do before they change anything, done for nobody. Afterwards Python has adapted the code to what it
works on, and a process that was forked has its own copy of the memory pages that it writes to: whoever asks first waits 5 ms
less."""

from __future__ import annotations

import io

from reconciler.config.load import load
from reconciler.daemon import protocol
from reconciler.daemon.protocol import Request
from reconciler.errors import TunctlError
from reconciler.host.machine import Machine
from reconciler.lean import sha256_hex, suppress
from reconciler.loop.commands import Session
from reconciler.loop.survey import survey
from reconciler.model.order import Order
from reconciler.report.changes import plan_text
from reconciler.store.desire import desire
from reconciler.store.read import read
from reconciler.store.stored import Stored, Terms

_NOBODYS = b"""
version = 1
source = "a rehearsal"
[tunnels.a-rehearsal]
driver = "wireguard"
addresses = ["192.0.2.1/32"]
table = 1929379840  # of nobody: nobody's routes have to be read to see what stands in the way of these
[tunnels.a-rehearsal.wireguard]
private_key_file = "/proc/none.key"
backend = "userspace"
[[tunnels.a-rehearsal.wireguard.peers]]
public_key = "6cM35egc2hX5y0Qi/YgyqaGGWF3YxsSjNRhGqlAiGQk="
endpoint = "127.0.0.1:9"
allowed_ips = ["198.51.100.0/24", "203.0.113.0/24"]
"""


def rehearse(session: Session, machine: Machine, *, privileged: bool) -> tuple[str, ...]:
    """Looks as if one tunnel were declared, and nothing else: what would be done for that; then as a pass looks. Writes
    nothing, and opens no file of a user. What goes wrong is told by whoever does it in earnest."""
    request = Request(Order("apply", file="-"), str(session.state_dir), "/", _NOBODYS)
    content = protocol.decode(protocol.encode(request)[:-1]).stdin or b""
    sha256_hex(content)  # as of every file that is read
    plan: tuple[str, ...] = ()
    with suppress(TunctlError):
        desired = load("-", stdin=io.BytesIO(content), lenient_files=True)
        declared, _ = desire(Stored(exists=False), desired, Terms(boot_id=machine.handles.boot_id))
        seen = survey(machine, declared, resolve=False, privileged=privileged)
        plan = tuple(plan_text(seen.plan.only(frozenset(tunnel.name for tunnel in desired.tunnels))))
    with suppress(TunctlError):
        survey(machine, read(session.state_dir), resolve=False, privileged=privileged)
    return plan
