"""What is wrong with `listen` entries although each of their values is good, in one tunnel and between tunnels."""

from __future__ import annotations

from reconciler.config.declared import Declared
from reconciler.config.lines import Path
from reconciler.config.problems import path_text
from reconciler.config.schema import ListenTable, WireGuardTable
from reconciler.model.port import ANY4, ANY6, LAST, PROTOCOLS, UDP, Socket
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_DRIVERS = ("wireguard", "exec")
_TO_COME = ("openvpn", "openconnect")  # refused as a whole
_NAMES = {UDP: "udp", 6: "tcp"}


class _Fixed(NamedTuple):
    """A port that a tunnel takes or fails."""

    tunnel: Declared
    path: Path
    protocol: int
    port: int
    addresses: tuple[bytes, ...]

    def meets(self, other: _Fixed) -> bool:
        return any(Socket(self.protocol, mine, self.port).keeps_out(its) for mine in self.addresses for its in other.addresses)


def check_listen(tunnel: Declared) -> None:
    """Within one tunnel."""
    entries = tunnel.table.listen
    if entries and tunnel.table.driver not in (*_DRIVERS, *_TO_COME):
        tunnel.error(("listen",), f"is for the drivers wireguard and exec: {tunnel.table.driver!r} has no program that could")
    first: dict[str, int] = {}
    for at, entry in enumerate(entries):
        path: Path = ("listen", at)
        if entry.port + entry.scan - 1 > LAST:
            tunnel.error((*path, "scan"), f"port {entry.port} and {entry.scan - 1} more go beyond {LAST}")
        other = first.setdefault(entry.transport, at)
        if other != at:
            place = tunnel.place(("listen", other))
            tunnel.error((*path, "transport"), f"{entry.transport} is that of listen[{other}] too ({place}): one of each")
        if tunnel.table.wireguard is not None:
            _wireguard(tunnel, path, entry, tunnel.table.wireguard)
        if tunnel.table.exec is not None and entry.scan > 1 and not _is_told(tunnel.table.exec.command, entry):
            word = f"{{listen.{entry.transport}.port}}"
            tunnel.warn((*path, "scan"), f"the program is not told which port was chosen: {word} is not in its command")


def _is_told(command: Iterable[str], entry: ListenTable) -> bool:
    return any(f"{{listen.{entry.transport}.port}}" in word for word in command)


def _wireguard(tunnel: Declared, path: Path, entry: ListenTable, wireguard: WireGuardTable) -> None:
    if entry.transport != "udp":
        tunnel.error((*path, "transport"), "WireGuard listens on udp only")
        return
    if entry.address not in (ANY4, ANY6):
        tunnel.error((*path, "address"), 'WireGuard listens on all addresses: "0.0.0.0" or "::"')
    if wireguard.listen_port is not None:
        tunnel.error(("wireguard", "listen_port"), "stands beside a udp `listen`: only one of them can say the port")


def check_ports(tunnels: Sequence[Declared]) -> None:
    """Ports that two entries are to have, neither of which may take another one."""
    taken: dict[tuple[int, int], list[_Fixed]] = {}
    for tunnel in tunnels:
        for one in _fixed(tunnel) if tunnel.table.wireguard or tunnel.table.listen else ():
            others = taken.setdefault((one.protocol, one.port), [])
            other = next((other for other in others if one.meets(other)), None)
            others.append(one)
            if other is not None and not _is_told_elsewhere(one, other):
                whose = path_text((*other.tunnel.path, *other.path))
                place = other.tunnel.place(other.path)
                tunnel.error(one.path, f"{_NAMES[one.protocol]} port {one.port} is that of {whose} already ({place})")


def _is_told_elsewhere(one: _Fixed, other: _Fixed) -> bool:
    """Two `listen_port`, and a `listen_port` beside a `listen`."""
    of_wireguard = (one.path[0] == "wireguard", other.path[0] == "wireguard")
    return all(of_wireguard) or (any(of_wireguard) and one.tunnel is other.tunnel)


def _fixed(tunnel: Declared) -> Iterator[_Fixed]:
    wireguard = tunnel.table.wireguard
    if wireguard is not None and wireguard.listen_port is not None:
        yield _Fixed(tunnel, ("wireguard", "listen_port"), UDP, wireguard.listen_port, (ANY4, ANY6))
    for at, entry in enumerate(tunnel.table.listen):
        if entry.scan == 1:
            addresses = (entry.address,) if wireguard is None else (ANY4, ANY6)
            yield _Fixed(tunnel, ("listen", at, "port"), PROTOCOLS[entry.transport], entry.port, addresses)
