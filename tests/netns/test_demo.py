"""The demo is a promise that anybody can check in ten seconds: it holds, and cleans up, also when it is interrupted."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.netns.world import NETNS_DIR

DEMO = Path(__file__).parents[2] / "demo" / "demo.py"


def _left(pid: int) -> list[Path]:
    places = (NETNS_DIR, Path(tempfile.gettempdir()))
    return [path for place in places for path in place.glob(f"tunctl-demo-{pid}-*")]


def _start() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, DEMO], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_demo_keeps_its_promises_and_leaves_nothing() -> None:
    demo = _start()
    out, _ = demo.communicate(timeout=55)
    assert demo.returncode == 0, out
    assert "✗" not in out
    assert out.count("# tunctl") >= 12
    assert _left(demo.pid) == []


def test_demo_that_is_interrupted_leaves_nothing() -> None:
    demo = _start()
    assert demo.stdout
    for line in demo.stdout:
        if "tunctl apply" in line:
            break
    demo.send_signal(signal.SIGINT)
    out, _ = demo.communicate(timeout=30)
    assert demo.returncode == 130, out
    assert _left(demo.pid) == []
