"""`apply --wait`: until every tunnel is connected."""

from __future__ import annotations

import time
from collections.abc import Collection

from reconciler.errors import NotConverged
from reconciler.loop.commands import Session
from reconciler.loop.look import look
from reconciler.model.names import TunnelName
from reconciler.model.verdict import Verdict

_POLL_S = 0.25


def wait_until_connected(session: Session, names: Collection[TunnelName], deadline: float) -> None:
    """Returns when all of them are `connected`; at `deadline` (time.monotonic) NotConverged names the others, and why."""
    while True:
        seen = look(session.state_dir, session.run_dir, tuple(names)) if names else None
        open_ = [t for t in seen.tunnels if t.judgement.verdict is not Verdict.CONNECTED] if seen else []
        if not open_:
            return
        if time.monotonic() >= deadline:
            why = "; ".join(f"{t.name} is {t.judgement.verdict.value}: {', '.join(t.judgement.reasons)}" for t in open_)
            raise NotConverged(f"not connected: {why}")
        time.sleep(_POLL_S)
