"""Many tables are read at once: each is what it is by itself, and one that is wrong is not hidden by the others."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.config.schema import TunnelTable
from reconciler.config.tables import Invalid, Many, Of, Table

GOOD: dict[str, list[Any]] = {
    "driver": ["tun", "exec"],
    "interface": ["tun-a", "auto"],
    "addresses": [[], "10.8.0.2/32", ["10.8.0.2/24", "fd00::2/64", "250.0.0.1/8"], ["fd00::3/64"] * 5, ["10.8.0.2/24"] * 5],
    "routes": [[], [{"to": "10.0.0.0/8"}], [{"to": ["fd00::/8", "10.0.0.0/8"]}, {"metric": 5, "to": []}], [{"to_file": "x"}]],
    "enabled": [True, False],
    "tun": [{}, {"mode": "tap"}],
}
BAD: dict[str, list[Any]] = {
    "driver": ["tap", 1],
    "interface": ["lo", "a/b", 5],
    "addresses": [["10.8.0.2/33"], [["10.8.0.2/24"]], ["224.0.0.1/32"] * 5, ["10.8.0.2/0"], [None] * 5, {}],
    "routes": [{}, [[]], [{"to": "10.0.0.1/8"}], [{"to": [1, 2, 3, 4]}], [{"too": 1}, {"to": ["::/0", "x"]}]],
    "enabled": [0, "true"],
    "tun": [[], {"mode": "x"}, {"mod": "tun"}],
    "unknown": [1],
}


def _documents(*pools: dict[str, list[Any]]) -> st.SearchStrategy[list[dict[str, Any]]]:
    parts = [st.sampled_from([(key, value) for key, values in pool.items() for value in values]) for pool in pools]
    return st.lists(st.lists(st.one_of(parts), max_size=5).map(dict), max_size=6)


def _seen(kept: Any) -> Any:
    if isinstance(kept, tuple):
        return [_seen(one) for one in kept]
    return {name: _seen(value) for name, value in vars(kept).items()} if isinstance(kept, Table) else kept


@given(_documents(GOOD))
def test_each_is_what_it_is_by_itself(documents: list[dict[str, Any]]) -> None:
    documents = [{**document, "driver": document.get("driver", "tun")} for document in documents]
    one = Of(TunnelTable)
    alone = [one.read(document) for document in documents]
    together = Many(one).read(documents)
    assert [table.given for table in together] == [frozenset(document) for document in documents]
    assert [table.enabled for table in together] == [document.get("enabled", True) for document in documents]
    assert [table.driver for table in together] == [document["driver"] for document in documents]
    assert _seen(together) == [_seen(table) for table in alone]


@given(_documents(GOOD, BAD))
def test_all_that_is_wrong_with_each_is_found(documents: list[dict[str, Any]]) -> None:
    one = Of(TunnelTable)
    wrong = [((at, *found.path), found.kind, found.words) for at, it in enumerate(documents) for found in one.wrong(it)]
    if wrong:
        with pytest.raises(Invalid) as refused:
            Many(one).read(documents)
        assert [(found.path, found.kind, found.words) for found in refused.value.wrong] == wrong
    else:
        assert len(Many(one).read(documents)) == len(documents)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"interface": "lo", "zzz": 1}, ["driver missing", "interface value", "zzz unknown"]),
        (
            {"routes": [{"to": 1}, {"via": "x", "to": "y"}], "driver": "x"},
            ["driver value", "routes.0.to.0 value", "routes.1.to.0 value", "routes.1.via value"],
        ),
        ({"driver": "tun", "routes": {"to": "10.0.0.0/8"}, "tun": []}, ["tun table", "routes array"]),
    ],
)
def test_in_the_order_of_the_keys(document: dict[str, Any], said: list[str]) -> None:
    found = [f"{'.'.join(map(str, one.path))} {one.kind}" for one in TunnelTable.wrong(document)]
    assert found == said
