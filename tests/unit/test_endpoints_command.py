"""`endpoints sign` and `endpoints verify`: what is signed, from where, with which files, and what is said when not."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import InvalidFile
from reconciler.host import bound
from tests.unit.manifest_of import KEY, OTHER, manifest, private_pem, public_pem

PROJECT = Path(__file__).parents[2]
BOOT = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
SIGN = ("sign", "--key", "key", "--host", "vpn.example.com", "--out", "m")
DAY_S = 86400


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A key and its public half, and another one's."""
    for name, content, mode in (
        ("key", private_pem(), 0o600),
        ("pub", public_pem(), 0o644),
        ("other.pub", public_pem(OTHER), 0o644),
    ):
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(mode)
    return tmp_path


def run(place: Path, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "reconciler", "endpoints", *words]
    environment = {"PYTHONPATH": str(PROJECT), "TUNCTL_RUN_DIR": str(place / "run"), "TUNCTL_STATE_DIR": str(place / "state")}
    done = subprocess.run(argv, cwd=place, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done
    return done


def document(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.stdout.count("\n") == 1
    return json.loads(done.stdout)


def record(place: Path, tunnels: dict[str, dict[str, str]]) -> Path:
    """What `listen` would have left in the run directory."""
    entries = {name: {"bound_at_unix": 1, "requested": bound, "endpoints": bound} for name, bound in tunnels.items()}
    path = place / "run" / "endpoints.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"version": 1, "boot_id": BOOT, "tunnels": entries}))
    return path


def test_what_is_signed_can_be_verified(place: Path) -> None:
    before_s = time.time()
    said = document(run(place, *SIGN, "--endpoint", "hub:udp=8446,tcp=8443", "--endpoint", "b:quic=1", "--ttl", "1d", "--json"))
    assert said["endpoints"] == {"hub": {"udp": 8446, "tcp": 8443}, "b": {"quic": 1}}
    assert said["bridges"] == ["vpn.example.com:1", "vpn.example.com:8443", "vpn.example.com:8446"]
    assert (said["version"], said["file"], said["host"]) == (1, "m", "vpn.example.com")
    assert stat.S_IMODE((place / "m").stat().st_mode) == 0o644
    assert document(run(place, "verify", "--public-key", "pub", "m", "--json")) == said
    lines = run(place, "verify", "--public-key", "pub", "m").stdout.splitlines()
    assert lines[0] == f"m: issued {said['issued_at']}, expires {said['expires_at']}"
    assert lines[1:] == ["  b quic vpn.example.com:1", "  hub tcp vpn.example.com:8443", "  hub udp vpn.example.com:8446"]
    issued = time.mktime(time.strptime(said["issued_at"][:19] + " UTC", "%Y-%m-%dT%H:%M:%S %Z")) - time.timezone
    assert before_s - 2 <= issued <= time.time() + 2
    refused = document(run(place, "verify", "--public-key", "other.pub", "m", "--json", code=65))
    assert "m: refused: it is signed with another key" in refused["error"]["message"]


def test_by_the_record_of_what_is_bound(place: Path) -> None:
    bound = {
        "hub": {"udp": "0.0.0.0:8446", "tcp": "[::]:8443"},
        "near": {"udp": "127.0.0.1:5", "tcp": "192.0.2.1:6"},
        "own": {"udp": "[::1]:7"},
    }
    path = record(place, bound)
    done = run(place, *SIGN, "--from-runtime", "run/endpoints.json", "--json")
    assert document(done)["endpoints"] == {"hub": {"udp": 8446, "tcp": 8443}, "near": {"tcp": 6}}
    assert done.stderr.splitlines() == [
        "warning: near: udp is bound to 127.0.0.1: left out",
        "warning: own: udp is bound to ::1: left out",
    ]
    assert "no tunnel listens" in run(place, *SIGN, code=65).stderr, "our own is only believed where the kernel says the same"
    path.rename(place / "elsewhere.json")
    assert document(run(place, *SIGN, "--from-runtime", "elsewhere.json", "--json"))["endpoints"]["hub"] == {
        "udp": 8446,
        "tcp": 8443,
    }


DAMAGED = "is not a record of bound ports"
RECORDS: dict[str, tuple[dict[str, Any], str]] = {
    "of another boot": ({"boot_id": "6b5a4c1e-0000-4000-8000-000000000001"}, "was written in another boot"),
    "of a later version": ({"version": 2}, DAMAGED),
    "tunnels a list": ({"tunnels": []}, DAMAGED),
    "no name": ({"tunnels": {"../x": {"endpoints": {}}}}, DAMAGED),
    "no port": ({"tunnels": {"hub": {"bound_at_unix": 1, "endpoints": {"udp": "0.0.0.0"}}}}, DAMAGED),
    "a port beyond": (
        {"tunnels": {"hub": {"bound_at_unix": 1, "endpoints": {"udp": "0.0.0.0:65536"}}}},
        "is not a record of bound ports",
    ),
    "a transport": (
        {"tunnels": {"hub": {"bound_at_unix": 1, "endpoints": {"x": "0.0.0.0:1"}}}},
        "is not a record of bound ports",
    ),
    "a number": ({"tunnels": {"hub": {"bound_at_unix": 1, "endpoints": {"udp": 7}}}}, DAMAGED),
}


@pytest.mark.parametrize(("changes", "why"), RECORDS.values(), ids=RECORDS)
def test_a_record_that_must_not_be_believed(place: Path, changes: dict[str, Any], why: str) -> None:
    path = record(place, {"hub": {"udp": "0.0.0.0:8446"}})
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(InvalidFile, match=why):
        bound.read(str(path), BOOT)


def test_without_a_record(place: Path) -> None:
    assert "there is no record of bound ports" in run(place, *SIGN, code=65).stderr
    record(place, {})
    assert "run/endpoints.json: no tunnel listens where others could reach it" in run(place, *SIGN, code=65).stderr
    assert not (place / "m").exists()
    record(place, {}).write_text("{")
    assert "is not a record of bound ports" in run(place, *SIGN, code=65).stderr


WRONG = {
    "twice": (("--endpoint", "a:udp=1", "--endpoint", "a:tcp=1"), "'a' stands there twice"),
    "both": (("--endpoint", "a:udp=1", "--from-runtime", "x"), "one of them says where the tunnels listen"),
    "no name": (("--endpoint", "A:udp=1"), "'A' is no name of a tunnel"),
    "no port": (("--endpoint", "a"), "expected NAME:TRANSPORT=PORT"),
    "port 0": (("--endpoint", "a:udp=0"), "expected NAME:TRANSPORT=PORT"),
    "transport twice": (("--endpoint", "a:udp=1,udp=2"), "expected NAME:TRANSPORT=PORT"),
    "no transport": (("--endpoint", "a:sctp=1"), "(udp, tcp, quic, each once): 'sctp=1'"),
    "no time": (("--endpoint", "a:udp=1", "--ttl", "7"), "--ttl: expected a duration"),
    "no time at all": (("--endpoint", "a:udp=1", "--ttl", "0s"), "--ttl: must be from 1s"),
    "no host": (("--endpoint", "a:udp=1", "--host", "a:1"), "--host: 'a:1' is neither an address nor a name"),
}


@pytest.mark.parametrize(("words", "why"), WRONG.values(), ids=WRONG)
def test_wrong_words(place: Path, words: tuple[str, ...], why: str) -> None:
    assert why in run(place, *SIGN, *words, code=64).stderr
    assert not (place / "m").exists()


@pytest.mark.parametrize(("mode", "code"), [(0o400, 0), (0o640, 0), (0o604, 65), (0o620, 65), (0o644, 65)])
def test_a_key_that_is_no_secret_any_more(place: Path, mode: int, code: int) -> None:
    (place / "key").chmod(mode)
    done = run(place, *SIGN, "--endpoint", "a:udp=1", code=code)
    assert ("too open for a secret" in done.stderr) is bool(code)


def test_keys_that_do_not_fit(place: Path) -> None:
    words = ("--endpoint", "a:udp=1")
    (place / "key").write_bytes(public_pem())
    assert "key: is not a private key (PEM)" in run(place, *SIGN, *words, code=65).stderr
    assert "absent: No such file" in run(place, *SIGN, *words, "--key", "absent", code=65).stderr
    (place / "key").write_bytes(private_pem())
    run(place, *SIGN, *words)
    assert "key: is a private key: give the public one" in run(place, "verify", "--public-key", "key", "m", code=65).stderr
    assert "m: is not a public key" in run(place, "verify", "--public-key", "m", "m", code=65).stderr


def test_files_that_never_end_or_never_answer(place: Path) -> None:
    os.mkfifo(place / "fifo")
    for file in ("fifo", "/dev/zero", "."):
        assert "is not a regular file" in run(place, "verify", "--public-key", "pub", file, code=65).stderr
    with (place / "huge").open("wb") as huge:
        huge.truncate(1 << 40)
    assert "huge: is larger than 1048576 bytes" in run(place, "verify", "--public-key", "pub", "huge", code=65).stderr


def test_too_old_and_too_young(place: Path) -> None:
    def at(days: float) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + days * DAY_S))

    (place / "old").write_bytes(manifest(issued_at=at(-8), expires_at=at(-1)))
    (place / "young").write_bytes(manifest(issued_at=at(1), expires_at=at(8)))
    (place / "good").write_bytes(manifest(issued_at=at(-1), expires_at=at(1)))
    assert "old: refused: it expired at" in run(place, "verify", "--public-key", "pub", "old", code=65).stderr
    assert (
        "young: refused: it is not valid yet: issued at" in run(place, "verify", "--public-key", "pub", "young", code=65).stderr
    )
    run(place, "verify", "--public-key", "pub", "good")


def test_whoever_signs_with_a_clock_that_went_back_is_told(place: Path) -> None:
    """Clients would keep what was issued later."""
    (place / "m").write_bytes(manifest(key=KEY, issued_at="2127-01-15T08:00:00Z", expires_at="2128-01-15T08:00:00Z"))
    done = run(place, *SIGN, "--endpoint", "a:udp=1")
    assert "m: what stood there was issued 2127-01-15T08:00:00.000000Z, later than now" in done.stderr
    assert run(place, *SIGN, "--endpoint", "a:udp=1").stderr == ""


def test_what_is_there_is_replaced_whole(place: Path) -> None:
    run(place, *SIGN, "--endpoint", "a:udp=1")
    first = (place / "m").stat().st_ino
    run(place, *SIGN, "--endpoint", "a:udp=2")
    assert (place / "m").stat().st_ino != first
    assert sorted(path.name for path in place.iterdir()) == ["key", "m", "other.pub", "pub"]
    assert "no/m: No such file" in run(place, *SIGN, "--endpoint", "a:udp=1", "--out", "no/m", code=65).stderr
