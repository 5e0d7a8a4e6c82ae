"""`--log-format json`: whatever a command has to say beside its data is one JSON object a line, the daemon's words too."""

from __future__ import annotations

import json
import signal
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.netns.scenario import desired, exec_, tun
from tests.netns.world import Host, wait_until

JSON = ("--log-format", "json")


def entries(text: str) -> list[dict[str, Any]]:
    """The log, each line of which has these four, and a time of today."""
    found = [json.loads(line) for line in text.splitlines()]
    for entry in found:
        assert list(entry) == ["time", "level", "tunnel", "message"]
        assert entry["level"] in ("info", "warning", "error", "debug")
        assert abs((datetime.now(UTC) - datetime.fromisoformat(entry["time"])).total_seconds()) < 600
    return found


def test_every_command(host: Host) -> None:
    host.write("d.toml", desired(tun(), exec_("broken", "die", addresses=(), routes=())))
    host.write("bad.toml", "version = 1\n[tunnels.x]\nbogus = 1\n")
    lines = {
        "apply d.toml": 1, "apply bad.toml": 65, "check nonesuch": 65, "plan bad.toml": 65, "show nonesuch": 64, "bogus": 64,
        "status --bogus": 64, "down demo": 0, "reconcile": 1, "status --debug": 1, "forget --all": 0, "rollback": 69,
        "apply bad.toml --debug": 65,
    }  # fmt: skip
    told = {line: entries(host.tunctl(*line.split(), *JSON, expect=code).stderr) for line, code in lines.items()}
    assert all(told[line] for line, code in lines.items() if code and not line.startswith("status --debug")), told
    assert any((entry["level"], entry["tunnel"]) == ("error", "broken") for entry in told["apply d.toml"])
    assert any((entry["level"], entry["tunnel"]) == ("info", "demo") for entry in told["reconcile"]), "it is held down"


@pytest.mark.bound(240)
def test_the_daemon(host: Host) -> None:
    host.tunctl("apply", host.write("d.toml", desired(tun())))
    daemon = host.start(host.tunctl_argv("daemon", *JSON), log="daemon.log")
    wait_until(lambda: host.json("status", expect=None)["daemon"]["running"], 20)
    host.ip("route del 10.20.0.0/16 dev tun-demo")
    read = (host.dir / "daemon.log").read_text
    wait_until(lambda: "\n" in read(), 20, "it says what it repaired")
    assert host.kill(daemon, signal.SIGTERM, 15) == 0
    first = entries(read())[0]
    assert (first["level"], first["tunnel"]) == ("info", "demo")
    assert first["message"].startswith("+ route 10.20.0.0/16 dev tun-demo")
