"""Reading and writing kernel switches of this thread's network namespace. Knows none of them."""

from __future__ import annotations

import os

from reconciler.errors import NotObserved

_MOST = 4096  # bytes of a value: a page of the kernel's


def path(name: str) -> str:
    """``net.ipv4.conf.eth0/5.forwarding`` → its file. A slash in a name is a dot, as sysctl(8) has it."""
    return "/proc/sys/" + name.translate({ord("."): "/", ord("/"): "."})


def read(name: str) -> str | None:
    """The value now; None when there is no such switch (its interface is gone). NotObserved when it cannot be read."""
    try:
        descriptor = os.open(path(name), os.O_RDONLY | os.O_CLOEXEC)  # `open` costs as much again
        try:
            return os.read(descriptor, _MOST).strip().decode("ascii")
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise NotObserved(f"{name}: {getattr(error, 'strerror', error)}") from error


def write(name: str, value: str) -> None:
    """OSError with the kernel's reason."""
    with open(path(name), "w", encoding="ascii") as file:
        file.write(value)
