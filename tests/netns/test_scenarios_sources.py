"""Sources, holds, withdrawal, other stores: PRODUCT section 4, seen from outside."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.netns.scenario import desired, links, proto_routes, settled, tun, verdict
from tests.netns.world import Host, Uplink


def plain(name: str, number: int, **words: str) -> str:
    """A tunnel with a network of its own."""
    return tun(name, addresses=(f"10.9.{number}.2/32",), routes=(f"10.{20 + number}.0.0/16",), **words)


A, B, C, D = (plain(name, number) for number, name in enumerate("abcd"))


def test_two_sources_side_by_side(host: Host) -> None:
    host.write("one.toml", desired(A, B, source=None))
    host.write("two.toml", desired(C, source="two"))
    host.tunctl("apply", "one.toml")
    host.tunctl("apply", str(host.dir / "two.toml"))
    sources = {tunnel["name"]: tunnel["source"] for tunnel in host.json("status", expect=None)["tunnels"]}
    assert sources == {"a": str(host.dir / "one.toml"), "b": str(host.dir / "one.toml"), "c": "two"}
    host.write("one.toml", desired(plain("a", 4), source=None))
    planned = host.json("plan", "one.toml", expect=2)["steps"]
    assert planned[0]["tunnel"] == "b", "what is withdrawn goes first"
    verbs = [(step["tunnel"], step["verb"]) for step in planned]
    assert verbs.index(("a", "create")) > max(at for at, (name, _) in enumerate(verbs) if name == "b")
    done = host.json("apply", "one.toml")
    assert [step["text"] for step in done["steps"]] == [step["text"] for step in planned]
    assert links(host) == ["tun-a", "tun-c"]
    assert [tunnel["name"] for tunnel in host.json("status", expect=None)["tunnels"]] == ["a", "c"]


def test_a_symlink_is_a_source_of_its_own(host: Host) -> None:
    host.write("real.toml", desired(A, source=None))
    (host.dir / "link.toml").symlink_to("real.toml")
    host.tunctl("apply", "link.toml")
    assert verdict(host, "a")["source"] == str(host.dir / "link.toml")
    assert "link.toml" in host.tunctl("apply", "real.toml", expect=73).stderr


def test_withdrawing_much_needs_a_word(host: Host) -> None:
    host.write("d.toml", desired(A, B, C, D))
    host.tunctl("apply", "d.toml")
    up = settled(host)
    for left in ((), (D,)):
        host.write("d.toml", desired(*left))
        for command in ("plan", "apply"):
            refused = host.json(command, "d.toml", expect=65)["error"]
            assert "--allow-withdraw" in refused["hint"]
            assert {detail["key"] for detail in refused["details"]} >= {"tunnels.a", "tunnels.b", "tunnels.c"}
    assert settled(host) == up
    host.write("d.toml", desired(C, D))
    host.tunctl("apply", "d.toml")
    assert links(host) == ["tun-c", "tun-d"]
    host.write("d.toml", desired())
    host.tunctl("plan", "--allow-withdraw", "d.toml", expect=2)
    host.tunctl("apply", "--allow-withdraw", "d.toml")
    assert links(host) == []
    assert "nothing is declared" in host.tunctl("status").stdout


def test_an_emptied_prefix_file_needs_a_word(host: Host) -> None:
    host.write("p.txt", "10.40.0.0/16\n10.41.0.0/16\n")
    host.write("d.toml", desired(tun(routes=(), tables='[[tunnels.demo.routes]]\nto_file = "p.txt"\n')))
    host.tunctl("apply", "d.toml")
    host.write("p.txt", "# none\n")
    assert host.tunctl("reconcile").stdout == "no changes\n"
    assert "p.txt" in host.tunctl("apply", "d.toml", expect=65).stderr
    assert proto_routes(host) == ["10.40.0.0/16", "10.41.0.0/16"]
    host.write("p.txt", "10.42.0.0/16\n")
    host.tunctl("apply", "d.toml")
    assert proto_routes(host) == ["10.42.0.0/16"]
    host.write("p.txt", "")
    host.tunctl("apply", "--allow-withdraw", "d.toml")
    assert proto_routes(host) == []
    assert host.tunctl("apply", "d.toml").stdout == "no changes\n"  # it was said once


@pytest.mark.parametrize("list_", ["vpn", "direct"])
def test_an_emptied_file_of_a_split_needs_a_word(uplink: Uplink, list_: str) -> None:
    """Without its `vpn` prefixes a tunnel takes all allowed ones, without its `direct` ones what must never go in."""
    host = uplink.cl
    for name, prefix in (("vpn", "10.40.0.0/16"), ("direct", "10.40.1.0/24")):
        host.write(f"{name}.txt", f"{prefix}\n")
    split = "".join(f'[[tunnels.demo.split.{name}]]\ncidr_file = "{name}.txt"\n' for name in ("vpn", "direct"))
    host.write("d.toml", desired(tun(routes=(), tables=split)))
    host.tunctl("apply", "d.toml")
    before = host.snapshot()
    host.write(f"{list_}.txt", "")
    assert f"{list_}.txt: no prefix is left in it" in host.tunctl("apply", "d.toml", expect=65).stderr
    assert host.snapshot() == before


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (plain("a", 7), "tunnel a"),
        (plain("z", 7, interface="tun-a"), "interface tun-a"),
    ],
)
def test_what_two_sources_declare_differently(host: Host, other: str, named: str) -> None:
    host.write("one.toml", desired(A, source="one"))
    host.write("two.toml", desired(other, source="two"))
    host.tunctl("apply", "one.toml")
    before = host.snapshot()
    for command in ("plan", "apply"):
        message = host.json(command, "two.toml", expect=73)["error"]["message"]
        assert named in message
        assert "source two" in message
        assert "source one" in message
    assert host.snapshot() == before
    assert [tunnel["name"] for tunnel in host.json("status", expect=None)["tunnels"]] == ["a"]


def test_host_values_of_two_sources(host: Host) -> None:
    host.write("one.toml", desired(A, source="one", host="[host]\ntable_base = 21000"))
    host.write("two.toml", desired(B, source="two", host="[host]\ntable_base = 22000"))
    host.tunctl("apply", "one.toml")
    message = host.json("apply", "two.toml", expect=73)["error"]["message"]
    assert "table_base" in message
    assert "21000" in message
    assert "22000" in message


def test_taking_over(host: Host) -> None:
    host.write("one.toml", desired(A, B, source="one"))
    host.write("two.toml", desired(plain("a", 7), source="two"))
    host.tunctl("apply", "one.toml")
    index = host.ip_json("link show tun-a")[0]["ifindex"]
    host.tunctl("plan", "--take-over", "two.toml", expect=2)
    host.tunctl("apply", "--take-over", "two.toml")
    assert (verdict(host, "a")["source"], verdict(host, "b")["source"]) == ("two", "one")
    assert verdict(host, "a")["addresses"] == ["10.9.7.2/32"]
    assert host.ip_json("link show tun-a")[0]["ifindex"] == index
    host.tunctl("apply", "one.toml", expect=73)
    host.write("one.toml", desired(B, source="one"))
    assert host.tunctl("apply", "one.toml").stdout == "no changes\n"
    assert links(host) == ["tun-a", "tun-b"]


def test_held_down(host: Host) -> None:
    host.write("d.toml", desired(A, B))
    host.tunctl("apply", "d.toml")
    host.tunctl("down", "a")
    seen = verdict(host, "a", expect=1)
    assert (seen["verdict"], seen["held"]) == ("not-connected", True)
    assert "held" in "".join(seen["reasons"])
    done = host.json("reconcile")
    assert (done["changes"], done["held"]) == (0, ["a"])
    assert links(host) == ["tun-b"]
    kept = host.json("apply", "--keep-holds", "d.toml")
    assert (kept["changes"], kept["held"]) == (0, ["a"])
    assert "a" in host.tunctl("plan", "--keep-holds", "d.toml").stdout
    assert host.json("plan", expect=0)["held"] == ["a"]
    planned = host.json("plan", "d.toml", expect=2)
    assert planned["held"] == []
    assert host.json("apply", "d.toml")["changes"] == planned["changes"]
    assert links(host) == ["tun-b", "tun-a"]
    host.tunctl("down", "--all")
    assert host.tunctl("up", "b").returncode == 0
    assert links(host) == ["tun-b"]
    host.tunctl("up", "--all")
    assert sorted(links(host)) == ["tun-a", "tun-b"]


def test_disabled(host: Host) -> None:
    host.write("d.toml", desired(A, plain("b", 1, keys="enabled = false")))
    host.tunctl("apply", "d.toml")
    assert links(host) == ["tun-a"]
    for command in (["up", "b"], ["up", "a", "b"]):
        assert "enabled = false" in host.tunctl(*command, expect=65).stderr
    assert host.tunctl("up", "--all").stdout == "no changes\n"
    assert "disabled" in "".join(verdict(host, "b", expect=1)["reasons"])
    host.write("d.toml", desired(plain("a", 0, keys="enabled = false"), plain("b", 1)))
    host.tunctl("apply", "d.toml")
    assert links(host) == ["tun-b"]


def test_not_started_by_itself(host: Host) -> None:
    quiet = plain("a", 0, keys="autostart = false")
    host.write("d.toml", desired(quiet, B))
    host.tunctl("apply", "d.toml")
    host.tunctl("reconcile")
    assert links(host) == ["tun-b"]
    assert host.json("status", "a", expect=1)["tunnels"][0]["verdict"] == "not-connected"
    host.tunctl("up", "a")
    host.write("d.toml", desired(plain("a", 7, keys="autostart = false"), B))
    host.tunctl("apply", "d.toml")
    assert verdict(host, "a")["addresses"] == ["10.9.7.2/32"], "apply changes it when it is up"
    host.tunctl("down", "a")
    host.tunctl("apply", "d.toml")
    assert links(host) == ["tun-b"], "apply ends the hold, and does not start it"
    assert verdict(host, "a")["held"] is False


def test_forgotten(host: Host) -> None:
    before = host.snapshot()
    host.write("one.toml", desired(A, B, source="one"))
    host.write("two.toml", desired(C, source=None))
    host.write("three.toml", desired(D, source="three"))
    for file in ("one.toml", "two.toml", "three.toml"):
        host.tunctl("apply", file)
    assert "a: forgotten" in host.tunctl("forget", "a").stderr
    assert sorted(links(host)) == ["tun-b", "tun-c", "tun-d"]
    host.tunctl("status", "a", expect=1)
    host.tunctl("forget", "a", expect=64)
    host.tunctl("forget", "--source", "two.toml")
    assert sorted(links(host)) == ["tun-b", "tun-d"]
    host.tunctl("forget", "--source", "two.toml", expect=64)
    for words in ([], ["b", "--all"], ["--source", "one", "--all"]):
        host.tunctl("forget", *words, expect=64)
    assert host.tunctl("forget", "--all").returncode == 0
    assert host.snapshot() == before
    assert "nothing is declared" in host.tunctl("status").stdout
    assert "forgotten" in host.tunctl("history", "a").stdout
    host.tunctl("apply", "one.toml")
    assert sorted(links(host)) == ["tun-a", "tun-b"]


def test_a_directory(host: Host) -> None:
    place = host.dir / "d"
    place.mkdir()
    (place / "10.toml").write_text(desired(A, source="dir"))
    (place / "20.toml").write_text("version = 1\n" + B)
    (place / ".hidden.toml").write_text("version = 1\n" + C)
    (place / "note.txt").write_text("not TOML")
    host.tunctl("apply", "d")
    assert links(host) == ["tun-a", "tun-b"]
    assert verdict(host, "b")["source"] == "dir"
    (place / "30.toml").write_text("version = 1\n" + A)
    told = host.tunctl("check", "d", expect=65).stderr
    assert "30.toml" in told
    assert "tunnels.a" in told


def test_from_stdin(host: Host) -> None:
    host.write("p.txt", "10.40.0.0/16\n")
    text = desired(tun(routes=(), tables='[[tunnels.demo.routes]]\nto_file = "p.txt"\n'), source="pipe")
    host.tunctl("plan", "-", stdin=text, expect=2)
    host.tunctl("apply", "-", stdin=text)
    assert (verdict(host)["source"], proto_routes(host)) == ("pipe", ["10.40.0.0/16"])
    assert "source" in host.tunctl("apply", "-", stdin=desired(A, source=None), expect=65).stderr


def other(host: Host, *words: str | Path) -> list[str | Path]:
    """The same command with another store."""
    return [*words, "--state-dir", host.dir / "other", "--run-dir", host.dir / "other-run"]


def test_the_marks_of_another_store(host: Host) -> None:
    before = host.snapshot()
    host.write("d.toml", desired(A, B))
    host.tunctl("apply", "d.toml")
    up = settled(host)
    for command in ("plan", "apply"):
        told = host.json(*other(host, command, "d.toml"), expect=73)
        assert len({conflict["tunnel"] for conflict in told["conflicts"]}) == 2
        assert "tunctl:a:" in "".join(conflict["message"] for conflict in told["conflicts"])
    host.tunctl(*other(host, "reconcile"), expect=73)
    host.tunctl(*other(host, "down", "--all"))
    assert settled(host) == up
    seen = host.json(*other(host, "status"), expect=None)
    assert {orphan["interface"] for orphan in seen["orphans"]} == {"tun-a", "tun-b"}
    assert seen["unmanaged"] == []
    index = host.ip_json("link show tun-a")[0]["ifindex"]
    host.write("a.toml", desired(A, source="other"))
    host.tunctl(*other(host, "forget", "--all"))
    host.tunctl(*other(host, "plan", "--adopt", "a.toml"), expect=2)
    host.tunctl(*other(host, "apply", "--adopt", "a.toml"))
    assert host.ip_json("link show tun-a")[0]["ifindex"] == index
    assert host.tunctl(*other(host, "apply", "a.toml")).stdout == "no changes\n"
    assert "no process attached" in "".join(host.json(*other(host, "status", "a"), expect=3)["tunnels"][0]["reasons"])
    host.tunctl("status", "a", expect=None)
    host.tunctl(*other(host, "down", "--orphans"))
    assert links(host) == ["tun-a"]
    host.tunctl(*other(host, "down", "a"))
    assert host.snapshot() == before


def test_what_another_store_s_traffic_goes_by_is_not_swept(uplink: Uplink) -> None:
    """Rules and the host's routes say nothing of the store: without them a full tunnel would be one in clear."""
    host = uplink.cl
    before = host.snapshot()
    full = tun("full", addresses=("10.9.1.2/32",), routes=("0.0.0.0/0",))
    ruled = tun("ruled", addresses=("10.9.2.2/32",), tables='[[tunnels.ruled.rules]]\nfrom = "10.9.2.0/24"\n')
    host.write("theirs.toml", desired(ruled, full, A))
    host.write("ours.toml", desired(D, source="ours"))
    host.tunctl("apply", "theirs.toml")
    ways = settled(host)
    host.tunctl(*other(host, "apply", "theirs.toml"), expect=73)
    assert settled(host) == ways
    host.tunctl(*other(host, "forget", "--all"))
    host.tunctl(*other(host, "apply", "ours.toml"))
    assert set(ways) <= set(settled(host))
    assert host.tunctl(*other(host, "reconcile")).stdout == "no changes\n"
    host.tunctl(*other(host, "forget", "--all"))
    assert settled(host) == ways
    assert host.tunctl("apply", "theirs.toml").stdout.startswith("no changes\n")
    host.tunctl(*other(host, "down", "--orphans"))
    assert host.snapshot() == before


def test_the_store_is_lost_and_adopted_again(host: Host) -> None:
    host.write("d.toml", desired(A, B))
    host.tunctl("apply", "d.toml")
    (host.state_dir / "intent.db").unlink()
    host.tunctl("apply", "d.toml", expect=73)
    host.tunctl("apply", "--adopt", "d.toml")
    assert host.tunctl("apply", "d.toml").stdout == "no changes\n"
    host.tunctl("down", "--all")
    assert links(host) == []


def test_down_without_a_store(host: Host) -> None:
    before = host.snapshot()
    blackhole = '[[tunnels.a.routes]]\nto = "10.66.0.0/16"\ntype = "blackhole"\n'
    rules = '[[tunnels.b.rules]]\nfrom = "192.168.50.0/24"\nlookup = "tunnel"\n'
    host.write("d.toml", desired(plain("a", 0, tables=blackhole), plain("b", 1, tables=rules)))
    host.tunctl("apply", "d.toml")
    (host.state_dir / "intent.db").write_text("x" * 4096)
    done = host.tunctl("down", "--all", expect=74)
    assert "cannot be given back" in done.stderr
    assert str(host.state_dir / "intent.db") in done.stderr
    assert host.snapshot() == before
    host.tunctl("down", "a", expect=74)


def test_down_of_one_leaves_the_other(host: Host) -> None:
    """Objects without a device of their own: blackholes in main, rules, a table."""
    before = host.snapshot()
    both = []
    for number, name in enumerate("ab"):
        tables = (
            f'[[tunnels.{name}.routes]]\nto = "10.{66 + number}.0.0/16"\ntype = "blackhole"\n'
            f'[[tunnels.{name}.routes]]\nto = "10.{76 + number}.0.0/16"\ntype = "unreachable"\ntable = 300\n'
        )
        both.append(plain(name, number, tables=tables))
    host.write("d.toml", desired(*both))
    host.tunctl("apply", "d.toml")
    assert [verdict(host, name)["routes"] for name in "ab"] == [3, 3]
    host.tunctl("down", "a")
    assert sorted(proto_routes(host)) == ["10.21.0.0/16", "10.67.0.0/16", "10.77.0.0/16"]
    assert host.tunctl("reconcile").stdout == "no changes\n"
    host.ip("route del blackhole 10.67.0.0/16")
    assert "10.67.0.0/16" in "".join(verdict(host, "b", expect=3)["reasons"])
    host.tunctl("reconcile")
    host.write("d.toml", desired(plain("a", 0), both[1]))
    host.tunctl("apply", "d.toml")
    assert sorted(proto_routes(host)) == ["10.20.0.0/16", "10.21.0.0/16", "10.67.0.0/16", "10.77.0.0/16"]
    host.tunctl("forget", "--all")
    assert host.snapshot() == before


def test_interfaces_get_other_names(host: Host) -> None:
    host.write("d.toml", desired(A, B))
    host.tunctl("apply", "d.toml")
    indexes = {link["ifname"]: link["ifindex"] for link in host.ip_json("link")}
    host.write("d.toml", desired(plain("a", 0, interface="tun-z"), B))
    host.tunctl("apply", "d.toml")
    assert host.ip_json("link show tun-z")[0]["ifindex"] == indexes["tun-a"]
    host.write("d.toml", desired(plain("b", 1, interface="tun-z")))
    host.tunctl("apply", "d.toml")
    assert links(host) == ["tun-z"], "what is withdrawn is no longer in the way"
    assert host.ip_json("link show tun-z")[0]["ifindex"] == indexes["tun-b"]
    assert host.tunctl("apply", "d.toml").stdout == "no changes\n"
