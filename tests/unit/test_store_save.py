"""What `apply`, `down`, `up` and `forget` do to the store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.errors import Foreign, InvalidFile, StoreError
from reconciler.model.intent import Progress
from reconciler.model.names import IfName, TunnelName
from reconciler.model.tunnel import Host
from reconciler.store.conflicts import conflicts
from reconciler.store.desire import desire
from reconciler.store.stored import Saved, Terms
from reconciler.store.write import Store
from tests.unit.store_of import ALICE, BOOT, delete, desired, intents, mtime, put, routed_by_file, tun, wireguard

A, B, C = map(TunnelName, "abc")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "state") as store:
        yield store


def test_new_tunnels_get_slots_and_ids_and_one_generation(store: Store) -> None:
    assert put(store, "a", "b") == Saved(generation=1, created=(A, B))
    stored = store.stored()
    assert [(i.name, i.slot, i.generation, i.source) for i in stored.intents] == [
        ("a", 1, 1, "gateway"),
        ("b", 2, 1, "gateway"),
    ]
    assert {i.mark.store_id for i in stored.intents} == {stored.store_id}
    assert len({i.mark.tunnel_id for i in stored.intents}) == 2
    assert [(s.name, s.path, s.generation) for s in stored.sources] == [("gateway", "/etc/gateway.toml", 1)]


def test_what_cannot_be_stored_makes_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.store.desire._MOST", 2)
    with Store(tmp_path / "state") as store:
        with pytest.raises(InvalidFile, match="is not UTF-8"):
            put(store, "a", source="gate\udc80way")
        with pytest.raises(StoreError, match="no room for more tunnels"):
            put(store, "a", "b", "c")
        assert not (tmp_path / "state").exists()
        put(store, "a", "b")
        with pytest.raises(StoreError, match="no room for more tunnels"):  # withdrawn ones keep their places
            put(store, "b", "c")
        assert put(store, "b").withdrawn == (A,)


def test_saving_the_same_again_writes_nothing(store: Store) -> None:
    put(store, "a", wireguard("w", 51820), routed_by_file("f", "10.0.0.0/8"), host=Host(lan="private"))
    before = mtime(store.state_dir), store.stored()
    saved = put(store, "a", wireguard("w", 51820), routed_by_file("f", "10.0.0.0/8"), host=Host(lan="private"))
    assert saved == Saved(generation=None, unchanged=(A, TunnelName("w"), TunnelName("f")))
    assert (mtime(store.state_dir), store.stored()) == before


def test_only_a_changed_tunnel_gets_the_new_generation(store: Store) -> None:
    put(store, "a", "b")
    assert put(store, "a", tun("b", mtu=1400)) == Saved(generation=2, changed=(B,), unchanged=(A,))
    assert {name: i.generation for name, i in intents(store).items()} == {"a": 1, "b": 2}


def test_another_order_in_the_file_is_no_change(store: Store) -> None:
    put(store, "a", "b")
    assert put(store, "b", "a").generation is None


def test_a_tunnel_that_is_no_longer_declared_is_withdrawn_and_kept(store: Store) -> None:
    put(store, "a", "b")
    assert put(store, "b") == Saved(generation=2, unchanged=(B,), withdrawn=(A,))
    assert intents(store)["a"].withdrawn
    assert put(store, "b").generation is None


def test_a_slot_is_free_again_only_when_its_row_is_gone(store: Store) -> None:
    put(store, "a", "b")
    put(store, "b", "c")
    assert intents(store)["c"].slot == 3
    assert delete(store, A) == (A,)
    put(store, "b", "c", "d")
    assert intents(store)["d"].slot == 1


def test_declared_again_it_is_the_same_tunnel(store: Store) -> None:
    put(store, "a", "b")
    first = intents(store)["a"]
    put(store, "b")
    assert put(store, "a", "b").changed == (A,)
    again = intents(store)["a"]
    assert (again.mark, again.slot, again.withdrawn) == (first.mark, first.slot, False)
    assert delete(store, A) == (), "declared again while it was on its way out"


def test_two_tunnels_swap_their_interfaces(store: Store) -> None:
    put(store, tun("a", interface=IfName("t0")), tun("b", interface=IfName("t1")))
    put(store, tun("a", interface=IfName("t1")), tun("b", interface=IfName("t0")))
    assert {i.name: i.tunnel.interface for i in store.stored().intents} == {"a": "t1", "b": "t0"}


def test_a_renamed_tunnel_takes_the_interface_along(store: Store) -> None:
    put(store, tun("a", interface=IfName("t0")))
    put(store, tun("b", interface=IfName("t0")))
    assert intents(store)["a"].withdrawn
    assert intents(store)["b"].tunnel.interface == "t0"
    put(store, tun("a", interface=IfName("t0")))
    assert intents(store)["b"].withdrawn


def test_a_whole_source_may_be_empty(store: Store) -> None:
    assert put(store).generation is None
    assert store.stored().sources == ()
    put(store, "a", host=Host(lan="tunnel"))
    assert put(store, host=Host(lan="tunnel")).withdrawn == (A,)
    delete(store, A)
    assert [source.name for source in store.stored().sources] == ["gateway"], "its [host] still counts"


def test_a_source_that_declares_nothing_any_more_is_gone(store: Store) -> None:
    put(store, host=Host(lan="tunnel"))
    assert put(store) == Saved(generation=2)
    assert store.stored().sources == ()


def test_a_changed_host_table_alone_is_a_generation(store: Store) -> None:
    put(store, "a")
    assert put(store, "a", host=Host(table_base=30000)) == Saved(generation=2, unchanged=(A,))
    assert store.stored().sources[0].host == Host(table_base=30000)


def test_prefix_files_are_stored_once_and_go_with_the_last(store: Store) -> None:
    put(store, routed_by_file("a", "10.0.0.0/8"), routed_by_file("b", "10.0.0.0/8"))
    assert intents(store)["a"].tunnel == routed_by_file("a", "10.0.0.0/8")
    put(store, routed_by_file("a", "10.0.0.0/8"), routed_by_file("b", "10.0.0.0/8", "192.168.0.0/16"))
    assert count(store, "prefix_list") == 2
    put(store, "a", "b")
    assert count(store, "prefix_list") == 0


def count(store: Store, table: str) -> int:
    with store._commit.begin() as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


class TestHolds:
    def test_down_holds_and_apply_ends_it(self, store: Store) -> None:
        put(store, "a", "b")
        assert store.hold([A, B]) == (A, B)
        assert store.hold([A]) == ()
        assert put(store, "a") == Saved(generation=2, unchanged=(A,), withdrawn=(B,), released=(A,))
        assert not intents(store)["a"].held

    def test_keep_holds_leaves_them_and_says_so(self, store: Store) -> None:
        put(store, "a")
        store.hold([A])
        assert put(store, "a", keep_holds=True) == Saved(unchanged=(A,), still_held=(A,))
        assert intents(store)["a"].held

    def test_a_disabled_tunnel_keeps_its_hold(self, store: Store) -> None:
        put(store, tun("a", enabled=False))
        store.hold([A])
        assert put(store, tun("a", enabled=False)).released == ()
        assert intents(store)["a"].held

    def test_up_ends_the_hold_and_starts_what_does_not_start_by_itself(self, store: Store) -> None:
        put(store, tun("a", autostart=False))
        assert not intents(store)["a"].is_wanted_up(BOOT)
        assert store.unhold([A], BOOT) == (A,)
        assert intents(store)["a"].is_wanted_up(BOOT)
        assert not intents(store)["a"].is_wanted_up("another boot")
        before = mtime(store.state_dir)
        assert store.unhold([A], BOOT) == ()
        assert mtime(store.state_dir) == before

    def test_down_and_apply_do_not_start_it_again(self, store: Store) -> None:
        put(store, tun("a", autostart=False))
        store.unhold([A], BOOT)
        store.hold([A])
        put(store, tun("a", autostart=False))
        assert not intents(store)["a"].is_wanted_up(BOOT)

    def test_one_that_is_up_and_loses_autostart_stays_up(self, store: Store) -> None:
        put(store, "a")
        put(store, tun("a", autostart=False))
        assert intents(store)["a"].is_wanted_up(BOOT)
        put(store, tun("a", autostart=False, mtu=1400))
        assert intents(store)["a"].is_wanted_up(BOOT)

    def test_a_new_one_without_autostart_is_not_started(self, store: Store) -> None:
        put(store, tun("a", autostart=False))
        assert intents(store)["a"].started_boot is None


class TestProgress:
    def test_it_is_kept_as_it_is(self, store: Store) -> None:
        put(store, "a")
        progress = Progress("up", 5, 5, 0, None, "", worked=True, last_addresses=("10.0.0.2/24",))
        store.conclude({A: (progress, "converged")})
        assert intents(store)["a"].progress == progress

    def test_the_same_again_writes_nothing(self, store: Store) -> None:
        put(store, "a")
        store.conclude({A: (Progress("waiting", 5, None, 1, 9, "no route\udcff" * 1000), "stumbled")})
        before = mtime(store.state_dir), len(store.history())
        store.conclude({A: (Progress("waiting", 5, None, 1, 9, "no route\udcff" * 1000), "stumbled")})
        store.conclude({TunnelName("gone"): (Progress("up"), "converged")})
        assert (mtime(store.state_dir), len(store.history())) == before

    @pytest.mark.parametrize("state", ["waiting", "failed"])
    def test_apply_counts_attempts_anew(self, store: Store, state: str) -> None:
        put(store, "a")
        store.conclude({A: (Progress(state, 5, 3, 7, 9, "no", worked=True), "stumbled")})
        assert put(store, "a").generation is None
        progress = intents(store)["a"].progress
        assert (progress.state, progress.attempt, progress.next_retry_us, progress.error) == ("pending", 0, None, "")
        assert progress.worked

    def test_up_counts_attempts_anew(self, store: Store) -> None:
        put(store, "a")
        store.conclude({A: (Progress("failed", 5, None, 7, None, "no"), "gave_up")})
        assert store.unhold([A], BOOT) == (A,)
        assert intents(store)["a"].progress.state == "pending"

    def test_many_are_one_transaction(self, store: Store) -> None:
        put(store, "a", "b")
        store.conclude({A: (Progress("up", 1), "converged"), B: (Progress("failed", 1, error="x"), "gave_up")})
        assert [(e.tunnel, e.event, e.cause, e.outcome) for e in store.history()[-2:]] == [
            ("a", "up", "converged", ""),
            ("b", "failed", "gave_up", "x"),
        ]


class TestSources:
    def test_a_name_of_another_source_is_refused_before_anything_is_written(self, store: Store) -> None:
        put(store, "a")
        before = mtime(store.state_dir)
        with pytest.raises(Foreign, match=r"tunnel a: source laptop .* source gateway"):
            put(store, "a", "b", source="laptop")
        assert mtime(store.state_dir) == before
        assert set(intents(store)) == {"a"}

    def test_take_over_moves_it(self, store: Store) -> None:
        put(store, "a", "b")
        assert put(store, "a", source="laptop", take_over=frozenset({A})).changed == (A,)
        assert {name: i.source for name, i in intents(store).items()} == {"a": "laptop", "b": "gateway"}
        with pytest.raises(Foreign):
            put(store, "a", "b")

    def test_a_source_whose_last_tunnel_is_taken_is_gone(self, store: Store) -> None:
        put(store, "a")
        put(store, "a", source="laptop", take_over=frozenset({A}))
        assert [source.name for source in store.stored().sources] == ["laptop"]

    def test_what_its_source_withdrew_is_free(self, store: Store) -> None:
        put(store, "a", "b")
        put(store, "b")
        assert put(store, "a", source="laptop").changed == (A,)

    @pytest.mark.parametrize(
        ("theirs", "ours", "words"),
        [
            (tun("x", interface=IfName("t0")), tun("y", interface=IfName("t0")), "interface t0"),
            (wireguard("x", 51820), wireguard("y", 51820), "listen port 51820/udp"),
        ],
    )
    def test_an_interface_or_a_port_of_another_source(self, store: Store, theirs: object, ours: object, words: str) -> None:
        put(store, theirs, source="one")  # type: ignore[arg-type]
        (problem,) = conflicts(store.stored(), desired(ours, source="two"))  # type: ignore[arg-type]
        assert problem == f"{words}: wanted by y of source two and by x of source one"
        assert conflicts(store.stored(), desired(theirs, source="one")) == []  # type: ignore[arg-type]

    def test_two_that_let_the_kernel_choose_do_not_meet(self, store: Store) -> None:
        put(store, tun("x", interface=None), source="one")
        assert conflicts(store.stored(), desired(tun("y", interface=None), source="two")) == []

    def test_host_values_may_be_declared_twice_but_not_differently(self, store: Store) -> None:
        put(store, "a", host=Host(lan="keep", reconcile_interval_s=30.0), source="one")
        same = desired("b", source="two", host=Host(lan="keep", uplink="eth0"))
        assert conflicts(store.stored(), same) == []
        other = desired("b", source="two", host=Host(lan="tunnel", reconcile_interval_s=5.0))
        assert conflicts(store.stored(), other) == [
            "[host] lan: 'tunnel' in source two, 'keep' in source one",
            "[host] reconcile_interval: 5.0 in source two, 30.0 in source one",
        ]

    def test_several_problems_are_all_told(self, store: Store) -> None:
        put(store, "a", "b")
        with pytest.raises(Foreign, match=r"2 declarations of /etc/laptop\.toml") as told:
            put(store, "a", "b", source="laptop")
        assert len(told.value.details) == 2

    def test_a_path_that_is_no_utf8_is_refused(self, store: Store) -> None:
        with pytest.raises(InvalidFile):
            store.save(desired("a")._replace(path="/etc/\udcff"), Terms(), actor=ALICE, cause="apply")


class TestForget:
    def test_withdrawn_then_deleted(self, store: Store) -> None:
        put(store, "a", "b", host=Host(lan="tunnel"))
        store.hold([A])
        store.withdraw([A])
        assert intents(store)["a"].withdrawn
        assert not intents(store)["a"].held
        assert delete(store, A, B) == (A,)
        assert set(intents(store)) == {"b"}
        assert len(store.stored().sources) == 1

    def test_the_host_table_counts_until_the_last_tunnel_is_gone(self, store: Store) -> None:
        put(store, "a", host=Host(table_base=30000))
        store.withdraw([A])
        (source,) = store.stored().sources
        assert source.forgotten
        assert source.host.table_base == 30000
        assert conflicts(store.stored(), desired("b", source="two", host=Host(table_base=40000))) == []
        delete(store, A)
        assert store.stored().sources == ()

    def test_a_source_without_tunnels_is_forgotten_by_name(self, store: Store) -> None:
        put(store, host=Host(lan="tunnel"))
        store.withdraw([], sources=["gateway"])
        assert store.stored().sources == ()

    def test_applied_again_it_is_not_forgotten(self, store: Store) -> None:
        put(store, "a", host=Host(lan="tunnel"))
        store.withdraw([A])
        put(store, "a", host=Host(lan="tunnel"))
        assert not store.stored().sources[0].forgotten

    def test_twice_writes_nothing(self, store: Store) -> None:
        put(store, "a")
        store.withdraw([A])
        before = mtime(store.state_dir)
        store.withdraw([A])
        delete(store, B)
        assert mtime(store.state_dir) == before


def test_a_preview_is_what_a_save_stores(store: Store) -> None:
    put(store, "a", "b", tun("c", autostart=False))
    put(store, "x", source="other")
    store.hold([A])
    wish = desired(tun("a", mtu=1400), "d", tun("c", mtu=1400))
    seen, foretold = desire(store.stored(), wish, Terms(boot_id=BOOT, generation=3))
    assert store.save(wish, Terms(boot_id=BOOT), actor=ALICE, cause="apply")[0] == foretold
    real = store.stored()
    unmade = [i._replace(mark=next(r.mark for r in real.intents if r.name == i.name)) for i in seen.intents]
    assert tuple(unmade) == real.intents
    assert [s._replace(applied_us=0) for s in real.sources] == [s._replace(applied_us=0) for s in seen.sources]
