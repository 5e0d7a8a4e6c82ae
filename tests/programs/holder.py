"""holder.py DEVICE [WORD…]: holds a TUN and does nothing, with bad habits by choice.

stubborn: ignores SIGTERM · family: a child in a session of its own, that ignores it too · die: exits with 7 right after
the device is there · never: opens no device · late: opens it after 0.7 s · talk: prints 40 lines first · babble: prints
2 MiB of no UTF-8 ·
persist: the device stays when it ends · background: the work is done by a child, the parent exits · rename: wipes its own
command line and environment · environment: prints its environment · flee: asked to end it leaves a grandchild in a session
of its own, that ignores it
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import sys
import time
from pathlib import Path

from tun_device import TUNSETPERSIST, open_tun


def _wipe() -> None:
    """What setproctitle does: /proc/PID/environ and cmdline read as blanks."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    for start, end in ((int(fields[45]), int(fields[46])), (int(fields[47]), int(fields[48]))):
        ctypes.memset(start, 0, end - start)


def _speak(words: list[str]) -> None:
    if "environment" in words:
        print(sorted(os.environ.items()), flush=True)
    if "talk" in words:
        for number in range(40):
            print(f"line {number} \x1b[31m", flush=True)
    if "babble" in words:
        os.write(1, b"\xff\xfe babble\n" * (2 * 1024 * 1024 // 10))


def _have_family() -> None:
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork() == 0:
            os.setsid()
        _sleep()


def _flee(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            print("fled", flush=True)
            _sleep()
    os._exit(0)


def _sleep() -> None:
    while True:
        time.sleep(60)


def _open(device: str, words: list[str]) -> None:
    descriptor = open_tun(device)
    if "persist" in words:
        fcntl.ioctl(descriptor, TUNSETPERSIST, 1)


def main() -> int:
    device, words = sys.argv[1], sys.argv[2:]
    if "stubborn" in words:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "flee" in words:
        signal.signal(signal.SIGTERM, _flee)
    _speak(words)
    if "family" in words:
        _have_family()
    if "background" in words and os.fork():
        return 0
    if "late" in words:
        time.sleep(0.7)
    if "never" not in words:
        _open(device, words)
    if "die" in words:
        print("dying", flush=True)
        return 7
    if "rename" in words:
        _wipe()
    _sleep()
    return 0


if __name__ == "__main__":
    sys.exit(main())
