"""A manifest: where a server's tunnels really listen, said by the server for its clients, and signed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from reconciler.model.names import TunnelName
from reconciler.model.tunnel import Endpoint
from reconciler.typed import NamedTuple

TRANSPORTS = ("udp", "tcp", "quic")

Ports = Mapping[TunnelName, Mapping[str, int]]  # tunnel → transport → port


class Manifest(NamedTuple):
    """The content of one. Times: microseconds since the epoch, UTC."""

    host: str  # the name or address at which clients find the server
    issued_us: int
    expires_us: int
    ports: Ports

    def endpoints(self) -> Iterator[tuple[TunnelName, str, Endpoint]]:
        """Tunnel, transport, and what a client dials; by name."""
        for name, by_transport in sorted(self.ports.items()):
            for transport, port in sorted(by_transport.items()):
                yield name, transport, Endpoint(self.host, port)

    @property
    def bridges(self) -> list[str]:
        """``host:port``, each once: for readers who know of no tunnels."""
        return list(dict.fromkeys(str(endpoint) for _name, _transport, endpoint in self.endpoints()))
