"""The per-device switch `ignore_routes_with_linkdown`: whether routes by a device without carrier count. It is born and
dies with its device, so nothing has to be given back; whether it is on, the kernel tells with the link (nl_link). In the
network namespace of the calling thread."""

from __future__ import annotations

_PATHS = tuple(f"/proc/sys/net/{family}/conf/{{}}/ignore_routes_with_linkdown" for family in ("ipv4", "ipv6"))


def switch_on(dev: str) -> None:
    """For every family that the device has. Without a newline: Linux 6.1 takes it for a second write, and refuses that."""
    for path in _PATHS:
        try:
            with open(path.format(dev), "wb") as file:
                file.write(b"1")
        except FileNotFoundError:
            continue
