"""Any order of commands, crashes and foreign changes on the real kernel: a pass always puts right what is ours, tells what
is not, touches nothing of others, and in the end nothing is left.

TUN tunnels only, with the warm server: ten steps take about a second.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.netns import world
from tests.netns.faults import assert_clean, fault, left_behind, state
from tests.netns.warm import Warm
from tests.netns.world import Host

NAMES = ("a", "b")
_FILES = {
    "both": ("a", "b"),
    "only-a": ("a",),
    "changed": ("a", "b"),
    "disabled": ("a", "b"),
}


def _text(which: str) -> str:
    blocks = ["version = 1", "source = 'all'"]
    for number, name in enumerate(_FILES[which], 1):
        moved = which == "changed"
        blocks += [
            f"[tunnels.{name}]", "driver = 'tun'", f"interface = 'tun-{name}'",
            f"addresses = ['10.{number}.0.{9 if moved else 2}/24', 'fd00:{number}::2/64']", f"mtu = {1380 if moved else 1400}",
            f"enabled = {'false' if which == 'disabled' and name == 'b' else 'true'}",
            f"[[tunnels.{name}.routes]]", f"to = ['10.{number}{8 if moved else 0}.0.0/16', 'fd00:{number}:1::/48']",
            f"[[tunnels.{name}.routes]]", f"to = '10.{number}6.6.0/24'", f"type = '{'prohibit' if moved else 'blackhole'}'",
            f"[[tunnels.{name}.rules]]", f"from = '10.{number}.7.0/24'", f"lookup = {'201' if moved else '200'}",
        ]  # fmt: skip
    return "\n".join(blocks) + "\n"


# What others do to our things: (words for ip, the tunnel).
_DAMAGE = tuple(
    line.replace("#", str(number)).replace("$", name)
    for number, name in enumerate(NAMES, 1)
    for line in (
        "link del tun-$", "link set tun-$ down", "link set tun-$ mtu 1300", "link set tun-$ group 0", "addr flush dev tun-$",
        "addr del 10.#.0.2/24 dev tun-$", "route del 10.#0.0.0/16 proto 115", "-6 route del fd00:#:1::/48 proto 115",
        "route del blackhole 10.#6.6.0/24 proto 115",
        "route replace 10.#0.0.0/16 dev lo proto 115", "rule del from 10.#.7.0/24 protocol 115", "link set tun-$ name tun-$x",
        "route add 10.99.#.0/24 dev lo proto 115", "rule add from 10.98.#.0/24 lookup 200 priority 20400 protocol 115",
    )
)  # fmt: skip
# What others have: never touched. The first ones are in the way of tunnel a.
_FOREIGN = (
    "tuntap add tun-a mode tun",
    "route add 10.10.0.0/16 dev lo",
    "-6 route add fd00:1:1::/48 dev lo",
    "tuntap add tun-z mode tun",
    "route add 10.10.0.0/16 dev lo metric 777",
    "rule add from 10.1.7.0/24 lookup 200 protocol 99 priority 30000",
    "addr add 10.1.0.2/24 dev lo",
    "rule add from 10.1.7.0/24 lookup 200 protocol 99 priority 20100",
)


class _Machine(RuleBasedStateMachine):
    host: Host  # set by the test
    tunctl: Warm
    before: str

    def __init__(self) -> None:
        super().__init__()
        self.foreign: dict[str, str] = {}  # the words that made it → what the host shows of it
        for which in _FILES:
            self.host.write(f"{which}.toml", _text(which))

    # What we do

    @rule(which=st.sampled_from(sorted(_FILES)))
    def apply(self, which: str) -> None:
        self._run("apply", f"{which}.toml", "--allow-withdraw")

    @rule(name=st.sampled_from(NAMES), verb=st.sampled_from(["down", "up", "forget"]))
    def command(self, name: str, verb: str) -> None:
        self._run(verb, name)

    @rule()
    def reconcile(self) -> None:
        self._run("reconcile")
        self.check()

    @rule(
        which=st.sampled_from(sorted(_FILES)),
        verb=st.sampled_from(["apply", "down", "reconcile", "forget", "up"]),
        place=st.sampled_from(
            [
                "kill-before:1",
                "kill-after:2",
                "kill-after:5",
                "kill-after:9",
                "kill-at:stored",
                "kill-at:acted",
                "kill-at:verified",
                "fail:2:EBUSY",
                "fail:4:EPERM",
            ]
        ),
    )
    def command_in_trouble(self, which: str, verb: str, place: str) -> None:
        words = {"apply": ["apply", f"{which}.toml", "--allow-withdraw"], "reconcile": ["reconcile"]}
        self._run(*words.get(verb, [verb, "--all"]), trouble=place)

    # What others do

    @rule(words=st.sampled_from(_DAMAGE))
    def damage(self, words: str) -> None:
        dev = next((word for word in words.split() if word.startswith("tun-") and not word.endswith("x")), None)
        theirs = dev or (words.split()[2] if "replace" in words else None)
        if theirs and any(theirs in made.split() for made in self.foreign):
            return  # that one is not ours
        self.host.ip(words, check=False)

    @rule(how=st.sampled_from(["remove", "cut", "everything"]), name=st.sampled_from(NAMES))
    def spoil_handles(self, how: str, name: str) -> None:
        path = self.host.run_dir / "tunnels" / name / "handles.json"
        if how == "everything":
            shutil.rmtree(self.host.run_dir, ignore_errors=True)
        elif path.exists():
            path.unlink() if how == "remove" else path.write_text('{"pid": ')

    @rule(words=st.sampled_from(_FOREIGN))
    def come(self, words: str) -> None:
        before = state(self.host)
        self.host.ip(words, check=False)
        if words not in self.foreign and state(self.host) != before:
            self.foreign[words] = self._shown(words)

    @precondition(lambda self: self.foreign)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        words = data.draw(st.sampled_from(sorted(self.foreign)))
        self._remove(words)

    # What must hold

    @invariant()
    def foreign_things_are_as_they_were(self) -> None:
        for words, shown in self.foreign.items():
            assert self._shown(words) == shown, f"somebody touched what `ip {words}` made"

    def check(self) -> None:
        """After a pass: nothing left to do, or every tunnel with something left has a conflict that explains it."""
        plan = self.tunctl.run("plan", "--json", expect=None)
        assert plan.returncode in (0, 73), plan
        document = json.loads(plan.stdout)
        assert document["steps"] == [], plan.stdout
        if plan.returncode == 73:
            assert document["conflicts"]
            assert self.foreign, "a conflict with nobody"

    def _run(self, *words: str, trouble: str | None = None) -> None:
        done = self.tunctl.run(*words, env=fault(trouble) if trouble else None, expect=None)
        expected = {0, 64, 65, 73} | ({1, 77, -9} if trouble else {1} if self.foreign else set())
        assert done.returncode in expected, done

    def _shown(self, words: str) -> str:
        """The lines of the host that are about this foreign object."""
        parts = words.split()
        if "tuntap" in parts:
            return self.host.ip(f"-o link show dev {parts[2]}", check=False)
        family = "-6" if parts[0] == "-6" else "-4"
        parts = [part for part in parts if part != "-6"]
        if parts[0] == "route":
            lines = self.host.ip(f"{family} route show table all").splitlines()
            mine = [line for line in lines if parts[2] in line and "dev lo" in line and "proto 115" not in line]
            return "\n".join(line for line in mine if ("metric 777" in line) == ("777" in parts))
        if parts[0] == "rule":
            return "\n".join(x for x in self.host.ip("rule").splitlines() if x.startswith(f"{parts[-1]}:") and "proto 99" in x)
        return "\n".join(x for x in self.host.ip("-o addr show dev lo").splitlines() if parts[2] in x)

    def _remove(self, words: str) -> None:
        removal = words.replace(" add ", " del ").replace("tuntap add tun-a mode tun", "tuntap del tun-a mode tun")
        if "rule" in words:
            priority = words.rsplit(maxsplit=1)[-1]
            removal = f"rule del from 10.1.7.0/24 lookup 200 priority {priority} protocol 99"
        self.host.ip(removal)
        del self.foreign[words]

    def teardown(self) -> None:
        for words in list(self.foreign):
            with contextlib.suppress(AssertionError):
                self._remove(words)
        self.tunctl.run("reconcile", expect=None)
        self.tunctl.run("forget", "--all")
        for line in ("link del tun-a", "link del tun-z"):
            self.host.ip(line, check=False)
        assert_clean(self.host, self.before, "after forget --all")
        assert left_behind(self.host) == []
        assert self.tunctl.json("status")["tunnels"] == []
        shutil.rmtree(self.host.state_dir, ignore_errors=True)


@pytest.fixture
def machine(_outside_is_a_decoy: None) -> Iterator[type[_Machine]]:
    with world.new_host("stateful") as host, Warm(host) as tunctl:

        class Machine(_Machine):
            pass

        Machine.host, Machine.tunctl, Machine.before = host, tunctl, state(host)
        yield Machine


@pytest.mark.bound(200)
def test_any_order_of_events(machine: type[_Machine]) -> None:
    bounded = settings(
        max_examples=EXAMPLES, stateful_step_count=12, deadline=None, derandomize=True, database=None,
        phases=(Phase.generate, Phase.shrink), suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    run_state_machine_as_test(machine, settings=bounded)


EXAMPLES = int(os.environ.get("TUNCTL_STATEFUL_EXAMPLES", "15"))
