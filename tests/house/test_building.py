"""Sizes, names and words: the rules of ARCHITECTURE.md that no linter knows."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
PRODUCT = sorted((PROJECT / "reconciler").rglob("*.py"))
TESTS = sorted((PROJECT / "tests").rglob("*.py"))
ROOMS = sorted(path.parent for path in PRODUCT if path.name == "__init__.py")

MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 60
NO_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "data", "info", "misc"}

# Words that mean "not done", with a gap so that this file does not contain them.
UNDONE = re.compile("TO" r"DO|FIX" r"ME|XX" r"X|NotImplemented" r"Error|\bfor " "now\b")
MOCKS = re.compile(
    r"unittest" r"\.mock|from unittest import " r"mock|Magic" r"Mock|pytest" r"_mock"
    r"|setattr\(\s*[\"']?(subprocess|socket|os|psutil|signal|time|sqlite3|pyroute2|reconciler\.(host|observe|actuate))\b"
)  # fmt: skip
REGISTRIES = re.compile(r"--?(extra-)?index" r"-url|https?://[^ ]*/(simple|debian)(/|\b)")


def name_of(path: Path) -> str:
    return str(path.relative_to(PROJECT))


def written_files() -> Iterator[Path]:
    """Every text file of the project, without what tools made."""
    made = {".git", ".venv", "__pycache__", "results", "dist", "build"}
    for path in PROJECT.rglob("*"):
        parts = path.relative_to(PROJECT).parts
        tool = any(part in made or part.endswith(("_cache", ".egg-info")) or part == ".hypothesis" for part in parts)
        if path.is_file() and not tool and path.suffix not in (".gif", ".png", ".svg", ".db"):
            yield path


def module_docstring(path: Path) -> str | None:
    return ast.get_docstring(ast.parse(path.read_text()))


def test_no_file_is_too_long() -> None:
    lines = {name_of(path): len(path.read_text().splitlines()) for path in PRODUCT}
    assert {name: count for name, count in lines.items() if count > MAX_FILE_LINES} == {}


def test_no_function_is_too_long() -> None:
    functions = {
        f"{name_of(path)}:{node.lineno} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in PRODUCT
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: count for name, count in functions.items() if count > MAX_FUNCTION_LINES} == {}


@pytest.mark.parametrize("path", PRODUCT, ids=name_of)
def test_module_says_what_it_is_for(path: Path) -> None:
    assert module_docstring(path)


@pytest.mark.parametrize("room", ROOMS, ids=name_of)
def test_room_is_in_the_floor_plan(room: Path) -> None:
    plan = (PROJECT / "ARCHITECTURE.md").read_text()
    assert f"`{room.name}/`" in plan or room.name == "reconciler"


def test_modules_of_the_top_floor_are_in_the_floor_plan() -> None:
    plan = (PROJECT / "ARCHITECTURE.md").read_text()
    names = {path.name for path in (PROJECT / "reconciler").glob("*.py")} - {"__init__.py"}
    assert {name for name in names if f"`{name}`" not in plan} == set()


def test_names_say_something() -> None:
    assert [name_of(path) for path in PRODUCT if path.stem in NO_NAMES or path.parent.name in NO_NAMES] == []


def test_nothing_is_left_undone() -> None:
    undone = [
        f"{name_of(path)}:{number}: {line.strip()}"
        for path in written_files()
        if path.suffix in (".py", ".sh", ".toml", "") and path.name != "LICENSE"
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if UNDONE.search(line)
    ]
    assert undone == []


def test_the_machine_is_never_mocked() -> None:
    assert [name_of(path) for path in TESTS if MOCKS.search(path.read_text())] == []


def test_nothing_points_to_one_machine() -> None:
    here = f"{PROJECT}/"
    texts = {name_of(path): path.read_text(errors="replace") for path in written_files()}
    assert [name for name, text in texts.items() if here in text or REGISTRIES.search(text)] == []
