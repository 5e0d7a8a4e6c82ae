"""One writer: two processes, two directories, dead holders, squatters."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.errors import Foreign, Locked, NotPermitted, TunctlError, Unavailable
from reconciler.host.claim import NAME
from reconciler.host.holder import described, file_holder
from reconciler.host.lock import hold
from tests.netns.crash import NOBODY, as_nobody, become_nobody, elsewhere, fork, kill, wait
from tests.netns.world import Host

TIMEOUT_S = 0.2


@pytest.fixture(autouse=True)
def _inside(host: Host) -> Iterator[None]:
    with host.inside():
        yield


@pytest.fixture
def run_dir(host: Host) -> Path:
    return host.dir / "run"


class Other:
    """A process that does something and then sits there."""

    def __init__(self, function: Callable[[], object]) -> None:
        reading, writing = os.pipe()

        def work() -> None:
            kept = function()
            os.write(writing, b".")
            signal.pause()
            del kept

        self.pid = fork(work)
        os.close(writing)
        assert os.read(reading, 1) == b".", "it did not come that far"
        os.close(reading)

    def __enter__(self) -> Other:
        return self

    def __exit__(self, *_error: object) -> None:
        if self.pid:
            kill(self.pid)
            self.pid = 0


def refused(run_dir: Path, words: str) -> None:
    begun = time.monotonic()
    with pytest.raises(Locked, match=words) as told:
        hold(run_dir, TIMEOUT_S)
    assert TIMEOUT_S <= time.monotonic() - begun < TIMEOUT_S + 1
    assert told.value.exit_code == 75
    assert "--lock-timeout" in told.value.hint


class TestTwo:
    def test_of_one_directory(self, run_dir: Path) -> None:
        with Other(lambda: hold(run_dir)) as other:
            refused(run_dir, rf"pid {other.pid} \(.+\) holds {run_dir}/lock")

    def test_of_two_directories(self, run_dir: Path) -> None:
        with Other(lambda: hold(run_dir)) as other:
            refused(run_dir.with_name("run2"), rf"pid {other.pid} \(.+\) holds the socket @tunctl")
        with hold(run_dir.with_name("run2"), 0) as held:
            assert held.warnings == ()

    def test_in_two_namespaces(self, run_dir: Path, hosts: Callable[[str], Host]) -> None:
        with Other(lambda: hold(run_dir)), hosts("b").inside(), hold(run_dir.with_name("run2"), 0):
            pass

    def test_of_one_process(self, run_dir: Path) -> None:
        with hold(run_dir):
            refused(run_dir, f"pid {os.getpid()}")

    def test_one_after_the_other(self, run_dir: Path) -> None:
        for _ in range(3):
            with hold(run_dir, 0) as held:
                assert held.warnings == ()
            held.release()

    def test_who_waits_gets_it(self, run_dir: Path) -> None:
        held = hold(run_dir)
        timer = threading.Timer(0.1, held.release)
        timer.start()
        with hold(run_dir, 10):
            pass
        timer.join()

    def test_many_who_wait_do_not_fill_the_queue(self, run_dir: Path) -> None:
        with Other(lambda: hold(run_dir)) as other:
            for number in range(20):
                with pytest.raises(Locked, match=f"pid {other.pid}"):
                    hold(run_dir.with_name(f"run{number}"), 0.03)


class TestDeath:
    def test_of_the_holder(self, run_dir: Path) -> None:
        with Other(lambda: hold(run_dir)):
            pass
        assert (run_dir / "lock").exists()
        hold(run_dir, 0).release()

    def test_of_the_holder_with_living_children(self, run_dir: Path) -> None:
        reading, writing = os.pipe()

        def with_child() -> object:
            held = hold(run_dir)
            child = subprocess.Popen(["sleep", "30"], close_fds=False, stdin=subprocess.DEVNULL)
            os.write(writing, f"{child.pid}".encode())
            return held, child

        with Other(with_child):
            child = int(os.read(reading, 32))
        try:
            os.kill(child, 0)
            hold(run_dir, 0).release()
        finally:
            os.kill(child, signal.SIGKILL)
            os.close(reading)
            os.close(writing)

    def test_of_a_run_directory_under_a_holder(self, run_dir: Path) -> None:
        with Other(lambda: hold(run_dir)) as other:
            (run_dir / "lock").unlink()
            refused(run_dir, rf"pid {other.pid} \(.+\) holds the socket")

    def test_of_a_run_directory_under_one_who_waits(self, run_dir: Path) -> None:
        held = hold(run_dir)

        def pull_away() -> None:
            (run_dir / "lock").unlink()
            held.release()

        timer = threading.Timer(0.1, pull_away)
        timer.start()
        with hold(run_dir, 10):
            timer.join()
            assert file_holder((run_dir / "lock").stat()) == os.getpid()

    def test_by_a_signal_while_waiting(self, run_dir: Path) -> None:
        def waits() -> None:
            signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
            hold(run_dir, 60)

        with Other(lambda: hold(run_dir)):
            waiting = fork(waits)
            time.sleep(0.2)
            begun = time.monotonic()
            os.kill(waiting, signal.SIGTERM)
            assert wait(waiting) == 7
            assert time.monotonic() - begun < 1


def listens(backlog: int = 8) -> socket.socket:
    squatter = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    squatter.bind(NAME)
    squatter.listen(backlog)
    return squatter


def is_full() -> object:
    squatter, clients = listens(0), []
    while True:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        clients.append(client)
        if client.connect_ex(NAME):
            return squatter, clients


def only_bound() -> socket.socket:
    squatter = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    squatter.bind(NAME)
    return squatter


# Sockets of other types have names of their own.
SQUATTERS = [
    pytest.param(listens, id="listening"),
    pytest.param(is_full, id="queue full"),
    pytest.param(only_bound, id="not listening"),
]


class TestSquatter:
    @pytest.mark.parametrize("squat", SQUATTERS)
    def test_of_another_user_is_told_and_keeps_nobody_out(self, run_dir: Path, squat: Callable[[], object]) -> None:
        def as_other_user() -> object:
            become_nobody()
            return squat()

        with Other(as_other_user), hold(run_dir, 5) as held:
            (warning,) = held.warnings
            assert f"of uid {NOBODY}" in warning
            with pytest.raises(Locked, match=f"{run_dir}/lock"):
                elsewhere(lambda: hold(run_dir, 0))

    @pytest.mark.parametrize("squat", SQUATTERS)
    def test_of_root_is_another_tunctl(self, run_dir: Path, squat: Callable[[], object]) -> None:
        with Other(squat):
            refused(run_dir, "holds the socket @tunctl")

    def test_it_is_named(self, run_dir: Path) -> None:
        def as_other_user() -> object:
            become_nobody()
            return listens()

        with Other(as_other_user) as other, hold(run_dir, 0) as held:
            assert f"pid {other.pid} (" in held.warnings[0]


class TestPlace:
    @pytest.mark.parametrize("umask", [0o000, 0o077])
    def test_modes_whatever_the_umask(self, run_dir: Path, umask: int) -> None:
        before = os.umask(umask)
        try:
            hold(run_dir).release()
        finally:
            os.umask(before)
        assert stat.S_IMODE(run_dir.stat().st_mode) == 0o755
        assert stat.S_IMODE((run_dir / "lock").stat().st_mode) == 0o600, "who may open it may hold it"

    def test_nobody_may_not(self, run_dir: Path) -> None:
        with pytest.raises(NotPermitted, match="Permission denied"):
            as_nobody(lambda: hold(run_dir))
        hold(run_dir).release()
        with pytest.raises(NotPermitted, match="Permission denied"):
            as_nobody(lambda: hold(run_dir))

    def test_nobody_in_a_place_of_his_own_waits_for_root(self, run_dir: Path) -> None:
        run_dir.mkdir()
        os.chown(run_dir, NOBODY, NOBODY)
        assert as_nobody(lambda: hold(run_dir, 0).warnings) == ()
        with hold(run_dir.with_name("roots")), pytest.raises(Locked, match=f"pid {os.getpid()}"):
            as_nobody(lambda: hold(run_dir, 0))

    def test_a_symlink_is_not_followed(self, run_dir: Path, host: Host) -> None:
        run_dir.mkdir()
        (run_dir / "lock").symlink_to(host.dir / "elsewhere")
        with pytest.raises(Foreign, match="symbolic link"):
            hold(run_dir)
        assert not (host.dir / "elsewhere").exists()

    @pytest.mark.parametrize(("uid", "mode"), [(NOBODY, 0o755), (0, 0o777), (0, 0o1777)])
    def test_where_others_could_replace_it(self, run_dir: Path, uid: int, mode: int) -> None:
        run_dir.mkdir()
        run_dir.chmod(mode)
        os.chown(run_dir, uid, -1)
        with pytest.raises(Foreign, match="could replace the lock"):
            hold(run_dir)

    def test_where_no_directory_can_be(self, run_dir: Path) -> None:
        run_dir.write_text("")
        with pytest.raises(Unavailable, match="Not a directory"):
            hold(run_dir)

    def test_no_descriptor_is_left(self, run_dir: Path) -> None:
        def descriptors() -> int:
            return len(os.listdir("/proc/self/fd"))

        with Other(lambda: hold(run_dir)):
            before = descriptors()
            for place in (run_dir, run_dir.with_name("run2")):
                with pytest.raises(TunctlError):
                    hold(place, 0)
            assert descriptors() == before


def test_a_holder_is_described_as_it_was_called(host: Host) -> None:
    script = host.write("tunctl", "print(flush=True); import time; time.sleep(60)")
    with subprocess.Popen([sys.executable, "-I", script, "apply", "x\x1b[31m.toml"], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            process.stdout.readline()
            assert described(process.pid) == f"pid {process.pid} (tunctl apply x?[31m.toml)"
        finally:
            process.kill()
    assert described(process.pid) == f"pid {process.pid}", "it is gone"
    assert described(None) == described(0) == "a process that cannot be seen from here"
