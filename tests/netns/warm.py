"""tunctl without its start-up: a server that has loaded everything forks a child for each command.

The child enters the namespace of the host, gets its environment, its directory and files for its output, and runs the same
`main` with the same words: a process of its own that can be killed like any other, in a fifth of the time. It sees a
/dev/net/tun that everybody may open, as on most machines. It does not see a /sys of its own: tunctl asks netlink.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from tests.netns.world import NETNS_DIR, PROJECT, Host, setns

_USUAL = 'mknod -m 666 "$1/tun" c 10 200 && mount --bind "$1/tun" /dev/net/tun && shift && exec "$@"'


class Warm:
    """The server, started once for a test; `run` is what `Host.tunctl` is."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._count = 0
        environment = {**host.env, "PYTHONPATH": str(PROJECT)}
        shell = ["unshare", "-m", "sh", "-c", _USUAL, "sh", str(host.dir)]
        argv = [*shell, sys.executable, "-m", "tests.netns.warm"]
        self._server = subprocess.Popen(
            argv, env=environment, cwd=host.dir, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._answer() == {"ready": True}

    def __enter__(self) -> Warm:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._server.stdin
        self._server.stdin.close()
        self._server.wait(10)

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
        out, err = (str(self.host.dir / f"warm-{self._count}.{which}") for which in ("out", "err"))
        order = {
            "args": self._args, "env": {**self.host.env, **(env or {})}, "netns": str(NETNS_DIR / self.host.name),
            "dir": str(self.host.dir), "out": out, "err": err,
        }  # fmt: skip
        self._files = (out, err)
        assert self._server.stdin
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        self._pid: int = self._answer()["pid"]
        return self._pid

    def end(self, *, expect: int | None = None, timeout: float = 30) -> subprocess.CompletedProcess[str]:
        """Wait for the command that `begin` started; killed when it takes longer, which fails the test."""
        import select

        if not select.select([self._server.stdout], [], [], timeout)[0]:
            os.kill(self._pid, signal.SIGKILL)
            raise AssertionError(f"tunctl {' '.join(self._args)} takes longer than {timeout} s")
        code = self._answer()["code"]
        out, err = (Path(file).read_text(errors="replace") for file in self._files)
        for file in self._files:
            Path(file).unlink()
        done = subprocess.CompletedProcess(["tunctl", *self._args], code, out, err)
        told = f"tunctl {' '.join(self._args)} → {code}\nstdout: {out}\nstderr: {err}"
        assert expect is None or code == expect, f"expected exit code {expect}: {told}"
        assert "Traceback (most recent call last)" not in err, told
        return done

    def json(self, *args: str | os.PathLike[str], expect: int | None = 0) -> Any:
        """What tunctl --json prints, parsed."""
        return json.loads(self.run(*args, "--json", expect=expect).stdout)

    def _answer(self) -> dict[str, Any]:
        assert self._server.stdout
        line = self._server.stdout.readline()
        assert line, "the server of warm commands is gone"
        answer: dict[str, Any] = json.loads(line)
        return answer


def _serve() -> None:
    """Loads all of tunctl, then a child for each line."""
    import reconciler

    for module in pkgutil.walk_packages(reconciler.__path__, "reconciler."):
        if not module.name.endswith("__main__") and ".migrations" not in module.name:
            importlib.import_module(module.name)
    for name in ("sqlalchemy.dialects.sqlite", "alembic.command", "statemachine", "shutil", "pwd", "grp", "traceback"):
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
    try:
        descriptor = os.open(order["netns"], os.O_RDONLY | os.O_CLOEXEC)
        setns(descriptor)
        os.close(descriptor)
        os.environ.clear()
        os.environ.update(order["env"])
        os.chdir(order["dir"])
        for target, path in ((0, os.devnull), (1, order["out"]), (2, order["err"])):
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
