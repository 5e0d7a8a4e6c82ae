"""The text protocol of userspace engines: what is asked, what is understood, and what a bad engine can do to us."""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.host import uapi
from reconciler.host.engine import DeviceChange, PeerChange
from reconciler.host.keys import Key
from reconciler.host.uapi import UapiError
from reconciler.model.prefix import Prefix, pton

SECRET = "5e" * 32
PUBLIC = bytes(range(32))


class Engine:
    """Answers one connection with what it was told to, and keeps what it was asked."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.answer: list[bytes] = [b"errno=0\n\n"]
        self.pause_s = 0.0
        self.asked = b""
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(self.path)
        self._listening.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with connection:
                while not self.asked.endswith(b"\n\n"):
                    self.asked += connection.recv(65536)
                try:
                    for part in self.answer:
                        connection.sendall(part)
                        time.sleep(self.pause_s)
                except OSError:
                    continue

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(5)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = Engine(tmp_path / "wg0.sock")
    yield made
    made.close()


def test_get(engine: Engine) -> None:
    text = f"""private_key={SECRET}
listen_port=51820
fwmark=12660
public_key={PUBLIC.hex()}
preshared_key={SECRET}
endpoint=[2001:db8::1]:1234
persistent_keepalive_interval=25
last_handshake_time_sec=17
last_handshake_time_nsec=5
rx_bytes=1
tx_bytes=2
allowed_ip=10.8.0.0/16
allowed_ip=10.7.0.1/32
protocol_version=1
public_key={"aa" * 32}
endpoint=192.0.2.1:5
errno=0

"""
    engine.answer = [text[:40].encode(), text[40:].encode()]
    device = uapi.get(engine.path)
    assert engine.asked == b"get=1\n\n"
    assert (device.private.hex, device.listen_port, device.fwmark) == (SECRET, 51820, 12660)
    one, two = device.peers
    assert one.public_key == PUBLIC
    assert one.preshared.hex == SECRET
    assert one.endpoint == (pton("2001:db8::1"), 1234)
    assert one[3:7] == (25, 17, 1, 2)
    assert one.allowed_ips == (Prefix(pton("10.7.0.1"), 32), Prefix(pton("10.8.0.0"), 16))
    assert (two.endpoint, two.allowed_ips, two.preshared.is_none) == ((pton("192.0.2.1"), 5), (), True)
    assert SECRET not in repr(device)


def test_a_device_that_nobody_has_set_up(engine: Engine) -> None:
    device = uapi.get(engine.path)
    assert device.private.is_none
    assert device.peers == ()


@pytest.mark.parametrize(
    ("work", "asked"),
    [
        (lambda path: uapi.set_device(path, DeviceChange(listen_port=5)), "set=1\nlisten_port=5\n\n"),
        (
            lambda path: uapi.set_device(path, DeviceChange(Key(bytes.fromhex(SECRET)), 0, 7)),
            f"set=1\nprivate_key={SECRET}\nlisten_port=0\nfwmark=7\n\n",
        ),
        (
            lambda path: uapi.set_peer(path, PeerChange(PUBLIC, remove=True)),
            f"set=1\npublic_key={PUBLIC.hex()}\nremove=true\n\n",
        ),
        (
            lambda path: uapi.set_peer(path, PeerChange(PUBLIC, keepalive_s=0)),
            f"set=1\npublic_key={PUBLIC.hex()}\npersistent_keepalive_interval=0\n\n",
        ),
        (
            lambda path: uapi.set_peer(
                path, PeerChange(PUBLIC, Key(bytes(32)), (pton("::1"), 9), 1, (Prefix(pton("10.0.0.0"), 8),))
            ),
            (
                f"set=1\npublic_key={PUBLIC.hex()}\npreshared_key={'00' * 32}\nendpoint=[::1]:9\n"
                "persistent_keepalive_interval=1\nreplace_allowed_ips=true\nallowed_ip=10.0.0.0/8\n\n"
            ),
        ),
        (
            lambda path: uapi.set_peer(path, PeerChange(PUBLIC, allowed_ips=())),
            f"set=1\npublic_key={PUBLIC.hex()}\nreplace_allowed_ips=true\n\n",
        ),
    ],
)
def test_set_names_only_what_changes(engine: Engine, work: Callable[[str], None], asked: str) -> None:
    work(engine.path)
    assert engine.asked.decode() == asked


def test_a_refusal_has_the_number_and_no_key(engine: Engine) -> None:
    engine.answer = [b"errno=-22\n\n"]
    with pytest.raises(UapiError, match="Invalid argument") as caught:
        uapi.set_device(engine.path, DeviceChange(Key(bytes.fromhex(SECRET))))
    assert caught.value.errno == errno.EINVAL
    assert SECRET not in repr(caught.value)


@pytest.mark.parametrize("answer", [b"", b"errno=0", b"listen_port=5\n", b"errno=x\n\n", b"\n\n", b"\xff\xfe\n\n"], ids=repr)
def test_half_an_answer_is_none(engine: Engine, answer: bytes) -> None:
    engine.answer = [answer]
    if answer == b"errno=0":
        uapi.set_device(engine.path, DeviceChange())  # a whole number with no empty line: it hung up right after
        return
    with pytest.raises(UapiError) as caught:
        uapi.get(engine.path)
    assert caught.value.errno == errno.EPROTO


@pytest.mark.parametrize(
    "line", ["listen_port=x", f"private_key={SECRET}zz", "public_key=zz", f"public_key={'aa' * 32}\nallowed_ip=10.0.0.0/99"]
)
def test_nonsense_is_an_error_without_its_content(engine: Engine, line: str) -> None:
    engine.answer = [f"{line}\nerrno=0\n\n".encode()]
    with pytest.raises(UapiError) as caught:
        uapi.get(engine.path)
    assert caught.value.errno == errno.EPROTO
    assert SECRET not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("drip", [False, True], ids=["silent", "dripping"])
def test_an_engine_that_does_not_answer_costs_its_bound(engine: Engine, drip: bool) -> None:
    engine.answer = [b"x=1\n"] * 40 if drip else [b""]
    engine.pause_s = 0.05 if drip else 2
    begun = time.monotonic()
    with pytest.raises(UapiError, match="does not answer") as caught:
        uapi.get(engine.path, timeout_s=0.2)
    assert caught.value.errno == errno.ETIMEDOUT
    assert time.monotonic() - begun < 1.5


def test_an_engine_that_does_not_answer_uses_up_nobody_elses_time(engine: Engine, tmp_path: Path) -> None:
    """All are asked first; what the others said meanwhile is taken although the time is over by then."""
    other = Engine(tmp_path / "wg1.sock")
    engine.answer, engine.pause_s = [b""], 2
    other.answer = [b"listen_port=7\nerrno=0\n\n"]
    silent, quick = uapi.Asked(engine.path, 0.2), uapi.Asked(other.path, 0.2)
    with pytest.raises(UapiError, match="does not answer"):
        silent.answer()
    assert select.select([quick._connection], [], [], 30)[0], "its answer is there"
    assert uapi.device(quick.answer()).listen_port == 7
    other.close()


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        uapi.get(str(tmp_path / "none"))
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(tmp_path / "stale"))
    stale.close()
    with pytest.raises(ConnectionRefusedError):
        uapi.get(str(tmp_path / "stale"))


_LINE = st.tuples(st.sampled_from(["public_key", "endpoint", "allowed_ip", "fwmark", "rx_bytes", "x"]), st.text(max_size=70))


@given(st.lists(_LINE, max_size=8))
def test_no_lines_are_another_exception(lines: list[tuple[str, str]]) -> None:
    with suppress(UapiError):
        uapi._device(lines)


def test_the_path_is_short_enough_for_a_socket() -> None:
    assert len(os.fsencode(uapi.socket_path("wg-with-15-byte", 4194304))) < 108  # type: ignore[arg-type]
