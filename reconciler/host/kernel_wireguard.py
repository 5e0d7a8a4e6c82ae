"""WireGuard in the kernel, by generic netlink (linux/wireguard.h). Reads are our own; sets go through pyroute2."""

from __future__ import annotations

import errno
import os
import struct
from struct import Struct

from reconciler.errors import StepFailed
from reconciler.host.engine import DeviceChange, PeerChange, RawDevice, RawPeer
from reconciler.host.keys import KEY_BYTES, Key
from reconciler.host.netlink import KernelError, Netlink
from reconciler.host.nl_codec import ATTRIBUTE, TYPE_MASK, attributes, text
from reconciler.model.names import IfName
from reconciler.model.prefix import AF_INET, AF_INET6, Prefix, ntop
from reconciler.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

NETLINK_GENERIC = 16
_GENL = Struct("=BBH")  # genlmsghdr: command, version, reserved
_GENL_ID_CTRL, _CTRL_CMD_GETFAMILY, _CTRL_ATTR_FAMILY_ID, _CTRL_ATTR_FAMILY_NAME = 16, 3, 1, 2
_FAMILY, _VERSION, _GET_DEVICE = "wireguard", 1, 0

_A_IFNAME, _A_PRIVATE, _A_PUBLIC, _A_PORT, _A_FWMARK, _A_PEERS = 2, 3, 4, 6, 7, 8  # WGDEVICE_A_*
_P_PUBLIC, _P_PRESHARED, _P_ENDPOINT, _P_KEEPALIVE, _P_HANDSHAKE, _P_RX, _P_TX, _P_ALLOWED = 1, 2, 4, 5, 6, 7, 8, 9
_I_FAMILY, _I_ADDRESS, _I_LENGTH = 1, 2, 3  # WGALLOWEDIP_A_*
_U16, _U32, _U64, _TIME = Struct("=H"), Struct("=I"), Struct("=Q"), Struct("=qq")
_PORT = Struct(">H")  # sockaddr_in and sockaddr_in6: family, port, …

_ALLOWED_A_MESSAGE = 500  # 40 bytes an IPv6 prefix, 64 KiB an attribute


class KernelWireGuard:
    """A generic netlink socket. Not for two threads at once."""

    def __init__(self) -> None:
        self._netlink = Netlink(NETLINK_GENERIC)
        self._family: int | None = None

    def close(self) -> None:
        self._netlink.close()

    def family(self) -> int | None:
        """The number of the kernel's WireGuard family; None: this kernel has none, or has not loaded it yet."""
        if self._family is None:
            body = _GENL.pack(_CTRL_CMD_GETFAMILY, 1, 0) + text(_CTRL_ATTR_FAMILY_NAME, _FAMILY)
            try:
                answers = self._netlink.request(_GENL_ID_CTRL, 0, body)
            except KernelError as error:
                if error.errno == errno.ENOENT:
                    return None
                raise
            for answer in answers:
                self._family = _U16.unpack(attributes(answer, _GENL.size)[_CTRL_ATTR_FAMILY_ID])[0]
        return self._family

    def get(self, ifname: IfName) -> RawDevice:
        """Everything the kernel knows of a device. KernelError (EPERM without CAP_NET_ADMIN, ENODEV), NotObserved."""
        family = self.family()
        if family is None:
            raise KernelError(errno.EOPNOTSUPP, "this kernel has no WireGuard")
        body = _GENL.pack(_GET_DEVICE, _VERSION, 0) + text(_A_IFNAME, ifname)
        return decode(self._netlink.dump(family, body, bytes))


def decode(messages: list[bytes]) -> RawDevice:
    """The messages of one dump → the device. ValueError when they are malformed.

    A device that does not fit in one message goes on in the next; a peer that was cut there is begun again with its public
    key and the rest of its allowed prefixes.
    """
    device = RawDevice()
    peers: dict[bytes, RawPeer] = {}
    try:
        for message in messages:
            fields = attributes(message, _GENL.size)
            if _A_PUBLIC in fields or _A_PORT in fields:  # the first message alone has these
                device = _device(fields)
            for _, item in _items(fields.get(_A_PEERS, b"")):
                peer = _peer(attributes(item))
                before = peers.get(peer.public_key)
                peers[peer.public_key] = before._replace(allowed_ips=before.allowed_ips + peer.allowed_ips) if before else peer
    except (struct.error, KeyError, IndexError) as error:
        raise ValueError("wireguard: an attribute is missing or has the wrong size") from error
    return device._replace(peers=tuple(peer._replace(allowed_ips=tuple(sorted(peer.allowed_ips))) for peer in peers.values()))


def _device(fields: dict[int, bytes]) -> RawDevice:
    return RawDevice(
        Key(fields.get(_A_PRIVATE, bytes(KEY_BYTES))),
        fields.get(_A_PUBLIC, b""),
        _U16.unpack(fields.get(_A_PORT, b"\0\0"))[0],
        _U32.unpack(fields.get(_A_FWMARK, b"\0\0\0\0"))[0],
    )


def _peer(fields: dict[int, bytes]) -> RawPeer:
    return RawPeer(
        fields[_P_PUBLIC],
        Key(fields.get(_P_PRESHARED, bytes(KEY_BYTES))),
        _endpoint(fields.get(_P_ENDPOINT, b"")),
        _U16.unpack(fields.get(_P_KEEPALIVE, b"\0\0"))[0],
        _TIME.unpack(fields.get(_P_HANDSHAKE, bytes(16)))[0],
        _U64.unpack(fields.get(_P_RX, bytes(8)))[0],
        _U64.unpack(fields.get(_P_TX, bytes(8)))[0],
        tuple(_allowed(attributes(item)) for _, item in _items(fields.get(_P_ALLOWED, b""))),
    )


def _allowed(fields: dict[int, bytes]) -> Prefix:
    return Prefix(fields[_I_ADDRESS], fields[_I_LENGTH][0])


def _endpoint(value: bytes) -> tuple[bytes, int] | None:
    """A sockaddr_in or sockaddr_in6; None when it is neither."""
    family = _U16.unpack_from(value)[0] if len(value) >= 16 else 0
    if family == AF_INET:
        return value[4:8], _PORT.unpack_from(value, 2)[0]
    if family == AF_INET6 and len(value) >= 28:
        return value[8:24], _PORT.unpack_from(value, 2)[0]
    return None


def _items(body: bytes) -> Iterator[tuple[int, bytes]]:
    """The elements of a nested list: they all have type 0, so no dict can hold them."""
    at = 0
    while at + 4 <= len(body):
        size, kind = ATTRIBUTE.unpack_from(body, at)
        if not 4 <= size <= len(body) - at:
            raise ValueError("wireguard: a list element is cut off")
        yield kind & TYPE_MASK, body[at + 4 : at + size]
        at += (size + 3) & ~3


def is_known_to_the_kernel() -> bool:
    """WireGuard is built in, loaded, or a module that a `wireguard` link would load."""
    if os.path.isdir("/sys/module/wireguard"):
        return True
    directory = f"/lib/modules/{os.uname().release}"
    return any(_mentions(f"{directory}/{name}") for name in ("modules.builtin", "modules.dep"))


def _mentions(path: str) -> bool:
    try:
        with open(path, "rb") as lines:
            return any(b"/wireguard.ko" in line.partition(b":")[0] for line in lines)
    except OSError:
        return False


def set_device(ifname: IfName, change: DeviceChange) -> None:
    """Sets what is given and nothing else. KernelError."""
    _set(
        ifname,
        private_key=None if change.private is None else change.private.base64,
        listen_port=change.listen_port,
        fwmark=change.fwmark,
    )


def set_peer(ifname: IfName, change: PeerChange) -> None:
    """Sets what is given at one peer, which is made if it is not there. KernelError."""
    for peer in _peer_words(change):
        _set(ifname, peer=peer)


def _peer_words(change: PeerChange) -> Iterator[dict[str, Any]]:
    """As pyroute2 takes it; long lists of allowed prefixes in several messages, each adding to the one before."""
    public_key = Key(change.public_key).base64
    if change.remove:
        yield {"public_key": public_key, "remove": True}
        return
    first: dict[str, Any] = {"public_key": public_key}
    if change.preshared is not None:
        first["preshared_key"] = change.preshared.base64
    if change.endpoint is not None:
        first["endpoint_addr"], first["endpoint_port"] = ntop(change.endpoint[0]), change.endpoint[1]
    if change.keepalive_s is not None:
        first["persistent_keepalive"] = change.keepalive_s
    allowed = [str(prefix) for prefix in change.allowed_ips or ()]
    if change.allowed_ips is not None:
        first["replace_allowed_ips"] = True
        first["allowed_ips"] = allowed[:_ALLOWED_A_MESSAGE]
    yield first
    for at in range(_ALLOWED_A_MESSAGE, len(allowed), _ALLOWED_A_MESSAGE):
        yield {"public_key": public_key, "update_only": True, "allowed_ips": allowed[at : at + _ALLOWED_A_MESSAGE]}


def _set(ifname: IfName, **words: Any) -> None:
    """pyroute2's WireGuard: its messages are debug logged, keys included, so its logger is held above that."""
    import logging

    from pyroute2 import WireGuard  # 145 ms
    from pyroute2.netlink.exceptions import NetlinkError

    logger = logging.getLogger("pyroute2")
    logger.setLevel(max(logger.level, logging.WARNING))
    try:
        with WireGuard() as engine:
            engine.set(ifname, **words)
    except NetlinkError as error:
        raise KernelError(error.code) from None  # not `from error`: it may hold the message, and that the keys
    except (OSError, ValueError) as error:
        raise StepFailed(f"wireguard dev {ifname}: {type(error).__name__}") from None
