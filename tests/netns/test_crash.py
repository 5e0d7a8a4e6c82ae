"""Killed with SIGKILL before and after every step of every command; then each of apply, reconcile, down puts it right.

Converged: the plan is empty and the kernel is as after an undisturbed apply. Clean: as before the first one. Nothing is
doubled, nothing is left.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.netns.faults import assert_clean, assert_converged, changed, everything, fault, state, was_killed
from tests.netns.warm import Warm
from tests.netns.world import Host

pytestmark = pytest.mark.bound(400)

COMMANDS = ("apply", "change", "down", "forget", "up", "reconcile")
FOLLOW_UPS = ("apply", "reconcile", "down")
MOST_STEPS = 80


class Bench(NamedTuple):
    """A host, its two files, and what it looks like before, with the first and with the second."""

    host: Host
    tunctl: Warm
    file: Path
    other: Path
    before: str
    first: str
    second: str

    def reset(self, command: str) -> None:
        """To where the command starts from."""
        if command == "apply":
            self.tunctl.run("forget", "--all")
            assert_clean(self.host, self.before, "forget --all")
        else:
            self.tunctl.run("apply", self.file, "--allow-withdraw")
        if command == "up":
            self.tunctl.run("down", "--all")
        if command == "reconcile":  # all that it can find missing
            self.host.ip("link del tun-plain")
            self.host.ip("route flush proto 115 table all", check=False)
            self.host.ip("rule del lookup 200")

    def words(self, command: str) -> tuple[str, ...]:
        return {
            "apply": ("apply", str(self.file)),
            "change": ("apply", str(self.other)),
            "down": ("down", "--all"),
            "forget": ("forget", "--all"),
            "up": ("up", "--all"),
            "reconcile": ("reconcile",),
        }[command]

    def follow(self, command: str, follow_up: str, told: str) -> None:
        """The next command after the crash, and what must be so then."""
        aim = self.other if command == "change" else self.file
        words = ("apply", str(aim)) if follow_up == "apply" else ("down", "--all") if follow_up == "down" else ("reconcile",)
        before = self.tunctl.run("status", expect=None)
        blind = "could not be read within" in before.stdout  # a busy machine: unknown, and said so
        cut_off = "the last writer was killed" in before.stderr  # a journal that only a writer may roll back
        assert before.returncode in (0, 1, 2, 3, 74 if cut_off else 0, 5 if blind else 0), (told, before.stdout, before.stderr)
        done = self.tunctl.run(*words, expect=None)
        assert done.returncode == 0, f"{told}, then {follow_up}: {done.returncode}\n{done.stdout}{done.stderr}"
        if follow_up == "down" or (follow_up == "reconcile" and command in ("down", "forget")):
            assert_clean(self.host, self.before, f"{told}, then {follow_up}\n{done.stdout}")
            again = self.tunctl.run(*words)
            assert "no changes" in again.stdout, (told, again.stdout)
        else:
            assert_converged(
                self.host, self.tunctl, self.second if command == "change" else self.first, f"{told}, then {follow_up}"
            )


@pytest.fixture
def bench(host: Host) -> Iterator[Bench]:
    with Warm(host) as tunctl:
        before = state(host)
        file, other = everything(host), changed(host)
        texts = []
        for one in (file, other):
            tunctl.run("apply", one)
            texts.append(state(host))
            assert "no changes" in tunctl.run("apply", one).stdout
        yield Bench(host, tunctl, file, other, before, *texts)
        tunctl.run("forget", "--all")
        assert_clean(host, before, "at the end")


def _places(first: str) -> Iterator[str]:
    """Every state in between once: what is there after step N is what is there before step N + 1."""
    other = "kill-before:1" if first == "kill-after" else None
    return itertools.chain([other] if other else [], (f"{first}:{number}" for number in range(1, MOST_STEPS)))


def _kill_everywhere(bench: Bench, command: str, follow_ups: Sequence[str], first: str) -> None:
    killed = 0
    for place in _places(first):
        bench.reset(command)
        done = bench.tunctl.run(*bench.words(command), env=fault(place), expect=None)
        if not was_killed(done):
            assert done.returncode == 0, (place, done.stdout, done.stderr)
            break
        bench.follow(command, follow_ups[killed % len(follow_ups)], f"{command} {place}")
        killed += 1
    assert 6 <= killed < MOST_STEPS - 2, f"{command} was killed {killed} times"


@pytest.mark.parametrize("follow_up", FOLLOW_UPS)
@pytest.mark.parametrize("command", ["apply", "change", "down"])
def test_killed_at_every_step(bench: Bench, command: str, follow_up: str) -> None:
    _kill_everywhere(bench, command, (follow_up,), "kill-before" if follow_up == "reconcile" else "kill-after")


@pytest.mark.parametrize("command", ["forget", "up", "reconcile"])
def test_other_commands_killed_at_every_step(bench: Bench, command: str) -> None:
    _kill_everywhere(bench, command, FOLLOW_UPS, "kill-after")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("point", ["stored", "observed", "acted", "verified", "recorded"])
def test_killed_between_the_steps(bench: Bench, command: str, point: str) -> None:
    for follow_up in FOLLOW_UPS:
        bench.reset(command)
        done = bench.tunctl.run(*bench.words(command), env=fault(f"kill-at:{point}"), expect=None)
        assert was_killed(done) or (command, point) == ("reconcile", "stored"), (done.stdout, done.stderr)
        bench.follow(command, follow_up, f"{command} killed at {point}")
