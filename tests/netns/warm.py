"""tunctl without its start-up: a server that has loaded everything forks a child for each command.

The child enters the namespace of the host, gets its environment, its directory and files for its output, and runs the same
`main` with the same words: a process of its own that can be killed like any other, in a fifth of the time. It sees a
/dev/net/tun that everybody may open, as on most machines. It does not see a /sys of its own: tunctl asks netlink.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import pkgutil
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from tests.netns.world import NETNS_DIR, PROJECT, Host, setns

_USUAL = (  # and a resolv.conf of its own: no test ever writes the machine's
    'mknod -m 666 "$1/tun" c 10 200 && mount --bind "$1/tun" /dev/net/tun'
    ' && : > "$1/resolv.conf" && mount --bind "$1/resolv.conf" /etc/resolv.conf && shift && exec "$@"'
)


class Server:
    """Started once for all tests of this process."""

    def __init__(self) -> None:
        self._place = tempfile.TemporaryDirectory(prefix="tt-")
        shell = ["unshare", "-m", "sh", "-c", _USUAL, "sh", self._place.name]
        argv = [*shell, sys.executable, "-m", "tests.netns.warm"]
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT)}
        self.process = subprocess.Popen(argv, env=environment, cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._received = b""
        assert self.answer() == {"ready": True}
        atexit.register(self.close)

    def ask(self, order: Mapping[str, object]) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        self.process.stdin.flush()

    def answer(self, timeout: float | None = None) -> dict[str, Any] | None:
        """The next line; None when it does not come in time."""
        assert self.process.stdout
        while b"\n" not in self._received:
            if timeout is not None and not select.select([self.process.stdout], [], [], timeout)[0]:
                return None
            part = os.read(self.process.stdout.fileno(), 4096)
            assert part, "the server of warm commands is gone"
            self._received += part
        line, _, self._received = self._received.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()
        self._place.cleanup()


@cache
def _server() -> Server:
    return Server()


class Warm:
    """tunctl on one host; `run` is what `Host.tunctl` is."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._count = 0
        self._pid = 0

    def __enter__(self) -> Warm:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._pid:  # a test failed in between
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            _server().answer()

    def run(
        self, *args: str | os.PathLike[str], expect: int | None = 0, env: Mapping[str, str] | None = None, timeout: float = 30
    ) -> subprocess.CompletedProcess[str]:
        """Run tunctl and wait for it; the code of one that was killed is minus the signal."""
        self.begin(*args, env=env)
        return self.end(expect=expect, timeout=timeout)

    def begin(self, *args: str | os.PathLike[str], env: Mapping[str, str] | None = None) -> int:
        """Start a command; → its pid. One at a time."""
        self._count += 1
        self._args = [os.fspath(word) for word in args]
        self._files = tuple(str(self.host.dir / f"warm-{self._count}.{which}") for which in ("out", "err"))
        netns = f"/proc/{os.getpid()}/root{NETNS_DIR / self.host.name}"  # it is mounted there, not before the server
        _server().ask({
            "args": self._args, "env": {**self.host.env, **(env or {})}, "netns": netns,
            "dir": str(self.host.dir), "files": self._files,
        })  # fmt: skip
        answer = _server().answer()
        assert answer
        self._pid = answer["pid"]
        return self._pid

    def end(self, *, expect: int | None = None, timeout: float = 30) -> subprocess.CompletedProcess[str]:
        """Wait for the command that `begin` started; killed when it takes longer, which fails the test."""
        answer = _server().answer(timeout)
        if answer is None:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            _server().answer()
        self._pid = 0
        told_args = f"tunctl {' '.join(self._args)}"
        assert answer is not None, f"{told_args} takes longer than {timeout} s"
        out, err = (_taken(Path(file)) for file in self._files)
        code = answer["code"]
        told = f"{told_args} → {code}\nstdout: {out}\nstderr: {err}"
        assert expect is None or code == expect, f"expected exit code {expect}: {told}"
        assert "Traceback (most recent call last)" not in err, told
        return subprocess.CompletedProcess(["tunctl", *self._args], code, out, err)

    def cold_argv(self, *args: str | os.PathLike[str]) -> list[str]:
        """The command line of tunctl for `Host.start`, with the /dev/net/tun that everybody may open."""
        return ["nsenter", "-t", str(_server().process.pid), "-m", *self.host.tunctl_argv(*args)]

    def json(self, *args: str | os.PathLike[str], expect: int | None = 0) -> Any:
        """What tunctl --json prints, parsed."""
        return json.loads(self.run(*args, "--json", expect=expect).stdout)


def _taken(path: Path) -> str:
    """The content of a file, which goes; empty when the command did not live long enough to have one."""
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""
    finally:
        path.unlink(missing_ok=True)


def _serve() -> None:
    """Loads all of tunctl, then a child for each line."""
    import reconciler

    for module in pkgutil.walk_packages(reconciler.__path__, "reconciler."):
        if not module.name.endswith("__main__") and ".migrations" not in module.name:
            importlib.import_module(module.name)
    late = ("sqlalchemy.dialects.sqlite", "alembic.command", "statemachine", "pyroute2", "shutil", "pwd", "grp", "traceback")
    for name in late:
        importlib.import_module(name)
    _say({"ready": True})
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(order)
        _say({"pid": pid})
        _, status = os.waitpid(pid, 0)
        _say({"code": os.waitstatus_to_exitcode(status)})


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _become(order: dict[str, Any]) -> NoReturn:
    """In the child."""
    code = 70
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until tunctl takes it: no traceback of ours
    try:
        descriptor = os.open(order["netns"], os.O_RDONLY | os.O_CLOEXEC)
        setns(descriptor)
        os.close(descriptor)
        os.environ.clear()
        os.environ.update(order["env"])
        os.chdir(order["dir"])
        for target, path in enumerate([os.devnull, *order["files"]]):
            opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(opened, target)
            os.close(opened)
        from reconciler.__main__ import main

        sys.argv = ["tunctl", *order["args"]]
        main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
