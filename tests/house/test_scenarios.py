"""tests/SCENARIOS.md says which test shows which scenario; every test it names is there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
ROW = re.compile(r"^\| *([SF]\d+) *\|([^|]*)\|", re.MULTILINE)
TEST_ID = re.compile(r"tests/[\w/]+\.py(?:::\w+)+")


def numbers(letter: str, spans: str) -> list[str]:
    """`("S", "1-3 7")` → S1 S2 S3 S7."""
    ends = [span.partition("-") for span in spans.split()]
    return [f"{letter}{n}" for first, _dash, last in ends for n in range(int(first), int(last or first) + 1)]


# What the issues resolved so far ask for.
REQUIRED = [
    *numbers("S", "1-63 65-68 70-72 75 80"),
    *numbers("F", "1 3-13 15-19 22 23 25-49 52-61 63 65"),
]


@cache
def rows() -> dict[str, list[str]]:
    """Scenario → the ids of its tests."""
    text = (PROJECT / "tests" / "SCENARIOS.md").read_text()
    return {row: TEST_ID.findall(cell) for row, cell in ROW.findall(text)}


@cache
def names_in(path: str) -> frozenset[str]:
    """`test_x` and `TestY::test_x` of a file; none when it is not there."""
    file = PROJECT / path
    if not file.exists():
        return frozenset()
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    body = ast.parse(file.read_text()).body
    classes = [node for node in body if isinstance(node, ast.ClassDef)]
    inner = {f"{group.name}::{node.name}" for group in classes for node in group.body if isinstance(node, functions)}
    return frozenset(inner | {node.name for node in body if isinstance(node, functions)})


@pytest.mark.parametrize("row", REQUIRED)
def test_scenario_has_a_test(row: str) -> None:
    assert rows().get(row), f"tests/SCENARIOS.md names no test for {row}"


@pytest.mark.parametrize("row", list(rows()))
def test_the_tests_it_names_are_there(row: str) -> None:
    for test_id in rows()[row]:
        path, _colons, name = test_id.partition("::")
        assert name in names_in(path), f"{row}: there is no {test_id}"
        assert name.rpartition("::")[2].startswith("test_"), f"{row}: {test_id} is not a test"
