"""Which legacy tables of iptables are in use. Asking for one that is not would make it: so this is asked first."""

from __future__ import annotations

from reconciler.errors import NotPermitted

FAMILIES = ("ip", "ip6")


def names(family: str) -> list[bytes]:
    """Of "ip" or "ip6"; none where the kernel has no such tables. NotPermitted."""
    try:
        with open(f"/proc/thread-self/net/{family}_tables_names", "rb") as file:
            return file.read().split()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise NotPermitted("only root may look at the packet filter") from error
