"""`apply --wait`: until every tunnel is connected."""

from __future__ import annotations

import time

from reconciler.errors import NotConverged
from reconciler.loop.commands import Session, observe_health
from reconciler.loop.look import look
from reconciler.model.names import TunnelName
from reconciler.model.tunnel import Tunnel
from reconciler.model.verdict import Verdict
from reconciler.report.status import TunnelStatus
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_POLL_S = 0.25


def wait_until_connected(session: Session, names: Collection[TunnelName], deadline: float) -> None:
    """Returns when all of them are `connected`, seen and not supposed: with a first handshake, however new they are, and a
    first round of health checks. At `deadline` (time.monotonic) NotConverged names the others, and why."""
    while names:
        observe_health(session, names)
        why = [words for one in look(session.state_dir, session.run_dir, tuple(names)).tunnels for words in _open(one)]
        if not why:
            return
        if time.monotonic() >= deadline:
            raise NotConverged(f"not connected: {'; '.join(why)}")
        time.sleep(_POLL_S)


def _open(one: TunnelStatus) -> Iterator[str]:
    """Why it does not count as connected."""
    if one.judgement.verdict is not Verdict.CONNECTED:
        yield f"{one.name} is {one.judgement.verdict.value}: {', '.join(one.judgement.reasons)}"
    elif one.intent is not None:
        tunnel = one.intent.tunnel
        shaken = {peer.public_key for peer in one.peers if peer.latest_handshake_s}
        yield from (f"{one.name}: peer {name}: no handshake yet" for key, name in _asking(tunnel) if key not in shaken)
        if tunnel.health and (tunnel.health.ping or any(_asking(tunnel))) and not (one.pulse and one.pulse.works):
            yield f"{one.name}: no health check has seen it work yet"


def _asking(tunnel: Tunnel) -> Iterator[tuple[str, str]]:
    """Keys and names of the peers that we talk to without being asked."""
    for peer in tunnel.wireguard.peers if tunnel.wireguard else ():
        if (peer.endpoint or peer.manifest) and peer.keepalive_s:
            yield peer.public_key, peer.name or peer.public_key
