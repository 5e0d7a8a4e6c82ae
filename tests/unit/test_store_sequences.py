"""Any sequence of commands: no rule of the schema is ever broken, and the store holds what the pure decision said."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.errors import Foreign
from reconciler.model.intent import Intent, Progress
from reconciler.model.names import IfName, TunnelName
from reconciler.model.tunnel import Desired, Host
from reconciler.store.desire import desire
from reconciler.store.stored import Stored, Terms
from reconciler.store.write import Store
from tests.unit.store_of import ALICE, BOOT, delete, desired, intents, mtime, tun

NAMES = [TunnelName(name) for name in "abc"]
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # a disk waits for every commit
INTERFACES = [IfName("t0"), IfName("t1"), IfName("t2")]


def wish(source: str, names: list[TunnelName], interfaces: list[IfName], flags: int, host: Host) -> Desired:
    """Some tunnels with interfaces of their own; the flags say which are enabled and start by themselves."""
    tunnels = [
        tun(name, interface=interface, enabled=not flags >> n & 1, autostart=not flags >> n + 3 & 1)
        for n, (name, interface) in enumerate(zip(names, interfaces, strict=False))
    ]
    return desired(*tunnels, source=source, host=host)


WISHES = st.builds(
    wish,
    st.sampled_from(["one", "two"]),
    st.lists(st.sampled_from(NAMES), unique=True, max_size=3),
    st.permutations(INTERFACES),
    st.integers(0, 63),
    st.sampled_from([Host(), Host(lan="tunnel")]),
)
SAVES = st.tuples(st.just("save"), WISHES, st.booleans(), st.booleans())
OTHERS = st.tuples(st.sampled_from(["hold", "unhold", "withdraw", "delete", "fail"]), st.sampled_from(NAMES))


@settings(max_examples=40, deadline=None)
@given(st.lists(SAVES | OTHERS, max_size=8))
def test_any_sequence(commands: list[tuple[object, ...]]) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory, Store.open(Path(directory) / "state") as store:
        for command in commands:
            before = store.stored()
            if command[0] == "save":
                save(store, before, *command[1:])  # type: ignore[arg-type]
            else:
                other(store, str(command[0]), TunnelName(str(command[1])))
            same_tunnels_same_places(before, store.stored())


def save(store: Store, before: Stored, wished: Desired, is_taken: bool, keeps: bool) -> None:
    terms = Terms(frozenset(NAMES) if is_taken else frozenset(), keeps, BOOT)
    try:
        seen, foretold = desire(before, wished, terms)
    except Foreign:
        seen, foretold = before, None
    written = mtime(store.state_dir)
    try:
        saved, stored = store.save(wished, terms, actor=ALICE, cause="apply")
        assert stored == store.stored()
    except Foreign:
        assert foretold is None
        assert mtime(store.state_dir) == written
        return
    assert foretold is not None
    assert saved._replace(generation=None) == foretold._replace(generation=None)
    assert list(map(comparable, store.stored().intents)) == list(map(comparable, seen.intents))
    again = mtime(store.state_dir)
    assert store.save(wished, terms, actor=ALICE, cause="apply")[0].generation is None
    assert mtime(store.state_dir) == again


def comparable(intent: Intent) -> Intent:
    """Without what is made at random, by the clock or by a counter."""
    mark = intent.mark._replace(tunnel_id="", store_id="")
    return intent._replace(mark=mark, generation=0, progress=intent.progress._replace(since_us=None))


def other(store: Store, word: str, name: TunnelName) -> None:
    if word == "hold":
        store.hold([name])
        assert name not in intents(store) or intents(store)[name].held
    elif word == "unhold":
        store.unhold([name], BOOT)
    elif word == "withdraw":
        store.withdraw([name])
    elif word == "delete":
        withdrawn = name in intents(store) and intents(store)[name].withdrawn
        assert delete(store, name) == ((name,) if withdrawn else ())
    else:
        store.conclude({name: (Progress("failed", 1, attempt=3, error="no"), "gave_up")})


def same_tunnels_same_places(before: Stored, after: Stored) -> None:
    was = {intent.name: (intent.mark, intent.slot) for intent in before.intents}
    assert all(was.get(i.name, (i.mark, i.slot)) == (i.mark, i.slot) for i in after.intents)
    assert {intent.source for intent in after.intents} <= {source.name for source in after.sources}
