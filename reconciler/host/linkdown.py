"""The per-device switch `ignore_routes_with_linkdown`: whether routes by a device without carrier count. It is born and
dies with its device, so nothing has to be given back. In the network namespace of the calling thread."""

from __future__ import annotations

_PATHS = tuple(f"/proc/sys/net/{family}/conf/{{}}/ignore_routes_with_linkdown" for family in ("ipv4", "ipv6"))


def is_on(dev: str) -> bool:
    """On for every family that the device has; OSError when that cannot be read."""
    states = []
    for path in _PATHS:
        try:
            with open(path.format(dev), "rb") as file:
                states.append(file.read(1) == b"1")
        except FileNotFoundError:
            continue  # a family that the kernel, or the device, does not have
    return bool(states) and all(states)


def switch_on(dev: str) -> None:
    """For every family that the device has."""
    for path in _PATHS:
        try:
            with open(path.format(dev), "wb") as file:
                file.write(b"1\n")
        except FileNotFoundError:
            continue
