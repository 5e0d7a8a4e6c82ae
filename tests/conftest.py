"""For every test: a bound on its time, its turn, and a look at whether the machine's own network stayed as it was."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadGroupScheduling

settings.register_profile("house", deadline=None)  # the machine is shared: time is bounded per test, not per example
settings.load_profile("house")
TEST_BOUND_S = 120
TOGETHER = {"tests/house/test_wheel.py"}  # what is built for their tests takes half a minute
_ALARM_AGAIN_S = 5  # if somebody swallowed the first one

# Fields of `ip -j` that change by themselves.
_VOLATILE = {"valid_life_time", "preferred_life_time", "stats64", "stats", "expires", "cache", "used", "age"}


class TestTooSlow(BaseException):
    """Not an Exception: code under test must not catch it."""

    __test__ = False


@contextmanager
def _bound(item: pytest.Item) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seconds = _bound_s(item)

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise TestTooSlow(f"{item.nodeid} took longer than {seconds} s (mark it with @pytest.mark.bound(SECONDS) if it may)")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, _ALARM_AGAIN_S)
    try:
        yield
    except TestTooSlow as slow:
        raise pytest.fail.Exception(str(slow)) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    with _bound(item):
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    with _bound(item):
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    with _bound(item):
        yield


def _still(value: object) -> object:
    if isinstance(value, dict):
        return {key: _still(field) for key, field in value.items() if key not in _VOLATILE}
    if isinstance(value, list):
        return [_still(entry) for entry in value]
    return value


def machine_network() -> dict[str, object]:
    """Links, addresses, routes and rules of the namespace this process runs in, without counters and lifetimes."""
    if shutil.which("ip") is None:
        return {}
    commands = ("link", "address", "route show table all", "-6 route show table all", "rule", "-6 rule")
    seen: dict[str, object] = {}
    for command in commands:
        argv = ["ip", "-j", *command.split()]
        out = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10, check=True).stdout
        seen[command] = _still(json.loads(out or "[]"))
    return seen


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadGroupScheduling | None:
    """With --dist loadgroup, one test at a time to the process that is free; but a file of TOGETHER whole, to one of them.

    (xdist has a mark for this. It is without effect since pytest 9.2, where `_nodeid`, to which xdist adds it, is not read.)
    """
    return _Scheduling(config, log) if config.getvalue("dist") == "loadgroup" else None


class _Scheduling(LoadGroupScheduling):
    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if file in TOGETHER else nodeid


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With several processes, what may take long begins first: else one of them works alone at the end."""
    if hasattr(config, "workerinput"):
        items.sort(key=_bound_s, reverse=True)


def _bound_s(item: pytest.Item) -> float:
    marker = item.get_closest_marker("bound")
    return float(marker.args[0]) if marker else TEST_BOUND_S


@pytest.fixture(scope="session", autouse=True)
def _machine_network_untouched() -> Iterator[None]:
    """The suite never changes the network of the machine it runs on."""
    before = machine_network()
    yield
    after = machine_network()
    changed = [name for name in before if before[name] != after[name]]
    assert not changed, "the machine's own network changed while the tests ran: " + "; ".join(
        f"{name}: before {before[name]} after {after[name]}" for name in changed
    )
