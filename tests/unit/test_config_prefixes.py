"""Prefix files, and lists of prefixes: every bad one, every good one."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.config import prefixfile, scalars
from reconciler.config.load import load
from reconciler.config.netvalues import network
from reconciler.config.tables import Invalid, Wrong
from reconciler.model.prefix import Prefix, pack, parse_network
from reconciler.model.prefixes import Prefixes
from tests.unit.config_of import TUN, prefixes, problems, write

ROUTES = TUN + '[[tunnels.t.routes]]\nto_file = "p.txt"\n'
KEY = "tunnels.t.routes[0].to_file"


def loaded(tmp_path: Path, content: bytes) -> tuple[Prefix, ...]:
    (tmp_path / "p.txt").write_bytes(content)
    (tunnel,) = load(write(tmp_path, ROUTES)).tunnels
    stored = tunnel.routes[0].to_file
    assert stored is not None
    assert (stored.path, stored.digest) == (str(tmp_path / "p.txt"), sha256(stored.packed).hexdigest())
    return tuple(stored.prefixes)


@pytest.mark.parametrize(
    "content",
    [
        b"10.2.0.0/16\n10.1.0.0/16\nfd::/64\n1.2.3.4\n::1\n",
        b"\xef\xbb\xbf10.2.0.0/16\r\n10.1.0.0/16\r\n\r\nfd::/64\r\n1.2.3.4/32\r\n::1/128",
        b"# all\n10.2.0.0/16 # one\n\n  10.1.0.0/16\t#two\nfd::/064#\n1.2.3.4\n::1",
    ],
    ids=["plain", "windows", "comments"],
)
def test_reads(tmp_path: Path, content: bytes) -> None:
    assert loaded(tmp_path, content) == prefixes("1.2.3.4", "10.1.0.0/16", "10.2.0.0/16", "::1", "fd::/64")


def test_an_empty_one_is_told_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("# nothing\n")
    assert load(write(tmp_path, ROUTES)).emptied == (("t", str(tmp_path / "p.txt")),)


def test_repeated_prefixes_count_once(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("10.0.0.0/8\nfd::/16\n10.0.0.0/8\n10.0.0.0/8\n")
    desired = load(write(tmp_path, ROUTES))
    assert desired.tunnels[0].routes[0].to_file.packed == pack(prefixes("10.0.0.0/8", "fd::/16"))
    (warning,) = desired.warnings
    assert warning.endswith("2 lines repeat a prefix; each counts once")


def test_the_one_bad_line_at_the_end_is_found(tmp_path: Path) -> None:
    lines = [f"10.{n >> 8 & 255}.{n & 255}.0/24" for n in range(65536)] + [f"11.0.{n >> 8}.{n & 255}" for n in range(34463)]
    (tmp_path / "p.txt").write_text("\n".join([*lines, "10.0.0.1/8"]))
    assert problems(write(tmp_path, ROUTES)) == [
        f"p.txt:100000: {KEY}: '10.0.0.1/8' has host bits set, did you mean 10.0.0.0/8?"
    ]


def test_many_bad_lines_are_counted(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("x\n" * 50)
    found = problems(write(tmp_path, ROUTES))
    assert [line for line in found if line.startswith("p.txt")] == [
        f"p.txt:{n}: {KEY}: 'x' is not an IP address" for n in range(1, 21)
    ]
    assert found[0].endswith("p.txt: 30 more lines are wrong")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"10.0.0.0/8 11.0.0.0/8\n", "p.txt:1: expected one prefix a line"),
        (b"10.0.0.0/33\n", "p.txt:1: '10.0.0.0/33': the length must be a number from 0 to 32"),
        (b"10.0.0.0/\n", "p.txt:1: '10.0.0.0/'"),
        (b"10.0.0\n", "p.txt:1: '10.0.0' is not an IP address"),
        (b"\n10.0.0.0/8\xff\n", "p.txt: not UTF-8 text (byte 0xff in line 2)"),
        (b"\xff\xfe1\x000\x00", "p.txt: not UTF-8 text (byte 0xff in line 1)"),
        (b"10.0.0.0/8\n\0", "p.txt: not a text file (NUL in line 2)"),
        (b"x" * 200, "p.txt:1: expected a prefix like '10.0.0.0/8', got 'xxx"),
    ],
)
def test_bad_content(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "p.txt").write_bytes(content)
    (found,) = problems(write(tmp_path, ROUTES))
    assert said in found.replace(f"{KEY}: ", "")
    assert len(found) < 250


def test_too_many(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("\n".join(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(100_001)))
    (found,) = problems(write(tmp_path, ROUTES))
    assert "100001 prefixes, at most 100000 may stand in a file" in found


def test_too_large_absent_or_no_file(tmp_path: Path) -> None:
    location = write(tmp_path, ROUTES)
    assert problems(location) == [f"d.toml:6: {KEY}: p.txt: no such file or directory"]
    (warning,) = load(location, lenient_files=True).warnings
    assert warning.endswith("p.txt: no such file or directory")
    os.mkfifo(tmp_path / "p.txt")
    assert problems(location) == [f"d.toml:6: {KEY}: p.txt: a FIFO, not a regular file"]
    (tmp_path / "p.txt").unlink()
    with (tmp_path / "p.txt").open("wb") as large:
        large.truncate((64 << 20) + 1)
    assert problems(location) == [f"d.toml:6: {KEY}: p.txt: too large (more than 64 MiB)"]


def test_a_next_hop_of_the_other_family(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("10.0.0.0/8\nfd::/16\n")
    (found,) = problems(write(tmp_path, ROUTES + 'via = "10.0.0.1"\n'))
    assert found == "d.toml:7: tunnels.t.routes[0].via: an IPv4 next hop for an IPv6 prefix"


def test_two_files_with_the_same_prefix(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("10.0.0.0/8\nfd::/16\n")
    (tmp_path / "q.txt").write_text("\n".join(["10.0.0.0/8", *(f"11.{n}.0.0/16" for n in range(40)), "fd::/16"]))
    again = '[[tunnels.t.routes]]\nto_file = "q.txt"\n'
    found = problems(write(tmp_path, ROUTES + again))
    assert len(found) == 2
    assert found[0].startswith("d.toml:8: tunnels.t.routes[1].to_file: 10.0.0.0/8 is routed by tunnels.t.routes[0].to_file")
    assert load(write(tmp_path, ROUTES + again + "metric = 7\n")).warnings == ()


def test_two_tunnels_with_the_same_prefix_are_a_warning(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("10.0.0.0/8\n11.0.0.0/8\n")
    other = '[tunnels.u]\ndriver = "tun"\n[[tunnels.u.routes]]\nto = ["11.0.0.0/8"]\n'
    (warning,) = load(write(tmp_path, ROUTES + other)).warnings
    assert "tunnels.u.routes[0].to: 11.0.0.0/8 routed by tunnels.t.routes[0].to_file" in warning
    assert load(write(tmp_path, ROUTES + other.replace('"tun"', '"tun"\nenabled = false'))).warnings == ()
    assert load(write(tmp_path, ROUTES + other + '[[tunnels.u.rules]]\niif = "lo"\n')).warnings == ()


@given(
    st.lists(st.one_of(st.ip_addresses().map(str), st.ip_addresses(network=None).map(lambda a: f"{a}/8"), st.text(max_size=12)))
)
def test_the_fast_way_and_the_slow_one_agree(words: list[str]) -> None:
    words = [word.partition("#")[0].replace("\n", "").strip() for word in words]
    listed = prefixfile.parsed("\n".join(words))
    good, bad = [], 0
    for word in filter(None, words):
        try:
            good.append(parse_network(word))
        except ValueError:
            bad += 1
    assert listed.prefixes == Prefixes.of(good)
    assert len(listed.bad) + listed.more_bad == bad


@pytest.mark.parametrize(
    "texts",
    [
        ["10.0.0.0/8", "10.1.0.0/016", "1.2.3.4", "0.0.0.0/00", "255.255.255.255/32"],
        ["fd00::/8", "::", "::/0", "2001:DB8::/032", "::ffff:1.2.3.4"],
        ["::/0", "0.0.0.0/0", "fd00::/8", "10.0.0.0/8"],
        ["10.0.0.0/8", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/0008", "1.2.3.4/::", "/8", ""],
        ["fd00::/8", "fd00::1/8", "::/129", "::/-1", "fe80::1%1", "::1\0", "\u0661.2.3.4", " ::1", "::/\u0662"],
        ["10.0.0.0/8", 1, None, ["10.0.0.0/8"], {"10.0.0.0": 8}, True, "0:" * 40],
        [1, "10.0.0.0/8"],
        [],
    ],
)
def test_a_list_is_what_its_elements_are(texts: list[object]) -> None:
    good, wrong = [], []
    for at, text in enumerate(texts):
        try:
            good.append(network(text))
        except ValueError as error:
            wrong.append(Wrong((at,), "value", text, str(error)))
    if wrong:
        with pytest.raises(Invalid) as refused:
            scalars.Prefixes.read(texts)
        assert list(refused.value.wrong) == wrong
    else:
        read = scalars.Prefixes.read(texts)
        assert list(read) == good
        assert {type(prefix) for prefix in read} <= {Prefix}
