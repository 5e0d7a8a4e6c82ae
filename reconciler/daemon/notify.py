"""What systemd wants to hear (sd_notify(3)): ready, reloading, alive, stopping. Without systemd it does nothing."""

from __future__ import annotations

import os
import socket

from reconciler.lean import suppress


def tell(text: str) -> None:
    """Sends lines like ``READY=1`` to $NOTIFY_SOCKET; nobody waits for it, and nothing fails because of it."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path[:1] not in ("/", "@"):
        return
    address = "\0" + path[1:] if path[0] == "@" else path
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
        out.setblocking(False)
        out.sendto(text.encode(), address)


def watchdog_s() -> float | None:
    """How often to say WATCHDOG=1: half of what the unit allows. None when nobody watches this process."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 2e6 if microseconds.isdigit() and int(microseconds) > 0 else None
