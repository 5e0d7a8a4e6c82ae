"""What the names of endpoints mean, found out before the lock is held: nobody else waits for a name server."""

from __future__ import annotations

from reconciler.errors import TunctlError
from reconciler.host.machine import Machine
from reconciler.lean import suppress
from reconciler.loop.survey import survey
from reconciler.model.facts import Unknown
from reconciler.model.ledger import Remembered
from reconciler.model.prefix import pton
from reconciler.model.tunnel import Tunnel
from reconciler.store.stored import Stored
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from reconciler.host.resolve import Names

_MANIFEST = ""  # no name
asked: Names = {}  # by this command already, to find out whether there is anything to do: nobody waits for the same twice
HURRY_S = 0.4  # who takes down waits no longer: what is not known then is left as it is


def look_up(
    run_dir: str | Path, stored: Stored, known: Mapping[str, tuple[bytes, ...] | Unknown], patience_s: float | None = None
) -> Names:
    """The names of all tunnels: as they are known, the others looked up. Nothing is looked at where there are none."""
    names = dict(known)
    if any(host not in known for host in names_of(intent.tunnel for intent in stored.intents)):
        with suppress(TunctlError), Machine(run_dir) as machine:  # the pass meets it, too, and says so
            machine.ledger = Remembered(stored.ledger)
            machine.names, machine.names_s = names, patience_s
            survey(machine, stored, resolve=True, privileged=True)
    return names


def names_of(tunnels: Iterable[Tunnel]) -> Iterator[str]:
    """That engines talk to. Of a manifest it is not known before it is read."""
    for tunnel in tunnels:
        yield from (_MANIFEST for _ in tunnel.manifests)
        yield from (host for host in _hosts(tunnel) if _is_name(host))


def _hosts(tunnel: Tunnel) -> Iterator[str]:
    yield from tunnel.exec_.remote if tunnel.exec_ else ()
    for peer in tunnel.wireguard.peers if tunnel.wireguard else ():
        yield from (peer.endpoint.host,) if peer.endpoint else ()


def _is_name(host: str) -> bool:
    try:
        pton(host)
    except ValueError:
        return True
    return False
