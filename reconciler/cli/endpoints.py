"""`endpoints`: the addresses really bound, and their signed form for clients."""

from __future__ import annotations

import os
import re

import click

from reconciler.cli.options import Context, global_options
from reconciler.errors import InvalidFile, UsageError
from reconciler.model.manifest import TRANSPORTS, Manifest, Ports
from reconciler.model.moment import rfc3339
from reconciler.model.names import TunnelName, is_tunnel_name
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reconciler.host.bound import Bound

_LONGEST_TTL_S = 3650 * 86400.0
_PORT = re.compile(r"(\w+)=(\d{1,5})", re.ASCII)


@click.group()
def endpoints() -> None:
    """Tell where tunnels listen, and sign it for clients."""


@endpoints.command()
@click.option("--key", metavar="FILE", required=True, help="The private key: tunctl key generate --type ed25519.")
@click.option("--host", metavar="HOST", required=True, help="The name or address at which clients find this server.")
@click.option(
    "--from-runtime",
    metavar="FILE",
    help="A record of what is bound; default: that of the run directory, as far as the kernel says the same.",
)
@click.option(
    "--endpoint", "said", metavar="NAME:udp=PORT,tcp=PORT", multiple=True, help="Instead of the record. May be repeated."
)
@click.option("--ttl", metavar="TIME", default="7d", show_default=True, help="How long it is valid.")
@click.option("--out", metavar="FILE", required=True, help="Replaced as a whole, mode 0644.")
@global_options
def sign(ctx: Context, *, key: str, host: str, from_runtime: str | None, said: tuple[str, ...], ttl: str, out: str) -> int:
    """Write a manifest that clients can verify: a flattened JWS (EdDSA)."""
    from reconciler.loop import manifests  # cryptography only for those who sign

    if said and from_runtime:
        raise UsageError("--endpoint and --from-runtime: one of them says where the tunnels listen")
    ttl_s = _ttl_s(ttl)
    ports, left_out = (_given(said), ()) if said else _recorded(ctx, from_runtime)
    made = manifests.sign(key, host, ports, ttl_s=ttl_s, out=out)
    for warning in (*left_out, *made.warnings):
        ctx.output.note("warning", warning)
    _tell(ctx, out, made.manifest)
    return 0


@endpoints.command()
@click.option("--public-key", metavar="FILE", required=True, help="The key that it must be signed with (PEM).")
@click.argument("file")
@global_options
def verify(ctx: Context, *, public_key: str, file: str) -> int:
    """Say what a manifest says, if it can be believed; else why not (65)."""
    from reconciler.loop import manifests

    _tell(ctx, file, manifests.verify(file, public_key))
    return 0


@endpoints.command()
@click.argument("names", nargs=-1)
@global_options
def show(ctx: Context, names: tuple[str, ...]) -> int:
    """Tell what tunnels have really bound, and what they asked for. With --json in the form of endpoints.json."""
    from reconciler.loop.endpoints import endpoints as look
    from reconciler.report.served import served_text

    seen = look(ctx.session, names)
    ctx.output.data(served_text(seen.tunnels))
    ctx.output.document(seen.document)
    return 0


@endpoints.command()
@click.argument("name")
@global_options
def rebind(ctx: Context, name: str) -> int:
    """Let NAME choose its ports anew, beginning with the requested ones. Its program is started anew for that."""
    from reconciler.cli.changes import carry_out
    from reconciler.model.order import Order

    return carry_out(ctx, Order("rebind", (name,)))


def _ttl_s(text: str) -> float:
    from reconciler.config.values import duration

    try:
        return float(duration(1.0, _LONGEST_TTL_S)(text))
    except ValueError as error:
        raise UsageError(f"--ttl: {error}") from error


def _given(said: tuple[str, ...]) -> Ports:
    """``hub:udp=8446,tcp=8443``, each tunnel once."""
    found: dict[TunnelName, dict[str, int]] = {}
    for text in said:
        name, _colon, listed = text.partition(":")
        if not is_tunnel_name(name) or name in found:
            raise UsageError(f"--endpoint: {name!r} {'stands there twice' if name in found else 'is no name of a tunnel'}")
        entry = found[TunnelName(name)] = {}
        for word in listed.split(","):
            match = _PORT.fullmatch(word)
            if match is None or match[1] not in TRANSPORTS or match[1] in entry or not 0 < int(match[2]) < 1 << 16:
                known = ", ".join(TRANSPORTS)
                raise UsageError(f"--endpoint: {text!r}: expected NAME:TRANSPORT=PORT,… ({known}, each once): {word!r}")
            entry[match[1]] = int(match[2])
    return found


def _recorded(ctx: Context, path: str | None) -> tuple[Ports, tuple[str, ...]]:
    """What is of this boot, as far as the kernel says that it is still so. Only of tunnels that this store does not have, in a
    file that was named, must it be believed."""
    from reconciler.host import bound, record
    from reconciler.host.handles import Handles
    from reconciler.loop import manifests

    run_dir = ctx.session.run_dir
    place = path or os.path.join(run_dir, record.FILE)
    recorded = bound.read(place, Handles(run_dir).boot_id)
    ports, left_out = manifests.reachable(_still_so(ctx, recorded, others=path is not None))
    if not ports:
        raise InvalidFile(
            f"{place}: no tunnel listens where others could reach it", hint="a manifest without endpoints helps nobody"
        )
    return ports, left_out


def _still_so(ctx: Context, recorded: Bound, *, others: bool) -> Bound:
    from reconciler.host import bound
    from reconciler.loop.endpoints import endpoints as look

    seen = look(ctx.session, ())
    now, mine = bound.of_record(seen.record), {name for name, _ in seen.tunnels}
    still = {name: now.get(name) if name in mine or not others else told for name, told in recorded.items()}
    return {name: told for name, told in still.items() if told}


def _tell(ctx: Context, path: str, found: Manifest) -> None:
    ctx.output.data(_lines(path, found))
    ctx.output.document(
        lambda: {
            "version": 1,
            "file": path,
            "host": found.host,
            "issued_at": rfc3339(found.issued_us),
            "expires_at": rfc3339(found.expires_us),
            "endpoints": {name: dict(ports) for name, ports in found.ports.items()},
            "bridges": found.bridges,
        }
    )


def _lines(path: str, found: Manifest) -> Iterator[str]:
    yield f"{path}: issued {rfc3339(found.issued_us)}, expires {rfc3339(found.expires_us)}"
    yield from (f"  {name} {transport} {endpoint}" for name, transport, endpoint in found.endpoints())


COMMANDS = (endpoints,)
