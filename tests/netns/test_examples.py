"""Every file in examples/ does what it says: it is valid, can be applied twice, and goes without a trace."""

from __future__ import annotations

import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.netns.world import Uplink

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = sorted(path.name for path in EXAMPLES.iterdir() if path.suffix == ".toml" or path.is_dir())
SECRETS = ("private_key_file", "preshared_key_file")


def _tables(place: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Each TOML file of an example: where it lies, what is in it."""
    for path in sorted(place.glob("*.toml")) if place.is_dir() else [place]:
        yield path.parent, tomllib.loads(path.read_text())


def _secrets(tree: object) -> Iterator[str]:
    """The names of all key files."""
    if isinstance(tree, dict):
        yield from (value for key, value in tree.items() if key in SECRETS)
        for value in tree.values():
            yield from _secrets(value)
    if isinstance(tree, list):
        for value in tree:
            yield from _secrets(value)


@pytest.fixture
def place(uplink: Uplink, request: pytest.FixtureRequest) -> Path:
    """A copy of an example on the host under test, its keys generated beside it as its comments say."""
    there = uplink.cl.dir / "examples"
    shutil.copytree(EXAMPLES, there)
    example = there / request.param
    for directory, tree in _tables(example):
        for name in _secrets(tree):
            uplink.cl.tunctl("key", "generate", "--type", "x25519", "--out", directory / name)
    return example


@pytest.mark.parametrize("name", NAMES)
def test_example_is_valid_without_its_keys(uplink: Uplink, name: str) -> None:
    done = uplink.cl.tunctl("check", EXAMPLES / name, "--base-dir", EXAMPLES)
    assert all(re.search("_key_file: .*no such file", line) for line in done.stderr.splitlines())


@pytest.mark.parametrize("place", NAMES, indirect=True)
def test_example_works_and_leaves_no_trace(uplink: Uplink, place: Path) -> None:
    host = uplink.cl
    before = host.snapshot()
    declared = {name: one for _, tree in _tables(place) for name, one in tree.get("tunnels", {}).items()}
    on = {one.get("interface", name) for name, one in declared.items() if one.get("autostart", True)}
    host.tunctl("plan", place, expect=2)
    host.tunctl("apply", place)
    links = {link["ifname"]: link for link in host.ip_json("link")}
    assert {name for name in on if links[name]["ifalias"].startswith("tunctl:")} == on
    assert host.tunctl("apply", place).stdout == "no changes\n"
    host.tunctl("reconcile")
    host.tunctl("down", "--all")
    assert host.snapshot() == before
    assert host.pids() == []
