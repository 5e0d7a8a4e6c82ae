"""Everything known of one tunnel, for `show`."""

from __future__ import annotations

import os

from reconciler.host.machine import Machine
from reconciler.loop.commands import Session, check_names
from reconciler.loop.look import ports_of
from reconciler.loop.survey import survey
from reconciler.model.ledger import Remembered
from reconciler.report.details import Details
from reconciler.store.read import read


def details(session: Session, name: str) -> Details:
    """Looks at the machine; UsageError when no such tunnel is declared."""
    stored = read(session.state_dir)
    (known,) = check_names(stored, [name])
    with Machine(session.run_dir) as machine:
        machine.ledger = Remembered(stored.ledger)
        seen = survey(machine, stored, resolve=False, privileged=os.geteuid() == 0)
        return Details(
            seen.intents[known],
            tuple(r for r in seen.wanted.resources if r.tunnel == known),
            tuple(seen.found_of(known)),
            machine.handles.get(known),
            tuple(entry for entry in stored.ledger if known in entry.tunnels),
            seen.plan_of(known),
            ports_of(seen, seen.intents[known]) if seen.intents[known].tunnel.listen else (),
        )
