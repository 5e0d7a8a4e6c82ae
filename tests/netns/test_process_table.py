"""What the daemon relies on when it does not look into a process twice: a pid that is used again has another inode."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import os, signal
from reconciler.host import process

seen = set()
for _ in range(20):
    with open("/proc/sys/kernel/ns_last_pid", "w") as last:
        last.write("499")
    pid = os.fork()
    if pid == 0:
        signal.pause()
    assert pid == 500, pid
    inodes = dict(process._by_inode())
    assert inodes[pid] not in seen, "it would be taken for the one before"
    assert dict(process._by_inode()) == inodes, "it stays as long as the process lives"
    seen.add(inodes[pid])
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
print(len(seen))
"""


def test_a_pid_that_is_used_again_has_another_inode() -> None:
    argv = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", CODE]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=30)
    assert done.stdout == "20\n", done.stderr
