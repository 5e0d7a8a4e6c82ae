"""The life of a tunnel: which way it goes after each pass, how long it waits, and the picture of it in ARCHITECTURE.md."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler import states, transitions
from reconciler.lifecycle import Seen, after
from reconciler.model.intent import Progress
from reconciler.model.tunnel import Restart

UP = Seen(wanted_up=True, there=True, converged=True, acted=True, requested=True, addresses=("10.9.0.2/32",))
QUIET = UP._replace(acted=False, requested=False)
FAILED = Seen(wanted_up=True, there=False, converged=False, acted=True, error="Device or resource busy")
LEFT = Seen(wanted_up=False, there=True, converged=False, acted=True, error="still there")
GONE = Seen(wanted_up=False, there=False, converged=True, acted=True)
ALL = [UP, QUIET, FAILED, LEFT, GONE]

PATHS = {
    "comes up": ([UP], "up"),
    "stays up, and nothing is written": ([UP, QUIET], "up"),
    "repaired": ([UP, UP._replace(requested=False)], "up"),
    "fails, is tried again, comes up": ([FAILED, FAILED, UP._replace(requested=False)], "up"),
    "goes": ([UP, GONE], "removed"),
    "goes with trouble": ([UP, LEFT, GONE], "removed"),
    "comes back": ([UP, GONE, UP], "up"),
    "comes back before it was gone": ([UP, LEFT, UP], "up"),
    "never came up, and goes": ([FAILED, GONE], "removed"),
    "was never there, and is not wanted": ([GONE], "pending"),
}


@pytest.mark.parametrize(("passes", "state"), PATHS.values(), ids=PATHS)
def test_states(passes: list[Seen], state: str) -> None:
    progress = Progress()
    for seen in passes:
        progress, _ = after(progress, seen, Restart(), 5)
    assert progress.state == state


def test_a_pass_that_changes_nothing_is_no_transition() -> None:
    progress, _ = after(Progress(), UP, Restart(), 5)
    assert after(progress, QUIET, Restart(), 99) == (progress, ())


def test_back_off() -> None:
    """S74: 5, 10, 20, 40, 60, 60 s; reset by success."""
    progress, waits = Progress(), []
    for _ in range(6):
        progress, _ = after(progress, FAILED, Restart(), 0)
        waits.append((progress.next_retry_us or 0) / 1e6)
    assert waits == [5, 10, 20, 40, 60, 60]
    assert progress.attempt == 6
    progress, _ = after(progress, UP, Restart(), 0)
    assert (progress.attempt, progress.next_retry_us, progress.error) == (0, None, "")


@pytest.mark.parametrize(
    ("now_s", "waits"), [(99, False), (100, True), (104, True), (105, False), (-86_400, False), (86_400, False)]
)
def test_nobody_waits_for_a_clock_that_was_set(now_s: int, waits: bool) -> None:
    """F52: the pause was five seconds; one that was begun by another clock is over."""
    progress, _ = after(Progress(), FAILED, Restart(), 100_000_000)
    assert progress.waits(now_s * 1_000_000) is waits
    assert not Progress().waits(now_s * 1_000_000)


def test_gives_up_after_the_last_attempt_and_begins_anew_when_asked() -> None:
    progress = Progress()
    states = []
    for _ in range(3):
        progress, _ = after(progress, FAILED, Restart(attempts=3), 0)
        states.append(progress.state)
    assert states == ["waiting", "waiting", "failed"]
    assert progress.next_retry_us is None
    progress, moves = after(progress, UP, Restart(attempts=3), 0)
    assert [move.event for move in moves] == ["requested", "converged"]


def test_a_repair_that_fails_is_tried_again_at_once_and_then_with_patience() -> None:
    """Whoever broke it may have gone on breaking it meanwhile."""
    progress, _ = after(Progress(), UP, Restart(), 5)
    waits = []
    for _ in range(3):
        progress, _ = after(progress, FAILED._replace(requested=False), Restart(), 1_000_000)
        waits.append(((progress.next_retry_us or 0) - 1_000_000) / 1e6)
    assert waits == [0.0, 10.0, 20.0]
    assert progress.attempt == 3


def test_a_repair_is_no_new_beginning() -> None:
    progress, _ = after(Progress(), UP, Restart(), 5)
    repaired, moves = after(progress, UP._replace(requested=False), Restart(), 9)
    assert [move.event for move in moves] == ["drifted", "converged"]
    assert (repaired.up_since_us, repaired.since_us) == (5, 9)


def test_a_new_interface_is_a_new_beginning() -> None:
    progress, _ = after(Progress(), UP, Restart(), 5)
    rebooted, _ = after(progress, UP._replace(requested=False, anew=True), Restart(), 9)
    assert (rebooted.up_since_us, rebooted.since_us) == (9, 9)


@given(st.lists(st.sampled_from(ALL), max_size=12), st.integers(0, 4))
def test_no_sequence_of_passes_is_impossible(passes: list[Seen], attempts: int) -> None:
    progress = Progress()
    for seen in passes:
        progress, _ = after(progress, seen, Restart(attempts=attempts), 7)
        assert (progress.next_retry_us is not None) == (progress.state == "waiting")
        assert progress.worked == (progress.state == "up") or progress.state in ("waiting", "failed")


def test_the_table_is_that_of_the_machine() -> None:
    assert Path(transitions.__file__).read_text() == states.text(), "python -m reconciler.states"


def test_the_picture_in_the_architecture_is_the_machine() -> None:
    text = (Path(__file__).parents[2] / "ARCHITECTURE.md").read_text()
    assert f"{states.Lifecycle:mermaid}".strip() in text
