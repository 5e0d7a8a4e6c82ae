"""What is in the run directory of a tunnel stays as long as somebody may need it."""

from __future__ import annotations

from tests.netns.scenario import desired, exec_, tun
from tests.netns.world import Host

_LITTLE_ROOM = r"""
mount -t tmpfs -o size=512k,mode=755 tmpfs "$TUNCTL_RUN_DIR"
"$@" apply d.toml
for number in $(seq 40); do ip link del "tun-t$number"; done
dd if=/dev/zero of="$TUNCTL_RUN_DIR/lost+found" bs=4096 2>/dev/null || truncate -s -16K "$TUNCTL_RUN_DIR/lost+found"
"$@" reconcile
grep "\"ifindex\": $(cat /sys/class/net/tun-t40/ifindex)\\b" "$TUNCTL_RUN_DIR/tunnels/t40/handles.json"
"""


def test_little_room_is_room_enough(host: Host) -> None:
    """For each handle that is written there must be room, not for those of all tunnels at once."""
    tunnels = (tun(f"t{number}", addresses=(f"10.9.{number}.2/32",), routes=()) for number in range(1, 41))
    host.write("d.toml", desired(*tunnels))
    host.run_dir.mkdir()
    host.run(["unshare", "-m", "sh", "-ec", _LITTLE_ROOM, "sh", *host.tunctl_argv()])


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
