"""What is to be said of endpoints that manifests vouch for. Pure."""

from __future__ import annotations

from reconciler.errors import InvalidFile, TunctlError
from reconciler.model.facts import Facts, Whereabouts
from reconciler.model.intent import Intent
from reconciler.model.moment import rfc3339
from reconciler.model.names import TunnelName
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def refused(intents: Iterable[Intent], facts: Facts) -> Iterator[tuple[TunnelName, TunctlError]]:
    """Peers of WireGuard that nobody ever vouched for: the tunnel is up without them, as with a name that has no address."""
    for intent, label, known in _all(intents, facts):
        if known.best is None and intent.tunnel.wireguard and not known.unread:
            message = f"{label}no endpoint is known: {known.trouble}"
            yield intent.name, InvalidFile(message, hint="get a new manifest from whoever runs the server")


def expired(intents: Iterable[Intent], facts: Facts) -> Iterator[tuple[TunnelName, str]]:
    """Endpoints that are only used because there is nothing better: nobody answers for them any more."""
    for intent, label, known in _all(intents, facts):
        if known.best is not None and known.expired:
            when, where = rfc3339(known.best.expires_us), known.best.endpoint
            yield intent.name, f"{label}its manifest expired at {when}; there is no newer one, {where} stays"


def warnings(intents: Iterable[Intent], facts: Facts) -> Iterator[str]:
    """Manifests that cannot be believed, while an earlier one can."""
    for intent, label, known in _all(intents, facts):
        if known.best is not None and known.trouble and not known.unread:
            yield f"{intent.name}: {label}{known.trouble}; the last good manifest counts: {known.best.endpoint}"


def _all(intents: Iterable[Intent], facts: Facts) -> Iterator[tuple[Intent, str, Whereabouts]]:
    for intent in intents:
        peers = intent.tunnel.wireguard.peers if intent.tunnel.wireguard else ()
        labels = {peer.public_key: f"peer {peer.name or peer.public_key}: " for peer in peers}
        for of in intent.tunnel.manifests:
            known = facts.whereabouts.get((intent.name, of))
            if known is not None:
                yield intent, labels.get(of, ""), known
