"""`status` and `plan` are what prompts, scripts and monitoring call all day: what they import is their budget."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.bytecode import LIGHT
from reconciler.cli import short
from reconciler.daemon import protocol
from tests.netns import world
from tests.netns.world import Host

# All of the standard library that they may load. What costs more than it is worth has a light stand-in: reconciler/typed.py
# for typing and enum (which need re), host/jsontext.py for json, the halves in C of socket, sqlite3 and hashlib.
ALLOWED = LIGHT - {"_blake2", "binascii", "fcntl"}
# What only some tunnels, some hosts, or commands that change something need.
NOT_OURS_TO_LOAD = re.compile(
    r"reconciler\.(actuate|daemon\.\w+|lifecycle"
    r"|store\.(write|commit|save|sql|schema|migration|tables|statements)|cli\.(main|options|changes|looks)"
    r"|config\.(?!files)\w+|loop\.(commands|reconcile|act|salvage)"
    r"|host\.(bus|kernel_wireguard|keys|launch|nft|resolve|resolved|tun|uapi|x25519|xtables)"
    r"|observe\.(account|engine|forward|nameservice|nat|resolved|wireguard)|layout\.(accepts|filter|forwarding|nat|passage|resolvers)"
    r"|report\.(details|history))$"
)
NOT_FOR_PEOPLE = re.compile(r"reconciler\.report\.(statusjson|plain|changes|names)$")
MOST = {
    "status": 106,
    "plan": 111,
    "apply": 112,
    "reconcile": 112,
}  # modules of ours, each of which is 50 µs whatever is in it; four more for --json
DESIRED = """
version = 1
source = "start"

[tunnels.demo]
driver = "tun"
interface = "tun-demo"
addresses = ["10.9.0.2/32"]

[[tunnels.demo.routes]]
to = ["10.20.0.0/16"]
"""
HEAVY = frozenset(
    ("re", "typing", "enum", "signal", "socket", "selectors", "pathlib", "shutil", "subprocess", "json", "hashlib", "secrets",
     "inspect", "ctypes", "threading", "tomli", "tomllib", "click")
)  # fmt: skip
LISTED = """
[[tunnels.listed.routes]]
to_file = "list.txt"
"""
CACHE = Path(__file__).with_name("none")  # byte code of nobody
RUN = "from reconciler.__main__ import main; main()"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root: run it with sudo")


def imported(host: Host, code: str, *words: object) -> tuple[set[str], str]:
    """The modules that Python itself does not load at its start, and what was printed. Nothing was kept of earlier commands."""
    argv = [sys.executable, "-X", "importtime", "-c", code, *map(str, words)]
    done = host.run(argv, check=False, env={"PYTHONPYCACHEPREFIX": str(CACHE), "PYTHONDONTWRITEBYTECODE": "1"})
    assert "Traceback" not in done.stderr, done.stderr
    return set(re.findall(r"^import time:.*\| +([\w.]+)$", done.stderr, re.MULTILINE)), done.stdout


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with world.new_host("start") as made:
        yield made


@pytest.fixture(scope="module")
def bare(host: Host) -> set[str]:
    return imported(host, "pass")[0]


@pytest.fixture(scope="module")
def desired(host: Host) -> str:
    """A file that was applied."""
    path = host.write("d.toml", DESIRED)
    host.tunctl("apply", path)
    return str(path)


@pytest.mark.parametrize(
    "words", ["status", "status --json", "plan", "plan FILE", "plan FILE --json", "apply FILE", "reconcile"]
)
def test_little_is_imported(host: Host, bare: set[str], desired: str, words: str) -> None:
    judge(host, bare, words.replace("FILE", desired).split())


@pytest.mark.parametrize("words", ["status", "status nobody", "plan"])
def test_little_is_imported_where_nothing_is_declared(bare: set[str], words: str) -> None:
    with world.new_host("empty") as host:
        judge(host, bare, words.split())


def test_what_one_command_needed_is_not_executed_for_all(host: Host, desired: str, tmp_path: Path) -> None:
    """A plan that finds the file changed loads a parser of TOML; the next one, which does not, finds nothing of it kept."""
    changed = host.write("changed.toml", DESIRED.replace("10.9.0.2", "10.9.0.3"))
    for words in (["plan", changed], ["plan", desired], ["plan", desired]):
        argv = [sys.executable, "-X", "importtime", "-c", RUN, *words]
        done = host.run(argv, check=False, env={"PYTHONPYCACHEPREFIX": str(tmp_path)})
    assert "reconciler.bytecode" in done.stderr
    assert "reconciler.loop.survey" not in done.stderr, "kept"
    assert re.search(r"\| +(re|tomli|reconciler\.config\.load)$", done.stderr, re.MULTILINE) is None


def test_a_file_that_changed_needs_a_parser_and_little_else(host: Host, bare: set[str], desired: str) -> None:
    changed = host.write("changed.toml", DESIRED.replace("10.9.0.2", "10.9.0.4"))
    loaded, printed = imported(host, RUN, "plan", changed)
    assert "10.9.0.4" in printed
    assert "tomli" in loaded
    assert not (loaded - bare) & {"typing", "inspect", "json", "hashlib", "difflib", "sqlalchemy", "pyroute2", "psutil"}


def test_a_list_of_prefixes_that_changed_is_no_reason_to_read_the_file(host: Host, bare: set[str]) -> None:
    """What a timer brings every day is compared as lean as what did not change."""
    host.write("list.txt", "10.30.0.0/16\n")
    path = host.write(
        "listed.toml", DESIRED.replace('"start"', '"listed"').replace("demo", "listed").replace("10.20.", "10.29.") + LISTED
    )
    host.tunctl("apply", path)
    host.write("list.txt", "10.31.0.0/16\n")
    loaded, printed = imported(host, RUN, "plan", path)
    assert "10.31.0.0/16" in printed
    names = loaded - bare
    assert {name.partition(".")[0] for name in names} - {"reconciler"} - ALLOWED == set()
    assert {name for name in names if name.startswith("reconciler.config.")} == {
        "reconciler.config.files",
        "reconciler.config.prefixfile",
    }


def test_what_changes_something_needs_little_more_of_python() -> None:
    """Of what is a good part of a bare interpreter."""
    with world.new_host("changes") as host:
        bare = imported(host, "pass")[0]
        host.write("list.txt", "10.30.0.0/16\n")
        path = host.write("d.toml", DESIRED.replace("demo", "listed") + LISTED)
        host.tunctl("apply", path)
        host.write("list.txt", "10.31.0.0/16\n")
        for words in (["apply", path], ["down", "listed"], ["up", "listed"], ["reconcile"]):
            if words == ["reconcile"]:
                host.ip("link delete tun-listed")
            loaded, printed = imported(host, RUN, *words)
            assert "tun-listed" in printed
            assert "reconciler.store.commit" in loaded
            assert {name.partition(".")[0] for name in loaded - bare} & HEAVY == set(), words


@pytest.mark.parametrize("words", ["apply FILE", "reconcile", "down other", "up other"])
def test_who_asks_the_daemon_loads_next_to_nothing(host: Host, bare: set[str], desired: str, words: str) -> None:
    daemon = host.start(host.tunctl_argv("daemon"), log="daemon.log")
    try:
        world.wait_until((host.run_dir / "control.sock").exists, 30, (host.dir / "daemon.log").read_text)
        loaded, _ = imported(host, RUN, *words.replace("FILE", desired).split())
    finally:
        daemon.terminate()  # and takes its socket away
        daemon.wait(30)
    ours = {name for name in loaded - bare if name.startswith("reconciler")}
    assert "reconciler.daemon.client" in ours
    assert not any(name.startswith(("reconciler.loop", "reconciler.store", "reconciler.kinds")) for name in ours)
    assert len(ours) <= 20


def test_where_no_daemon_is_looked_for_is_where_one_listens() -> None:
    assert short._CONTROL == protocol.SOCKET


@pytest.mark.parametrize("kind", ["nothing is stored", "something is stored"])
def test_what_writes_does_without_what_only_defines(kind: str) -> None:
    """It defines what is stored and how, and brings older stores up to date. What is written is text by then."""
    with world.new_host("writes") as host:
        path = host.write("d.toml", DESIRED)
        if kind == "something is stored":
            host.tunctl("apply", path)
            path.write_text(DESIRED.replace("10.9.0.2", "10.9.0.3"))
        for words in (["apply", path], ["down", "demo"], ["up", "demo"], ["forget", "demo"]):
            loaded, printed = imported(host, RUN, *words)
            assert "tun-demo" in printed
            assert "reconciler.store.commit" in loaded
            assert {name for name in loaded if re.match(r"sqlalchemy|alembic|sqlite3$|statemachine", name)} == set()


def judge(host: Host, bare: set[str], words: list[str]) -> None:
    loaded, printed = imported(host, RUN, *words)
    names = loaded - bare
    assert printed
    assert "reconciler.loop.survey" in names
    allowed = ALLOWED | ({"fcntl"} if words[0] in ("apply", "reconcile") else set())  # they hold the lock
    assert {name.partition(".")[0] for name in names} - {"reconciler"} - allowed == set()
    assert {name for name in names if NOT_OURS_TO_LOAD.match(name)} == set()
    assert len([name for name in names if name.startswith("reconciler")]) <= MOST[words[0]] + 4 * ("--json" in words)
    if words[0] == "status" and "--json" not in words:
        assert {name for name in names if NOT_FOR_PEOPLE.match(name)} == set()
