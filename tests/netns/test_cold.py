"""Every command as people start it: Python anew for each. The other tests fork most of theirs, which cannot show that something
is not imported; what a forked command says and does is the same. Two hosts live the same life, one cold, the other forked.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from reconciler.cli.main import tunctl
from tests.netns.scenario import desired, exec_, links, tun
from tests.netns.serving import SERVER, TOLD, listen
from tests.netns.world import Host

BOTH = ("", "--json")
LIFE: list[tuple[str, tuple[str, ...]]] = [
    ("version", BOTH),
    ("schema", ("",)),
    ("completion bash", ("",)),
    ("key generate --type ed25519 --out sign.key", ("",)),
    ("key public --in sign.key --out sign.pub", ("",)),
    ("check d.toml", BOTH),
    ("check broken.toml", BOTH),
    ("status", BOTH),
    ("plan d.toml", BOTH),
    ("apply d.toml", BOTH),
    ("status", BOTH),
    ("plan", BOTH),
    ("show demo", BOTH),
    ("metrics", ("",)),
    ("endpoints show", BOTH),
    ("endpoints sign --key sign.key --host 192.0.2.1 --out demo.endpoints", BOTH),
    ("endpoints verify demo.endpoints --public-key sign.pub", BOTH),
    ("endpoints rebind demo", BOTH),
    ("reconcile", BOTH),
    ("apply more.toml", ("--json", "")),
    ("down demo", BOTH),
    ("up demo", ("--json",)),
    ("down nobody", BOTH),
    ("history", BOTH),
    ("forget --all", BOTH),
    ("explain 10.20.0.1", BOTH),
    ("doctor", ("",)),
    ("confirm", ("",)),
    ("rollback", ("",)),
    ("import", ("",)),
]


def without_chance(host: Host, text: str) -> str:
    """Without what differs between two hosts: their places, and everything that counts, measures or was drawn."""
    text = text.replace(str(host.dir), "DIR")
    text = re.sub(r'"(key_id|kid|store_id|reference|bug)": "[^"]*"', r'"\1": ""', text)
    return re.sub(r"[0-9a-f]{8,}|\d+", "N", text)


@pytest.mark.bound(120)
def test_started_anew_or_forked_is_the_same(hosts: Callable[[str], Host]) -> None:
    cold, forked = hosts("cold"), hosts("forked")
    served = exec_("demo", TOLD, command=SERVER, tables=listen())
    for host in (cold, forked):
        host.write("d.toml", desired(served))
        host.write("more.toml", desired(served, tun("other", addresses=("10.30.0.2/32",), routes=("10.40.0.0/16",))))
        host.write("broken.toml", "version = 1\n[tunnels.demo]\ndriver = 'nonesuch'\n")
    for words, forms in LIFE:
        for form in forms:
            done = {
                host: host.tunctl(*words.split(), *form.split(), expect=None, cold=host is cold, timeout=60)
                for host in (cold, forked)
            }
            told = [
                (one.returncode, without_chance(host, one.stdout), without_chance(host, one.stderr))
                for host, one in done.items()
            ]
            assert told[0] == told[1], (words, form)
            assert done[cold].returncode != 70, done[cold]
    assert links(cold) == links(forked) == []


def test_none_is_left_out() -> None:
    started = {words.split()[0] for words, _forms in LIFE}
    assert set(tunctl.commands) - started == {"daemon"}, "the daemon is never forked"
