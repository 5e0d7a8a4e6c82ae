"""A list of prefixes that changed gives what the whole file gives, or the whole file is asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.config.load import load
from reconciler.errors import TunctlError
from reconciler.loop.relisted import relisted
from reconciler.loop.unchanged import unchanged
from reconciler.store.stored import Stored, Terms
from reconciler.store.write import Store
from tests.unit.config_of import TUN, WG, write
from tests.unit.store_of import ALICE, BOOT

LISTED = '[[tunnels.t.routes]]\nto_file = "p.txt"\n'
ONE = TUN + LISTED
INLINE = ONE + '[[tunnels.t.routes]]\nto = ["10.7.0.0/16"]\n'
SECOND = (
    ONE
    + """
[tunnels.u]
driver = "tun"
[[tunnels.u.routes]]
to_file = "q.txt"
"""
)
SAME_LIST = SECOND.replace("q.txt", "p.txt").replace('to_file = "p.txt"\n\n', 'to_file = "p.txt"\ntable = 77\n')
SPLIT = (
    WG
    + """
[tunnels.office.dns]
servers = ["10.0.0.53"]
domains = ["corp.example"]
[[tunnels.office.split.vpn]]
cidr_file = "p.txt"
[[tunnels.office.split.direct]]
cidr_file = "q.txt"
"""
)
WATCHED = (
    """
[tunnels.t]
driver = "exec"
[tunnels.t.exec]
command = ["/usr/bin/lab"]
restart_on = ["p.txt"]
"""
    + LISTED
)
VIA = ONE + 'via = "10.0.0.1"\n'
P, Q = "10.1.0.0/16\n10.2.0.0/16\n", "10.3.0.0/16\n"


def stored(directory: Path, text: str, lists: dict[str, str]) -> tuple[str, Stored]:
    """A desired file that was applied, and what the store says."""
    for name, content in lists.items():
        (directory / name).write_text(content)
    location = write(directory, text)
    store = Store(directory / "state")
    store.save(load(location), Terms(boot_id=BOOT), actor=ALICE, cause="apply")
    return location, store.stored()


TAKEN: dict[str, tuple[str, dict[str, str]]] = {
    "one more": (ONE, {"p.txt": P + "10.9.0.0/16\n"}),
    "one less": (ONE, {"p.txt": "10.2.0.0/16\n"}),
    "all others": (ONE, {"p.txt": "172.16.0.0/12\n"}),
    "a comment": (ONE, {"p.txt": "# of today\n" + P}),
    "two lists": (SECOND, {"p.txt": P + "10.9.0.0/16\n", "q.txt": "10.4.0.0/16\n"}),
    "less of a list that two have": (SAME_LIST, {"p.txt": "10.2.0.0/16\n"}),
    "what goes in": (SPLIT, {"p.txt": P + "10.9.0.0/16\n"}),
    "what stays out": (SPLIT, {"q.txt": "10.4.0.0/16\n"}),
    "both sides": (SPLIT, {"p.txt": "10.1.0.0/16\n", "q.txt": "10.4.0.0/16\n"}),
    "beside an entry": (INLINE, {"p.txt": P + "10.9.0.0/16\n"}),
    "with a next hop": (VIA, {"p.txt": P + "10.9.0.0/16\n"}),
}
LEFT: dict[str, tuple[str, dict[str, str]]] = {
    "a bad line": (ONE, {"p.txt": P + "10.1.2.3/8\n"}),
    "no text": (ONE, {"p.txt": "\0"}),
    "a repeated line": (ONE, {"p.txt": P + "10.1.0.0/16\n"}),
    "emptied": (ONE, {"p.txt": "# none today\n"}),
    "another family": (ONE, {"p.txt": P + "fd00::/8\n"}),
    "a family that its next hop is not of": (VIA, {"p.txt": "fd00::/8\n"}),
    "what an entry says already": (INLINE, {"p.txt": P + "10.7.0.0/16\n"}),
    "what another list says already": (SECOND, {"p.txt": P + "10.3.0.0/16\n"}),
    "two lists that now meet": (SECOND, {"p.txt": P + "10.9.0.0/16\n", "q.txt": "10.9.0.0/16\n"}),
    "more of a list that two have": (SAME_LIST, {"p.txt": P + "10.9.0.0/16\n"}),
    "now full, with name servers": (SPLIT, {"p.txt": "0.0.0.0/1\n128.0.0.0/1\n"}),
    "a file that is watched": (WATCHED, {"p.txt": P + "10.9.0.0/16\n"}),
    "the desired file": (ONE, {"p.txt": P + "10.9.0.0/16\n", "d.toml": "version = 1\n" + INLINE}),
}  # fmt: skip


@pytest.mark.parametrize(("text", "now"), TAKEN.values(), ids=TAKEN)
def test_only_the_list_is_read(tmp_path: Path, text: str, now: dict[str, str]) -> None:
    location, before = stored(tmp_path, text, {"p.txt": P, "q.txt": Q})
    for name, content in now.items():
        (tmp_path / name).write_text(content)
    assert unchanged(location, before) is None
    assert relisted(location, before) == load(location)


@pytest.mark.parametrize(("text", "now"), LEFT.values(), ids=LEFT)
def test_the_whole_file_is_asked(tmp_path: Path, text: str, now: dict[str, str]) -> None:
    location, before = stored(tmp_path, text, {"p.txt": P, "q.txt": Q})
    assert relisted(location, before) == load(location)
    for name, content in now.items():
        (tmp_path / name).write_text(content)
    assert relisted(location, before) is None


def test_a_list_that_is_gone(tmp_path: Path) -> None:
    location, before = stored(tmp_path, ONE, {"p.txt": P})
    (tmp_path / "p.txt").unlink()
    assert relisted(location, before) is None


def test_a_file_of_which_something_was_to_be_said(tmp_path: Path) -> None:
    """The warning may be about the list, as this one is."""
    location, before = stored(tmp_path, ONE, {"p.txt": P + P})
    (tmp_path / "p.txt").write_text(P)
    assert relisted(location, before) is None


def test_a_key_that_others_can_read_now(tmp_path: Path) -> None:
    location, before = stored(tmp_path, SPLIT, {"p.txt": P, "q.txt": Q})
    (tmp_path / "p.txt").write_text("10.1.0.0/16\n")
    assert relisted(location, before) is not None
    (tmp_path / "k").chmod(0o644)
    assert relisted(location, before) is None


NETWORKS = ("0.0.0.0/1", "128.0.0.0/1", "10.1.0.0/16", "10.3.0.0/16", "10.7.0.0/16", "10.9.0.0/16", "fd00::/8")
contents = st.lists(st.sampled_from(NETWORKS), max_size=5).map("\n".join)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sampled_from((ONE, INLINE, SECOND, SAME_LIST, SPLIT, VIA)), contents, contents, contents, contents)
def test_never_another_verdict(
    tmp_path_factory: pytest.TempPathFactory, text: str, p: str, q: str, new_p: str, new_q: str
) -> None:
    directory = tmp_path_factory.mktemp("lists")
    try:
        location, before = stored(directory, text, {"p.txt": p, "q.txt": q})
    except TunctlError:
        return
    (directory / "p.txt").write_text(new_p)
    (directory / "q.txt").write_text(new_q)
    found = relisted(location, before)
    if found is not None:
        loaded = load(location)
        had = {(i.name, file.path) for i in before.intents for file in i.tunnel.prefix_files if file.packed}
        assert found == loaded._replace(emptied=tuple(one for one in loaded.emptied if one in had))  # which guard goes by
