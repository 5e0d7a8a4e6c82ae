"""What the README says is so: its commands, exit codes, marks, files, links and limits."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler import errors
from reconciler.cli.main import tunctl
from reconciler.cli.reserved import COMMANDS as RESERVED
from reconciler.config import refusals
from reconciler.model.marks import PROTOCOL, Numbers
from reconciler.model.verdict import Verdict

PROJECT = Path(__file__).parents[2]
README = (PROJECT / "README.md").read_text()
PAGES = sorted(PROJECT.glob("*.md"))
LINK = re.compile(r"\]\(([^)#\s]+)")
RESERVED_NAMES = {command.name for command in RESERVED}


def chapter(title: str) -> str:
    """The text under a heading, up to the next one of any level."""
    return re.split(r"^#+ ", README.split(f" {title}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def subclasses(cls: type[errors.TunctlError]) -> set[type[errors.TunctlError]]:
    return {cls, *(each for child in cls.__subclasses__() for each in subclasses(child))}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = [link for link in LINK.findall(page.read_text()) if "://" not in link]
    assert [link for link in links if not (PROJECT / link).exists()] == []


def test_readme_names_the_two_commands_first() -> None:
    first = re.search(r"```sh\n(.*?)```", README, re.DOTALL)
    assert first
    assert re.findall(r"^make (\w+)", first[1], re.MULTILINE) == ["demo", "test"]


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"(?:^|`)make ([a-z]+)", page.read_text(), re.MULTILINE)}
    assert named
    assert named <= targets


def test_commands_exist() -> None:
    named = set(re.findall(r"(?:`|# |bin/)tunctl ([a-z]+)", README))
    assert named <= set(tunctl.commands)
    assert named.isdisjoint(RESERVED_NAMES)


def test_every_command_is_in_the_table() -> None:
    rows = "".join(line for line in README.splitlines() if line.startswith("| `tunctl"))
    assert set(re.findall(r"`tunctl ([a-z]+)", rows)) == set(tunctl.commands) - RESERVED_NAMES


def test_exit_codes_are_those_of_the_errors() -> None:
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", chapter("Exit codes"), re.MULTILINE)}
    assert told == {0, 2} | {cls.exit_code for cls in subclasses(errors.TunctlError)}


def test_exit_codes_of_status_are_those_of_the_verdicts() -> None:
    told = [word for _, word in sorted(re.findall(r"(\d) `([a-z-]+)`", chapter("Exit codes")))]
    assert told == [verdict.value for verdict in Verdict]


def test_marks_are_those_of_the_model() -> None:
    text = chapter("What it leaves on the host")
    numbers = Numbers()
    first, last = numbers.priority_base, numbers.priority_base + 999
    assert f"group {numbers.link_group}" in text
    assert f"protocol {PROTOCOL}" in text
    assert f"priorities {first}–{last}" in text  # noqa: RUF001 - as the README writes a range
    assert f"{numbers.table(0)} + a number" in text


def test_limits_are_those_of_the_refusals() -> None:
    text = chapter("Limits")
    drivers = set(refusals._ENGINES)
    sections = set(refusals._SECTIONS) - drivers - {"accept"}  # accept belongs to these drivers
    assert {word for word in sections | RESERVED_NAMES if f"`{word}`" not in text} == set()
    assert {word for word in drivers if f"**{word}**" not in text} == set()


@pytest.mark.parametrize("text", re.findall(r"```toml\n(.*?)```", README, re.DOTALL))
def test_toml_of_the_readme_is_valid(text: str, tmp_path: Path) -> None:
    file = tmp_path / "desired.toml"
    file.write_text(text)
    done = subprocess.run([sys.executable, "-m", "reconciler", "check", file], cwd=PROJECT, check=False, timeout=30)
    assert done.returncode == 0
