"""The control socket: commands go through the daemon when it runs, with the same words; whoever is on the other end."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reconciler.host import lock
from tests.netns.faults import assert_clean, everything, marked, state, tun_file
from tests.netns.test_daemon import SOON_S, Keeper, exec_block, exec_file, keep, keepers, tunctl
from tests.netns.warm import Warm
from tests.netns.world import Host, wait_until

__all__ = ["keepers", "tunctl"]
pytestmark = pytest.mark.bound(240)


def door(host: Host) -> Path:
    return host.run_dir / "control.sock"


def kept(host: Host, tunctl: Warm, keepers: list[Keeper]) -> Keeper:
    keeper = keep(host, tunctl, keepers)
    wait_until(door(host).exists, SOON_S, "the control socket is there")
    return keeper


def talk(host: Host, content: bytes, *, end: bool = True) -> list[dict[str, object]]:
    """What is answered to these bytes."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(SOON_S)
        connection.connect(str(door(host)))
        connection.sendall(content)
        if end:
            connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as lines:
            return [json.loads(line) for line in lines]


def request(host: Host, command: str, **order: object) -> bytes:
    options = {"allow_withdraw": False, "take_over": False, "adopt": False, "keep_holds": False}
    words = {"command": command, "names": [], "every": False, "orphans": False, "source": None, "file": "", "options": options}
    document = {
        "version": 1, "order": {**words, "timeout_s": 60.0, "wait": False, **order}, "state_dir": str(host.state_dir),
        "directory": str(host.dir), "stdin": None, "sudo_uid": None, "as_json": True, "debug": False, "lock_timeout_s": 2.0,
    }  # fmt: skip
    return json.dumps(document).encode() + b"\n"


def test_the_same_words_with_and_without(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    before, file = state(host), everything(host)

    def all_of_it() -> list[tuple[int, str, str]]:
        out = []
        for words in (
            ("apply", "nothing.toml"), ("apply", file), ("apply", file), ("down", "plain"), ("down", "plain"), ("up", "nobody"),
            ("apply", file, "--keep-holds"), ("up", "plain"), ("reconcile",), ("--json", "down", "plain"), ("down", "--all"),
            ("forget", "--all"), ("down",), ("forget",),
        ):  # fmt: skip
            done = tunctl.run(*words, expect=None)
            out.append((done.returncode, done.stdout, done.stderr))
        return out

    def plain(told: tuple[int, str, str]) -> str:
        """Without pids, marks and times."""
        words = r"pid \d+|\"(pid|start_ticks|ifindex)\": \d+|[0-9a-f]{8,}\"|\"seconds\": [0-9.e-]+|\"carrier\": \w+"
        return re.sub(words, "…", "\n".join(map(str, told)))

    alone = all_of_it()
    assert_clean(host, before)
    kept(host, tunctl, keepers)
    through = all_of_it()
    for one, other in zip(through, alone, strict=True):
        assert plain(one).replace(",", ",\n").splitlines() == plain(other).replace(",", ",\n").splitlines()
    (keeper,) = keepers
    keeper.end()
    assert not door(host).exists()
    assert_clean(host, before)


def test_the_protocol(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """Frames of log and step, then exactly one result or error."""
    file = tun_file(host, "demo", "two")
    kept(host, tunctl, keepers)
    frames = talk(host, request(host, "apply", file=str(file)))
    assert {key for frame in frames for key in frame} <= {"log", "step", "result"}
    steps = [line for frame in frames if "step" in frame for line in frame["step"]["text"].split("\n")]  # type: ignore[index]
    assert "+ link tun-demo type tun up" in steps
    result = frames[-1]["result"]
    assert isinstance(result, dict)
    assert (result["exit_code"], result["document"]["converged"]) == (0, True)
    (frame,) = talk(host, request(host, "up", names=["nobody"]))
    assert frame["error"]["code"] == 64  # type: ignore[index]
    assert (host.run_dir / "control.sock").stat().st_mode & 0o777 == 0o660
    wrong = {
        "no JSON": b"apply\n", "no object": b"[]\n", "deep": b"[" * 100_000 + b"\n", "not UTF-8": b"\xff\xfe\n", "empty": b"\n",
        "another version": request(host, "up").replace(b'"version": 1', b'"version": 2'),
        "a word too many": request(host, "up", more=1), "a wrong type": request(host, "up", every="yes"),
        "an unknown command": request(host, "status"),
    }  # fmt: skip
    for what, content in wrong.items():
        answers = talk(host, content)
        assert [list(frame) for frame in answers] in ([["error"]], []), what
        if answers:
            assert answers[0]["error"]["code"] in (64, 69), (what, answers)  # type: ignore[index]
    assert "restart" in str(talk(host, wrong["another version"]))
    assert tunctl.json("status", "two", expect=3)["tunnels"][0]["verdict"] == "degraded"


def test_slow_silent_and_many_clients_delay_nobody(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    file = tun_file(host, "demo")
    keeper = kept(host, tunctl, keepers)
    silent = []
    for number in range(60):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(door(host)))
        if number % 2:
            connection.sendall(b'{"version": 1, ')
        silent.append(connection)
    tunctl.run("apply", file)
    one = socket.socket(socket.AF_UNIX)  # asks, and never reads
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    one.connect(str(door(host)))
    one.sendall(request(host, "apply", file=str(tun_file(host, "demo", *(f"t{n}" for n in range(40))))))
    wait_until(lambda: "tun-t39" in host.ip("link"), SOON_S, "its work is done all the same")
    gone = socket.socket(socket.AF_UNIX)
    gone.connect(str(door(host)))
    patient = request(host, "down", every=True).replace(b'"lock_timeout_s": 2.0', b'"lock_timeout_s": 60.0')
    gone.sendall(patient)  # what was asked for before may still be at work
    gone.close()
    wait_until(lambda: "tun-" not in host.ip("link"), SOON_S, "a client that goes away changes nothing")
    for connection in (*silent, one):
        connection.close()
    assert keeper.end(within_s=10) == 0


def test_one_client_too_many_is_told(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """At most 32 are served at once; the loop goes on, and SIGTERM is obeyed."""
    tunctl.run("apply", tun_file(host, "demo"))
    keeper = kept(host, tunctl, keepers)
    time.sleep(1)
    patient = request(host, "reconcile").replace(b'"lock_timeout_s": 2.0', b'"lock_timeout_s": 60.0')
    with (host.run_dir / "lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # somebody is at work, and all of them wait
        clients = [socket.socket(socket.AF_UNIX) for _ in range(40)]
        for client in clients:
            client.connect(str(door(host)))
            client.sendall(patient)
        ready, _, _ = select.select(clients, (), (), SOON_S)
        told = json.loads(ready[0].recv(4096).splitlines()[-1])
        assert told["error"]["code"] == 75, told
        assert "32 others" in told["error"]["message"]
        assert keeper.end(within_s=30) == 0
    for client in clients:
        client.close()


def test_debug_reaches_the_daemon(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """What led to an error is told to who asks for it, and to nobody else."""
    tunctl.run("apply", tun_file(host, "demo"))
    kept(host, tunctl, keepers)
    (host.state_dir / "intent.db").write_bytes(b"no database" * 1000)
    (frame,) = talk(host, request(host, "reconcile"))
    assert frame["error"]["code"] == 74  # type: ignore[index]
    frames = talk(host, request(host, "reconcile").replace(b'"debug": false', b'"debug": true'))
    assert [list(one) for one in frames] == [["log"], ["error"]]
    assert "DatabaseError" in frames[0]["log"]["message"]  # type: ignore[index]


def test_a_user_has_his_own_rights(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """Who is not in the group may not even connect; whoever may, reads only what he could read himself."""
    secret = host.write("secret.toml", "version = 1\n[tunnels.x]\ndriver = 'tun'\n", 0o600)
    kept(host, tunctl, keepers)
    as_nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    script = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
        "s.sendall(sys.stdin.buffer.read()); print(s.makefile().read())"
    )
    argv = [*as_nobody, sys.executable, "-c", script, str(door(host))]
    done = subprocess.run(
        argv, input=request(host, "apply", file=str(secret)), capture_output=True, check=False, timeout=SOON_S
    )
    assert done.returncode != 0
    assert b"PermissionError" in done.stderr
    host.run_dir.chmod(0o755)
    door(host).chmod(0o666)  # an administrator's mistake is not enough
    done = subprocess.run(
        argv, input=request(host, "apply", file=str(secret)), capture_output=True, check=False, timeout=SOON_S
    )
    assert b"may not change tunnels" in done.stdout, done
    assert "tun-x" not in host.ip("link")


def test_a_member_of_the_group_borrows_nothing_from_the_daemon(host: Host) -> None:
    """Who may change tunnels still reads only what he could read himself: files, prefixes, and keys that are new."""
    host.write_etc("group", "root:x:0:\nnogroup:x:65534:\ntunctl:x:4242:nobody\n")
    host.write("wg.key", host.tunctl("key", "generate", "--type", "x25519").stdout, 0o600)
    host.write("prefixes", "10.20.0.0/16\n", 0o600)
    host.start(host.tunctl_argv("daemon"), log="daemon.log")
    wait_until(door(host).exists, SOON_S, "the control socket is there")
    assert (door(host).stat().st_mode & 0o777, door(host).stat().st_gid) == (0o660, 4242)
    head, demo = "version = 1\nsource = 'x'\n", "[tunnels.demo]\ndriver = 'tun'\ninterface = 'tun-demo'\n"
    office = "[tunnels.office]\ndriver = 'wireguard'\nwireguard = { private_key_file = 'wg.key', backend = 'userspace' }\n"

    def by_nobody(name: str, text: str, mode: int = 0o644) -> subprocess.CompletedProcess[str]:
        argv = ["setpriv", "--reuid", "65534", "--regid", "65534", "--groups", "4242"]
        return host.run([*argv, *host.tunctl_argv("apply", host.write(name, text, mode))], check=False)

    for done in (
        by_nobody("secret.toml", head + demo, 0o600),
        by_nobody("prefixes.toml", f"{head}{demo}routes = [{{ to_file = 'prefixes' }}]\n"),
        by_nobody("key.toml", head + demo + office),
    ):
        assert (done.returncode, "permission denied" in done.stderr) == (65, True), done
    assert "tun-demo" not in host.ip("link")
    done = by_nobody("own.toml", head + demo)
    assert (done.returncode, "tun-demo" in host.ip("link")) == (0, True), done
    host.tunctl("apply", host.write("all.toml", head + demo + office))
    done = by_nobody("all.toml", head + demo + office + "mtu = 1300\n")
    assert done.returncode != 65, "what root has given to a tunnel stays usable there"


def test_the_owner_in_the_history_is_the_user(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    kept(host, tunctl, keepers)
    tunctl.run("apply", tun_file(host, "demo"), env={"SUDO_UID": "65534"})
    assert "nobody" in tunctl.run("history").stdout


def test_standard_input_goes_along(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    kept(host, tunctl, keepers)
    text = tun_file(host, "demo").read_text()
    host.run(tunctl.cold_argv("apply", "-"), stdin=text)
    assert "tun-demo" in host.ip("link")


def test_a_working_directory_that_is_gone(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """What is not relative to it does not care; what is gets an answer, the same as without a daemon."""
    file, gone = tun_file(host, "demo"), host.dir / "gone"

    def there(*words: str) -> subprocess.CompletedProcess[str]:
        script = f'mkdir {gone} && cd {gone} && rmdir {gone} && exec "$@"'
        return host.run(["sh", "-c", script, "sh", *host.tunctl_argv(*words)], check=False)

    alone = there("apply", file.name)
    kept(host, tunctl, keepers)
    told = there("apply", file.name)
    assert (told.returncode, told.stderr) == (alone.returncode, alone.stderr) == (65, alone.stderr)
    assert "the working directory is gone" in told.stderr
    for words in (("apply", str(file)), ("down", "demo"), ("up", "demo"), ("reconcile",)):
        done = there(*words)
        assert done.returncode == 0, (words, done)


def test_a_stopped_daemon_is_no_reason_to_wait(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """It takes nothing in: commands do it themselves, and nothing is done twice when it wakes up."""
    keeper, file = kept(host, tunctl, keepers), tun_file(host, "demo")
    text = file.read_text()
    keeper.process.send_signal(signal.SIGSTOP)
    tunctl.run("apply", file)
    tunctl.run("down", "demo")
    host.run(tunctl.cold_argv("apply", "-"), stdin=text)
    assert "tun-demo" in host.ip("link")
    tunctl.run("down", "demo")
    keeper.process.send_signal(signal.SIGCONT)
    tunctl.run("reconcile", expect=None)  # through the daemon again, after all that was sent to it
    assert "tun-demo" not in host.ip("link")
    events = [event["event"] for event in tunctl.json("history", "demo")["history"]]
    assert events.count("held") == 2, events


def test_one_that_takes_nothing_in_is_not_waited_for(host: Host, tunctl: Warm) -> None:
    """It is not stopped, and it does not read: what was sent to it is no request."""
    file = tun_file(host, "demo")
    host.run_dir.mkdir(mode=0o755)
    with socket.socket(socket.AF_UNIX) as wedged:
        wedged.bind(str(door(host)))
        wedged.listen()
        tunctl.run("apply", file)
        assert "tun-demo" in host.ip("link")
        connection, _ = wedged.accept()
        with connection, connection.makefile("rb") as sent:
            assert b"\n" not in sent.read(), "its end is missing"


def test_what_a_program_says_while_it_starts(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """Its lines come as frames while the client waits, and to the terminal of a command without a daemon."""
    file = exec_file(host, exec_block("chatty", "talk"))
    done = tunctl.run("apply", file)
    assert "chatty: line 0 \\x1b[31m\n" in done.stderr, "it moves no cursor"
    tunctl.run("down", "chatty")
    kept(host, tunctl, keepers)
    frames = talk(host, request(host, "up", names=["chatty"]))
    said = [frame["log"] for frame in frames if "log" in frame]
    expected = [{"level": "info", "message": f"line {n} \\x1b[31m", "tunnel": "chatty"} for n in range(40)]
    assert [one for one in said if one in expected] == expected
    assert "result" in frames[-1], "and then the result"


def test_down_wins_over_what_is_waited_for(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """F50: `apply` through the daemon waits for a program, `down` comes in between and is obeyed at once."""
    before = state(host)
    file = exec_file(host, exec_block("stuck", "never"))
    kept(host, tunctl, keepers)
    waiting = host.start(tunctl.cold_argv("apply", file), log="apply.log")
    wait_until(lambda: marked(host), SOON_S)
    begun = time.monotonic()
    tunctl.run("down", "stuck")
    assert time.monotonic() - begun < 5
    assert waiting.wait(SOON_S) == 1
    said = (host.dir / "apply.log").read_text()
    assert "error: stuck: another order has taken it down before it was up" in said
    assert "signal" not in said, "its program is not to blame"
    time.sleep(0.5)
    assert_clean(host, before)


def test_the_daemon_ends_while_it_works_for_somebody(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    file = exec_file(host, exec_block("stuck", "never"))
    keeper = kept(host, tunctl, keepers)
    waiting = host.start(tunctl.cold_argv("apply", file), log="apply.log")
    wait_until(lambda: marked(host), SOON_S)
    assert keeper.end(within_s=10) == 0
    assert waiting.wait(SOON_S) == 1
    assert "told to end" in (host.dir / "apply.log").read_text()
    again = kept(host, tunctl, keepers)
    os.kill(again.process.pid, signal.SIGTERM)
    assert again.process.wait(10) == 0


@pytest.mark.parametrize("is_stored", [False, True], ids=["before anything was stored", "after"])
def test_who_works_for_somebody_is_killed(host: Host, tunctl: Warm, keepers: list[Keeper], is_stored: bool) -> None:
    """What is told is true whether or not there is anything to go on with."""
    keeper = kept(host, tunctl, keepers)
    with host.inside(), contextlib.nullcontext() if is_stored else lock.hold(host.run_dir, SOON_S):
        argv = tunctl.cold_argv("--lock-timeout", "60s", "apply", exec_file(host, exec_block("stuck", "never")))
        waiting = host.start(argv, log="apply.log")
        if is_stored:
            wait_until(lambda: marked(host), SOON_S)
        wait_until(lambda: _killed(keeper) and waiting.poll() is not None, SOON_S)  # who has not begun with it hands it on
    assert waiting.wait() == 1
    hint = "tunctl status tells; a daemon goes on with what was stored, and the same order may be given again"
    said = (host.dir / "apply.log").read_text()
    assert said.endswith(f"error: the daemon did not say how it went: the connection ended\nhint: {hint}\n")
    declared = tunctl.json("status", expect=None)["tunnels"]
    assert [one["name"] for one in declared] == (["stuck"] if is_stored else [])


def _killed(keeper: Keeper) -> bool:
    """Whoever works for this daemon now."""
    pid = keeper.process.pid
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        os.kill(int(child), signal.SIGKILL)
    return True


def test_a_daemon_that_is_stopped_holds_nobody_up(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """Commands do it themselves, as without one; woken up, it finds all as it is to be."""
    tunctl.run("apply", tun_file(host, "demo"))
    keeper = kept(host, tunctl, keepers)
    os.kill(keeper.process.pid, signal.SIGSTOP)
    try:
        assert "- link tun-demo" in tunctl.run("down", "demo").stdout
        assert tunctl.run("reconcile").stdout == "no changes\n"
    finally:
        os.kill(keeper.process.pid, signal.SIGCONT)
    assert "+ link tun-demo" in tunctl.run("up", "demo").stdout
    assert keeper.end() == 0
