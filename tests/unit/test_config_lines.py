"""The lines of keys, in every way that TOML has to write them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import tomli
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.config.lines import Path, key_lines
from reconciler.config.problems import Document, path_text

TEXT = '''\
# a comment with [brackets] and = signs
version = 1
a.b."c d".'e' = 2 # a."b
"quoted \\u0041" = """
[no.table]
no = "key"
\\"""
"""""
literal = \'\'\'
x = 1 \\\'\'\'\'\'
list = [ # comment ]
  1, 2.5,
  "]", [3,
  4], { x = 1, y.z = 2.5, w = [
    { v = 5 } ] },
]
date = 1979-05-27 07:32:00
[tunnels.office] # ]
x = -1.5e+3
[tunnels.office.wireguard]
[[tunnels.office.wireguard.peers]]
key = "one"
[tunnels.office.wireguard.peers.manifest]
file = "f"
[[tunnels.office.wireguard.peers]]

key = "two"
[ tunnels . "a]b" ]
inline = { p = { q = [ 1,
2 ] } }
[[x]]
[[x.y]]
[[x.y]]
k = 1
[[x]]
[[x.y]]
k = 2'''

LINES = {
    "version": 2,
    'a.b."c d".e': 3,
    "a.b": 3,
    '"quoted A"': 4,
    "literal": 9,
    "list": 11,
    "list[0]": 12,
    "list[1]": 12,
    "list[2]": 13,
    "list[3]": 13,
    "list[3][0]": 13,
    "list[3][1]": 14,
    "list[4]": 14,
    "list[4].y.z": 14,
    "list[4].w[0]": 15,
    "list[4].w[0].v": 15,
    "date": 17,
    "tunnels": 18,
    "tunnels.office": 18,
    "tunnels.office.x": 19,
    "tunnels.office.wireguard": 20,
    "tunnels.office.wireguard.peers": 21,
    "tunnels.office.wireguard.peers[0]": 21,
    "tunnels.office.wireguard.peers[0].key": 22,
    "tunnels.office.wireguard.peers[0].manifest": 23,
    "tunnels.office.wireguard.peers[0].manifest.file": 24,
    "tunnels.office.wireguard.peers[1]": 25,
    "tunnels.office.wireguard.peers[1].key": 27,
    'tunnels."a]b"': 28,
    'tunnels."a]b".inline.p.q[0]': 29,
    'tunnels."a]b".inline.p.q[1]': 30,
    "x[0]": 31,
    "x[0].y[0]": 32,
    "x[0].y[1].k": 34,
    "x[1].y[0].k": 37,
}


def paths(node: Any, path: Path = ()) -> Iterator[Path]:
    """Every key and element of a document."""
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in inner:
        yield (*path, key)
        yield from paths(value, (*path, key))


def test_every_way_to_write_a_key() -> None:
    tree = tomli.loads(TEXT)
    lines = key_lines(TEXT)
    assert set(lines) == set(paths(tree))
    by_text = {path_text(path): line for path, line in lines.items()}
    assert {key: by_text[key] for key in LINES} == LINES


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_windows_has_the_same_lines(newline: str) -> None:
    assert key_lines(TEXT.replace("\n", newline)) == key_lines(TEXT)


def test_a_missing_key_stands_where_its_table_stands() -> None:
    document = Document("f", "/", TEXT, tomli.loads(TEXT))
    assert document.line(("tunnels", "office", "wireguard", "peers", 1, "endpoint")) == 25
    assert document.line(("nothing",)) == 1


KEYS = st.one_of(
    st.sampled_from(["a", "b-c", "1", '"q"', "'l'", '"\\u0042 x"', "a.b", "c . 'd.e'"]),
    st.from_regex(r"[a-z]{1,3}", fullmatch=True),
)
SCALARS = st.sampled_from(
    ["1", "-1.5", '"s"', "'l'", '"""m\n[x]\n"""', "'''\nk = 1\n'''", "true", "1979-05-27 07:32:00Z", '"]}"', '"#"', "[]", "{}"]
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: "[ # c\n" + ",\n".join(items) + "\n]"),
        st.lists(st.tuples(KEYS, inner), max_size=3).map(lambda items: "{ " + ", ".join(f"{k} = {v}" for k, v in items) + " }"),
    ),
    max_leaves=6,
)
LINE = st.one_of(
    st.tuples(KEYS, VALUES).map(lambda pair: f"{pair[0]} = {pair[1]}"),
    KEYS.map(lambda key: f"[{key}]"),
    KEYS.map(lambda key: f"[[{key}]] # c"),
    st.just("# [c]"),
    st.just(""),
)


@settings(max_examples=300)
@given(st.lists(LINE, max_size=8))
def test_finds_exactly_the_keys_that_tomli_finds(parts: list[str]) -> None:
    """Lines that TOML refuses together are left out."""
    text = ""
    for part in parts:
        try:
            tomli.loads(longer := text + part + "\n")
        except tomli.TOMLDecodeError:
            continue
        text = longer
    lines = key_lines(text)
    assert set(lines) == set(paths(tomli.loads(text)))
    assert all(1 <= line <= text.count("\n") for line in lines.values())
