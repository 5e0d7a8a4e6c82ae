"""Keys: derived right, read with care, never shown."""

from __future__ import annotations

import os
import pickle
import sys
from base64 import b64encode
from pathlib import Path
from typing import NoReturn

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from reconciler.errors import InvalidFile
from reconciler.host import keys, x25519
from reconciler.host.keys import Key
from reconciler.model.publickey import PublicKey


def test_public_keys_are_those_of_the_library() -> None:
    for _ in range(20):
        raw = os.urandom(32)
        assert x25519.computed(raw) == X25519PrivateKey.from_private_bytes(raw).public_key().public_bytes_raw()


@pytest.mark.parametrize("why", ["it is not loaded", "its OpenSSL may not", None])
def test_the_library_is_asked_where_it_is_loaded(monkeypatch: pytest.MonkeyPatch, why: str | None) -> None:
    raw, asked = os.urandom(32), []
    if why == "it is not loaded":
        monkeypatch.delitem(sys.modules, x25519._LIBRARY)
    if why == "its OpenSSL may not":
        monkeypatch.setattr(X25519PrivateKey, "from_private_bytes", _refuse)
    monkeypatch.setattr(x25519, "computed", lambda private: asked.append(private) or b"computed")
    assert (x25519.public(raw) == b"computed") == bool(asked) == bool(why)


def _refuse(_private: bytes) -> NoReturn:
    raise UnsupportedAlgorithm("X25519 is not supported by this version of OpenSSL.")


def test_the_standards_own_example() -> None:
    nine = bytes([9, *bytes(31)])  # RFC 7748, section 5.2: after one iteration
    assert x25519.computed(nine).hex() == "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"


def _write(path: Path, content: str, mode: int = 0o600) -> str:
    path.write_text(content)
    path.chmod(mode)
    return str(path)


def test_a_key_file(tmp_path: Path) -> None:
    raw = os.urandom(32)
    text = b64encode(raw).decode()
    key = keys.read(_write(tmp_path / "key", f"  {text}\n"))
    assert (key.raw, key.base64, key.hex) == (raw, text, raw.hex())
    assert str(keys.public_key(str(tmp_path / "key"))) == b64encode(x25519.public(raw)).decode()
    (tmp_path / "link").symlink_to(tmp_path / "key")
    assert keys.read(str(tmp_path / "link")).raw == raw, "secrets are often given as symlinks"


def test_a_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = b64encode(os.urandom(32)).decode()
    _write(tmp_path / "office", text, 0o400)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert keys.read("credential:office").base64 == text
    for name in ("../office", "", ".."):
        with pytest.raises(InvalidFile, match="is no name of a credential"):
            keys.read(f"credential:{name}")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    with pytest.raises(InvalidFile, match="CREDENTIALS_DIRECTORY is not set"):
        keys.read("credential:office")


_TEXT = b64encode(b"k" * 32).decode()


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        (_TEXT, 0o644, "mode 0644 is too open"),
        (_TEXT, 0o620, "mode 0620 is too open"),
        (_TEXT, 0o606, "is writable by everybody"),
        ("", 0o600, "is not a WireGuard key"),
        (_TEXT[:-1], 0o600, "is not a WireGuard key"),
        (_TEXT + _TEXT, 0o600, "is not a WireGuard key"),
        (_TEXT[:-2] + "t=", 0o600, "is not a WireGuard key"),  # bits that no encoder sets
        ("!" + _TEXT[1:], 0o600, "is not a WireGuard key"),
        ("x" * 5000, 0o600, "larger than 4096 bytes"),
    ],
)
def test_a_bad_key_file_is_named_and_not_shown(tmp_path: Path, content: str, mode: int, message: str) -> None:
    path = _write(tmp_path / "key", content, mode)
    with pytest.raises(InvalidFile, match=message) as caught:
        keys.read(path)
    assert caught.value.message.startswith(path)
    assert not content or content not in str(caught.value)


def test_no_key_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="No such file"):
        keys.read(str(tmp_path / "key"))
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(InvalidFile, match="not a regular file"):
        keys.read(str(tmp_path / "fifo"))


def test_a_key_does_not_show_itself() -> None:
    key = Key(b"s" * 32)
    assert "s" * 4 not in f"{key} {key!r} {(key,)}"
    with pytest.raises(TypeError):
        pickle.dumps(key)


def test_digests() -> None:
    one, two, none = Key(b"1" * 32), Key(b"2" * 32), Key(bytes(32))
    assert keys.preshared_digest(one) == keys.preshared_digest(Key(b"1" * 32)) != keys.preshared_digest(two)
    assert keys.preshared_digest(none) == ""


def _clamped(raw: bytes) -> bytes:
    """As engines keep a private key (RFC 7748, section 5)."""
    return bytes([raw[0] & 248, *raw[1:31], raw[31] & 127 | 64])


def test_a_device_with_the_key_of_the_file(tmp_path: Path) -> None:
    """Found out without working the public key out: that would be a millisecond each, and `status` has many."""
    raw = b"\xff" * 32
    file = _write(tmp_path / "key", b64encode(raw).decode())
    public = b64encode(x25519.public(raw)).decode()
    for engine in (b"", x25519.public(raw)):
        found, wanted = keys.device_key(Key(_clamped(raw)), engine, file), keys.public_key(file)
        assert found == wanted
        assert (hash(found), str(found), str(wanted)) == (hash(wanted), public, public)
    (tmp_path / "key").unlink()
    assert str(wanted) == public
    assert str(keys.device_key(Key(_clamped(raw)), b"", file)) == public


def test_a_device_with_another_key(tmp_path: Path) -> None:
    file = _write(tmp_path / "key", b64encode(b"k" * 32).decode())
    for absent in (False, True):
        found = keys.device_key(Key(b"o" * 32), b"", file)
        assert str(found) == b64encode(x25519.public(b"o" * 32)).decode()
        assert absent or found != keys.public_key(file)
        Path(file).unlink(missing_ok=True)
    assert keys.device_key(Key(bytes(32)), b"", file) is None


def test_a_public_key_has_no_secret_in_it(tmp_path: Path) -> None:
    raw = os.urandom(32)
    file = _write(tmp_path / "key", b64encode(raw).decode())
    same, other = (keys.device_key(Key(key), b"", file) for key in (_clamped(raw), raw[::-1]))
    for key in (keys.public_key(file), same, other):
        held = [getattr(key, name) for name in PublicKey.__slots__]
        cells = [cell.cell_contents for value in held for cell in getattr(value, "__closure__", None) or ()]
        assert [value for value in (*held, *cells) if isinstance(value, bytes | Key)] == []
        assert b64encode(raw).decode() not in repr(key)


def test_a_key_file_that_has_gone_is_said_in_its_place(tmp_path: Path) -> None:
    file = _write(tmp_path / "key", b64encode(b"k" * 32).decode())
    key = keys.public_key(file)
    Path(file).unlink()
    assert str(key) == "(its file has gone)"


def test_public_keys_are_compared_by_what_is_known_of_them() -> None:
    assert PublicKey("A=") == PublicKey("A=", digest="1") != PublicKey("B=", digest="2")
    assert PublicKey("A=", digest="1") == PublicKey(digest="1")
    assert PublicKey(digest="1") != PublicKey(digest="2")
    assert PublicKey("A=") != "A="
    assert pickle.loads(pickle.dumps(PublicKey(digest="1", work_out=lambda: "A="))) == PublicKey("A=", digest="2")
