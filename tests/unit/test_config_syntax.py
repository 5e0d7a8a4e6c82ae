"""What is no desired file at all, and how much is said at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.config_of import OTHER_KEY, TUN, WG, problems, write

# id, whole text, what is said
SYNTAX = [
    ("empty", "", ["d.toml:1: version: missing: a desired file begins with `version = 1`"]),
    ("blank", "\n\n# only a comment\n", ["d.toml:1: version: missing: a desired file begins with `version = 1`"]),
    ("version-2", "\nversion = 2", ["d.toml:2: version: this tunctl knows version 1 only, not 2"]),
    ("version-text", 'version = "1"', ["d.toml:1: version: expected the integer 1, got '1'"]),
    ("version-bool", "version = true", ["d.toml:1: version: expected the integer 1, got the boolean true"]),
    ("version-float", "version = 1.0", ["d.toml:1: version: expected the integer 1, got the float 1.0"]),
    ("cut", 'version = 1\n[tunnels.t]\ndriver = "t', ["d.toml:3: not valid TOML: "]),
    ("cut-table", "version = 1\n[tunn", ["d.toml:2: not valid TOML: "]),
    (
        "key-twice",
        "version = 1\nversion = 1\n",
        ["d.toml:2: not valid TOML: a key of this name stands here already, column 12"],
    ),
    (
        "table-twice",
        "version = 1\n[host]\n[host]\n",
        ["d.toml:3: not valid TOML: the table [host] stands in this file already, column 6"],
    ),
    ("inline-extended", "version = 1\nhost = {}\n[host.x]\n", ["d.toml:3: not valid TOML: "]),
    ("control", "version = 1\n\x07", ["d.toml:2: not valid TOML: "]),
    ("digits", "version = " + "1" * 5000, ["not valid TOML: a number has too many digits"]),
    ("deep", "x = " + "[" * 100_000, ["d.toml: arrays or tables are nested too deeply"]),
    ("deep-tables", "[" + ".".join("a" * 150) + "]\nversion = 1", ["d.toml:1: a: unknown key 'a'", "version: missing"]),
    ("deep-key", ".".join("a" * 1_000_000) + " = 1", ["d.toml: arrays or tables are nested too deeply"]),
    ("deep-quoted-key", " . ".join(["'a'", '"b"'] * 100_000) + " = 1", ["d.toml: arrays or tables are nested too deeply"]),
    ("nul", "version = 1\n\0", ["d.toml:2: not a text file (NUL in line 2)"]),
]


@pytest.mark.parametrize(("text", "said"), [row[1:] for row in SYNTAX], ids=[row[0] for row in SYNTAX])
def test_says_what_is_no_toml(tmp_path: Path, text: str, said: list[str]) -> None:
    path = tmp_path / "d.toml"
    path.write_text(text)
    found = problems(str(path))
    for wanted in said:
        assert [line for line in found if wanted in line], found


def test_all_of_it_is_said_at_once(tmp_path: Path) -> None:
    text = (
        "colour = 1\n"
        '[tunnels.a]\ndriver = "wireguard"\nmtu = 5\nvpn_cidrs = ["10.0.0.0/8"]\naddresses = ["10.0.0.1/24", "10.0.0.1/24"]\n'
        '[tunnels.a.wireguard]\nprivate_key_file = "nowhere"\n'
        '[tunnels.b]\ndriver = "exec"\n[tunnels.b.exec]\ncommand = ["sh"]\nrestart_on = ["gone"]\n'
        "[tunnels.b.dns]\nserver = 3\n"
    )
    found = problems(write(tmp_path, text))
    keys = [line.split(": ")[1] for line in found]
    assert keys == [
        "colour",
        "tunnels.a.mtu",
        "tunnels.a.vpn_cidrs",
        "tunnels.a.addresses[1]",
        "tunnels.a.wireguard.private_key_file",
        "tunnels.b.exec.command[0]",
        "tunnels.b.exec.restart_on[0]",
        "tunnels.b.dns.server",
    ], found


def test_a_bad_key_is_not_said_to_be_missing_as_well(tmp_path: Path) -> None:
    found = problems(write(tmp_path, TUN + '[[tunnels.t.routes]]\nto = "x"\n[[tunnels.t.rules]]\nfrom = "y"\n'))
    assert [line.split(": ")[1] for line in found] == ["tunnels.t.routes[0].to", "tunnels.t.rules[0].from"]


def test_more_errors_than_anybody_reads_are_counted(tmp_path: Path) -> None:
    found = problems(write(tmp_path, "\n".join(f"k{n} = 1" for n in range(2000))))
    assert len(found) == 501
    assert found[-1] == "d.toml: 1500 more problems"


def test_a_key_in_the_place_of_its_file_is_never_printed(tmp_path: Path) -> None:
    found = problems(write(tmp_path, WG.replace('"k"', f'"{OTHER_KEY}"')))
    assert len(found) == 1
    assert found[0].startswith(
        "d.toml:6: tunnels.office.wireguard.private_key_file: this looks like a key; keys stand in files"
    )
    assert OTHER_KEY not in found[0]


def test_control_characters_of_keys_are_escaped(tmp_path: Path) -> None:
    found = problems(write(tmp_path, '"a\\u001b[2J" = 1'))
    assert found == ["d.toml:2: \"a\\u001b[2J\": unknown key 'a\\x1b[2J'"]
