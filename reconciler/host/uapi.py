"""The configuration protocol of userspace WireGuard (wireguard.com/xplatform): lines of text over a unix socket.

One request a connection, each bounded in time: an engine that is stopped costs half a second, not a pass.
"""

from __future__ import annotations

import _socket as socket  # the half of it in C: the other makes enumerations of all constants first
import errno
import os
import struct
import time

from reconciler.host.engine import DeviceChange, PeerChange, RawDevice, RawPeer
from reconciler.host.keys import Key
from reconciler.lean import cache
from reconciler.model.names import IfName
from reconciler.model.prefix import ntop, parse_prefix, pton
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DIRECTORY = "/var/run/wireguard"  # wireguard-go, boringtun; /var/run is a symlink to /run on most systems
TIMEOUT_S = 0.5
_LIMIT = 64 * 1024 * 1024  # bytes of an answer: some 800 000 allowed prefixes
_CREDENTIALS = struct.Struct("=iII")  # ucred: pid, uid, gid
_Lines = list[tuple[str, str]]


class UapiError(OSError):
    """The engine refused, or did not answer (ETIMEDOUT). Never has a key in it."""


def socket_path(ifname: IfName, pid: int) -> str:
    """Where the socket is as the engine with this pid sees it: its mount namespace may be its own."""
    return f"/proc/{pid}/root{_directory()}/{ifname}.sock"


@cache
def _directory() -> str:
    """Without symbolic links: an absolute one would lead out of the engine's root."""
    return os.path.realpath(DIRECTORY)


def get(path: str, timeout_s: float = TIMEOUT_S) -> RawDevice:
    """Everything that the engine knows. UapiError, or OSError when nobody listens."""
    return device(Asked(path, timeout_s).answer())


def device(answer: bytes) -> RawDevice:
    """The meaning of an answer to `Asked`. UapiError."""
    return _device(_lines(answer))


def set_device(path: str, change: DeviceChange, timeout_s: float = TIMEOUT_S) -> None:
    """Sets what is given and nothing else."""
    lines = []
    if change.private is not None:
        lines.append(f"private_key={change.private.hex}")
    if change.listen_port is not None:
        lines.append(f"listen_port={change.listen_port}")
    if change.fwmark is not None:
        lines.append(f"fwmark={change.fwmark}")
    _set(path, lines, timeout_s)


def set_peer(path: str, change: PeerChange, timeout_s: float = TIMEOUT_S) -> None:
    """Sets what is given at one peer, which is made if it is not there; the sessions of the others never notice."""
    _set(path, _peer_lines(change), timeout_s)


def _peer_lines(change: PeerChange) -> Iterator[str]:
    yield f"public_key={change.public_key.hex()}"
    if change.remove:
        yield "remove=true"
        return
    if change.preshared is not None:
        yield f"preshared_key={change.preshared.hex}"
    if change.endpoint is not None:
        address, port = change.endpoint
        yield f"endpoint={ntop(address)}:{port}" if len(address) == 4 else f"endpoint=[{ntop(address)}]:{port}"
    if change.keepalive_s is not None:
        yield f"persistent_keepalive_interval={change.keepalive_s}"
    if change.allowed_ips is not None:
        yield "replace_allowed_ips=true"
        for prefix in change.allowed_ips:
            yield f"allowed_ip={prefix}"


class Asked:
    """A request that was put to an engine: many can be, before the first answer is waited for."""

    def __init__(self, path: str, timeout_s: float, request: str = "get=1\n\n") -> None:
        """By default it asks for everything. UapiError, or OSError when nobody listens."""
        self._deadline = time.monotonic() + timeout_s
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._connection.settimeout(timeout_s)
            self._connection.connect(path)
            _trust(self._connection)
            self._connection.sendall(request.encode())
        except BaseException as error:
            self._connection.close()
            if isinstance(error, TimeoutError):
                raise UapiError(errno.ETIMEDOUT, "the engine does not answer") from None
            raise

    def answer(self) -> bytes:
        """All of it. UapiError when it is not there in time."""
        try:
            return _receive(self._connection, self._deadline)
        except (TimeoutError, BlockingIOError):
            raise UapiError(errno.ETIMEDOUT, "the engine does not answer") from None
        finally:
            self._connection.close()


def _set(path: str, lines: Iterable[str], timeout_s: float) -> None:
    _lines(Asked(path, timeout_s, "\n".join(["set=1", *lines, "", ""])).answer())


def _lines(answer: bytes) -> _Lines:
    """Without errno=0. UapiError says what else it is."""
    lines = [
        (key, value) for key, _, value in (line.partition("=") for line in answer.decode(errors="replace").split("\n") if line)
    ]
    code = next((value for key, value in reversed(lines) if key == "errno"), None)
    if code is None or not code.lstrip("-").isdecimal():
        raise UapiError(errno.EPROTO, "the engine hung up in the middle of its answer")
    if number := abs(int(code)):
        raise UapiError(number, f"the engine refused it: {os.strerror(number)}")
    return [line for line in lines if line[0] != "errno"]


def _trust(connection: socket.socket) -> None:
    """What we send may be a private key: only to root or to ourselves, whatever stands at that path."""
    answer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _pid, uid, _gid = _CREDENTIALS.unpack(answer)
    if uid not in (0, os.geteuid()):
        raise UapiError(errno.EPROTO, f"uid {uid} listens at its socket, who has no right to it")


def _receive(connection: socket.socket, deadline: float) -> bytes:
    """Until the empty line that ends an answer. What came in time is taken also when others have used the time up."""
    parts, size, tail = [], 0, b""
    while not tail.endswith(b"\n\n"):
        connection.settimeout(max(deadline - time.monotonic(), 0))
        part = connection.recv(1 << 18)
        size += len(part)
        if not part or size > _LIMIT:
            break
        parts.append(part)
        tail = (tail + part)[-2:]
    return b"".join(parts)


def _device(lines: _Lines) -> RawDevice:
    """Peers follow the device, each begun by its public_key. EPROTO when a value is not what the protocol says."""
    blocks: list[_Lines] = [[]]
    for line in lines:
        if line[0] == "public_key":
            blocks.append([])
        blocks[-1].append(line)
    try:
        device = dict(blocks[0])
        return RawDevice(
            Key(bytes.fromhex(device.get("private_key", "00" * 32))),
            listen_port=int(device.get("listen_port", 0)),
            fwmark=int(device.get("fwmark", "0"), 0),
            peers=tuple(_peer(block) for block in blocks[1:]),
        )
    except ValueError:
        raise UapiError(errno.EPROTO, "the engine's answer cannot be read") from None


def _peer(block: _Lines) -> RawPeer:
    values = dict(block)
    return RawPeer(
        bytes.fromhex(values["public_key"]),
        Key(bytes.fromhex(values.get("preshared_key", "00" * 32))),
        _endpoint(values["endpoint"]) if values.get("endpoint") else None,
        int(values.get("persistent_keepalive_interval", 0)),
        int(values.get("last_handshake_time_sec", 0)),
        int(values.get("rx_bytes", 0)),
        int(values.get("tx_bytes", 0)),
        tuple(sorted(parse_prefix(value) for key, value in block if key == "allowed_ip")),
    )


def _endpoint(text: str) -> tuple[bytes, int]:
    host, _, port = text.rpartition(":")
    return pton(host.strip("[]").partition("%")[0]), int(port)
