"""What is in the run directory of a tunnel stays as long as somebody may need it."""

from __future__ import annotations

from tests.netns.scenario import desired, exec_
from tests.netns.world import Host


def test_the_log_of_a_program_that_failed_can_be_read(host: Host) -> None:
    """The error says where its output is."""
    script = host.write("fails", "#!/bin/sh\nseq 1 100\nexit 3\n", 0o755)
    host.write("d.toml", desired(exec_(command=[str(script)])))
    host.tunctl("apply", "d.toml", expect=1)
    log = host.run_dir / "tunnels/demo/owner.log"
    assert log.read_text().splitlines()[0] == "1"
    (tunnel,) = host.json("status", expect=None)["tunnels"]
    assert tunnel["owner"] is None
    host.tunctl("down", "demo")
    assert not log.parent.exists()
