"""Faults of the desired file: misspelt, malformed, cut off at any place, tunnels gone from it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.netns.faults import assert_clean, everything, kernel_lines, state, tun_block, tun_file
from tests.netns.warm import Warm
from tests.netns.world import Host


@pytest.fixture
def tunctl(host: Host) -> Iterator[Warm]:
    with Warm(host) as warm:
        yield warm


@pytest.mark.parametrize(
    ("line", "key", "suggestion"),
    [
        ('vpn_cidrs = ["10.0.0.0/8"]', "vpn_cidrs", ""),
        ("adresses = ['10.0.0.1/32']", "adresses", "addresses"),
        ("mtu = 575", "mtu", "576"),
        ("mtu = 'x'", "mtu", "integer"),
    ],
)
def test_a_misspelt_key_changes_nothing(host: Host, tunctl: Warm, line: str, key: str, suggestion: str) -> None:
    tunctl.run("apply", tun_file(host, "demo"))
    wanted = state(host)
    text = f"version = 1\nsource = 'all'\n{tun_block('demo', extra=[line])}{tun_block('other')}"
    bad = host.write("bad.toml", text)
    number = text.splitlines().index(line) + 1
    for words in (("check", bad), ("plan", bad), ("apply", bad)):
        done = tunctl.run(*words, expect=65)
        assert f"bad.toml:{number}" in done.stderr, done
        assert key in done.stderr
        assert suggestion in done.stderr
    assert state(host) == wanted
    assert "no changes" in tunctl.run("reconcile").stdout, "the intent is as it was"
    assert [t["name"] for t in tunctl.json("status", expect=None)["tunnels"]] == ["demo"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "version = 1\n[tunnels",
        "version = ",
        "[tunnels.demo]\ndriver = 'tun'\n",
        "\0\0\0",
        "version = 1\nversion = 1\n",
        "\xff",
        "version = 2\n",
    ],
)
def test_a_malformed_file_changes_nothing(host: Host, tunctl: Warm, text: str) -> None:
    file = tun_file(host, "demo", "other")
    tunctl.run("apply", file)
    wanted = state(host)
    file.write_bytes(text.encode("latin-1"))
    done = tunctl.run("apply", file, expect=65)
    assert str(file) in done.stderr
    assert state(host) == wanted
    assert "no changes" in tunctl.run("reconcile").stdout


def test_a_file_that_is_missing(host: Host, tunctl: Warm) -> None:
    tunctl.run("apply", tun_file(host, "demo"))
    wanted = state(host)
    assert "nowhere.toml" in tunctl.run("apply", "nowhere.toml", expect=65).stderr
    tunctl.run("apply", host.dir, expect=None)
    assert state(host) == wanted


def test_every_cut_of_a_file_is_refused_or_withdraws_little(host: Host, tunctl: Warm) -> None:
    """An editor, or a full disk, left only the beginning. Whatever part that is: most of the tunnels stay."""
    file = everything(host)
    text = file.read_text()
    tunctl.run("apply", file)
    wanted = state(host)
    parsed = 0
    ends = sorted({*range(0, len(text), 97), *(at for at, character in enumerate(text) if character == "\n")})
    for number, end in enumerate(ends):
        file.write_text(text[:end])
        done = tunctl.run("plan", file, expect=None)
        assert done.returncode in (0, 2, 65), (text[:end], done)
        if done.returncode == 65:
            if number % 5 == 0:
                tunctl.run("apply", file, expect=65)
            continue
        parsed += 1
        gone = {line.split()[2] for line in kernel_lines(done.stdout) if line.startswith("- link")}
        assert len(gone) < 3, (text[:end], gone)
    assert parsed, "some cuts parse"
    assert state(host) == wanted
    assert "no changes" in tunctl.run("reconcile").stdout


def test_a_tunnel_that_left_the_file_goes_first_and_alone(host: Host, tunctl: Warm) -> None:
    tunctl.run("apply", tun_file(host, "one", "two", "three"))
    others = host.ip("link show dev tun-one") + host.ip("link show dev tun-three")
    done = tunctl.run("apply", tun_file(host, "one", "three", "new"))
    lines = kernel_lines(done.stdout)
    assert lines[0].startswith("- link tun-two")
    assert all(line.startswith("+") and "tun-new" in line for line in lines[1:]), lines
    assert host.ip("link show dev tun-one") + host.ip("link show dev tun-three") == others
    assert "tun-two" not in host.ip("link")
    assert tunctl.run("status", "two", expect=1)


@pytest.mark.parametrize(
    ("left", "refused"),
    [("abcd", False), ("abc", False), ("ab", True), ("a", True), ("", True)],
)
def test_withdrawing_many_needs_a_word(host: Host, tunctl: Warm, left: str, refused: bool) -> None:
    """Five tunnels; all of them, or three and more that are more than half, go only with --allow-withdraw."""
    before = state(host)
    tunctl.run("apply", tun_file(host, *"abcde"))
    wanted = state(host)
    done = tunctl.run("apply", tun_file(host, *left), expect=65 if refused else 0)
    if refused:
        assert "--allow-withdraw" in done.stderr
        assert state(host) == wanted
        assert "no changes" in tunctl.run("reconcile").stdout
        tunctl.run("apply", tun_file(host, *left), "--allow-withdraw")
    links = {link["ifname"] for link in host.ip_json("link")} - {"lo"}
    assert links == {f"tun-{name}" for name in left}
    if not left:
        assert_clean(host, before)


def test_withdrawing_the_only_tunnel_needs_a_word(host: Host, tunctl: Warm) -> None:
    tunctl.run("apply", tun_file(host, "demo"))
    tunctl.run("apply", tun_file(host), expect=65)
    assert "tun-demo" in host.ip("link")
