"""What `metrics` tells: the state of the host as `status` sees it, and what the daemon has counted, where one runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from reconciler.host import meters
from reconciler.loop.look import look
from reconciler.model.meter import Meter
from reconciler.report.status import HostStatus

if TYPE_CHECKING:
    from pathlib import Path


class Gauged(NamedTuple):
    """One look."""

    host: HostStatus
    meter: Meter | None  # None: no daemon runs, or it has shown nothing


def gauge(state_dir: str | Path, run_dir: str | Path) -> Gauged:
    """As it is now; within a second whatever hangs. StoreError."""
    host = look(state_dir, run_dir)
    return Gauged(host, meters.shown(run_dir) if host.keeper is not None else None)
