"""Owner processes on the real kernel: started, found, proven, ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reconciler.actuate import owner
from reconciler.errors import StepFailed, Unavailable
from reconciler.host import cgroup, children, ownerlog, process
from reconciler.kinds.owner import Owner, fingerprint
from reconciler.model.names import IfName
from tests.netns.engines import DEV, PROGRAMS, holder, kill, look, machine_in, new_mark, program, tree_of
from tests.netns.world import PROJECT, Host, Pair, wait_until


def test_a_started_owner_is_ready_and_found(host: Host) -> None:
    mark = new_mark()
    wanted = holder(mark)
    with machine_in(host, mark) as machine:
        owner.create(machine, wanted)
        link = machine.rtnl.link(name=DEV)
        assert link
        assert link.carrier
        (found,), blind = look(machine, wanted)
        assert not blind
        assert not wanted.differs_from(found)
        assert (found.argv, found.holds, found.fingerprint) == (wanted.argv, DEV, fingerprint(wanted))
        assert process.tun_holders() == {DEV: [found.pid]}
        handle = json.loads((host.run_dir / "tunnels/demo/handles.json").read_text())
        assert (handle["pid"], handle["start_ticks"]) == (found.pid, found.start_ticks)


def test_what_it_inherits(host: Host) -> None:
    mark = new_mark()
    wanted = holder(mark, "environment", environment=(("LABVPN_PROFILE", "a"),))
    with machine_in(host, mark) as machine:
        owner.create(machine, wanted)
        (one,) = tree_of(mark)
        expected = [("LABVPN_PROFILE", "a"), ("PATH", children.PATH), ("TUNCTL_TUNNEL", mark.environment)]
        shown = (host.run_dir / "tunnels/demo/owner.log").read_text()
        assert [pair for pair in eval(shown) if pair[0] != "LC_CTYPE"] == expected  # Python itself adds LC_CTYPE
        descriptors = {int(fd): os.readlink(f"/proc/{one.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{one.pid}/fd")}
        log = str(host.run_dir / "tunnels/demo/owner.log")
        assert [descriptors[fd] for fd in (0, 1, 2)] == ["/dev/null", log, log]
        assert [target for fd, target in descriptors.items() if fd > 2] == ["/dev/net/tun"]
        status = Path(f"/proc/{one.pid}/status").read_text()
        ignored = int(status.split("SigIgn:\t")[1].split()[0], 16) & 0x7FFFFFFF  # 32 and up are the C library's own
        assert ignored == 0x1001000  # what CPython itself ignores: SIGPIPE, SIGXFSZ
        assert "SigBlk:\t0000000000000000" in status
        assert one.session == one.pid
        assert os.readlink(f"/proc/{one.pid}/cwd") == "/"


def test_deleted_means_gone(host: Host) -> None:
    mark = new_mark()
    wanted = holder(mark)
    with machine_in(host, mark) as machine:
        owner.create(machine, wanted)
        (found,), _ = look(machine, wanted)
        owner.delete(machine, found)
        assert tree_of(mark) == []
        assert machine.rtnl.link(name=DEV) is None
        assert look(machine, wanted) == ([], [])
        path = cgroup.path_of(mark)
        assert path is None or not os.path.exists(path)
        owner.delete(machine, found)  # twice is no error
        handle = machine.handles.get(mark.tunnel)
        assert handle
        assert handle.pid is None


def test_a_stubborn_family_is_ended_within_bounds(host: Host) -> None:
    mark = new_mark()
    wanted = holder(mark, "stubborn", "family", stop_grace_s=0.3)
    with machine_in(host, mark) as machine:
        owner.create(machine, wanted)
        wait_until(lambda: len(tree_of(mark)) == 3, what="setsid grandchildren")
        found, _ = look(machine, wanted)
        assert len(found) == 1, "helpers that left the session are no second owner"
        owner.delete(machine, found[0])
        assert tree_of(mark) == []


@pytest.mark.parametrize("mount", ["none", "cgroup"])
def test_the_tree_ends_with_and_without_a_control_group(host: Host, monkeypatch: pytest.MonkeyPatch, mount: str) -> None:
    mark = new_mark()
    if mount == "none":
        monkeypatch.setattr(cgroup, "_mount", lambda: None)
    wanted = holder(mark, "stubborn", "family", stop_grace_s=0.2)
    with machine_in(host, mark) as machine:
        owner.create(machine, wanted)
        wait_until(lambda: len(tree_of(mark)) == 3)
        assert bool(cgroup.members(mark)) == (mount == "cgroup")
        (found,), _ = look(machine, wanted)
        owner.delete(machine, found)
        assert tree_of(mark) == []


def test_a_stopped_owner_is_ended(host: Host) -> None:
    mark = new_mark()
    wanted = holder(mark)
    with machine_in(host, mark) as machine:
        owner.create(machine, wanted)
        (found,), _ = look(machine, wanted)
        assert found.pid
        kill(found.pid, signal.SIGSTOP, wait=False)
        owner.delete(machine, found)
        assert tree_of(mark) == []


def test_one_that_never_becomes_ready_leaves_nothing(host: Host) -> None:
    mark = new_mark()
    wanted = holder(mark, "never", "talk", "family", ready_timeout_s=0.6, stop_grace_s=0.2)
    with machine_in(host, mark) as machine:
        with pytest.raises(StepFailed, match=r"not ready within 0\.6 s: there is no interface tun-demo") as caught:
            owner.create(machine, wanted)
        lines = caught.value.message.splitlines()
        assert len(lines) == 13
        assert lines[-1] == "  line 39 \\x1b[31m"
        assert tree_of(mark) == []
        assert machine.rtnl.link(name=DEV) is None


@pytest.mark.parametrize("words", [("die",), ("die", "persist")], ids=["", "leaving its device"])
def test_one_that_dies_right_after_leaves_nothing(host: Host, words: tuple[str, ...]) -> None:
    mark = new_mark()
    with machine_in(host, mark) as machine:
        with pytest.raises(StepFailed, match=r"exited with status 7|ended at once") as caught:
            for _ in range(20):  # it may live long enough to be seen ready
                owner.create(machine, holder(mark, *words))
                wait_until(lambda: not tree_of(mark))
                host.ip(f"link del {DEV}", check=False)
        assert caught.value.message.endswith("dying")
        assert tree_of(mark) == []
        assert machine.rtnl.link(name=DEV) is None
        handle = machine.handles.get(mark.tunnel)
        assert handle
        assert handle.pid is None


def test_the_last_words_are_bounded(host: Host) -> None:
    mark = new_mark()
    with machine_in(host, mark) as machine:
        with pytest.raises(StepFailed, match="log capture truncated") as caught:
            owner.create(machine, holder(mark, "babble", "never", ready_timeout_s=1.5, stop_grace_s=0.2))
        assert len(caught.value.message) < 2000
        assert "\ufffd\ufffd babble" in caught.value.message


def test_a_program_that_is_not_there(host: Host) -> None:
    mark = new_mark()
    with machine_in(host, mark) as machine:
        wanted = holder(mark)._replace(argv=("/nonexistent/labvpn",))
        with pytest.raises(Unavailable, match=r"/nonexistent/labvpn: No such file or directory"):
            owner.create(machine, wanted)
        with pytest.raises(Unavailable, match="no-such-labvpn: not found in /usr/local/sbin"):
            owner.create(machine, wanted._replace(argv=("no-such-labvpn",)))
        with pytest.raises(StepFailed, match="Permission denied"):
            owner.create(machine, wanted._replace(argv=("/etc/passwd",)))
        handle = machine.handles.get(mark.tunnel)
        assert handle
        assert handle.pid is None
        assert not os.path.exists(cgroup.path_of(mark) or "")


def test_a_log_that_cannot_be_written(host: Host) -> None:
    mark = new_mark()
    log = host.run_dir / "tunnels/demo/owner.log"
    log.mkdir(parents=True)
    with machine_in(host, mark) as machine:
        with pytest.raises(StepFailed, match=f"its log {log} cannot be written: "):
            owner.create(machine, holder(mark))
        assert not os.path.exists(cgroup.path_of(mark) or ""), "no control group without a process"


def test_an_innocent_process_with_the_recorded_pid_is_not_signalled(host: Host) -> None:
    mark = new_mark()
    wanted = holder(mark)
    innocent = host.start(["sleep", "60"])
    with machine_in(host, mark) as machine:
        owner.create(machine, wanted)
        (found,), _ = look(machine, wanted)
        handle = machine.handles.get(mark.tunnel)
        other = process.stat(innocent.pid)
        assert handle
        assert other
        assert found.pid
        for ticks in (found.start_ticks, other.start_ticks):
            machine.handles.put(handle._replace(pid=innocent.pid, start_ticks=ticks))
            (seen,), _ = look(machine, wanted)
            assert seen.pid == found.pid
            assert any(f"refusing to signal pid {innocent.pid}" in text for text in machine.handles.warnings())
        owner.delete(machine, found._replace(pid=innocent.pid, start_ticks=other.start_ticks))
        assert innocent.poll() is None
        assert tree_of(mark) == [], "the real owner is ended all the same"


def test_one_that_was_killed_leaves_nothing_in_the_end(host: Host) -> None:
    mark = new_mark("killed")
    wanted = holder(mark)
    with machine_in(host, mark) as machine:
        owner.create(machine, wanted)
        kill(tree_of(mark)[0].pid)
        assert look(machine, wanted) == ([], [])
        assert not any("refusing" in text for text in machine.handles.warnings())
        wait_until(lambda: not cgroup.members(mark))
        machine.handles.drop(mark.tunnel)
        assert not os.path.exists(cgroup.path_of(mark) or "")


def test_a_mark_that_another_user_gave_himself_means_nothing(host: Host) -> None:
    mark = new_mark()
    wanted = holder(mark)
    nobody = ["setpriv", "--reuid", "65534", "--clear-groups"]
    with machine_in(host, mark) as machine:
        impostor = host.start([*nobody, "sleep", "60"], env={"TUNCTL_TUNNEL": mark.environment})
        wait_until(lambda: [one.uid for one in tree_of(mark)] == [65534])
        assert look(machine, wanted) == ([], [])
        owner.create(machine, wanted)
        (found,), _ = look(machine, wanted)
        assert found.holds == DEV
        owner.delete(machine, found)
        assert impostor.poll() is None
        host.kill(impostor)


def test_an_owner_is_found_without_handles(host: Host) -> None:
    mark = new_mark()
    wanted = holder(mark)
    with machine_in(host, mark) as machine:
        owner.create(machine, wanted)
        machine.handles.drop(mark.tunnel)
        (found,), _ = look(machine, wanted)
        assert (found.fingerprint, found.argv) == (None, wanted.argv)
        assert not wanted.differs_from(found)


def test_a_script_is_known_by_its_own_name(host: Host) -> None:
    mark = new_mark()
    script = host.write("labvpn", f"#!/bin/sh -e\n{sys.executable} {PROGRAMS / 'holder.py'} $1\n", 0o755)
    wanted = holder(mark)._replace(argv=(str(script), DEV))
    with machine_in(host, mark) as machine:
        owner.create(machine, wanted)
        machine.handles.drop(mark.tunnel)
        (found,), _ = look(machine, wanted)
        assert (found.argv, found.holds) == (wanted.argv, DEV)


def test_one_that_wipes_its_environment_is_still_ours(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "_mount", lambda: None)
    mark = new_mark()
    wanted = holder(mark, "rename")
    with machine_in(host, mark) as machine:
        owner.create(machine, wanted)
        wait_until(lambda: not tree_of(mark), what="its environment is blank")
        (found,), _ = look(machine, wanted)
        assert not wanted.differs_from(found)
        owner.delete(machine, found)
        assert machine.rtnl.link(name=DEV) is None


def test_one_that_goes_to_the_background(host: Host) -> None:
    mark = new_mark()
    wanted = holder(mark, "background")
    with machine_in(host, mark) as machine:
        owner.create(machine, wanted)
        wait_until(lambda: len(tree_of(mark)) == 1)
        (found,), _ = look(machine, wanted)
        assert found.holds == DEV
        owner.delete(machine, found)
        assert tree_of(mark) == []


def test_a_second_tree_is_a_second_owner(host: Host) -> None:
    mark = new_mark()
    wanted = holder(mark)
    with machine_in(host, mark) as machine:
        owner.create(machine, wanted)
        double = subprocess.Popen([*wanted.argv[:2], "tun-zz"], env={"TUNCTL_TUNNEL": mark.environment}, start_new_session=True)
        same = subprocess.Popen(
            [*wanted.argv, "never"][:3],
            env={"TUNCTL_TUNNEL": mark.environment},
            start_new_session=True,
            stderr=subprocess.DEVNULL,
        )  # fails: the device is busy
        same.wait()
        wait_until(lambda: len(tree_of(mark)) == 2)
        found, _ = look(machine, wanted)
        assert [one.holds for one in found] == [DEV], "another command line is a helper"
        owner.delete(machine, found[0])
        assert double.wait() == -signal.SIGTERM


def test_doubles_are_ended_one_by_one(host: Host) -> None:
    mark = new_mark()
    wanted = holder(mark, "never")
    with machine_in(host, mark) as machine:
        env = {"TUNCTL_TUNNEL": mark.environment}
        pair = [subprocess.Popen(wanted.argv, env=env, start_new_session=True) for _ in range(2)]
        wait_until(lambda: len(tree_of(mark)) == 2)
        found, _ = look(machine, wanted)
        assert {one.pid for one in found} == {one.pid for one in pair}
        owner.delete(machine, found[1])
        ended, running = sorted(pair, key=lambda one: one.pid == found[0].pid)
        assert ended.wait() == -signal.SIGTERM
        assert running.poll() is None
        owner.delete(machine, found[0])
        assert running.wait() == -signal.SIGTERM


def test_a_zombie_is_not_found(host: Host) -> None:
    mark = new_mark()
    wanted = holder(mark)
    with machine_in(host, mark) as machine:
        child = subprocess.Popen(wanted.argv, env={"TUNCTL_TUNNEL": mark.environment}, start_new_session=True)
        wait_until(lambda: machine.rtnl.link(name=DEV))
        child.kill()
        wait_until(lambda: "State:\tZ" in Path(f"/proc/{child.pid}/status").read_text())
        assert look(machine, wanted) == ([], [])
        child.wait()


def test_owners_of_no_intent(host: Host) -> None:
    ours, theirs, known = new_mark("gone"), new_mark("other"), new_mark("demo")
    ours = ours._replace(store_id=known.store_id)
    with machine_in(host, ours, theirs, known) as machine:
        for number, mark in enumerate((ours, theirs)):
            owner.create(machine, holder(mark, dev=IfName(f"tt{number}")))
        from reconciler.observe import owner as observe_owner
        from tests.netns.engines import intent_of, question_for

        found, _ = observe_owner.look(machine, question_for(intent_of(holder(known))), {})
        assert {(one.mark, one.tunnel, one.holds) for one in found} == {(ours, "gone", "tt0"), (theirs, None, "tt1")}
        old = known._replace(tunnel_id="ffff" if known.tunnel_id != "ffff" else "0000")
        wanted = holder(known)
        child = subprocess.Popen(wanted.argv, env={"TUNCTL_TUNNEL": old.environment}, start_new_session=True)
        wait_until(lambda: machine.rtnl.link(name=DEV))
        (stale,) = (one for one in observe_owner.look(machine, question_for(intent_of(wanted)), {})[0] if one.tunnel == "demo")
        assert wanted.differs_from(stale) == ("fingerprint",), "an owner with an old mark is started anew"
        owner.delete(machine, stale)
        child.wait()


def test_without_privilege_it_is_unobserved(host: Host) -> None:
    mark = new_mark()
    with machine_in(host, mark) as machine:
        found, blind = look(machine, holder(mark), privileged=False)
        assert not found
        assert [(one.tunnel, one.kind, one.privilege) for one in blind] == [(None, "owner", True)]


def test_two_namespaces_with_the_same_interface_name(pair: Pair) -> None:
    mine, theirs = new_mark(), new_mark()
    with machine_in(pair.b) as machine:
        owner.create(machine, holder(theirs))
    with machine_in(pair.a, mine) as machine:
        owner.create(machine, holder(mine))
        (found,), _ = look(machine, holder(mine))
        assert process.tun_holders() == {DEV: [found.pid]}
        owner.delete(machine, found)
        assert len(tree_of(theirs)) == 1
    with machine_in(pair.b, theirs) as machine:
        assert machine.rtnl.link(name=DEV)


_STARTER = """
import os, sys
sys.path.insert(0, {project!r})
from pathlib import Path
from reconciler.actuate import owner
from reconciler.host import cgroup, clone, launch
from reconciler.host.machine import Machine
from reconciler.kinds.owner import Owner
from reconciler.model.marks import Mark
mark = Mark(*{mark!r})
if {die}:
    launch.Started.release = lambda self: os.kill(os.getpid(), 9)
{first}
owner.create(Machine(Path({run!r})), Owner("demo", mark, "tun-demo", {argv!r}, user={user!r}, by_program=not {user!r}))
os._exit(0)
"""


def _starter(host: Host, wanted: Owner, *, die: bool = False, first: str = "") -> str:
    """A process that has one thread, which that of the tests has not."""
    return _STARTER.format(
        project=str(PROJECT), mark=tuple(wanted.mark), die=die, first=first, run=str(host.run_dir), argv=wanted.argv,
        user=wanted.user,
    )  # fmt: skip


@pytest.mark.parametrize(
    "first",
    [
        "cgroup._write = None  # it is not moved there",
        "clone._syscall = lambda: lambda *words: -1",
        "import threading; threading.Thread(target=threading.Event().wait, args=(9,)).start(); clone._syscall = None",
    ],
    ids=["born there", "a kernel that cannot", "beside a thread"],
)
def test_it_runs_in_its_control_group(host: Host, first: str) -> None:
    mark = new_mark()
    with machine_in(host, mark):
        host.run([sys.executable, "-c", _starter(host, holder(mark), first=first)])
        assert cgroup.members(mark) == {one.pid for one in tree_of(mark)} != set()


@pytest.mark.parametrize("die", [False, True], ids=["after", "before it runs"])
def test_the_starter_dies(host: Host, die: bool) -> None:
    mark = new_mark()
    wanted = holder(mark)
    text = _starter(host, wanted, die=die)
    with machine_in(host, mark) as machine:
        starter = host.start([sys.executable, "-c", text])
        assert starter.wait(10) == (-9 if die else 0)
        if die:
            wait_until(lambda: not tree_of(mark) and not _is_anywhere(host, "holder.py"), what="the child at its gate ends")
            assert look(machine, wanted) == ([], [])
            owner.create(machine, wanted)
        (found,), _ = look(machine, wanted)
        assert found.fingerprint == fingerprint(wanted)
        assert os.getsid(found.pid or 0) == found.pid


def test_a_user_of_its_own_on_a_persistent_device(host: Host) -> None:
    mark = new_mark()
    host.ip(f"tuntap add {DEV} mode tun user nobody")
    argv = ("/usr/bin/python3", str(PROGRAMS / "holder.py"), DEV)
    wanted = holder(mark, by_program=False, user="nobody")._replace(argv=argv)
    text = _starter(host, wanted)
    usual = 'mknod -m 666 tun c 10 200 && mount --bind tun /dev/net/tun && exec "$@"'  # some machines have it as 0600
    with machine_in(host, mark) as machine:
        host.run(["unshare", "-m", "sh", "-c", usual, "sh", sys.executable, "-c", text])
        (found,), _ = look(machine, wanted)
        assert found.holds == DEV
        status = Path(f"/proc/{found.pid}/status").read_text()
        assert "Uid:\t65534\t65534\t65534\t65534" in status
        assert "CapEff:\t0000000000000000" in status
        assert "Groups:\t65534" in status
        owner.delete(machine, found)
        link = machine.rtnl.link(name=DEV)
        assert link
        assert not link.carrier, "the device was there before and stays"


def test_a_survivor_is_named(host: Host) -> None:
    """A frozen process (freezer of cgroup v1) sleeps uninterruptibly: not even SIGKILL ends it before it is thawed."""
    freezer = Path("/sys/fs/cgroup/freezer")
    if not freezer.exists():
        pytest.skip("no cgroup v1 freezer here to make a process that SIGKILL does not end")
    mark = new_mark()
    wanted = holder(mark, stop_grace_s=0.2)
    group = freezer / f"tt-{os.getpid()}"
    with machine_in(host, mark) as machine:
        owner.create(machine, wanted)
        (found,), _ = look(machine, wanted)
        group.mkdir()
        try:
            (group / "cgroup.procs").write_text(str(found.pid))
            (group / "freezer.state").write_text("FROZEN")
            begun = time.monotonic()
            with pytest.raises(StepFailed, match=rf"pid {found.pid} \(state .\) survives SIGKILL"):
                owner.delete(machine, found)
            assert time.monotonic() - begun < 4
            handle = machine.handles.get(mark.tunnel)
            assert handle
            assert handle.pid == found.pid, "the next try knows whom to end"
        finally:
            (group / "freezer.state").write_text("THAWED")
            wait_until(lambda: _is_removed(group))
        owner.delete(machine, found)


def _is_removed(group: Path) -> bool:
    children.reap()  # it is our child: a zombie keeps the group busy
    with contextlib.suppress(OSError):
        group.rmdir()
    return not group.exists()


def test_replaced_at_once_the_device_is_free_again(host: Host) -> None:
    mark = new_mark()
    wanted = holder(mark)
    with machine_in(host, mark) as machine:
        for _ in range(10):
            owner.create(machine, wanted)
            (found,), _ = look(machine, wanted)
            owner.delete(machine, found)
            assert machine.rtnl.link(name=DEV) is None


def test_its_log_is_bounded_and_private(host: Host) -> None:
    mark = new_mark()
    log = host.run_dir / "tunnels/demo/owner.log"
    log.parent.mkdir(parents=True)
    log.symlink_to(host.write("precious", "untouched", 0o644))
    with machine_in(host, mark) as machine:
        owner.create(machine, holder(mark, "babble"))
        assert not log.is_symlink()
        assert log.stat().st_mode & 0o777 == 0o600
        wait_until(lambda: log.stat().st_size > 2_000_000)
        ownerlog.bound_log(log)
        assert 200_000 < log.stat().st_size < 300_000
        assert ownerlog.tail(log)[-1] == "\ufffd\ufffd babble"
        assert (host.dir / "precious").read_text() == "untouched"


def _is_anywhere(host: Host, word: str) -> bool:
    return any(word in " ".join(process.command_line(pid)) for pid in host.pids())


def test_the_pump_carries_packets(pair: Pair) -> None:
    marks = [new_mark("a"), new_mark("b")]
    for number, (end, mark) in enumerate(zip(pair, marks, strict=True), 1):
        with machine_in(end) as machine:
            here, there = (f"192.0.2.{n}:7000" for n in (number, 3 - number))
            owner.create(machine, program(mark, "pump.py", here, there))
        end.ip(f"addr add 10.53.0.{number}/24 dev {DEV}")
        end.ip(f"link set {DEV} up")
    try:
        pair.a.run(["ping", "-c", "2", "-i", "0.2", "-W", "3", "10.53.0.2"])
    finally:
        for mark in marks:
            for one in tree_of(mark):
                kill(one.pid)
            cgroup.remove(mark)


def test_a_look_costs_little(host: Host) -> None:
    mark = new_mark()
    wanted = holder(mark)
    with machine_in(host, mark) as machine:
        owner.create(machine, wanted)
        begun = time.perf_counter()
        for _ in range(20):
            look(machine, wanted)
        print(f"{(time.perf_counter() - begun) / 20 * 1000:.2f} ms a look, {len(process.pids())} processes")
