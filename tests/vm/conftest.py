"""One virtual machine for all: off at first, with a disk as it was built. It is gone with the tests, whatever happens."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm.machine import Machine


@pytest.fixture(scope="session")
def machine() -> Iterator[Machine]:
    with tempfile.TemporaryDirectory(prefix="tt-vm-") as directory:
        made = Machine(Path(directory))
        try:
            yield made
        finally:
            made.cut_power()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """What failed is told with what the machine has to say of it."""
    report = yield
    machine = getattr(item, "funcargs", {}).get("machine")
    if report.failed and isinstance(machine, Machine):
        report.sections.append(("console", machine.last_words()))
        report.sections.append(("journal", machine.journal()))
    return report
