"""The life of one tunnel: whether to try, what to tell. It never chooses kernel steps: the plan does."""

from __future__ import annotations

from reconciler.lean import cache
from reconciler.model.intent import Progress
from reconciler.model.tunnel import Restart
from reconciler.transitions import TRANSITIONS
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class Seen(NamedTuple):
    """What a pass found out about one tunnel."""

    wanted_up: bool
    there: bool  # anything of it is on the machine
    converged: bool  # a fresh look left nothing to do
    acted: bool  # steps were done
    error: str = ""
    requested: bool = False  # a user's command, not a timer
    addresses: tuple[str, ...] = ()
    anew: bool = False  # its interface was made by this pass


class Transition(NamedTuple):
    """One move, for the history."""

    event: str
    state: str  # entered by it


def after(progress: Progress, seen: Seen, restart: Restart, now_us: int) -> tuple[Progress, tuple[Transition, ...]]:
    """How a tunnel gets on after a pass. The same progress and no transition when nothing has changed."""
    is_last = bool(restart.attempts) and progress.attempt + 1 >= restart.attempts
    moves = _way(
        progress.state, wanted_up=seen.wanted_up, there=seen.there, converged=seen.converged, acted=seen.acted,
        requested=seen.requested, is_last=is_last,
    )  # fmt: skip
    if moves:
        return _entered(progress, moves[-1].state, seen, restart, now_us), moves
    if seen.wanted_up and seen.addresses and seen.addresses != progress.last_addresses:
        return progress._replace(last_addresses=seen.addresses), ()
    return progress, ()


def rested(
    progress: Progress, attempt: int, until_us: int, restart: Restart, now_us: int
) -> tuple[Progress, tuple[Transition, ...]]:
    """A program that ended again and again is left alone until then, or for good once its attempts are used up."""
    if progress.state not in ("up", "converging"):
        return progress, ()
    gives_up = restart.attempts and attempt >= restart.attempts
    ends = "gave_up" if gives_up else "stumbled"
    moves = _moves(progress.state, ("drifted", ends) if progress.state == "up" else (ends,))
    retry_us = None if gives_up else until_us
    told = f"its program ended {attempt + 1} times in a row"
    return progress._replace(state=moves[-1].state, since_us=now_us, attempt=attempt, next_retry_us=retry_us, error=told), moves


@cache
def told(moves: tuple[Transition, ...]) -> str:
    """As the history says them."""
    return " → ".join([f"{move.event} {move.state}" for move in moves])


@cache  # hundreds go the same way at once, and there are few
def _way(
    state: str, *, wanted_up: bool, there: bool, converged: bool, acted: bool, requested: bool, is_last: bool
) -> tuple[Transition, ...]:
    """From this state, after a pass that saw this. `is_last`: of the attempts."""
    if not wanted_up:
        if state == "removed" or (state == "pending" and not there):
            return ()
        leave = [] if state == "removing" else ["withdrawn"]
        return _moves(state, leave if there else [*leave, "vanished"])
    if state == "up" and converged and not acted:
        return ()
    enter = {"up": ["drifted"], "converging": [], "waiting": ["requested" if requested else "retried"]}
    begin = enter.get(state, ["requested"])
    return _moves(state, [*begin, "converged" if converged else "gave_up" if is_last else "stumbled"])


def _moves(state: str, events: Iterable[str]) -> tuple[Transition, ...]:
    """What these events do to a tunnel in this state. KeyError when one of them does not fit."""
    moves = []
    for event in events:
        state = TRANSITIONS[state, event]
        moves.append(Transition(event, state))
    return tuple(moves)


def _entered(progress: Progress, state: str, seen: Seen, restart: Restart, now_us: int) -> Progress:
    if state == "up":
        stayed = progress.state == "up" and not seen.anew
        since_us = progress.up_since_us if stayed and progress.up_since_us else now_us
        return Progress(state, now_us, since_us, worked=True, last_addresses=seen.addresses)
    if state in ("waiting", "failed"):
        attempt = progress.attempt + 1
        # Of one that was up: somebody may have been at it while it was repaired, and a repair does not wait.
        delay_s = 0.0 if progress.state == "up" else restart.delay_s(attempt)
        retry_us = now_us + round(delay_s * 1e6) if state == "waiting" else None
        return progress._replace(state=state, since_us=now_us, attempt=attempt, next_retry_us=retry_us, error=seen.error)
    return Progress(state, now_us, last_addresses=progress.last_addresses)
