"""`key generate` and `key public`: WireGuard keys as `wg` writes them, and PEM keys for manifests."""

from __future__ import annotations

import os
import sys

import click

from reconciler.cli.options import Context, global_options
from reconciler.errors import InvalidFile
from reconciler.host import files
from reconciler.lean import suppress

_MODE = 0o600
_KEY_LIMIT = 16384  # bytes; a PEM key has 119


@click.group()
def key() -> None:
    """Make keys, and tell the public key of one."""


@key.command()
@click.option(
    "--type", "kind", type=click.Choice(["x25519", "ed25519"]), required=True, help="x25519: WireGuard; ed25519: manifests."
)
@click.option("--out", metavar="FILE", help="Mode 0600, never overwritten; else stdout.")
@global_options
def generate(ctx: Context, *, kind: str, out: str | None) -> int:
    """Make a private key."""
    from reconciler.host import keyfile  # cryptography only for those who want keys

    private = keyfile.wireguard_key() if kind == "x25519" else keyfile.manifest_key()
    public = {"type": kind, "public_key": _text(keyfile.public_of(private))}
    _give(ctx, out, private, public if out else {**public, "private_key": _text(private)})
    return 0


@key.command()
@click.option("--in", "source", metavar="FILE", help="The private key; else stdin.")
@click.option("--out", metavar="FILE", help="Never overwritten; else stdout.")
@global_options
def public(ctx: Context, *, source: str | None, out: str | None) -> int:
    """Tell the public key of a private key, in the same form."""
    from reconciler.host import keyfile

    try:
        key = keyfile.public_of(_read(source))
    except ValueError:
        raise InvalidFile(f"{source or 'stdin'}: not a private key (base64 of 32 bytes, or PEM)") from None
    _give(ctx, out, key, {"public_key": _text(key)})
    return 0


def _text(key: bytes) -> str:
    return key.decode().rstrip("\n")


def _read(path: str | None) -> bytes:
    try:
        if path is None:
            return sys.stdin.buffer.read(_KEY_LIMIT)
        with open(path, "rb") as file:
            return file.read(_KEY_LIMIT)
    except OSError as error:
        raise InvalidFile(f"{path}: {error.strerror}") from error


def _give(ctx: Context, path: str | None, key: bytes, told: dict[str, str]) -> None:
    """To its file, else to stdout. As JSON a key that went to its file is not said again."""
    if path is not None:
        _write(path, key)
    else:
        ctx.output.data([_text(key)])
    ctx.output.document(lambda: {"version": 1, "file": path, **told})


def _write(path: str, text: bytes) -> None:
    """A new file: the whole key, outliving a power cut, or nothing."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, _MODE)
    except FileExistsError as error:
        raise InvalidFile(f"{path}: {error.strerror}", hint="a key that is there is never overwritten") from error
    except OSError as error:
        raise InvalidFile(f"{path}: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb", buffering=0):
            os.fchmod(descriptor, _MODE)
            files.write_all(descriptor, text)
            os.fsync(descriptor)
    except OSError as error:
        with suppress(OSError):
            os.unlink(path)
        raise InvalidFile(f"{path}: {error.strerror}") from error


COMMANDS = (key,)
