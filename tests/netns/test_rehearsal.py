"""What a daemon rehearses goes all the way, and nobody sees anything of it afterwards."""

from __future__ import annotations

import os
import sys
from base64 import b64encode

from reconciler.daemon.rehearsal import rehearse
from reconciler.loop.commands import Session
from reconciler.store.write import Store
from tests.netns.engines import machine_in
from tests.netns.world import PROJECT, Host
from tests.unit.store_of import put

CARRIED_OUT = """
import os, socket, sys
sys.path.insert(0, {project!r})
from reconciler.daemon import start
from reconciler.daemon.control import Frames
from reconciler.daemon.rehearsal import rehearse
from reconciler.host.machine import Machine
from reconciler.loop import orders
from reconciler.loop.commands import Session
from reconciler.model.order import Order
session = Session({state!r}, {run!r})
start.load()
with Machine(session.run_dir) as machine:
    rehearse(session, machine, privileged=True)
before = set(sys.modules)
theirs, ours = socket.socketpair()
asked = (Order("apply", file={file!r}), Order("forget", every=True))
codes = [orders.carry_out(session, order, Frames(ours)) for order in asked]
print(codes, sorted(set(sys.modules) - before), flush=True)
os._exit(0)
"""
WIREGUARD = """
version = 1
[tunnels.office]
driver = "wireguard"
addresses = ["10.8.0.2/32"]
[tunnels.office.wireguard]
private_key_file = "office.key"
backend = "userspace"
[[tunnels.office.wireguard.peers]]
public_key = "6cM35egc2hX5y0Qi/YgyqaGGWF3YxsSjNRhGqlAiGQk="
endpoint = "127.0.0.1:9"
allowed_ips = ["10.1.0.0/16"]
"""
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


def test_who_carries_out_an_order_has_loaded_all_that_it_needs(host: Host) -> None:
    host.write("office.key", b64encode(os.urandom(32)).decode()).chmod(0o600)
    file = str(host.write("desired.toml", WIREGUARD))
    places = {"state": str(host.state_dir), "run": str(host.run_dir), "file": file}
    done = host.run([sys.executable, "-c", CARRIED_OUT.format(project=str(PROJECT), **places)])
    assert done.stdout == "[0, 0] []\n"
