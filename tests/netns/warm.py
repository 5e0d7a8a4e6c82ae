"""tunctl on one host as on most machines: /dev/net/tun may be opened by everybody. Commands are forked (`forked.py`), and can
be killed while they work. They do not see a /sys of their own: tunctl asks netlink.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from tests.netns import forked
from tests.netns.world import PATIENCE, Host, told


class Warm:
    """`run` is what `Host.tunctl` is."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._running: forked.Forked | None = None

    def __enter__(self) -> Warm:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._running:  # a test failed in between
            self._end(0)

    def run(
        self, *args: str | os.PathLike[str], expect: int | None = 0, env: Mapping[str, str] | None = None, timeout: float = 30
    ) -> subprocess.CompletedProcess[str]:
        """Run tunctl and wait for it; the code of one that was killed is minus the signal."""
        self.begin(*args, env=env)
        return self.end(expect=expect, timeout=timeout)

    def begin(self, *args: str | os.PathLike[str], env: Mapping[str, str] | None = None) -> int:
        """Start a command; → its pid. One at a time."""
        assert self._running is None
        self._args = [os.fspath(word) for word in args]
        order = self.host.order(self._args, env, etc=None)
        self._outputs = [os.memfd_create(name) for name in ("stdout", "stderr")]
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._running = forked.Forked(order, self.host.descriptor, [null, *self._outputs])
        finally:
            os.close(null)
        return self._running.pid

    def end(self, *, expect: int | None = None, timeout: float = 30) -> subprocess.CompletedProcess[str]:
        """Wait for the command that `begin` started; killed when it takes longer, which fails the test."""
        code, (out, err) = self._end(timeout)
        done = subprocess.CompletedProcess(["tunctl", *self._args], code, out, err)
        assert code is not None, f"takes longer than {timeout} s: {told(done)}"
        assert expect is None or code == expect, f"expected exit code {expect}: {told(done)}"
        assert "Traceback (most recent call last)" not in err, told(done)
        return done

    def _end(self, timeout: float) -> tuple[int | None, list[str]]:
        assert self._running
        with self._running as running:
            code = running.wait(timeout * PATIENCE)
        self._running = None
        return code, [_taken(descriptor) for descriptor in self._outputs]

    def cold_argv(self, *args: str | os.PathLike[str]) -> list[str]:
        """The command line of tunctl for `Host.start`, with the /dev/net/tun that everybody may open."""
        return ["nsenter", "-t", str(forked.server().process.pid), "-m", *self.host.tunctl_argv(*args)]

    def json(self, *args: str | os.PathLike[str], expect: int | None = 0) -> Any:
        """What tunctl --json prints, parsed."""
        return json.loads(self.run(*args, "--json", expect=expect).stdout)


def _taken(descriptor: int) -> str:
    """What was written into it; it is closed."""
    with open(descriptor, "rb") as file:
        file.seek(0)
        return file.read().decode(errors="replace")
