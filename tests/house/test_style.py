"""Format, lint, types and the direction of imports: what `make lint` says, as tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
PYTHON = sys.executable
COMMANDS = {
    "format": [PYTHON, "-m", "ruff", "format", "--check", "."],
    "lint": [PYTHON, "-m", "ruff", "check", "."],
    "types": [PYTHON, "-m", "mypy"],
    "imports": [PYTHON, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"],
}


@pytest.mark.bound(300)  # the first run of mypy has no cache
@pytest.mark.parametrize("rule", COMMANDS)
def test_rule(rule: str) -> None:
    done = subprocess.run(COMMANDS[rule], cwd=PROJECT, check=False, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
