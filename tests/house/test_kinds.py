"""A kind is complete: what it is, how it is looked at, how it is changed, and a test of that on the real kernel."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path

import pytest

from reconciler.kinds import KINDS

PROJECT = Path(__file__).parents[2]
SIGNATURES = {
    "create": ["machine", "wanted"],
    "change": ["machine", "wanted", "found", "fields"],
    "delete": ["machine", "found"],
}

# Rooms that only decide, and what they must not import; of two modules only what is arithmetic.
PURE = (
    "model", "kinds", "drivers", "plan", "compared", "ordered", "parted", "lifecycle", "transitions", "verdict",
    "report", "wanted",
)  # fmt: skip
IO_MODULES = {
    "alembic", "asyncio", "click", "fcntl", "logging", "mmap", "multiprocessing", "os", "pathlib", "psutil", "pyroute2",
    "random", "select", "selectors", "shutil", "signal", "sqlalchemy", "sqlite3", "subprocess", "tempfile", "threading",
    "urllib",
}  # fmt: skip
ARITHMETIC = {"socket": {"AF_INET", "AF_INET6", "inet_pton", "inet_ntop"}, "time": {"gmtime", "strftime"}}


def pure_files() -> list[Path]:
    room = PROJECT / "reconciler"
    files = [path for name in PURE for path in (*(room / name).rglob("*.py"), *room.glob(f"{name}.py"))]
    assert len(files) > len(PURE)
    return files


@pytest.mark.parametrize("kind", KINDS)
def test_kind_is_described(kind: str) -> None:
    module = importlib.import_module(f"reconciler.kinds.{kind}")
    own = [cls for cls in vars(module).values() if isinstance(cls, type) and cls.__module__ == module.__name__]
    assert [vars(cls)["kind"].fget(None) for cls in own if hasattr(cls, "hangs_on")] == [kind]


@pytest.mark.parametrize("kind", KINDS)
def test_kind_is_observed(kind: str) -> None:
    assert importlib.import_module(f"reconciler.observe.{kind}").__doc__


@pytest.mark.parametrize("verb", SIGNATURES)
@pytest.mark.parametrize("kind", KINDS)
def test_kind_is_actuated(kind: str, verb: str) -> None:
    function = getattr(importlib.import_module(f"reconciler.actuate.{kind}"), verb)
    parameters = [name.lstrip("_") for name in inspect.signature(function).parameters]
    assert parameters == SIGNATURES[verb]


@pytest.mark.parametrize("kind", KINDS)
def test_kind_is_tested_on_the_real_kernel(kind: str) -> None:
    assert list((PROJECT / "tests" / "netns").glob(f"test_*{kind}*.py"))


@pytest.mark.parametrize("path", pure_files(), ids=lambda path: str(path.relative_to(PROJECT)))
def test_decisions_do_no_io(path: Path) -> None:
    tree = ast.parse(path.read_text())
    imported = {alias.name.partition(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    imported |= {str(node.module).partition(".")[0] for node in froms}
    assert imported & IO_MODULES == set()
    for module, allowed in ARITHMETIC.items():
        words = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and ast.unparse(node.value) == module}
        words |= {alias.name for node in froms if node.module == module for alias in node.names}
        assert words - allowed == set()
    assert "open" not in {
        node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
