"""Every file in examples/ does what it says: it is valid, can be applied twice, and goes without a trace.

The README shows what `plan` really prints."""

from __future__ import annotations

import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.netns.scenario import key_pair
from tests.netns.world import Uplink

README = Path(__file__).parents[2] / "README.md"
EXAMPLES = README.with_name("examples")
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


def test_the_plan_in_the_readme_is_what_plan_says(uplink: Uplink) -> None:
    """But for the key, the names of a usual host, and an engine that this kernel may have itself."""
    readme, host = README.read_text(), uplink.cl
    told = readme.partition("# tunctl plan desired.toml\n")[2].partition("# tunctl apply")[0]
    desired = readme.partition("```toml\n")[2].partition("```")[0]
    host.write("desired.toml", desired.replace("private_key_file", 'backend = "userspace"\nprivate_key_file'))
    public_key = key_pair(host, "site.key")
    plan = host.tunctl("plan", "desired.toml", expect=2).stdout
    plan = plan.replace("192.168.50.1 dev cl0", "192.0.2.1 dev eth0").replace("192.168.50.2/32", "192.0.2.10/32")
    assert plan.replace(public_key, "MJxKNI5K6BJXWNOSHLen0qAMNfShBP6uMa2T1RpY3WY=") == told
