"""The kernel's description of a WireGuard device, from bytes made by hand after linux/wireguard.h, and by pyroute2."""

from __future__ import annotations

import logging
import socket
import struct
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.host import kernel_wireguard
from reconciler.host.engine import PeerChange
from reconciler.host.keys import Key
from reconciler.model.prefix import Prefix, pton

PRIVATE, PUBLIC, PSK = b"p" * 32, b"P" * 32, b"k" * 32
ONE, TWO = b"1" * 32, b"2" * 32
GENL = struct.pack("=BBH", 0, 1, 0)


def attr(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", len(value) + 4, kind) + value + bytes(-len(value) % 4)


def nested(kind: int, *inner: bytes) -> bytes:
    return attr(kind | 0x8000, b"".join(inner))


def allowed(text: str, length: int) -> bytes:
    packed = pton(text)
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    return nested(0, attr(1, struct.pack("=H", family)), attr(2, packed), attr(3, bytes((length,))))


def device(*peers: bytes) -> bytes:
    head = [
        attr(6, struct.pack("=H", 51820)), attr(7, struct.pack("=I", 0x3174)), attr(1, struct.pack("=I", 5)), attr(2, b"wg0\0"),
        attr(3, PRIVATE), attr(4, PUBLIC),
    ]  # fmt: skip
    return GENL + b"".join(head) + nested(8, *peers)


def peer(key: bytes, *more: bytes) -> bytes:
    return nested(0, attr(1, key), *more)


V4 = struct.pack("=H", socket.AF_INET) + struct.pack(">H", 1234) + pton("192.0.2.1") + bytes(8)
V6 = struct.pack("=H", socket.AF_INET6) + struct.pack(">HI", 4321, 0) + pton("2001:db8::1") + bytes(4)


def test_a_device_with_two_peers() -> None:
    first = peer(
        ONE, attr(2, PSK), attr(5, struct.pack("=H", 25)), attr(6, struct.pack("=qq", 17, 5)), attr(7, struct.pack("=Q", 1)),
        attr(8, struct.pack("=Q", 2)), attr(10, struct.pack("=I", 1)), attr(4, V4),
        nested(9, allowed("10.8.0.0", 16), allowed("10.7.0.1", 32), allowed("fd00::", 64)),
    )  # fmt: skip
    found = kernel_wireguard.decode([device(first, peer(TWO, attr(2, bytes(32)), attr(4, V6)))])
    assert (found.private.raw, found.public_key, found.listen_port, found.fwmark) == (PRIVATE, PUBLIC, 51820, 0x3174)
    one, two = found.peers
    assert one.public_key == ONE
    assert one.preshared.raw == PSK
    assert one[2:7] == ((pton("192.0.2.1"), 1234), 25, 17, 1, 2)
    assert one.allowed_ips == (Prefix(pton("10.7.0.1"), 32), Prefix(pton("10.8.0.0"), 16), Prefix(pton("fd00::"), 64))
    assert (two.endpoint, two.preshared.is_none, two.allowed_ips) == ((pton("2001:db8::1"), 4321), True, ())
    assert PRIVATE.decode() not in repr(found)


def test_a_dump_in_several_messages() -> None:
    """A peer that did not fit is begun again with its key alone; other peers may follow it."""
    whole = [
        device(peer(ONE, attr(5, struct.pack("=H", 9)), nested(9, allowed("10.0.0.0", 24), allowed("10.0.1.0", 24)))),
        GENL + attr(1, struct.pack("=I", 5)) + nested(8, peer(ONE, nested(9, allowed("10.0.2.0", 24))), peer(TWO)),
        GENL + nested(8, peer(TWO, nested(9, allowed("10.1.0.0", 24)))),
    ]
    found = kernel_wireguard.decode(whole)
    assert found.listen_port == 51820
    assert [(one.public_key, len(one.allowed_ips), one.keepalive_s) for one in found.peers] == [(ONE, 3, 9), (TWO, 1, 0)]


def test_a_device_that_nobody_has_set_up() -> None:
    found = kernel_wireguard.decode([GENL + attr(6, b"\0\0") + attr(7, bytes(4)) + attr(2, b"wg0\0")])
    assert found.private.is_none
    assert (found.public_key, found.peers) == (b"", ())


@pytest.mark.parametrize(
    "body",
    [
        GENL + attr(6, b"\0"),
        GENL + nested(8, nested(0, attr(2, PSK))),
        GENL + nested(8, peer(ONE, attr(5, b"\0\0\0\0\0"))),
        GENL + nested(8, peer(ONE, nested(9, nested(0, attr(1, b"\2\0"))))),
        GENL + nested(8, b"\x09\0\0\0"),
        b"",
    ],
)
def test_malformed_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"netlink|wireguard"):
        kernel_wireguard.decode([body])


@given(st.binary(max_size=200))
def test_no_bytes_are_another_exception(body: bytes) -> None:
    try:
        kernel_wireguard.decode([GENL + body])
    except ValueError:
        pass


def _as_pyroute2_says(words: dict[str, Any]) -> bytes:
    """The message that pyroute2 would send, as a body."""
    from pyroute2.netlink.generic.wireguard import AsyncWireGuard, wgmsg

    message = wgmsg()
    AsyncWireGuard._wg_test_key(None, words["public_key"])

    class Maker(AsyncWireGuard):  # type: ignore[misc]
        def __init__(self) -> None:
            pass

    Maker()._wg_set_peer(message, words)
    message["cmd"], message["version"] = 1, 1
    message.encode()
    return bytes(message.data[16:])


def test_what_pyroute2_sends_is_what_was_meant() -> None:
    change = PeerChange(
        ONE, Key(PSK), (pton("2001:db8::1"), 4321), 25, (Prefix(pton("10.0.0.0"), 8), Prefix(pton("fd00::"), 64))
    )
    (words,) = kernel_wireguard._peer_words(change)
    (sent,) = kernel_wireguard.decode([_as_pyroute2_says(words)]).peers
    assert (sent.public_key, sent.preshared.raw, sent.endpoint, sent.keepalive_s) == (ONE, PSK, change.endpoint, 25)
    assert sent.allowed_ips == change.allowed_ips
    (words,) = kernel_wireguard._peer_words(change._replace(endpoint=(pton("192.0.2.1"), 5)))
    assert kernel_wireguard.decode([_as_pyroute2_says(words)]).peers[0].endpoint == (pton("192.0.2.1"), 5)


def test_long_lists_are_added_in_parts() -> None:
    many = tuple(Prefix(bytes((10, high, low, 0)), 24) for high in range(8) for low in range(256))
    parts = list(kernel_wireguard._peer_words(PeerChange(ONE, allowed_ips=many)))
    assert [bool(part.get("replace_allowed_ips")) for part in parts] == [True, *[False] * (len(parts) - 1)]
    assert all(part.get("update_only") for part in parts[1:])
    assert [text for part in parts for text in part["allowed_ips"]] == [str(prefix) for prefix in many]
    assert all(len(_as_pyroute2_says(part)) < 65535 for part in parts)


def test_only_what_is_given_is_named() -> None:
    public_key = b64encode(ONE).decode()
    assert list(kernel_wireguard._peer_words(PeerChange(ONE, keepalive_s=0))) == [
        {"public_key": public_key, "persistent_keepalive": 0}
    ]
    assert list(kernel_wireguard._peer_words(PeerChange(ONE, remove=True))) == [{"public_key": public_key, "remove": True}]
    assert list(kernel_wireguard._peer_words(PeerChange(ONE, allowed_ips=()))) == [
        {"public_key": public_key, "replace_allowed_ips": True, "allowed_ips": []}
    ]


def test_this_kernel_is_asked(caplog: pytest.LogCaptureFixture) -> None:
    probe = kernel_wireguard.KernelWireGuard()
    family = probe.family()
    probe.close()
    assert family is None or family > 16
    assert logging.getLogger("pyroute2").level in (logging.NOTSET, logging.WARNING)
