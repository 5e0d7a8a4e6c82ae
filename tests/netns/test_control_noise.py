"""What may come in at the control socket, and how it is read: no client costs the daemon more than his own answer."""

from __future__ import annotations

import json
import random
import socket
import struct
import time

import pytest

from tests.netns.faults import assert_clean, state, tun_block, tun_file
from tests.netns.scenario import desired, tun
from tests.netns.test_control import door, kept, request, talk
from tests.netns.test_daemon import SOON_S, Keeper, is_back, keepers, tunctl
from tests.netns.test_daemon_storms import memory_kb
from tests.netns.warm import Warm
from tests.netns.world import Host, wait_until

__all__ = ["keepers", "tunctl"]
pytestmark = pytest.mark.bound(120)
MANY = 15_000  # routes: their plan is far more than the buffer of a socket


def connected(host: Host) -> socket.socket:
    one = socket.socket(socket.AF_UNIX)
    one.connect(str(door(host)))
    one.settimeout(SOON_S)
    return one


# A request that is JSON and means nothing: these words instead of others.
SENSELESS = {
    "a directory with a null byte": ('"directory": "', '"directory": "\\u0000'),
    "a directory of half a letter": ('"directory": "', '"directory": "\\ud800'),
    "a file with a null byte": ('"file": ""', '"file": "\\u0000"'),
    "a file of half a letter": ('"file": ""', '"file": "\\ud800"'),
    "names of half a letter": ('"names": []', '"names": ["\\udfff"]'),
    "names that are none": ('"names": []', '"names": [{}, 1, null]'),
    "names that are a number": ('"names": []', '"names": 7'),
    "deep names": ('"names": []', '"names": ' + "[" * 900 + "]" * 900),
    "no time": ('"timeout_s": 60.0', '"timeout_s": NaN'),
    "all the time": ('"timeout_s": 60.0', '"timeout_s": Infinity'),
    "time that was": ('"timeout_s": 60.0', '"timeout_s": -1.0'),
    "a time that is text": ('"timeout_s": 60.0', '"timeout_s": "60"'),
    "an endless lock": ('"lock_timeout_s": 2.0', '"lock_timeout_s": NaN'),
    "a number too long": ('"lock_timeout_s": 2.0', '"lock_timeout_s": 1' + "0" * 5000),
    "a user that is none": ('"sudo_uid": null', '"sudo_uid": -1'),
    "a user too many": ('"sudo_uid": null', '"sudo_uid": 99999999999999999999'),
    "a user of text": ('"sudo_uid": null', '"sudo_uid": "root"'),
    "input that is no base64": ('"stdin": null', '"stdin": "%%%"'),
    "input that is a list": ('"stdin": null', '"stdin": [1]'),
    "options that are none": ('"options": {', '"options": {"more": true, '),
    "twice": ('"version": 1', '"version": 1, "version": 1, "order": {}'),
    "a version that is text": ('"version": 1', '"version": "1"'),
    "a version that is none": ('"version": 1', '"version": null'),
}


def test_senseless_requests(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """Each is answered with one error that is the client's (64, 65, 69, 77), none is a bug, and nothing is done."""
    tunctl.run("apply", tun_file(host, "demo"))
    before, keeper = state(host), kept(host, tunctl, keepers)
    for what, (old, new) in SENSELESS.items():
        for command in ("apply", "down"):
            content = request(host, command)
            assert old.encode() in content, what
            answers = talk(host, content.replace(old.encode(), new.encode()))
            assert [list(answer) for answer in answers] == [["error"]], (what, command, answers)
            assert answers[0]["error"]["code"] in (64, 65, 69, 77), (what, command, answers)  # type: ignore[index]
    assert state(host) == before
    assert keeper.process.poll() is None


def test_from_nowhere(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """A client whose directory is gone, or closed to the daemon, needs none for a path that is absolute."""
    file = tun_file(host, "demo")
    kept(host, tunctl, keepers)
    gone = 'mkdir gone && cd gone && rmdir ../gone && exec "$@"'
    host.run(["sh", "-c", gone, "sh", *tunctl.cold_argv("apply", file)])
    (answer,) = talk(host, request(host, "apply", file="d.toml").replace(b'"directory": "', b'"directory": "/nonexistent'))
    assert (answer["error"]["code"], "absolute path" in answer["error"]["hint"]) == (65, True)  # type: ignore[index]
    host.run(["sh", "-c", gone, "sh", *tunctl.cold_argv("down", "demo")])
    assert "tun-demo" not in host.ip("link")


def test_noise(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """Requests that are cut off anywhere, or have other bytes in them, and 64 MiB without an end: forgotten, or refused."""
    tunctl.run("apply", tun_file(host, "demo"))
    wanted, keeper, chance = state(host), kept(host, tunctl, keepers), random.Random(8)
    whole = request(host, "down", names=["demo"])
    for cut in chance.sample(range(len(whole)), 20):
        assert talk(host, whole[:cut]) == [], "half a line is no request"
    for _ in range(20):
        spoilt = bytearray(whole)
        for place in chance.sample(range(len(whole) - 1), 3):
            spoilt[place] = chance.randrange(256)
        spoilt[0] = chance.randrange(256)  # certainly no JSON any more
        answers = talk(host, bytes(spoilt.replace(b"\n", b" ")) + b"\n")
        assert [list(answer) for answer in answers] == [["error"]], (spoilt, answers)
        assert answers[0]["error"]["code"] == 64, (spoilt, answers)  # type: ignore[index]
    before_kb = memory_kb(keeper.process.pid)
    endless = connected(host)
    with pytest.raises(ConnectionError):
        while True:
            endless.sendall(bytes(1 << 20))
    endless.close()
    wait_until(lambda: memory_kb(keeper.process.pid) < before_kb + 4096, SOON_S, "what was forgotten takes no memory")
    host.ip("link del tun-demo")
    is_back(host, wanted, "the link", keeper)


def test_forty_at_once(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """All of them ask for something, some hang up at once: each that stays gets one answer, and the last wish holds."""
    before = state(host)
    tunctl.run("apply", tun_file(host, "demo", "other"))
    kept(host, tunctl, keepers)
    clients = []
    for number in range(40):
        client = connected(host)
        client.sendall(request(host, ("down", "up", "reconcile")[number % 3], every=number % 3 < 2))
        if number % 5 == 4:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))
            client.close()
        else:
            clients.append(client)
    for client in clients:
        with client.makefile("rb") as lines:
            *_, last = [json.loads(line) for line in lines]
        code = last["result"]["exit_code"] if "result" in last else last["error"]["code"]
        assert code in (0, 75), last
    wait_until(lambda: "result" in talk(host, request(host, "down", every=True))[-1], SOON_S, "there is room again")
    tunctl.run("forget", "--all")
    assert_clean(host, before)


def many(host: Host) -> str:
    to = [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}/32" for n in range(MANY)]
    return str(host.write("many.toml", desired(tun("many", routes=to))))


def routes(host: Host) -> int:
    return host.ip("-4 route show proto 115").count("\n")


def test_who_never_reads_does_not_hold_up_the_work(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """A plan of 15 000 lines: somebody who reads nothing, one who reads a little and hangs up, one who takes his time."""
    file, keeper = many(host), kept(host, tunctl, keepers)
    for _ in range(2):
        client = connected(host)
        client.sendall(request(host, "apply", file=file))
        wait_until(lambda: routes(host) == MANY, SOON_S, lambda: keeper.said)
        tunctl.run("down", "many", "--lock-timeout", "30s")
        assert routes(host) == 0
        client.recv(100)
        client.close()
    client = connected(host)
    client.sendall(request(host, "apply", file=file))
    wait_until(lambda: routes(host) == MANY, SOON_S, lambda: keeper.said)
    tunctl.run("reconcile", "--lock-timeout", "30s")
    content = b""
    while chunk := client.recv(1 << 16):
        content += chunk
        time.sleep(0.01)
    frames = [json.loads(line) for line in content.splitlines()]
    assert sum(frame["step"]["text"].count("\n+ route") for frame in frames if "step" in frame) > MANY - 500, "all of it"
    assert frames[-1]["result"]["exit_code"] == 0, "and how it went"
    assert keeper.end(within_s=20) == 0


def test_a_tunnel_beside_the_noise(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """Requests byte by byte, and never whole, while something is to be repaired."""
    tunctl.run("apply", host.write("d.toml", f"version = 1\nsource = 'all'\n{tun_block('demo')}"))
    wanted, keeper = state(host), kept(host, tunctl, keepers)
    drips = [connected(host) for _ in range(30)]
    for round_ in range(20):
        for drip in drips:
            drip.send(b'{"version"'[round_ % 10 : round_ % 10 + 1])
        if round_ % 5 == 0:
            host.ip("link del tun-demo")
            is_back(host, wanted, "the link", keeper)
    for drip in drips:
        drip.close()
