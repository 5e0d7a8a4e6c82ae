"""NAT of two stores in one namespace: one table, in which rules name tunnels and no store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.netns import site as sites
from tests.netns.scenario import desired
from tests.netns.site import HOST4, HOST6, LAN6, SERVER6, Site, nat, nat_tunnel
from tests.netns.world import Host


@pytest.fixture
def site(hosts: Callable[[str], Host]) -> Site:
    return sites.build(hosts)


def other(site: Site, *words: str | Path) -> list[str | Path]:
    """The same command with another store."""
    return [*words, "--state-dir", site.cl.dir / "other", "--run-dir", site.cl.dir / "other-run"]


def test_rules_of_another_store_stay(site: Site) -> None:
    """They name no store. Whoever comes second keeps them as they are, tells of them, and takes his own along."""
    cl = site.cl
    cl.run(["nft", "table ip wall { chain f { type filter hook forward priority 0; policy drop; }; }"])
    before = cl.snapshot()
    full = nat_tunnel("theirs", nat(out="uplink"), address="10.9.1.2/32") + '[[tunnels.theirs.routes]]\nto = "10.99.0.0/16"\n'
    cl.write("theirs.toml", desired(full))
    cl.write("ours.toml", desired(nat_tunnel("ours", nat(LAN6), nat("10.80.0.0/24"), address="10.9.2.2/32"), source="ours"))
    cl.tunctl("apply", "theirs.toml")
    alone, wall = site.rules(), cl.run(["nft", "list", "table", "ip", "wall"]).stdout
    assert site.seen_as() == HOST4
    cl.tunctl(*other(site, "apply", "ours.toml"))
    both = site.rules()
    assert [rule for rule in both if "tunctl:theirs" in rule] == alone
    assert (site.seen_as(), site.seen_as(SERVER6)) == (HOST4, HOST6)
    for words in (("apply", "theirs.toml"), ("reconcile",), other(site, "reconcile"), other(site, "apply", "ours.toml")):
        assert cl.tunctl(*words).stdout.startswith("no changes"), words
    assert site.rules() == both
    told = cl.json(*other(site, "status"), expect=None)["orphans"]
    assert [(one["interface"], one["mark"], one["rules"]) for one in told[1:]] == [
        (None, "tunctl:theirs", len(alone) + wall.count("tunctl:theirs"))
    ]
    assert "rules of the packet filter are another store's" in cl.tunctl(*other(site, "status"), expect=None).stdout
    cl.tunctl(*other(site, "down", "--all"))
    assert (site.rules(), cl.run(["nft", "list", "table", "ip", "wall"]).stdout) == (alone, wall)
    cl.tunctl(*other(site, "forget", "--all"))
    cl.tunctl(*other(site, "reconcile"))
    assert (site.rules(), cl.run(["nft", "list", "table", "ip", "wall"]).stdout) == (alone, wall)
    assert site.seen_as() == HOST4
    cl.tunctl(*other(site, "apply", "ours.toml"))
    cl.tunctl(*other(site, "down", "--orphans"))
    assert {rule.rpartition("tunctl:")[2].strip('"') for rule in site.rules()} == {"ours"}
    cl.tunctl(*other(site, "down", "--all"))
    cl.tunctl("down", "--all")  # what only its ledger knows
    assert cl.snapshot() == before
