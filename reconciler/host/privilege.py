"""What this process may do."""

from __future__ import annotations

import os

from reconciler.errors import NotPermitted

CAP_NET_ADMIN = 12  # linux/capability.h


def has_net_admin() -> bool:
    """True with CAP_NET_ADMIN in the effective set."""
    with open("/proc/self/status", encoding="utf-8") as status:
        for line in status:
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> CAP_NET_ADMIN & 1)
    return False


def require_net_admin(command: str) -> None:
    """Before anything is changed."""
    if not has_net_admin():
        raise NotPermitted(f"{command} needs CAP_NET_ADMIN", hint=f"run it as root: sudo tunctl {command}")


def asking_uid() -> int:
    """The user behind sudo, if any."""
    return int(os.environ["SUDO_UID"]) if os.environ.get("SUDO_UID", "").isdigit() else os.getuid()
