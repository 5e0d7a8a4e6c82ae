"""While the program of a tunnel is ended others have their turn, and may start its next one: that lives on."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.actuate import meanwhile, owner
from reconciler.errors import Locked, LookAgain, StepFailed
from reconciler.host import cgroup, lock, process
from reconciler.host.machine import Machine
from reconciler.kinds.owner import Owner
from reconciler.loop import act as loop_act
from reconciler.loop.interrupt import Interrupted
from reconciler.model.names import TunnelName
from reconciler.model.plan import Outcome, Step
from reconciler.model.resource import Verb
from tests.netns.engines import DEV, holder, kill, look, machine_in, new_mark, tree_of
from tests.netns.world import PROJECT, Host, wait_until

_ANOTHER = """
import os, sys
sys.path.insert(0, {project!r})
from reconciler.actuate import owner
from reconciler.host import cgroup
from reconciler.host.lock import hold
from reconciler.host.machine import Machine
from reconciler.kinds.owner import Owner
from reconciler.model.marks import Mark
{first}
print("asks", flush=True)
with hold({run!r}, 20):
    {then}
    owner.create(Machine({run!r}), Owner("demo", Mark(*{mark!r}), "tun-demo", {argv!r}, by_program=True))
os._exit(0)
"""
_ENDS = """
    there = Machine({run!r})
    known = there.handles.get("demo")
    owner.delete(there, Owner("demo", Mark(*{mark!r}), "tun-demo", (), pid=known.pid, start_ticks=known.start_ticks))
    {drop}
    os._exit(0)
"""
_NO_GROUPS = "cgroup._mount = lambda: None"


@pytest.fixture(params=[_NO_GROUPS, ""], ids=["no cgroup", "cgroup"])
def first(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With control groups, and as on a machine without: there the mark in the environment has to do."""
    if request.param:
        monkeypatch.setattr(cgroup, "_mount", lambda: None)
    return str(request.param)


@contextlib.contextmanager
def _overtaken(
    host: Host, machine: Machine, wanted: Owner, first: str = "", then: str = ""
) -> Iterator[subprocess.Popen[bytes]]:
    """Inside of it, another command starts this program as soon as the turn is given up."""
    text = _ANOTHER.format(
        project=str(PROJECT), run=str(host.run_dir), mark=tuple(wanted.mark), argv=wanted.argv, first=first, then=then
    )  # fmt: skip
    with lock.hold(host.run_dir) as machine.turn:
        command = host.start([sys.executable, "-c", text], log="another.log")
        wait_until((host.dir / "another.log").read_text, what="it asks for its turn")
        yield command
        assert machine.is_overtaken
    machine.turn = None


def _started(host: Host, machine: Machine, wanted: Owner) -> Owner:
    """It runs, and has lost its device, so that another one can open that."""
    owner.create(machine, wanted)
    host.ip(f"link del {DEV}")
    (found,), _ = look(machine, wanted)
    return found


@pytest.mark.parametrize(
    "words", [("stubborn", "family"), (), ("background",)], ids=["the same again", "another", "that goes to the background"]
)
def test_the_next_program_lives_on(host: Host, first: str, words: tuple[str, ...]) -> None:
    mark = new_mark()
    old, new = holder(mark, "stubborn", "family", stop_grace_s=2.0), holder(mark, *words)
    with machine_in(host, mark) as machine:
        found = _started(host, machine, old)
        wait_until(lambda: len(tree_of(mark)) == 3, what="setsid grandchildren")
        doomed = {one.pid for one in tree_of(mark)}
        with _overtaken(host, machine, new, first) as command:
            owner.delete(machine, found)
            assert machine.has_turn
        assert command.wait(20) == 0, (host.dir / "another.log").read_text()
        wait_until(lambda: len(tree_of(mark)) == (3 if "family" in words else 1), what="the family of the next one")
        assert doomed.isdisjoint(one.pid for one in tree_of(mark))
        (left,), _ = look(machine, new)
        assert left.holds == DEV
        assert not new.differs_from(left), "it is known as the one that was started"
        assert machine.notes == [f"tunnel demo: pid {found.pid} ignored SIGTERM for 2 s: SIGKILL"]


def test_what_it_starts_when_it_is_told_to_end(host: Host, first: str) -> None:
    """In a session of its own, of no parent, and in nobody's memory: with the mark, while nobody else was there."""
    mark = new_mark()
    wanted = holder(mark, "flee", stop_grace_s=0.3)
    with machine_in(host, mark) as machine, lock.hold(host.run_dir) as machine.turn:
        owner.create(machine, wanted)
        (found,), _ = look(machine, wanted)
        owner.delete(machine, found)
        assert machine.is_overtaken
        assert tree_of(mark) == []
        assert (host.run_dir / "tunnels/demo/owner.log").read_text() == "fled\n"


def test_told_to_end_while_others_have_replaced_what_was_started(host: Host) -> None:
    """What is taken back is what was started, not what others have put in its place."""
    mark = new_mark()
    with machine_in(host, mark) as machine:

        def interrupt(_tunnel: TunnelName, _words: str) -> None:
            """Others have ended it, and started the next one."""
            for one in tree_of(mark):
                kill(one.pid)
            with Machine(host.run_dir) as another:
                owner.create(another, holder(mark))
            raise Interrupted(15)

        machine.said = interrupt
        with lock.hold(host.run_dir) as machine.turn, pytest.raises(Interrupted):
            owner.create(machine, holder(mark, "talk", "never"))
        assert [one.holds for one in look(machine, holder(mark))[0]] == [DEV]


@pytest.mark.parametrize("act", ["create", "change"])
@pytest.mark.parametrize("drop", ["", "there.handles.drop('demo')"], ids=["its log is kept", "nothing is kept"])
def test_another_order_ends_it(host: Host, act: str, drop: str) -> None:
    """Whoever waits for it does not say that it has failed: the next look decides."""
    mark = new_mark()
    wanted = holder(mark, "never", ready_timeout_s=20.0)
    then = _ENDS.format(run=str(host.run_dir), mark=tuple(mark), drop=drop)
    with machine_in(host, mark) as machine, _overtaken(host, machine, wanted, then=then) as command:
        with pytest.raises(LookAgain, match="others have ended it"):
            if act == "create":
                owner.create(machine, wanted)
            else:
                started = owner._start(machine, wanted, str(host.dir / "its.log"))
                owner.change(machine, wanted, wanted._replace(pid=started.pid, start_ticks=started.start_ticks), ("ready",))
        assert command.wait(20) == 0, (host.dir / "another.log").read_text()
        assert tree_of(mark) == []


@pytest.mark.parametrize("act", ["create", "change"])
def test_the_run_directory_is_removed_meanwhile(host: Host, act: str) -> None:
    """That is no other order: it has failed, and what was started is taken back."""
    mark = new_mark()
    wanted = holder(mark, "talk", "never", ready_timeout_s=1.0)
    with machine_in(host, mark) as machine, lock.hold(host.run_dir) as machine.turn:
        machine.said = lambda _tunnel, _words: shutil.rmtree(host.run_dir / "tunnels", ignore_errors=True)
        with pytest.raises(StepFailed, match="not ready within 1 s"):
            if act == "create":
                owner.create(machine, wanted)
            else:
                started = owner._start(machine, wanted, str(host.dir / "its.log"))
                machine.said(TunnelName("demo"), "")
                owner.change(machine, wanted, wanted._replace(pid=started.pid, start_ticks=started.start_ticks), ("ready",))
        assert len(tree_of(mark)) == (act == "change"), "who waits for another's program ends nothing"


def _ignores(pid: int, number: signal.Signals) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    ignored = next(line.split()[1] for line in status.splitlines() if line.startswith("SigIgn:"))
    return bool(int(ignored, 16) & 1 << number - 1)


@pytest.mark.parametrize("act", ["delete", "create", "change"])
def test_a_turn_that_does_not_come_back(host: Host, monkeypatch: pytest.MonkeyPatch, act: str) -> None:
    """Then nothing more is done: not even a step is told, as nobody knows what has become of it."""
    monkeypatch.setattr(meanwhile, "AGAIN_S", 0.3)
    mark, told = new_mark(), list[Outcome]()
    wanted = holder(mark, "stubborn", "never", stop_grace_s=1.0, ready_timeout_s=1.0)
    with machine_in(host, mark) as machine:
        child = process.stat(host.start([*wanted.argv], env={"TUNCTL_TUNNEL": mark.environment}).pid)
        assert child
        wait_until(lambda: _ignores(child.pid, signal.SIGTERM), what="it is stubborn by now")
        found = wanted._replace(pid=child.pid, start_ticks=child.start_ticks)
        step = {
            "delete": Step(Verb.DELETE, found, found, mark.tunnel),
            "create": Step(Verb.CREATE, wanted, None, mark.tunnel),
            "change": Step(Verb.CHANGE, wanted, found, mark.tunnel, ("ready",)),
        }[act]
        with _overtaken(host, machine, wanted, then="import time; time.sleep(60)") as command:
            with pytest.raises(Locked, match=f"pid {command.pid}"):
                loop_act.act(machine, [step], None, told.append)
            assert not machine.has_turn
            command.kill()
        assert told == []
        assert process.is_alive(child.pid, child.start_ticks)
