"""What all these engines do first: open a TUN device by name."""

from __future__ import annotations

import fcntl
import os
import struct

TUNSETIFF, TUNSETPERSIST = 0x400454CA, 0x400454CB  # linux/if_tun.h
IFF_TUN, IFF_NO_PI = 0x1, 0x1000


def open_tun(name: str) -> int:
    """A descriptor; the device goes with the last of them unless it is persistent."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return descriptor
