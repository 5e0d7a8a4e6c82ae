"""The per-device switch `disable_ipv6` of a device of ours. It is born with the value that new devices get and dies with its
device, so nothing has to be given back. In the network namespace of the calling thread."""

from __future__ import annotations

import os

PATH = "/proc/sys/net/ipv6/conf/{}/disable_ipv6"


def switch_on(dev: str) -> bool:
    """False: it was on, or cannot be (a kernel without IPv6, a container): what is tried next says so in the kernel's words."""
    try:
        descriptor = os.open(PATH.format(dev), os.O_RDWR | os.O_CLOEXEC)
        try:
            return os.pread(descriptor, 1, 0) == b"1" and os.pwrite(descriptor, b"0", 0) == 1
        finally:
            os.close(descriptor)
    except OSError:
        return False
