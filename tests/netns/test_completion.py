"""What the tab key does in real shells, typed at a terminal."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from tests.netns.engines import PROGRAMS
from tests.netns.layers import rooted, unpacked
from tests.netns.scenario import desired, tun
from tests.netns.world import Host

pytestmark = pytest.mark.bound(240)

SHELLS = {  # how it is started, how it learns the words, what it is in
    "bash": (["bash", "--norc", "--noprofile", "-i"], "PS1='$ '; source <(tunctl completion bash)", ()),
    "zsh": (
        ["zsh", "-f", "-i"],
        "PS1='$ '; autoload -U compinit; compinit -u -D; source <(tunctl completion zsh)",
        ("zsh", "zsh-common"),
    ),
    "fish": (["fish", "--no-config", "-i"], "tunctl completion fish | source", ("fish", "fish-common", "libpcre2-32-0")),
}
TYPED = {  # before the tab key, and after
    "tunctl dow": "tunctl down",
    "tunctl status --wat": "tunctl status --watch",
    "tunctl completion fi": "tunctl completion fish",
    "tunctl status off": "tunctl status office",
    "tunctl down la": "tunctl down lab-",
    "tunctl down lab-one lab-": "tunctl down lab-one lab-two",
    "tunctl up office off": "tunctl up office off",
    "tunctl show lab-t": "tunctl show lab-two",
    "tunctl forget --source gate": "tunctl forget --source gateway",
    "tunctl apply gate": "tunctl apply gateway.toml",
    "tunctl check ./direc": "tunctl check ./directory",
    "tunctl key public --in gate": "tunctl key public --in gateway.toml",
    "tunctl status --run-dir direc": "tunctl status --run-dir directory",
    "tunctl status --state-dir directory off": "tunctl status --state-dir directory off",
}


@pytest.mark.parametrize("shell", SHELLS)
def test_names_sources_and_files(host: Host, shell: str) -> None:
    argv, begin, packages = SHELLS[shell]
    (host.dir / "directory").mkdir()
    (host.dir / "bin").mkdir()
    (host.dir / "bin" / "tunctl").symlink_to(Path(sys.executable).with_name("tunctl"))
    tunnels = [tun(name, addresses=(), routes=()) for name in ("office", "lab-one", "lab-two")]
    host.tunctl("apply", host.write("gateway.toml", desired(*tunnels, source="gateway")))
    seen = rooted(host, *map(unpacked, packages)) if packages else host
    environment = {"PATH": f"{host.dir}/bin:{os.environ['PATH']}", "TERM": "dumb", "INPUTRC": "/dev/null", "HISTFILE": ""}
    order = json.dumps({"begin": begin, "lines": list(TYPED)})
    typed = seen.run([sys.executable, PROGRAMS / "typist.py", *argv], env=environment, stdin=order, timeout=150)
    lines = [line.removesuffix("/") for line in json.loads(typed.stdout)]  # zsh takes it back when something else follows
    assert dict(zip(TYPED, lines, strict=True)) == TYPED


def test_typing_where_nothing_can_be_known(host: Host) -> None:
    """No store, one that is damaged, a name of the environment that is no shell: no word, no complaint about it."""
    words = {"COMP_WORDS": "tunctl status ", "COMP_CWORD": "2", "_TUNCTL_COMPLETE": "bash_complete"}
    for damage in (None, "x"):
        if damage:
            host.state_dir.mkdir()
            (host.state_dir / "intent.db").write_text(damage)
        done = host.tunctl(env=words)
        assert (done.stdout.strip(), done.stderr) == ("", "")
