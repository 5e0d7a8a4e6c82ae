"""The open machine: one of it per command, handed to everything that looks at the kernel or changes it."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from reconciler.host.handles import Handles

if TYPE_CHECKING:
    from pathlib import Path

    from reconciler.host.rtnl import Rtnl


class Machine:
    """Connections are opened when first used and closed together."""

    def __init__(self, run_dir: str | Path, netlink_timeout_s: float | None = None) -> None:
        self.run_dir = run_dir
        self._netlink_timeout_s = netlink_timeout_s
        self.handles = Handles(run_dir)
        self.notes: list[str] = []  # what steps have to tell besides that they worked
        self._rtnl: Rtnl | None = None

    @property
    def rtnl(self) -> Rtnl:
        """The rtnetlink request socket of this network namespace."""
        if self._rtnl is None:
            from reconciler.host.rtnl import Rtnl

            self._rtnl = Rtnl() if self._netlink_timeout_s is None else Rtnl(self._netlink_timeout_s)
        return self._rtnl

    def close(self) -> None:
        if self._rtnl is not None:
            self._rtnl.close()
            self._rtnl = None

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
