"""A user without rights who wants to be taken for a userspace WireGuard engine: `forger.py DEVICE`, started as root.

He copies the mark (the environment), holds a TUN of the right name (of another network namespace), and listens where an
engine would (in a /run/wireguard of his own). Prints what he is told.
"""

from __future__ import annotations

import ctypes
import os
import socket
import sys

from tun_device import open_tun

NEWNET, NOBODY = 0x40000000, 65534
libc = ctypes.CDLL(None, use_errno=True)

dev = sys.argv[1]
here = os.open("/proc/self/ns/net", os.O_RDONLY)
if libc.unshare(NEWNET):
    sys.exit(os.strerror(ctypes.get_errno()))
held = open_tun(dev)
if libc.setns(here, NEWNET):
    sys.exit(os.strerror(ctypes.get_errno()))
os.setgroups([])
os.setgid(NOBODY)
os.setuid(NOBODY)
listening = socket.socket(socket.AF_UNIX)
listening.bind(f"/run/wireguard/{dev}.sock")
listening.listen()
print("listening", flush=True)
while True:
    connection, _ = listening.accept()
    with connection:
        told = connection.recv(65536)  # nothing: whoever connected has looked at us and gone
        if told:
            print("told:", told, flush=True)
            connection.sendall(b"errno=0\n\n")
