"""The command that keeps reconciling."""

from __future__ import annotations

import click

from reconciler.cli.options import Context, global_options


@click.command()
@global_options
def daemon(ctx: Context) -> int:
    """Keep the tunnels as they should be: on every change at once, and every reconcile_interval. In the foreground."""
    from reconciler.daemon.start import serve

    return serve(ctx.session, ctx.output.note)


COMMANDS = (daemon,)
