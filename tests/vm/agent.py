"""Commands inside of the virtual machine, by the protocol of QEMU's guest agent: a JSON object a line, over a socket.
And to QEMU itself, whose monitor speaks alike."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from base64 import b64decode, b64encode
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

_POLL_S, _POLL_AT_MOST_S = 0.05, 0.5  # each question costs the machine some milliseconds
_ANSWER_S = 120  # a few milliseconds, when nobody else wants the processors


class AgentGone(Exception):
    """Nobody answers: the machine is off, or about to be."""


class Agent:
    """One connection; it lasts until the machine goes off."""

    def __init__(self, path: Path, patience_s: float) -> None:
        """Waits until the agent answers. AgentGone after `patience_s`."""
        deadline = time.monotonic() + patience_s
        self._received = b""
        self._socket = socket.socket(socket.AF_UNIX)
        with suppress(OSError):
            self._socket.connect(os.fspath(path))
        while not self._is_in_step(os.urandom(3).hex()):
            if time.monotonic() > deadline:
                self.close()
                raise AgentGone(f"the agent has not answered within {patience_s} s")

    def close(self) -> None:
        self._socket.close()

    def start(self, argv: Sequence[str], stdin: str | None = None) -> int:
        """→ its pid in the machine."""
        order: dict[str, object] = {"path": argv[0], "arg": list(argv[1:]), "capture-output": True}
        if stdin is not None:
            order["input-data"] = b64encode(stdin.encode()).decode()
        return int(self._ask("guest-exec", order)["pid"])

    def wait(self, pid: int, argv: Sequence[str], timeout: float) -> subprocess.CompletedProcess[str]:
        """For one that was started. What ends by a signal has its number, negative, as its code."""
        deadline, pause_s = time.monotonic() + timeout, _POLL_S
        while not (told := self._ask("guest-exec-status", {"pid": pid}))["exited"]:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(list(argv), timeout)
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.3, _POLL_AT_MOST_S)
        code = -told["signal"] if "signal" in told else told["exitcode"]
        out, err = (b64decode(told.get(name, "")).decode(errors="replace") for name in ("out-data", "err-data"))
        return subprocess.CompletedProcess(list(argv), code, out, err)

    def _is_in_step(self, word: str) -> bool:
        """Whether the next answers are to what is asked next: what an agent has missed while it was not there is lost."""
        number = int(word, 16)
        with suppress(AgentGone, TimeoutError):
            self._send("guest-sync", {"id": number})
            while self._line(1) != {"return": number}:
                pass
            return True
        return False

    def _ask(self, command: str, arguments: dict[str, object]) -> Any:
        self._send(command, arguments)
        try:
            told = self._line(_ANSWER_S)
        except TimeoutError:
            raise AgentGone(f"no answer to {command}") from None
        assert "return" in told, told
        return told["return"]

    def _send(self, command: str, arguments: dict[str, object]) -> None:
        try:
            self._socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        except OSError as error:
            raise AgentGone(str(error)) from error

    def _line(self, timeout: float) -> Any:
        """The next one. TimeoutError, AgentGone."""
        self._socket.settimeout(timeout)
        while b"\n" not in self._received:
            try:
                part = self._socket.recv(65536)
            except TimeoutError:
                raise
            except OSError as error:
                raise AgentGone(str(error)) from error
            if not part:
                raise AgentGone("the connection has ended")
            self._received += part
        line, _newline, self._received = self._received.partition(b"\n")
        return json.loads(line)


def monitor(path: Path, command: str) -> Any:
    """QEMU's answer to a command."""
    with socket.socket(socket.AF_UNIX) as line, line.makefile("rw") as file:
        line.settimeout(_ANSWER_S)
        line.connect(os.fspath(path))
        file.readline()  # its greeting
        told = {}
        for name in ("qmp_capabilities", command):
            file.write(json.dumps({"execute": name}) + "\n")
            file.flush()
            while not {"return", "error"} & (told := json.loads(file.readline())).keys():
                pass  # something happened
        return told
