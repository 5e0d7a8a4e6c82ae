"""Many links go at once, by a group of their own. What is somebody else's stays, and what was cut off half-way goes on."""

from __future__ import annotations

from tests.netns.scenario import desired, links, tun
from tests.netns.world import Host

MANY = 12


def many(host: Host) -> None:
    blocks = [tun(f"t{n}", addresses=(f"10.9.{n}.2/32",), routes=(f"10.20.{n}.0/24",)) for n in range(MANY)]
    host.write("d.toml", desired(*blocks))
    host.tunctl("apply", "d.toml")


def of_all(host: Host, field: str) -> dict[str, object]:
    return {link["ifname"]: link[field] for link in host.ip_json("link") if link["ifname"] != "lo"}


def test_all_go_and_others_stay(host: Host) -> None:
    before = host.snapshot()
    many(host)
    host.ip("tuntap add name theirs mode tun")
    host.ip("link set theirs group 20000")  # in our group, but without our mark
    host.tunctl("down", "--all")
    assert links(host) == ["theirs"]
    host.ip("link del theirs")
    assert host.snapshot() == before


def test_all_that_are_named_go_and_the_others_of_ours_stay(host: Host) -> None:
    many(host)
    index = of_all(host, "ifindex")["tun-t0"]
    host.tunctl("down", *(f"t{n}" for n in range(1, MANY)))
    assert of_all(host, "ifindex") == {"tun-t0": index}


def test_cut_off_in_between(host: Host) -> None:
    """Links in a group that is none of ours are ours by their alias: they are put back, or go."""
    many(host)
    for number in range(MANY // 2):
        host.ip(f"link set tun-t{number} group 1234567890")
    host.tunctl("apply", "d.toml")
    assert set(of_all(host, "group").values()) == {"20000"}
    for number in range(MANY // 2):
        host.ip(f"link set tun-t{number} group 1234567890")
    host.tunctl("down", "--all")
    assert links(host) == []


def test_one_of_them_is_somebody_elses_by_now(host: Host) -> None:
    many(host)
    host.ip("link set tun-t3 alias theirs")
    done = host.tunctl("down", "--all", expect=None)
    assert done.returncode in (0, 73), done
    assert links(host) == ["tun-t3"]
