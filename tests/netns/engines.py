"""What the tests of owners and WireGuard share: intents, wanted owners, and a look at what is found."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from reconciler.host import cgroup, process
from reconciler.host.machine import Machine
from reconciler.host.process import Process
from reconciler.kinds.owner import Owner
from reconciler.model.found import Unobserved
from reconciler.model.intent import Intent
from reconciler.model.marks import Mark, Numbers
from reconciler.model.names import IfName, TunnelName
from reconciler.model.tunnel import Exec, Tunnel
from reconciler.observe import owner as observe_owner
from reconciler.observe.question import Question
from tests.netns.world import Host

PROGRAMS = Path(__file__).parents[1] / "programs"
DEV = IfName("tun-demo")


def new_mark(name: str = "demo") -> Mark:
    """Another one for each test: processes are not kept apart by namespaces."""
    return Mark(TunnelName(name), os.urandom(2).hex(), os.urandom(2).hex())


def holder(mark: Mark, *words: str, dev: IfName = DEV, **fields: object) -> Owner:
    """A wanted owner: tests/programs/holder.py with these habits."""
    return program(mark, "holder.py", *words, dev=dev, **fields)


def program(mark: Mark, file: str, *words: str, dev: IfName = DEV, **fields: object) -> Owner:
    """A wanted owner: one of tests/programs."""
    argv = (sys.executable, str(PROGRAMS / file), dev, *words)
    defaults: dict[str, object] = {"by_program": True, "ready_timeout_s": 5.0, "stop_grace_s": 1.0}
    return Owner(mark.tunnel, mark, dev, argv, **{**defaults, **fields})  # type: ignore[arg-type]


def intent_of(wanted: Owner) -> Intent:
    """The intent that would want it."""
    settings = Exec(
        wanted.argv, "program" if wanted.by_program else "tunctl", user=wanted.user, stop_grace_s=wanted.stop_grace_s
    )
    return Intent(Tunnel(wanted.mark.tunnel, "exec", wanted.dev, exec_=settings), wanted.mark, 1, "test", 1)


def question_for(*intents: Intent, store_id: str | None = None, privileged: bool = True) -> Question:
    """A question about these; their store is that of the first mark."""
    store = store_id or (intents[0].mark.store_id if intents else "0000")
    return Question(intents, store, Numbers(), privileged=privileged)


def look(machine: Machine, *wanted: Owner, privileged: bool = True) -> tuple[list[Owner], list[Unobserved]]:
    """What is found of these owners; others on the machine are left out."""
    links = {state.name: state for state in machine.rtnl.links()}
    question = question_for(*map(intent_of, wanted), privileged=privileged)
    found, blind = observe_owner.look(machine, question, links)
    return [owner for owner in found if owner.mark in {one.mark for one in wanted}], blind


def tree_of(mark: Mark) -> list[Process]:
    """All living processes with this mark."""
    return [one for one in process.find_marked().processes if one.mark == mark]


@contextlib.contextmanager
def machine_in(host: Host, *marks: Mark) -> Iterator[Machine]:
    """The machine as seen from this host. Whatever still carries these marks at the end is killed."""
    with host.inside(), Machine(host.run_dir) as machine:
        try:
            yield machine
        finally:
            for mark in marks:
                for one in tree_of(mark):
                    kill(one.pid)
                cgroup.remove(mark)


def kill(pid: int, number: int = signal.SIGKILL, wait: bool = True) -> None:
    """One process that a test started, by pidfd; waits until it has ended."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(descriptor, number)
            if wait and number in (signal.SIGKILL, signal.SIGTERM):
                select.select([descriptor], [], [], 5)
        finally:
            os.close(descriptor)
