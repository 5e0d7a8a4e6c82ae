"""The command line as people script against it: exit codes, JSON, options, refusals. PRODUCT section 4."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from typing import Any

import pytest

from tests.netns.scenario import desired, exec_, files, key_pair, links, settled, tun, verdict, wireguard
from tests.netns.world import Host, wait_until

REFUSED = {
    "tunnels.demo.driver": 'driver = "openvpn"\n[tunnels.demo.openvpn]\nconfig_file = "x"\n',
    "tunnels.demo.accept": 'driver = "openconnect"\naccept = ["dns"]\n[tunnels.demo.openconnect]\nserver = "https://x"\n',
}


def error_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The one document on stdout."""
    document = json.loads(done.stdout)
    assert set(document) == {"version", "error"}
    assert document["version"] == 1
    assert set(document["error"]) == {"code", "message", "hint", "details"}
    assert document["error"]["code"] == done.returncode
    assert document["error"]["message"]
    return dict(document["error"])


@pytest.mark.parametrize("key", REFUSED)
def test_what_is_not_there_yet_is_refused_by_name(host: Host, key: str) -> None:
    host.write("d.toml", f"version = 1\n[tunnels.demo]\n{REFUSED[key]}")
    error = error_of(host.tunctl("apply", "d.toml", "--json", expect=69))
    assert [detail["key"] for detail in error["details"] if detail["key"].startswith(key)], error
    assert all(detail["line"] >= 2 for detail in error["details"])
    assert not host.state_dir.exists()


def test_other_things_that_are_not_there_yet(host: Host) -> None:
    host.write("d.toml", desired(tun()))
    for words in (["confirm"], ["rollback"], ["import", "x"], ["explain", "192.0.2.1"], ["doctor"],
                  ["--netns", "x", "status"],
                  ["status", "--netns=x"], ["apply", "d.toml", "--confirm", "2m"]):  # fmt: skip
        assert host.tunctl(*words, expect=69).stderr, words
    assert not host.state_dir.exists()


WRONG = """
bogus
--bogus status
apply a b
down
up
forget
show
key
check
key generate
key generate --type rsa
down --all demo
down --orphans demo
down --orphans --all
completion tcsh
apply d.toml --timeout soon
reconcile --lock-timeout x
reconcile now
history --limit 0
status --log-format xml
down other
up other
forget other
show other
history other
forget --source other
down demo other
down ../demo
"""


def test_usage(host: Host) -> None:
    host.write("d.toml", desired(tun()))
    host.tunctl("apply", "d.toml")
    before = host.snapshot(), files(host.state_dir)
    for line in WRONG.splitlines():
        done = host.tunctl(*line.split(), "--json", expect=64)
        error_of(done)
        assert done.stderr, line
    assert (host.snapshot(), files(host.state_dir)) == before
    assert "demo" in host.tunctl("down", "other", expect=64).stderr
    error_of(host.tunctl("reconcile", "--json", env={"TUNCTL_FAULT": "kill-sometimes"}, expect=64))


def test_files_that_are_none(host: Host) -> None:
    host.write("bad.toml", "version = 1\n[tunnels.demo\n")
    host.write("empty.toml", "")
    host.write("two.toml", "version = 2\n")
    host.write("open.toml", desired(tun()), 0o666)
    (host.dir / "dir").mkdir()
    (host.dir / "bin.toml").write_bytes(b"\xff\xfe\x00")
    refused = [
        ("apply", name) for name in ("nonesuch.toml", "bad.toml", "empty.toml", "two.toml", "open.toml", "dir", "bin.toml", "")
    ]
    for command, name in [
        *refused,
        ("check", "bad.toml"),
        ("plan", "nonesuch.toml"),
        ("plan", "open.toml"),
        ("check", "/dev/null"),
    ]:
        done = host.tunctl(command, name, "--json", expect=65)
        assert name in str(error_of(done)) + done.stderr, (name, done.stderr)
    bad = error_of(host.tunctl("apply", "bad.toml", "--json", expect=65))
    assert bad["details"][0]["line"] == 2
    assert host.tunctl("apply", expect=65).stderr.count("/etc/tunctl/desired.toml")
    assert not host.state_dir.exists()


def test_a_store_that_cannot_be_written(host: Host) -> None:
    host.write("d.toml", desired(tun()))
    before = host.snapshot()
    host.write("state", "a file")
    error_of(host.tunctl("apply", "d.toml", "--json", expect=74))
    (host.dir / "state").unlink()
    host.tunctl("apply", "d.toml")
    up = settled(host)
    read_only = [
        "unshare",
        "-m",
        "sh",
        "-c",
        f'mount --bind {host.state_dir} {host.state_dir}; mount -o remount,bind,ro {host.state_dir}; exec "$@"',
        "sh",
    ]
    host.write("d.toml", desired(tun(routes=("10.22.0.0/16",))))
    for words in (["apply", "d.toml"], ["down", "demo"], ["forget", "demo"]):
        done = host.run([*read_only, *host.tunctl_argv(*words, "--json")], check=False)
        assert done.returncode == 74, done.stderr
        error_of(done)
    assert settled(host) == up
    assert host.run([*read_only, *host.tunctl_argv("status")], check=False).returncode == 3
    host.tunctl("down", "demo")
    assert host.snapshot() == before


def test_global_options_before_and_after(host: Host) -> None:
    host.write("d.toml", desired(tun()))
    place = ["--state-dir", "s", "--run-dir", "r"]
    host.tunctl(*place, "--lock-timeout", "1s", "--no-color", "--log-format", "json", "apply", "d.toml")
    assert (host.dir / "s" / "intent.db").exists()
    assert (host.dir / "r").is_dir()
    assert not host.state_dir.exists()
    forms = [
        [*place, "--json", "status"],
        ["status", *place, "--json"],
        ["--json", "status", "--state-dir=s", "--run-dir=r"],
        ["--state-dir", "other", "status", "--json", *place],
        [*place, "status", "demo", "--json", "--debug"],
    ]
    for words in forms:
        assert json.loads(host.tunctl(*words, expect=3).stdout)["tunnels"][0]["name"] == "demo", words
    assert json.loads(host.tunctl("--json", *place, "plan", "d.toml").stdout)["changes"] == 0
    log = host.tunctl(*place, "apply", "--log-format", "json", "--keep-holds", "nonesuch", expect=65).stderr
    assert all({"time", "level", "tunnel", "message"} == set(json.loads(line)) for line in log.splitlines()), log


def test_a_reader_that_goes_away(host: Host) -> None:
    many = [f"10.{20 + number // 250}.{number % 250}.0/24" for number in range(300)]
    host.write("d.toml", desired(exec_(routes=many)))
    usual = {"plan d.toml": 2, "apply d.toml": 0, "status": 0, "show demo": 0, "history": 0, "metrics": 0}
    usual |= {"schema": 0, "--help": 0}
    for line, code in usual.items():
        done = unheard(host, line.split())
        assert (done.returncode, "Traceback" in done.stderr, "Broken pipe" in done.stderr) == (code, False, False), done
    assert verdict(host)["routes"] == len(many)


def unheard(host: Host, words: list[str]) -> subprocess.CompletedProcess[str]:
    """Runs it with a stdout that nobody reads any more."""
    argv = ["ip", "netns", "exec", host.name, *host.tunctl_argv(*words)]
    read, write = os.pipe()
    os.close(read)
    try:
        return subprocess.run(
            argv, env=host.env, cwd=host.dir, stdout=write, stderr=subprocess.PIPE, text=True, timeout=30, check=False
        )
    finally:
        os.close(write)


def test_waiting_for_connected(host: Host) -> None:
    host.write("d.toml", desired(tun()))
    done = host.tunctl("apply", "d.toml", "--wait", "--timeout", "5s", "--json", expect=1)
    assert json.loads(done.stdout)["converged"] is False
    assert "no process attached" in done.stderr
    host.write("d.toml", desired(exec_()))
    host.tunctl("apply", "d.toml", "--wait", "--timeout", "20s")


def test_too_long(host: Host) -> None:
    host.write("d.toml", desired(exec_("demo", "never", options='ready_timeout = "50s"')))
    done = host.tunctl("apply", "d.toml", "--timeout", "5s", "--json", expect=1)
    json.loads(done.stdout)
    assert "5 s" in done.stderr
    host.tunctl("down", "demo")
    assert (host.pids(), links(host)) == ([], [])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals(host: Host, number: signal.Signals) -> None:
    before = host.snapshot()
    host.write("d.toml", desired(exec_("demo", "never", options='ready_timeout = "2s"')))
    working = host.start(host.tunctl_argv("apply", "d.toml"), log="log")
    wait_until(lambda: "+ owner" in (host.dir / "log").read_text(), 30)
    working.send_signal(number)
    code = working.wait(10)
    text = (host.dir / "log").read_text()
    assert "Traceback" not in text
    assert code == (1 if number == signal.SIGHUP else 128 + number)
    host.tunctl("down", "demo")
    assert (host.pids(), host.snapshot()) == ([], before)


def test_looks_at_one_tunnel_and_at_the_past(host: Host) -> None:
    host.write("d.toml", desired(tun(tables='[[tunnels.demo.rules]]\nfrom = "192.0.2.0/24"\nlookup = "tunnel"\n')))
    host.tunctl("apply", "d.toml")
    host.ip("link set tun-demo mtu 1400")
    seen = host.json("show", "demo")
    assert set(seen) >= {"version", "intent", "wanted", "found", "handles", "ledger", "pending"}
    assert {entry["kind"] for entry in seen["wanted"]} == {"link", "address", "route", "rule"}
    host.tunctl("show", "demo")
    host.tunctl("down", "demo")
    past = host.json("history", "demo")["history"]
    assert [entry["event"] for entry in past][:1] == ["created"]
    assert {"held"} <= {entry["event"] for entry in past}
    assert all({"at", "tunnel", "source", "generation", "actor", "event", "cause", "outcome"} == set(entry) for entry in past)
    assert len(host.json("history", "--limit", "1")["history"]) == 1
    assert host.tunctl("history").stdout.count("\n") >= len(past)


def test_check_needs_nothing(host: Host) -> None:
    text = desired(wireguard("wg", "absent.key"), tun(routes=(), tables='[[tunnels.demo.routes]]\nto_file = "absent.txt"\n'))
    host.write("d.toml", text)
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    done = host.run([*nobody, *host.tunctl_argv("check", "d.toml")])
    assert "absent.key" in done.stderr
    assert "absent.txt" in done.stderr
    seen = host.json("check", "d.toml")
    assert seen["tunnels"] == ["wg", "demo"]
    assert len(seen["warnings"]) == 2
    host.tunctl("apply", "d.toml", expect=65)
    (host.dir / "base").mkdir()
    host.write("base/absent.txt", "10.0.0.0/9\n")
    key_pair(host, "base/absent.key")
    assert host.json("check", "--base-dir", "base", "d.toml")["warnings"] == []
    host.tunctl("check", "-", stdin=text)


def test_keys(host: Host) -> None:
    public = key_pair(host, "k")
    assert stat.S_IMODE((host.dir / "k").stat().st_mode) == 0o600
    old = (host.dir / "k").read_text()
    host.tunctl("key", "generate", "--type", "x25519", "--out", "k", expect=65)
    assert (host.dir / "k").read_text() == old
    assert host.tunctl("key", "public", stdin=old).stdout.strip() == public
    pem = host.tunctl("key", "generate", "--type", "ed25519").stdout
    assert pem.startswith("-----BEGIN PRIVATE KEY-----")
    host.tunctl("key", "public", "--out", "p.pem", stdin=pem)
    assert "BEGIN PUBLIC KEY" in (host.dir / "p.pem").read_text()
    for junk in ("", "sesame\n", "A" * 44):
        done = host.tunctl("key", "public", stdin=junk, expect=65)
        assert "sesame" not in done.stderr


def test_words_about_itself(host: Host) -> None:
    assert host.tunctl("version").stdout.startswith("tunctl ")
    assert host.tunctl("--version").stdout.startswith("tunctl ")
    assert set(host.json("version")) == {"version", "tunctl"}
    assert host.json("schema")["$schema"]
    for shell in ("bash", "zsh", "fish"):
        assert "tunctl" in host.tunctl("completion", shell).stdout
    for words in (["--help"], ["apply", "--help"], ["status", "-h"], ["key", "--help"]):
        assert "Usage" in host.tunctl(*words).stdout


def test_it_works_with_nothing_attached(host: Host) -> None:
    """No stdin, stdout or stderr at all; the engine inherits nothing that a pipe waits for."""
    host.write("d.toml", desired(exec_()))
    shell = f"{sys.executable} -m reconciler apply d.toml | cat"
    assert "+ link tun-demo" in host.run(["sh", "-c", shell], timeout=10).stdout
    closed = 'exec "$@" <&- >&- 2>&-'
    assert host.run(["sh", "-c", closed, "sh", *host.tunctl_argv("down", "demo")], check=False).returncode == 0
    assert host.run(["sh", "-c", closed, "sh", *host.tunctl_argv("status", "demo")], check=False).returncode == 1
    assert (links(host), host.pids()) == ([], [])
