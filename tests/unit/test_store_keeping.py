"""History and ledger: bounded, and unable to name what tunctl never changes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.errors import Bug, StoreError
from reconciler.model.intent import Progress, Vouched
from reconciler.model.ledger import is_ledger_key
from reconciler.model.names import HOST, TunnelName
from reconciler.report import history as report_history
from reconciler.store import chronicle, statements
from reconciler.store.read import ledger
from reconciler.store.stored import Ending, Event, Line
from reconciler.store.write import Store
from tests.unit.store_of import ALICE, delete, intents, mtime, put, tun

A, B = TunnelName("a"), TunnelName("b")
FORWARD = "sysctl:net.ipv4.ip_forward"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "state") as store:
        yield store


def test_history_says_who_and_how_it_ended(store: Store) -> None:
    saved = put(store, "a", "b", "bb")
    store.conclude({}, ending=Ending(saved.generation or 0, "done", {B: "failed: no device"}))
    assert [(e.tunnel, e.event, e.generation, e.uid, e.actor, e.source, e.cause, e.outcome) for e in store.history()] == [
        (None, "saved", 1, 1000, "alice", "gateway", "apply", "done"),
        ("a", "created", 1, 1000, "alice", "gateway", "apply", "done"),
        ("b", "created", 1, 1000, "alice", "gateway", "apply", "failed: no device"),
        ("bb", "created", 1, 1000, "alice", "gateway", "apply", "done"),
    ]
    before = mtime(store.state_dir)
    store.conclude({}, ending=Ending(saved.generation or 0, "done", {B: "failed: no device"}))
    assert mtime(store.state_dir) == before


def test_history_of_one_tunnel_outlives_it(store: Store) -> None:
    put(store, "a", "b")
    store.withdraw([A])
    delete(store, A)
    assert [event.event for event in store.history(A)] == ["created", "forgotten", "deleted"]
    assert [event.event for event in store.history(A, limit=1)] == ["deleted"]


def test_history_is_bounded(store: Store) -> None:
    put(store, "a", "b")
    with store._commit.begin() as connection:
        note = Event(1, A, "gateway", None, *ALICE, "waiting", "retried", "")
        chronicle.write_lines(connection, [note] * (statements.PER_TUNNEL + 50))
    assert len(store.history(A, limit=100_000)) == statements.PER_TUNNEL
    assert [event.event for event in store.history(B)] == ["created"]
    with store._commit.begin() as connection:
        notes = [Event(1, TunnelName(f"t{n}"), "s", None, *ALICE, "up", "", "") for n in range(500)]
        for _ in range(statements.IN_ALL // 500 + 1):
            chronicle.write_lines(connection, notes)
    assert len(store.history(limit=100_000)) == statements.IN_ALL


def test_lines_that_were_written_later(store: Store) -> None:
    put(store, "a")
    store.chronicle([
        Line(7, A, "up", "drifted converging → converged up"), Line(8, B, "up", "of one that is gone"),
        Line(9, HOST, "contested", "nat table undone again and again"),
    ])  # fmt: skip
    told = [(e.at_us, e.tunnel, e.event, e.actor, e.source, e.cause) for e in store.history()][-2:]
    assert told == [
        (7, "a", "up", "tunctl", "gateway", "drifted converging → converged up"),
        (9, None, "contested", "tunctl", None, "nat table undone again and again"),
    ]
    before = mtime(store.state_dir)
    store.chronicle([])
    assert mtime(store.state_dir) == before
    assert list(report_history.text(store.history()))[-1].split(" ", 1)[1].startswith("host contested by tunctl (nat table")


def test_words_of_a_program_are_bounded(store: Store) -> None:
    put(store, "a")
    store.conclude({A: (Progress("failed", 1, error="x" * 100_000), "gave_up")})
    assert len(intents(store)["a"].progress.error) == 4000


class TestLedger:
    def test_the_first_previous_value_stays(self, store: Store) -> None:
        store.ledger_put(FORWARD, A, b"0\n", b"1\n")
        store.ledger_put(FORWARD, B, b"1\n", b"1\n")
        store.ledger_put(FORWARD, HOST, b"1\n", b"1\n")
        (entry,) = store.ledger()
        assert (entry.key, entry.previous, entry.value, entry.tunnels) == (FORWARD, b"0\n", b"1\n", (HOST, A, B))

    def test_it_goes_with_the_last(self, store: Store) -> None:
        store.ledger_put(FORWARD, A, b"0", b"1")
        store.ledger_put(FORWARD, B, b"0", b"1")
        store.ledger_remove(FORWARD, A)
        assert store.ledger()[0].tunnels == (B,)
        store.ledger_remove(FORWARD, B)
        store.ledger_remove(FORWARD, B)
        assert store.ledger() == ()

    def test_the_same_again_writes_nothing(self, store: Store) -> None:
        store.ledger_put(FORWARD, A, b"0", b"1")
        before = mtime(store.state_dir)
        store.ledger_put(FORWARD, A, b"7", b"1")
        store.ledger_remove("file:/etc/resolv.conf", A)
        assert mtime(store.state_dir) == before

    def test_a_file_that_was_not_there_and_any_bytes(self, store: Store) -> None:
        store.ledger_put("file:/etc/resolv.conf", A, None, b"\xff\x00")
        assert (store.ledger()[0].previous, store.ledger()[0].value) == (None, b"\xff\x00")

    def test_a_tunnel_that_owes_something_is_not_deleted(self, store: Store) -> None:
        put(store, "a")
        store.ledger_put(FORWARD, A, b"0", b"1")
        store.withdraw([A])
        assert delete(store, A) == ()
        store.ledger_remove(FORWARD, A)
        assert delete(store, A) == (A,)

    @pytest.mark.parametrize(
        "key",
        [
            "sysctl:net.ipv4.ip_forward",
            "sysctl:net.ipv4.conf.all.rp_filter",
            "sysctl:net.ipv4.conf.eth0/100.forwarding",
            "sysctl:net.ipv6.conf.wg-office.forwarding",
            "file:/etc/resolv.conf",
        ],
    )
    def test_allowed(self, key: str) -> None:
        assert is_ledger_key(key)

    @pytest.mark.parametrize(
        "key",
        [
            "",
            "file:/etc/shadow",
            "file:/etc/resolv.conf\n",
            "file:/etc/resolv.conf/../shadow",
            "sysctl:kernel.core_pattern",
            "sysctl:net.ipv4.conf.//.rp_filter",
            "sysctl:net.ipv4.conf.a.b.rp_filter",
            "sysctl:net.ipv4.conf.a:b.rp_filter",
            "sysctl:net.ipv4.conf.sixteen-letters-x.rp_filter",
            "sysctl:net.ipv4.conf.eth0.accept_local",
            "rule:inet filter FORWARD",
        ],
    )
    def test_nothing_else_can_be_named(self, store: Store, key: str) -> None:
        with pytest.raises(Bug):
            store.ledger_put(key, A, b"0", b"1")

    def test_a_planted_entry_is_refused(self, store: Store) -> None:
        planted = sqlite3.connect(store.state_dir / "intent.db")
        planted.execute("INSERT INTO ledger VALUES ('sysctl:net.ipv4.conf.//.rp_filter', x'30', x'31', 1)")
        planted.execute("INSERT INTO ledger_user VALUES ('sysctl:net.ipv4.conf.//.rp_filter', 'a')")
        planted.commit()
        with pytest.raises(sqlite3.IntegrityError):
            planted.execute("INSERT INTO ledger VALUES ('file:/etc/shadow', x'30', x'31', 1)")
        planted.close()
        with pytest.raises(StoreError, match="never changes"):
            ledger(store.state_dir)


def test_what_manifests_vouch_for_is_kept(tmp_path: Path) -> None:
    """Over another desired file, until the tunnel goes; written once, and a line of the history only when it has moved."""
    first = Vouched("k" * 44, "vpn.example.com", 8446, 1, 2, "/etc/m", None, "udp", "d" * 64, "e" * 64)
    again, moved = first._replace(issued_us=3, expires_us=4), first._replace(port=8447, tunnel=TunnelName("hub"))
    with Store.open(tmp_path) as store:
        put(store, "a", "b")
        for one in (first, again, moved):
            store.vouch({TunnelName("a"): (one,)})
            assert intents(store)["a"].vouched == (one,)
        written = mtime(tmp_path)
        store.vouch({TunnelName("a"): (moved,)})
        assert mtime(tmp_path) == written
        put(store, tun("a", description="another one"), "b")
        assert [intent.vouched for intent in intents(store).values()] == [(moved,), ()]
        lines = [(event.tunnel, event.cause) for event in store.history() if event.event == "moved"]
        assert lines == [("a", "manifest: vpn.example.com:8446 → vpn.example.com:8447")]
        store.vouch({TunnelName("a"): ()})
        assert intents(store)["a"].vouched == ()
