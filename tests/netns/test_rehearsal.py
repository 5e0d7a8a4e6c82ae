"""What a daemon rehearses goes all the way, and nobody sees anything of it afterwards."""

from __future__ import annotations

import os

from reconciler.daemon.rehearsal import rehearse
from reconciler.loop.commands import Session
from reconciler.store.write import Store
from tests.netns.engines import machine_in
from tests.netns.world import Host
from tests.unit.store_of import put

KINDS = ["link", "owner", "wireguard", "peer", "address", "route", "route"]


def test_a_rehearsal_goes_all_the_way_and_leaves_nothing(host: Host) -> None:
    session = Session(host.dir / "state", host.run_dir)
    for declared in (False, True):
        if declared:
            with Store.open(session.state_dir) as store:
                put(store, "office")
        before = host.snapshot(), sorted(os.walk(host.dir)), sorted(os.walk(host.run_dir)), Store(session.state_dir).history()
        with machine_in(host) as machine:
            lines = [rehearse(session, machine, privileged=True), rehearse(session, machine, privileged=False)]
        assert [[line.split()[1] for line in plan] for plan in lines] == [KINDS, KINDS], lines
        after = host.snapshot(), sorted(os.walk(host.dir)), sorted(os.walk(host.run_dir)), Store(session.state_dir).history()
        assert after == before


def test_a_store_that_cannot_be_read_is_the_trouble_of_others(host: Host) -> None:
    session = Session(host.dir / "state", host.run_dir)
    session.state_dir.mkdir()
    host.write("state/intent.db", "no database")
    with machine_in(host) as machine:
        assert rehearse(session, machine, privileged=True)
