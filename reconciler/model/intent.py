"""One tunnel as the store keeps it: what the file says, who it is, and how it is getting on."""

from __future__ import annotations

from reconciler.model.marks import Mark
from reconciler.model.names import TunnelName
from reconciler.model.tunnel import Endpoint, Tunnel
from reconciler.typed import NamedTuple


class Progress(NamedTuple):
    """What must outlive a reboot: the state of the life cycle. Times: microseconds since the epoch, UTC."""

    state: str = "pending"  # a state of lifecycle.py
    since_us: int | None = None  # when it was last entered
    up_since_us: int | None = None  # since when it is up
    attempt: int = 0  # failed ones in a row
    next_retry_us: int | None = None
    error: str = ""  # of the last attempt
    worked: bool = False  # it was up at least once since it was last asked for
    last_addresses: tuple[str, ...] = ()  # as text, of the last time it was up

    def waits(self, now_us: int) -> bool:
        """For its next attempt. Not by a clock that was set back behind its last one: that may be for a year."""
        return self.state == "waiting" and (self.since_us or 0) <= now_us < (self.next_retry_us or 0)

    def rest_us(self, now_us: int) -> int:
        """How long it still waits."""
        return (self.next_retry_us or 0) - now_us if self.waits(now_us) else 0


class Vouched(NamedTuple):
    """An endpoint that a manifest vouched for: the best one so far. It is kept, because a newer one may be damaged or
    gone, and because no older one may take its place. Times: microseconds since the epoch, UTC."""

    of: str  # the peer's public key, "" for the program of exec
    host: str
    port: int
    issued_us: int
    expires_us: int
    file: str  # where the manifest was, and by which of its entries
    tunnel: TunnelName | None
    transport: str
    digest: str  # sha256 of the manifest and of the public key file it was verified with, hex
    key_digest: str
    signer: str = ""  # the thumbprint of that key (RFC 7638): whose word it is, however its file is written

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.host, self.port)


class Intent(NamedTuple):
    """A row of the store."""

    tunnel: Tunnel
    mark: Mark
    slot: int  # from 1, given once: table and block metric follow from it
    source: str
    generation: int
    held: bool = False  # a user's "stay down"
    withdrawn: bool = False  # its source no longer declares it; kept until nothing of it is left
    started_boot: str | None = None  # boot id in which `up` asked for a tunnel without autostart
    progress: Progress = Progress()
    vouched: tuple[Vouched, ...] = ()

    @property
    def name(self) -> TunnelName:
        return self.tunnel.name

    def is_wanted_up(self, boot_id: str) -> bool:
        """To be up now: enabled, neither held nor withdrawn, and started by itself or by a user in this boot."""
        tunnel = self.tunnel
        if not tunnel.enabled or self.held or self.withdrawn:
            return False
        return tunnel.autostart or self.started_boot == boot_id
