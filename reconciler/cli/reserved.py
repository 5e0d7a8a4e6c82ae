"""Words that are reserved: refused with a clear message until they are built, never accepted and ignored."""

from __future__ import annotations

import click

from reconciler.cli.options import Context, global_options
from reconciler.errors import Unavailable

_RESERVED = {
    "confirm": "Keep what `apply --confirm` did.",
    "rollback": "Go back to an earlier generation.",
    "import": "Read the files of other tools.",
    "explain": "Say which way a packet goes.",
    "doctor": "Find what on this machine fights with tunnels.",
}


def reserved(name: str, what: str, *, within: str = "") -> click.Command:
    """One that refuses. `within`: the group that it belongs to."""

    @click.command(name, help=f"{what} (reserved, not there yet)", context_settings={"ignore_unknown_options": True})
    @click.argument("words", nargs=-1, type=click.UNPROCESSED)
    @global_options
    def command(_ctx: Context, words: tuple[str, ...]) -> int:
        raise Unavailable(f"`tunctl {' '.join((*within.split(), name, *words))}` is not there yet")

    return command


COMMANDS = tuple(reserved(name, what) for name, what in _RESERVED.items())
