"""The open machine: one of it per command, handed to everything that looks at the kernel or changes it."""

from __future__ import annotations

from reconciler.host.handles import Handles
from reconciler.model.ledger import Ledger, Remembered
from reconciler.model.names import TunnelName
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from reconciler.host.lock import Held
    from reconciler.host.nft import Nft
    from reconciler.host.nl_diag import Diag
    from reconciler.host.nl_nft import NetlinkNft
    from reconciler.host.record import Record
    from reconciler.host.resolve import Names
    from reconciler.host.rtnl import Rtnl
    from reconciler.model.names import TunnelName


class Machine:
    """Connections are opened when first used and closed together."""

    def __init__(
        self,
        run_dir: str | Path,
        netlink_timeout_s: float | None = None,
        handles: Handles | None = None,
        unmarked: dict[int, int] | None = None,
    ) -> None:
        """`handles`, `unmarked` (process.find_marked): as an earlier machine of this process has left them, under the lock."""
        self.run_dir = run_dir
        self._netlink_timeout_s = netlink_timeout_s
        self.handles = Handles(run_dir) if handles is None else handles
        self.handles.look_again()
        self.unmarked = {} if unmarked is None else unmarked
        self.notes: list[str] = []  # what steps have to tell besides that they worked
        self.ledger: Ledger = Remembered()  # of the store that the command works with
        self.turn: Held | None = None  # given up while a program is waited for (by passes of the daemon)
        self.linger_s = 0.0  # but only after so long
        self.said: Callable[[TunnelName, str], None] | None = None  # who wants to hear what programs say while they start
        self.is_overtaken = False  # others had their turn: what was seen before does not count any more
        self.rebind: frozenset[TunnelName] = frozenset()  # tunnels that choose their ports anew, as if they had none
        self.refused: set[tuple[TunnelName, str, int]] = set()  # tunnel, transport and port: somebody was faster, just now
        self.names: Names = {}  # what names of endpoints mean in this pass: each is looked up once
        self.names_s: float | None = None  # how long that may take; None: as long as it must, 0: what is not known stays so
        self.counts = False  # links are looked at with their counters: for who shows them
        self._rtnl: Rtnl | None = None
        self._diag: Diag | None = None
        self._record: Record | None = None
        self._nft: Nft | None = None
        self._nl_nft: NetlinkNft | None = None

    @property
    def rtnl(self) -> Rtnl:
        """The rtnetlink request socket of this network namespace."""
        if self._rtnl is None:
            from reconciler.host.rtnl import Rtnl

            self._rtnl = Rtnl() if self._netlink_timeout_s is None else Rtnl(self._netlink_timeout_s)
        return self._rtnl

    @property
    def diag(self) -> Diag:
        """Socket diagnostics of this network namespace."""
        if self._diag is None:
            from reconciler.host.nl_diag import Diag

            self._diag = Diag() if self._netlink_timeout_s is None else Diag(self._netlink_timeout_s)
        return self._diag

    @property
    def record(self) -> Record:
        """What the record of bound ports says; of this boot, read once."""
        if self._record is None:
            from reconciler.host import record

            self._record = record.of_boot(self.run_dir, self.handles.boot_id)
        return self._record

    def forget_record(self) -> None:
        """It was written anew."""
        self._record = None

    @property
    def nft(self) -> Nft:
        """The packet filter of this network namespace, by libnftables or nft. Unavailable when it has neither."""
        if self._nft is None:
            from reconciler.host.nft import open_nft

            self._nft = open_nft()
        return self._nft

    @property
    def nl_nft(self) -> NetlinkNft:
        """The same, as raw netlink shows it: quick looks without a library."""
        if self._nl_nft is None:
            from reconciler.host.nl_nft import NetlinkNft

            self._nl_nft = NetlinkNft()
        return self._nl_nft

    @property
    def has_turn(self) -> bool:
        """Nobody else changes anything now."""
        return self.turn is None or self.turn.is_held

    def close(self) -> None:
        for connection in (self._rtnl, self._diag, self._nft, self._nl_nft):
            if connection is not None:
                connection.close()
        self._rtnl = self._diag = self._nft = self._nl_nft = None

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
