"""A tunnel is left to a later pass when its program was started again and again in this one, and for nothing less."""

from __future__ import annotations

from pathlib import Path

from reconciler.host.machine import Machine
from reconciler.kinds.owner import Owner
from reconciler.loop.course import restless
from reconciler.model.marks import Mark
from reconciler.model.names import IfName, TunnelName
from reconciler.model.plan import Outcome, Step
from reconciler.model.resource import Verb

A = TunnelName("a")
OWNER = Owner(A, Mark(A, "0001", "0002"), IfName("tun-a"), ("program",))


def did(*verbs: Verb, owner: Owner = OWNER) -> list[Outcome]:
    return [Outcome(Step(verb, owner, None if verb is Verb.CREATE else owner, A), None, 0.0) for verb in verbs]


def test_started_again(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    assert restless(did(Verb.CREATE, Verb.REPLACE), machine) == {A}
    machine.refused.add((A, "udp", 51820))
    assert restless(did(Verb.CREATE, Verb.REPLACE), machine) == set(), "it has got another port"


def test_waited_for_and_then_started(tmp_path: Path) -> None:
    """By whoever had begun it, who did not see that it failed: that is one start of ours."""
    assert restless(did(Verb.CHANGE, Verb.CREATE), Machine(tmp_path)) == set()
    assert restless(did(Verb.DELETE, Verb.CREATE), Machine(tmp_path)) == set()


def test_another_one(tmp_path: Path) -> None:
    """Two orders, one after the other, have asked for two programs; each is started once."""
    other = OWNER._replace(argv=("program", "again"))
    outcomes = [*did(Verb.REPLACE), *did(Verb.REPLACE, owner=other)]
    assert restless(outcomes, Machine(tmp_path)) == set()
    assert restless([*outcomes, *did(Verb.CREATE)], Machine(tmp_path)) == {A}
