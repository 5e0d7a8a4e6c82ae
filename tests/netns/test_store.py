"""The store on a real machine: threads, kills at every write, other users, small and read-only disks."""

from __future__ import annotations

import os
import random
import re
import shutil
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from reconciler.errors import StoreError
from reconciler.model.intent import Progress
from reconciler.model.names import TunnelName
from reconciler.store import read
from reconciler.store.stored import Ending, Stored
from reconciler.store.write import Store
from tests.netns.crash import (
    NOBODY,
    as_nobody,
    become_nobody,
    elsewhere,
    fork,
    kill,
    killed_at,
    mount_read_only,
    mount_small,
    wait,
)
from tests.netns.world import Host
from tests.unit.store_of import put, routed_by_file, tun

A = TunnelName("a")
THREADS, ROUNDS = 20, 50


@pytest.fixture
def state_dir(host: Host) -> Path:
    """Where everybody may look, not made yet."""
    return host.dir / "state"


def save_all(state_dir: Path, mtu: int) -> None:
    with Store.open(state_dir) as store:
        put(store, *(tun(name, mtu=mtu) for name in "abcd"))


def mtus(stored: Stored) -> set[int | None]:
    return {intent.tunnel.mtu for intent in stored.intents}


@pytest.mark.bound(180)
def test_twenty_threads_lose_nothing_while_nobody_reads(state_dir: Path) -> None:
    shared = Store.open(state_dir)
    stop_reading, stop_writing = os.pipe()
    reader = fork(partial(read_until_closed, state_dir, stop_reading, stop_writing))
    os.close(stop_reading)
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            store = shared if number % 2 else Store.open(state_dir)
            for mtu in range(1000, 1000 + ROUNDS):
                put(store, tun(f"t{number}", mtu=mtu), source=f"source {number}")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.close(stop_writing)
    assert wait(reader) == 0
    assert errors == []
    stored = shared.stored()
    assert mtus(stored) == {1000 + ROUNDS - 1}
    assert sorted(intent.slot for intent in stored.intents) == list(range(1, THREADS + 1))
    assert max(intent.generation for intent in stored.intents) == THREADS * ROUNDS
    assert len({event.generation for event in shared.history(limit=10_000)}) == THREADS * ROUNDS


def read_until_closed(state_dir: Path, reading: int, writing: int) -> None:
    """Every read is a whole one: no tunnel that was there is missing, no generation goes back."""
    os.close(writing)
    become_nobody()
    os.set_blocking(reading, False)
    newest, tunnels, reads = 0, 0, 0
    while not is_closed(reading):
        stored = read.read(state_dir)
        generation = max((intent.generation for intent in stored.intents), default=0)
        assert (generation, len(stored.intents)) >= (newest, tunnels)
        newest, tunnels, reads = generation, len(stored.intents), reads + 1
        time.sleep(0.01)
    assert reads > 10


def is_closed(descriptor: int) -> bool:
    try:
        return os.read(descriptor, 1) == b""
    except BlockingIOError:
        return False


def test_several_may_make_it_at_once(state_dir: Path) -> None:
    """Of another run directory, say, so that no lock keeps them apart."""
    for turn in range(10):
        place = state_dir.with_name(f"state {turn}")
        starting, start = os.pipe()
        makers = [fork(partial(make_and_save, place, starting, f"t{number}")) for number in range(4)]
        os.close(starting)
        os.write(start, b"go" * 2)
        os.close(start)
        assert [wait(pid) for pid in makers] == [0] * 4
        assert sorted(intent.name for intent in read.read(place).intents) == ["t0", "t1", "t2", "t3"]


def make_and_save(place: Path, starting: int, name: str) -> None:
    os.read(starting, 1)
    put(Store(place), name, source=name)


class TestKilled:
    def test_at_every_write_of_a_save(self, state_dir: Path) -> None:
        save_all(state_dir, 1000)
        spare = state_dir.with_name("spare")
        shutil.copytree(state_dir, spare)
        for call in range(1, 200):
            if not killed_at(call, partial(save_all, state_dir, 2000)):
                assert call > 5
                break
            assert mtus(Store.open(state_dir).stored()) in ({1000}, {2000})
            save_all(state_dir, 3000)
            assert [path.name for path in state_dir.iterdir()] == ["intent.db"]
            shutil.rmtree(state_dir)
            shutil.copytree(spare, state_dir)
        else:
            pytest.fail("it never got through")
        assert mtus(read.read(state_dir)) == {2000}

    def test_at_every_write_of_what_a_pass_came_to(self, state_dir: Path) -> None:
        """All of it is there, or nothing: who is up, who is gone, how the generation went."""
        with Store.open(state_dir) as store:
            put(store, "a", "b")
            saved = put(store, "a")
        spare = state_dir.with_name("spare")
        shutil.copytree(state_dir, spare)

        def conclude() -> None:
            with Store(state_dir) as store:
                store.conclude({A: (Progress("up", 1), "converged")}, ["b"], ending=Ending(saved.generation or 0, "converged"))

        def told() -> tuple[object, ...]:
            with Store.open(state_dir) as store:
                return (
                    [(intent.name, intent.progress.state) for intent in store.stored().intents],
                    [(event.event, event.outcome) for event in store.history()][3:],
                )

        before = told()
        seen = []
        for call in range(1, 200):
            was_killed = killed_at(call, conclude)
            seen.append(told())
            if not was_killed:
                break
            shutil.rmtree(state_dir)
            shutil.copytree(spare, state_dir)
        after = [("a", "up")], [("saved", "converged"), ("withdrawn", "converged"), ("up", ""), ("deleted", "")]
        assert before == ([("a", "pending"), ("b", "pending")], [("saved", ""), ("withdrawn", "")])
        assert len(seen) > 5
        assert seen[-1] == after
        assert all(one in (before, after) for one in seen)

    def test_at_every_write_of_the_first_one(self, state_dir: Path) -> None:
        for call in range(1, 200):
            if not killed_at(call, partial(save_all, state_dir, 1000)):
                assert call > 5
                break
            with Store.open(state_dir) as store:
                assert store.stored().exists
                put(store, "a")
            shutil.rmtree(state_dir)
        else:
            pytest.fail("it never got through")

    def test_at_any_moment(self, state_dir: Path) -> None:
        def forever() -> None:
            with Store.open(state_dir) as store:
                for mtu in range(1000, 60_000):
                    put(store, *(tun(name, mtu=mtu) for name in "abcd"))

        newest, rounds = 0, 0
        while rounds < 10 or (not newest and rounds < 100):
            rounds += 1
            writer = fork(forever)
            time.sleep(random.uniform(0.02, 0.1))
            kill(writer)
            stored = Store.open(state_dir).stored()
            assert len(mtus(stored)) <= 1
            generation = max((intent.generation for intent in stored.intents), default=0)
            assert generation >= newest
            newest = generation
        assert newest > 0


class TestNobody:
    def test_reads_what_root_wrote(self, state_dir: Path) -> None:
        before = os.umask(0o077)
        try:
            save_all(state_dir, 1000)
        finally:
            os.umask(before)
        assert mtus(as_nobody(lambda: read.read(state_dir))) == {1000}
        assert len(as_nobody(lambda: read.history(state_dir))) == 5

    def test_may_not_write(self, state_dir: Path) -> None:
        save_all(state_dir, 1000)
        content = (state_dir / "intent.db").read_bytes()
        with pytest.raises(StoreError, match="cannot be written"):
            as_nobody(lambda: save_all(state_dir, 2000))
        assert (state_dir / "intent.db").read_bytes() == content
        with pytest.raises(StoreError, match="Permission denied"):
            as_nobody(lambda: save_all(state_dir.with_name("other"), 2000))

    def test_may_not_look(self, state_dir: Path) -> None:
        save_all(state_dir, 1000)
        (state_dir / "intent.db").chmod(0o600)
        with pytest.raises(StoreError, match="cannot be opened"):
            as_nobody(lambda: read.read(state_dir))
        state_dir.chmod(0o700)
        with pytest.raises(StoreError, match="Permission denied"):
            as_nobody(lambda: read.read(state_dir))

    def test_in_a_directory_that_he_may_not_change(self, state_dir: Path) -> None:
        save_all(state_dir, 1000)
        os.chown(state_dir / "intent.db", NOBODY, NOBODY)
        with pytest.raises(StoreError, match=r"state cannot be written"):
            as_nobody(lambda: save_all(state_dir, 2000))
        assert mtus(as_nobody(lambda: read.read(state_dir))) == {1000}

    @pytest.mark.parametrize("planted", ["", "intent.db"])
    def test_what_he_owns_is_not_believed_by_root(self, state_dir: Path, planted: str) -> None:
        save_all(state_dir, 1000)
        os.chown(state_dir / planted, NOBODY, NOBODY)
        with pytest.raises(StoreError, match=f"belongs to uid {NOBODY}"):
            read.read(state_dir)
        with pytest.raises(StoreError, match=f"belongs to uid {NOBODY}"):
            Store.open(state_dir)


class TestSmallDisk:
    @pytest.fixture(autouse=True)
    def _place(self, state_dir: Path) -> None:
        state_dir.mkdir(0o755)

    def test_full_before_the_first_one(self, state_dir: Path) -> None:
        def full() -> None:
            mount_small(state_dir, "16k")
            fill(state_dir)
            save_all(state_dir, 1000)

        with pytest.raises(StoreError, match="the disk is full"):
            elsewhere(full)

    def test_full_later(self, state_dir: Path) -> None:
        def story() -> list[object]:
            mount_small(state_dir, "2m")
            save_all(state_dir, 1000)
            with Store.open(state_dir) as store:
                store.ensure_writable()
                fill(state_dir)
                before = (state_dir / "intent.db").read_bytes()
                words = [
                    why(lambda: put(store, routed_by_file("a", *(f"10.{n}.0.0/16" for n in range(256))))),
                    why(lambda: store.ledger_put("sysctl:net.ipv4.ip_forward", A, b"0", b"1")),
                    why(store.ensure_writable),
                ]
                assert (state_dir / "intent.db").read_bytes() == before
                put(store, *(tun(name, mtu=1000) for name in "abcd"))  # nothing changes
                assert mtus(read.read(state_dir)) == {1000}
                (state_dir / "filler").unlink()
                store.ledger_put("sysctl:net.ipv4.ip_forward", A, b"0", b"1")
                store.ensure_writable()
            return list(words)

        saving, ledger, asking = elsewhere(story)
        assert "the disk is full" in str(saving)
        assert "the disk is full" in str(ledger)
        assert "the disk is full" in str(asking)

    def test_read_only(self, state_dir: Path) -> None:
        save_all(state_dir, 1000)

        def story() -> tuple[str, Stored]:
            mount_read_only(state_dir)
            return why(lambda: save_all(state_dir, 2000)), read.read(state_dir)

        words, stored = elsewhere(story)
        assert words.endswith("intent.db cannot be written")
        assert mtus(stored) == {1000}


def fill(directory: Path) -> None:
    with (directory / "filler").open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while file.write(b"x" * size) == size:
                    pass
            except OSError:
                continue


def why(function: object) -> str:
    with pytest.raises(StoreError) as told:
        function()  # type: ignore[operator]
    return told.value.message


def test_a_commit_outlives_a_power_cut(host: Host) -> None:
    """That the journal is gone is the commit: it is on the disk before anything else happens. The very first apply waits for
    two: that its intents are stored, with the store itself, and how it went."""
    file = host.write("d.toml", 'version = 1\n[tunnels.a]\ndriver = "tun"\naddresses = ["10.66.0.1/24"]\n')
    calls = "unlink,unlinkat,fsync,fdatasync,sendto,sendmsg,ioctl"
    host.run(["strace", "-f", "-qq", "-y", "-e", f"trace={calls}", "-o", "trace", *host.tunctl_argv("apply", file)])
    done = [line.split(maxsplit=1)[1] for line in (host.dir / "trace").read_text().splitlines()]
    synced = [number for number, call in enumerate(done) if re.match(r"f(data)?sync\(.*/intent\.db>", call)]
    commits = [number + 1 for number in synced if done[number + 1].startswith("unlink")]
    assert len(commits) == 2
    for number in commits:
        after = next(call for call in done[number + 1 :] if f"<{host.state_dir}" in call or "<socket" in call)
        assert re.match(rf"fsync\(\d+<{host.state_dir}>\)", after), after
