"""What /proc says of processes that a test started itself."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from reconciler.host import bounded, process, terminate
from reconciler.host.process import Marked, Process
from reconciler.host.trees import belonging, come_of, trees
from reconciler.model.marks import Mark
from reconciler.model.names import TunnelName

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def start(*argv: str, **options: object) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(argv or ("sleep", "60"), **options))  # type: ignore[call-overload]
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.wait()


def _wait(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_stat_of_ourselves() -> None:
    me = process.stat(os.getpid())
    assert me
    assert (me.pid, me.parent, me.session) == (os.getpid(), os.getppid(), os.getsid(0))
    assert process.is_alive(me.pid, me.start_ticks)
    assert not process.is_alive(me.pid, me.start_ticks + 1)


def test_a_name_full_of_brackets(start: Start) -> None:
    child = start(sys.executable, "-c", "open('/proc/self/comm','w').write(') R 1 (x)'); import time; time.sleep(60)")
    _wait(lambda: "(x)" in open(f"/proc/{child.pid}/comm").read())  # noqa: SIM115
    seen = process.stat(child.pid)
    assert seen
    assert seen.parent == os.getpid()


def test_a_zombie_is_dead(start: Start) -> None:
    child = start("true")
    _wait(lambda: process.stat(child.pid) is None)
    assert os.path.exists(f"/proc/{child.pid}")
    assert process.command_line(child.pid) == ()


@pytest.mark.parametrize(
    ("environment", "mark"),
    [
        ({"TUNCTL_TUNNEL": "demo:12345678"}, Mark(TunnelName("demo"), "1234", "5678")),
        ({"A": "b", "TUNCTL_TUNNEL": "demo:12345678", "C": "d"}, Mark(TunnelName("demo"), "1234", "5678")),
        ({"XTUNCTL_TUNNEL": "demo:12345678"}, None),
        ({"A": "TUNCTL_TUNNEL=demo:12345678"}, None),
        ({"TUNCTL_TUNNEL": "demo:1234"}, None),
        ({"TUNCTL_TUNNEL": "../x:12345678"}, None),
        ({}, None),
        ({"A": "x" * 100_000, "TUNCTL_TUNNEL": "demo:12345678"}, Mark(TunnelName("demo"), "1234", "5678")),
    ],
)
def test_the_mark_in_an_environment(start: Start, environment: dict[str, str], mark: Mark | None) -> None:
    child = start("/bin/sleep", "60", env=environment)
    _wait(lambda: process.command_line(child.pid) == ("/bin/sleep", "60"))
    assert process.mark_of(child.pid) == mark
    found = [one for one in process.find_marked().processes if one.pid == child.pid]
    assert [(one.mark, one.uid) for one in found] == ([(mark, os.getuid())] if mark else [])


def test_what_has_no_mark_is_looked_into_once(start: Start) -> None:
    plain = start("/bin/sleep", "60", env={"HOME": "/"})
    bare = start("/bin/sleep", "60", env={})
    marked = start("/bin/sleep", "60", env={"TUNCTL_TUNNEL": "demo:12345678"})
    for one in (plain, bare, marked):
        _wait(lambda one=one: process.command_line(one.pid) == ("/bin/sleep", "60"))  # type: ignore[misc]
    known = process.find_marked().unmarked
    assert known[plain.pid] == os.stat(f"/proc/{plain.pid}").st_ino
    assert bare.pid not in known, "one without any environment may be in the middle of an exec"
    assert marked.pid not in known
    again = process.find_marked(known)
    assert marked.pid in {one.pid for one in again.processes}
    assert again.unmarked[plain.pid] == known[plain.pid]


def test_a_pid_that_is_another_process_is_looked_into_again(start: Start) -> None:
    child = start("/bin/sleep", "60", env={"TUNCTL_TUNNEL": "demo:12345678"})
    _wait(lambda: process.command_line(child.pid) == ("/bin/sleep", "60"))
    inode = os.stat(f"/proc/{child.pid}").st_ino
    found = process.find_marked({child.pid: inode + 1})
    assert child.pid in {one.pid for one in found.processes}
    assert child.pid not in {one.pid for one in process.find_marked({child.pid: inode}).processes}, "the same one is believed"


def test_nobody_is_not_an_error() -> None:
    free = 4194304  # above pid_max everywhere
    assert process.stat(free) is None
    assert process.mark_of(free) is None
    assert process.command_line(free) == ()
    assert process.program(free) is None
    assert list(process.held_devices(free)) == []


def test_our_ancestors_are_left_out(start: Start) -> None:
    mark = "demo:12345678"
    code = "from reconciler.host import process; print([o.pid for o in process.find_marked().processes])"
    shell = f'{sys.executable} -c "{code}"; true'
    child = start("/bin/sh", "-c", shell, env={"TUNCTL_TUNNEL": mark, "PYTHONPATH": os.getcwd()}, stdout=subprocess.PIPE)
    out, _ = child.communicate(timeout=20)
    assert str(child.pid) not in out.decode()


def test_a_program_that_was_replaced_keeps_its_name(start: Start, tmp_path: object) -> None:
    import shutil

    copy = f"{tmp_path}/sleep"
    shutil.copy("/bin/sleep", copy)
    child = start(copy, "60")
    _wait(lambda: process.program(child.pid) == copy)
    os.unlink(copy)
    assert os.readlink(f"/proc/{child.pid}/exe").endswith("(deleted)")
    assert process.program(child.pid) == copy


def _process(pid: int, parent: int = 1, session: int = 0, ticks: int = 0) -> Process:
    mark = Mark(TunnelName("demo"), "1234", "5678")
    return Process(pid, ticks or pid, parent, session or pid, mark=mark, uid=os.getuid())


def test_trees_of_what_is_gone_by_now() -> None:
    assert trees([]) == []
    main, child, helper = _process(1 << 23), _process((1 << 23) + 1, parent=1 << 23), _process((1 << 23) + 2, session=7)
    (tree,) = trees([main, child, helper])
    assert tree.main == main
    assert set(tree.members) == {main, child, helper}
    (tree,) = trees([main, child, helper], (child.pid, child.start_ticks))
    assert tree.main == child


def test_a_loop_of_parents_ends() -> None:
    one, two = _process(1 << 23, parent=(1 << 23) + 1), _process((1 << 23) + 1, parent=1 << 23)
    assert trees([one, two])[0].main == one


def test_of_another_user_the_environment_proves_nothing(start: Start) -> None:
    mine = _process(start().pid)
    assert mine.mark
    stranger = _process(start().pid)._replace(uid=os.getuid() + 1)
    child = _process(start().pid, parent=mine.pid)._replace(uid=os.getuid() + 1)
    found = belonging(Marked((mine, stranger, child), 0), mine.mark)
    assert found == [mine, child]


def test_a_reused_pid_is_not_signalled(start: Start) -> None:
    child = start()
    seen = process.stat(child.pid)
    assert seen
    other = seen._replace(start_ticks=seen.start_ticks - 1)
    assert terminate.stop(lambda: [other], 0.1, lambda: None) == ()
    assert child.poll() is None
    assert terminate.stop(lambda: [seen], 2, lambda: None) == ()
    assert child.wait(5) == -15


def test_waiting_ends_with_the_last(start: Start) -> None:
    children = [start("sleep", "60") for _ in range(3)]
    with terminate.Pidfds() as known:
        assert len(known.running([one for child in children if (one := process.stat(child.pid))])) == 3
        known.wait(0.01)
        for child in children:
            child.kill()
        begun = time.monotonic()
        known.wait(5)
        assert time.monotonic() - begun < 4
        assert known.running([]) == []


def test_bounded_calls() -> None:
    reading, writing = os.pipe()
    call = bounded.Call(lambda: select.select([reading], [], [], 5))
    with pytest.raises(TimeoutError):
        call.result(0.05)
    os.write(writing, b"x")
    assert call.result(5) == ([reading], [], [])
    with pytest.raises(ZeroDivisionError):
        bounded.Call(lambda: 1 // 0).result(5)
    os.close(reading)
    os.close(writing)


def test_others_go_on_while_somebody_takes_his_time() -> None:
    """Who ends at once is not worth it."""
    entered: list[float] = []

    @contextmanager
    def waiting() -> Iterator[None]:
        entered.append(time.monotonic())
        yield

    def stop(code: str, linger_s: float) -> tuple[Process, ...]:
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
            assert child.stdout
            child.stdout.readline()
            seen = process.stat(child.pid)
            assert seen
            return terminate.stop(lambda: [seen], 30, lambda: None, linger_s, waiting)

    assert stop("import time; print(flush=True); time.sleep(60)", 20) == ()
    assert entered == []
    slow = "import signal, time; signal.signal(15, lambda *_: (time.sleep(.3), exit())); print(flush=True); time.sleep(60)"
    assert stop(slow, 0.05) == ()
    assert len(entered) == 1
    assert stop("import time; print(flush=True); time.sleep(60)", 0) == ()
    assert len(entered) == 2


def test_nobody_is_looked_for_or_killed_while_others_go_on(start: Start) -> None:
    """They may be about to start something that would be taken for it."""
    others, done = False, []

    @contextmanager
    def waiting() -> Iterator[None]:
        nonlocal others
        others = True
        yield
        others = False

    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.readline()
        seen = process.stat(child.pid)
        assert seen

        def scan() -> list[Process]:
            done.append(("scan", others))
            return [seen]

        assert terminate.stop(scan, 0.1, lambda: done.append(("kill", others)), 0.02, waiting) == ()
    assert ("kill", False) in done
    assert not any(meanwhile for _, meanwhile in done)


def test_what_comes_of_whom() -> None:
    known, child, heir = _process(10), _process(11, parent=10, session=10), _process(12, parent=11, session=12)
    helper, next_one = _process(13, session=10), _process(14)
    there = [known, child, heir, helper, next_one, _process(15, parent=14, session=14)]
    assert come_of({(10, 10)}, there) == [known, child, heir, helper]
    assert come_of({(10, 9)}, there) == [], "the number was given to somebody else"
    assert come_of({(10, 10)}, there[1:]) == [], "by then it may be another's"
    assert come_of({(10, 10), (11, 11)}, there[1:]) == [child, heir, helper]


def test_who_ended_while_he_was_looked_at_is_nobodys_double(start: Start) -> None:
    """He may have been of another network namespace: of that nothing is left to see. Who was recorded is known."""
    mark = Mark(TunnelName("demo"), "abcd", "0001")
    child = start("sleep", "60")
    seen = process.stat(child.pid)
    assert seen
    scan = Marked((seen._replace(mark=mark, uid=os.geteuid()),), 0, frozenset())
    assert [one.pid for one in belonging(scan, mark)] == [child.pid]
    child.kill()
    child.wait()
    assert belonging(scan, mark) == []
    assert [one.pid for one in belonging(scan, mark, (child.pid, seen.start_ticks))] == [child.pid]
