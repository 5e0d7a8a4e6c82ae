"""pump.py DEVICE LOCAL:PORT PEER:PORT: carries the packets of a TUN over UDP. Exits when the device goes."""

from __future__ import annotations

import os
import select
import socket
import sys

from tun_device import open_tun


def _place(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def main() -> int:
    device, local, peer = sys.argv[1:4]
    tun = open_tun(device)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(_place(local))
    udp.connect(_place(peer))
    udp.setblocking(False)  # the send may have taken the error that poll() told of, and then there is nothing to receive
    poll = select.poll()
    poll.register(tun, select.POLLIN)
    poll.register(udp, select.POLLIN)
    print("pumping", flush=True)
    while True:
        for descriptor, events in poll.poll():
            try:
                if descriptor == tun:
                    if events & (select.POLLERR | select.POLLHUP):
                        return 3
                    udp.send(os.read(tun, 65535))
                else:
                    os.write(tun, udp.recv(65535))
            except (ConnectionRefusedError, BlockingIOError):
                continue  # nobody there yet
            except OSError as error:
                if descriptor == tun:
                    print(error, flush=True)
                    return 3


if __name__ == "__main__":
    sys.exit(main())
