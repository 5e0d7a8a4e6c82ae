"""What all tunnels have bound, for `endpoints show`: by the same look as `status`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from reconciler.host import record
from reconciler.host.machine import Machine
from reconciler.host.record import Entry, Record
from reconciler.loop.commands import Session, check_names
from reconciler.loop.look import ports_of
from reconciler.loop.served import entry_of
from reconciler.loop.survey import survey
from reconciler.model.names import TunnelName
from reconciler.model.port import Port
from reconciler.store.read import read

if TYPE_CHECKING:
    from collections.abc import Iterable


class Endpoints(NamedTuple):
    """Of each tunnel that has a `listen`."""

    tunnels: tuple[tuple[TunnelName, tuple[Port, ...]], ...]
    record: Record  # in the form of the record in the run directory: what is bound and proven

    def document(self) -> dict[str, Any]:
        return record.document(self.record)


def endpoints(session: Session, names: Iterable[str]) -> Endpoints:
    """Looks at the machine; UsageError when a tunnel is not declared. What only root could prove is as the record says."""
    stored = read(session.state_dir)
    asked = check_names(stored, names)
    with Machine(session.run_dir) as machine:
        seen = survey(machine, stored, resolve=False, privileged=os.geteuid() == 0)
        serving = [i for i in stored.intents if i.tunnel.listen and (not asked or i.name in asked)]
        entries: dict[TunnelName, Entry] = {}
        for intent in serving:
            entry = entry_of(seen, intent.name, machine.record.tunnels.get(intent.name))
            if entry:
                entries[intent.name] = entry
        ports = tuple((intent.name, ports_of(seen, intent)) for intent in serving)
        return Endpoints(ports, Record(seen.facts.boot_id, entries))
