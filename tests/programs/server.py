"""server.py DEVICE [TRANSPORT=ADDRESS:PORT | HABIT]…: holds a TUN and listens.

Ends with 98 (EADDRINUSE) when one cannot be bound. mute: goes on without it, and says nothing · child: a child of it
listens · drop: closes its sockets at SIGUSR1 · never: binds nothing · until:FILE: makes FILE.there, and binds when FILE is
there (once it is, at once)
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from pathlib import Path

from tun_device import open_tun


def bound(word: str) -> socket.socket:
    transport, _, place = word.partition("=")
    address, _, port = place.rpartition(":")
    address = address.strip("[]")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM if transport == "tcp" else socket.SOCK_DGRAM)
    if transport == "tcp":
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    opened.bind((address, int(port)))
    if transport == "tcp":
        opened.listen()
    return opened


def main() -> int:
    device, words = sys.argv[1], sys.argv[2:]
    tun = open_tun(device)
    if "child" in words and os.fork():
        os.close(tun)
        os.wait()
        return 1
    for file in (Path(word.removeprefix("until:")) for word in words if word.startswith("until:")):
        Path(f"{file}.there").touch()
        while not file.exists():
            time.sleep(0.01)
    sockets = []
    for word in words:
        try:
            sockets += [bound(word)] if "=" in word and "never" not in words else []
        except OSError as error:
            print(error, flush=True)
            if "mute" not in words:
                return 98
    if "drop" in words:
        signal.signal(signal.SIGUSR1, lambda *_: [one.close() for one in sockets])
    while True:
        signal.pause()


if __name__ == "__main__":
    sys.exit(main())
