"""Stamps of before the clock was set, by the clock of now."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.host import timeline
from reconciler.host.machine import Machine
from reconciler.loop.remember import _clock
from reconciler.loop.survey import Survey
from reconciler.model.facts import Facts
from reconciler.model.found import Found, Unobserved
from reconciler.model.marks import Numbers
from reconciler.model.names import TunnelName
from reconciler.model.plan import Plan
from reconciler.model.timeline import Setting, Timeline
from reconciler.store.stored import Stored
from reconciler.wanted import Wanted

S = 1_000_000
DAY = 86_400 * S
BOOT = 1_800_000_000 * S  # what the clock showed when the machine booted
STEP = 5_000 * S  # when it was set, since the boot
BOOT_ID = "0f0e"


def after(step: int, passed: int = 60 * S) -> Timeline:
    return Timeline(STEP + passed, BOOT + step, (Setting(BOOT, STEP),))


@pytest.mark.parametrize("step", [DAY, -DAY, 3600 * S, -3600 * S, 60 * 365 * DAY])
def test_what_was_before_the_step_moves_along(step: int) -> None:
    for age in (0, 10 * S, 170 * S, 1000 * S):
        seen = after(step)
        stamp = BOOT + STEP - age
        assert seen.at_us + seen.offset_us - seen.translated(stamp) == age + 60 * S


@pytest.mark.parametrize("step", [DAY, -DAY, 3 * S, -3 * S])
def test_what_came_after_it_stays(step: int) -> None:
    seen = after(step)
    for age in (0, 1 * S, 59 * S):
        stamp = seen.at_us + seen.offset_us - age
        assert seen.translated(stamp) == stamp


def test_there_and_back() -> None:
    seen = Timeline(STEP + 120 * S, BOOT, (Setting(BOOT, STEP), Setting(BOOT + DAY, STEP + 60 * S)))
    assert seen.translated(BOOT + DAY + STEP + 30 * S) == BOOT + STEP + 30 * S
    assert seen.translated(BOOT + STEP - 10 * S) == BOOT + STEP - 10 * S
    assert seen.translated(BOOT + STEP + 100 * S) == BOOT + STEP + 100 * S


def test_what_fits_nothing_is_left_alone() -> None:
    assert after(DAY).translated(BOOT - 3 * DAY) == BOOT - 3 * DAY  # of a boot before
    assert after(DAY).translated(BOOT + 9 * DAY) == BOOT + 9 * DAY
    assert Timeline(STEP, BOOT).translated(7) == 7


@given(
    st.lists(st.integers(-10 * DAY, 10 * DAY), min_size=1, max_size=5),
    st.integers(0, 4), st.integers(0, 3_000),
)  # fmt: skip
def test_no_stamp_is_ever_in_the_future(steps: list[int], which: int, second: int) -> None:
    """However often and however far it was set, a stamp that the machine made is not younger than now."""
    offsets = [BOOT]
    for step in steps:
        offsets.append(offsets[-1] + step)
    settings = tuple(Setting(one, (number + 1) * 3_000 * S) for number, one in enumerate(offsets[:-1]))
    at = len(steps) * 3_000 * S + 3_000 * S
    seen = Timeline(at, offsets[-1], settings)
    era = min(which, len(offsets) - 1)
    made = era * 3_000 * S + second * S
    assert seen.translated(made + offsets[era]) <= at + offsets[-1] + S


@pytest.mark.parametrize("step", [DAY, -DAY])
def test_it_is_kept_and_a_step_is_noticed(tmp_path: Path, step: int) -> None:
    file = tmp_path / timeline.FILE
    timeline.keep(tmp_path, BOOT_ID)
    assert timeline.read(tmp_path, BOOT_ID).before == ()
    kept = file.stat()
    timeline.keep(tmp_path, BOOT_ID)
    assert file.stat() == kept, "nothing is written that was so already"
    document = json.loads(file.read_text())
    file.write_text(json.dumps(document | {"offset_us": document["offset_us"] - step}))  # of a clock that was set since
    assert timeline.read(tmp_path, "another boot").before == ()
    for known in (False, True):
        seen = timeline.read(tmp_path, BOOT_ID)
        made = seen.at_us + seen.offset_us - 100 * S - step
        assert abs(seen.translated(made) - made - step) < S, known
        timeline.keep(tmp_path, BOOT_ID)
    assert len(json.loads(file.read_text())["before"]) == 1


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"version": 1, "boot_id": "0f0e", "offset_us": "x", "before": [[1, 2, 3]]}'])
def test_what_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / timeline.FILE).write_text(text)
    assert timeline.read(tmp_path, BOOT_ID).before == ()
    timeline.keep(tmp_path, BOOT_ID)
    assert '"version":1' in (tmp_path / timeline.FILE).read_text().replace(" ", "")


def test_it_is_kept_while_an_engine_does_not_answer(tmp_path: Path) -> None:
    """It answers again, and tells of the same handshakes."""

    def seen(*unobserved: Unobserved) -> Survey:
        found = Found((), {}, {}, unobserved)
        return Survey(Stored(exists=False), Numbers(), Facts(boot_id=BOOT_ID), found, Wanted(()), Plan(()))

    machine, file = Machine(tmp_path), tmp_path / timeline.FILE
    timeline.keep(tmp_path, BOOT_ID)
    _clock(machine, seen(Unobserved(TunnelName("a"), "peer", "the engine did not answer")))
    assert file.exists()
    _clock(machine, seen(Unobserved(TunnelName("a"), "owner", "the process table could not be read")))
    assert not file.exists()
