"""Intent, found and what is left to do → verdict and reasons. Pure: no pid, no file, no memory is an input."""

from __future__ import annotations

from itertools import islice

from reconciler.kinds.link import Link
from reconciler.kinds.owner import Owner
from reconciler.kinds.peer import Peer
from reconciler.kinds.resolver import Resolver
from reconciler.model.facts import Facts
from reconciler.model.found import Unobserved
from reconciler.model.intent import Intent
from reconciler.model.plan import Plan, Step
from reconciler.model.prefix import ntop
from reconciler.model.resource import Resource, Verb, each
from reconciler.model.tunnel import HANDSHAKE_GRACE_S, HANDSHAKE_MAX_AGE_S
from reconciler.model.verdict import Judgement, Verdict
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from reconciler.model.pulse import Pulse

REASONS_SHOWN = 12
_SKEW_S = 5  # a handshake may be a little younger than the look that tells of it
_BASIC = ("link", "address", "route", "rule")


class Evidence(NamedTuple):
    """What a verdict on one tunnel rests on: only what concerns it."""

    found: Sequence[Resource]
    left: Plan  # what is still to do
    unobserved: Sequence[Unobserved]
    facts: Facts
    impossible: str = ""  # why this machine cannot have it
    lacks: Sequence[str] = ()  # what it asked for and does not get here, and why
    unsure: bool = False  # `impossible` is only a look that failed
    port_taken: bool = False  # `impossible` is only that somebody else has its port


def judge(intent: Intent, seen: Evidence) -> Judgement:
    """The verdict on one tunnel."""
    blind = [u for u in seen.unobserved if u.tunnel in (None, intent.name)]
    unseen: tuple[str, ...] = ()
    if blind:
        unseen = tuple(dict.fromkeys(f"{u.kind}: {u.reason}" for u in blind if u.privilege))
        lost = [u for u in blind if u.kind in _BASIC or not (u.privilege or u.kind == "resolver")]
        if lost:
            return Judgement(Verdict.UNKNOWN, _unknown(lost), unseen)
    return _judged(intent, seen, blind, unseen)


def _judged(intent: Intent, seen: Evidence, blind: Sequence[Unobserved], unseen: tuple[str, ...]) -> Judgement:
    """All that counts could be seen."""
    found, plan, _, facts, impossible, lacks, unsure, port_taken = seen
    link = _link_in(found)
    if not intent.is_wanted_up(facts.boot_id):
        return _when_down(intent, link, plan, unseen)
    if unsure:
        return Judgement(Verdict.UNKNOWN, (impossible,), unseen)
    if plan.conflicts:
        return Judgement(Verdict.FAILED, tuple(f"foreign: {conflict}" for conflict in plan.conflicts), unseen)
    degraded_only = port_taken and intent.progress.worked and link is not None
    if intent.progress.state == "failed" or (impossible and not degraded_only):
        return Judgement(Verdict.FAILED, (impossible or intent.progress.error or "gave up",), unseen)
    if link is None:
        return _when_absent(intent, seen, unseen)
    vital = facts.vitals.get(intent.name) if facts.vitals else None
    pulse = vital.pulse if vital else None
    if vital and vital.blind:
        unseen = (*unseen, f"health: {vital.blind}")
    reasons = [
        *((impossible,) if impossible else ()),
        *(_drift(plan) if plan.steps else ()),
        *(_carrier(link, seen) if link.carrier is False and link.up else ()),
        *(_peers(intent, found, facts) if intent.tunnel.wireguard else ()),
        *(_health(intent, pulse, seen) if pulse else ()),
        *lacks,
        *(
            [f"dns could not be compared: {u.reason}" for u in blind if u.kind == "resolver" and not u.privilege]
            if blind
            else ()
        ),
    ]
    if not reasons:
        return Judgement(Verdict.CONNECTED, (), unseen)
    if not intent.progress.worked and any(step.resource.kind != "resolver" for step in plan.steps):
        return Judgement(Verdict.NOT_CONNECTED, ("still coming up for the first time", *reasons), unseen)
    gave_up = pulse is not None and pulse.gave_up(intent.tunnel)
    return Judgement(Verdict.FAILED if gave_up else Verdict.DEGRADED, tuple(reasons), unseen)


def _link_in(found: Iterable[Resource]) -> Link | None:
    for one in found:
        if isinstance(one, Link):
            return one
    return None


def _owner_in(found: Iterable[Resource]) -> Owner | None:
    """The one that runs."""
    for one in found:
        if isinstance(one, Owner) and one.pid:
            return one
    return None


def _unknown(lost: Iterable[Unobserved]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(f"{u.kind} could not be read: {u.reason}" for u in lost))


def _when_down(intent: Intent, link: Link | None, plan: Plan, unseen: tuple[str, ...]) -> Judgement:
    why = "held down" if intent.held else "withdrawn" if intent.withdrawn else "disabled" if not intent.tunnel.enabled else ""
    if link is None and not plan.steps:
        return Judgement(Verdict.NOT_CONNECTED, (why or "not started",), unseen, counts=False)
    left = tuple(f"{step.resource} should not be there" for step in islice(plan.each(), REASONS_SHOWN))
    return Judgement(Verdict.DEGRADED, (f"{why or 'not started'}, but not down", *left), unseen)


def _when_absent(intent: Intent, seen: Evidence, unseen: tuple[str, ...]) -> Judgement:
    """What outlived the interface is named: what should not be there at all, and what stands there without its link."""
    name = f"{intent.tunnel.interface}: " if intent.tunnel.interface else ""
    stray = {step.resource: None for step in seen.left.each() if step.verb is Verb.DELETE}
    alone = [r for r in each(seen.found) if r.kind in ("route", "rule") and r not in stray]
    blocking = [r for r in alone if r.order < 0]
    residues = [f"left over: {r}" for r in [*stray, *(r for r in alone if r not in blocking)][:REASONS_SHOWN]]
    if blocking:
        residues.append("what goes into it is unreachable until it is back (on_failure)")
    error = (intent.progress.error,) if intent.progress.error else ()
    owner = _owner_in(seen.found)
    if owner is not None:
        residues.insert(0, f"owner pid {owner.pid} {'lives on without it' if owner.ready else 'is starting'}")
    if intent.progress.worked:
        return Judgement(Verdict.STALE, (f"{name}interface no longer present", *error, *seen.lacks, *residues), unseen)
    return Judgement(Verdict.NOT_CONNECTED, ("not up yet", *error, *residues), unseen)


def _drift(plan: Plan) -> list[str]:
    """A reason for each step that is left, the first of them by name, the others counted."""
    reasons = [reason for step in islice(plan.each(), REASONS_SHOWN) for reason in _why(step)]
    more = plan.number - REASONS_SHOWN
    return [*reasons, f"and {more} more differences"] if more > 0 else reasons


def _why(step: Step) -> list[str]:
    kind = step.resource.kind
    if isinstance(step.resource, Resolver) and step.verb is not Verb.DELETE:
        return [_names(step.resource, step.found)]
    if kind == "nat" and step.verb is not Verb.DELETE:
        return ["nat rules differ" if step.found else "nat rules missing"]
    if step.verb is Verb.DELETE:
        return [f"{step.resource} should not be there"]
    if step.verb is Verb.CREATE or step.found is None:
        if kind == "owner":
            return ["owner not running"]
        if kind == "listen":
            return [f"{step.resource} is not bound"]
        drift = "address drift: " if kind == "address" else ""
        return [f"{drift}{step.resource} missing"]
    return [_difference(step, field) for field in step.fields] or [f"{step.resource} must be made anew"]


def _names(wanted: Resolver, found: Resource | None) -> str:
    if not isinstance(found, Resolver):
        return f"DNS missing: {wanted}"
    if wanted.backend == "file":
        return f"DNS overwritten: {wanted.record} names {', '.join(map(ntop, found.servers)) or 'no server'}"
    return f"DNS overwritten: {found}"


def _difference(step: Step, field: str) -> str:
    found = getattr(step.found, field, None)
    if step.resource.kind == "link" and field == "name":
        return f"interface renamed to {found}"
    if step.resource.kind == "sysctl":
        return f"{step.found} instead of {step.resource}"
    if field == "up":
        return "admin down"
    if field == "ready":
        return f"{step.found}: it is starting"
    if field == "condemned":
        return f"{step.found}: holds its device and answers nothing, it is to be started anew"
    if field == "protocol":
        return f"{step.resource} does not carry our mark"
    if field in ("preshared_digest", "fingerprint", "argv", "endpoints", "allowed_ips"):
        return f"{step.resource}: {field.replace('_digest', ' key').replace('_', ' ')} differs"
    return f"{step.resource.kind} {field} {found} != {getattr(step.resource, field, None)}".removeprefix("link ")


def _carrier(link: Link, seen: Evidence) -> list[str]:
    """A link without carrier delivers nothing, and the kernel does not say so to the senders."""
    if seen.left.steps and any(step.resource.kind == "owner" for step in seen.left.steps):
        return []
    if link.type not in ("tun", "tap"):
        return ["no carrier"]
    owner = _owner_in(seen.found)
    return [f"no process attached: owner pid {owner.pid} runs and has not opened it" if owner else "no process attached"]


def _health(intent: Intent, pulse: Pulse, seen: Evidence) -> list[str]:
    """What health checks say against it, and what follows."""
    blocks = any(r.kind == "route" and r.order < 0 for r in seen.found)
    return pulse.reasons(intent.tunnel, seen.facts.now_us, blocks=blocks)


def _peers(intent: Intent, found: Iterable[Resource], facts: Facts) -> list[str]:
    settings = intent.tunnel.wireguard
    if settings is None:
        return []
    there = {r.public_key: r for r in found if isinstance(r, Peer)}
    up_s = (facts.now_us - (intent.progress.up_since_us or facts.now_us)) // 1_000_000
    health = intent.tunnel.health
    max_age_s = (health and health.handshake_max_age_s) or HANDSHAKE_MAX_AGE_S
    reasons = []
    for peer in settings.peers:
        seen = there.get(peer.public_key)
        endpoint = facts.endpoint(intent.name, peer)
        if seen is None or endpoint is None:
            continue
        label = f"peer {peer.name or peer.public_key}"
        if not seen.endpoints:
            reasons.append(f"{label}: endpoint {endpoint} could not be resolved")
        elif peer.keepalive_s and not 0 <= up_s < HANDSHAKE_GRACE_S:  # less than nothing: the clock was set back
            reasons += _handshake(label, seen.latest_handshake_s, facts.now_us // 1_000_000, max_age_s)
    return reasons


def _handshake(label: str, latest_s: int | None, now_s: int, max_age_s: float) -> list[str]:
    if latest_s is None:
        return [f"{label}: no handshake yet"]
    age_s = now_s - latest_s
    if age_s < -_SKEW_S:
        return [f"{label}: last handshake {-age_s} s from now: the clock was set back, the next handshake tells"]
    return [f"{label}: last handshake {age_s} s ago"] if age_s >= max_age_s else []


def worst(judgements: Iterable[Judgement], *, named: bool) -> int:
    """The exit code of a status over these; without names, what is to be down and is down does not count."""
    said = {j.verdict for j in judgements if named or j.counts}
    return max((verdict.exit_code for verdict in said), default=0)
