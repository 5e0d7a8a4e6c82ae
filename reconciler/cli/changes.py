"""The commands that change something."""

from __future__ import annotations

import click

from reconciler.cli import plans
from reconciler.cli.options import Context, global_options, seconds
from reconciler.cli.short import DESIRED
from reconciler.daemon.client import Asking, ask
from reconciler.errors import Unavailable
from reconciler.loop import orders, planning
from reconciler.model.order import ApplyOptions, Order


@click.command()
@click.argument("file", default=DESIRED)
@click.option("--dry-run", is_flag=True, help="Only show what would be done, as `plan`.")
@click.option("--timeout", default="60s", metavar="TIME", help="How long it may take (60s).")
@click.option("--wait", is_flag=True, help="Until every tunnel of the file is connected, else 1.")
@click.option("--allow-withdraw", is_flag=True, help="Also when all or most tunnels of the file are gone from it.")
@click.option("--take-over", is_flag=True, help="Move tunnels that another source has here.")
@click.option("--adopt", is_flag=True, help="Take over what carries the mark of another store, by name.")
@click.option("--up/--keep-holds", default=True, help="End holds of tunnels that the file enables (default), or leave them.")
@click.option("--confirm", metavar="TIME", help="Reserved.")
@global_options
def apply(
    ctx: Context,
    file: str,
    *,
    dry_run: bool,
    timeout: str,
    wait: bool,
    allow_withdraw: bool,
    take_over: bool,
    adopt: bool,
    up: bool,
    confirm: str | None,
) -> int:
    """Make the tunnels of this host as FILE says (default /etc/tunctl/desired.toml; a directory; - for stdin)."""
    options = ApplyOptions(allow_withdraw, take_over, adopt, not up)
    if confirm is not None:
        raise Unavailable("apply --confirm is not there yet")
    if dry_run:
        return _show_plan(ctx, file, options)
    return carry_out(ctx, Order("apply", file=file, options=options, timeout_s=seconds(timeout, "--timeout"), wait=wait))


@click.command()
@click.argument("file", required=False)
@click.option("--allow-withdraw", is_flag=True, help="Also when all or most tunnels of the file are gone from it.")
@click.option("--take-over", is_flag=True, help="As if tunnels that another source has were moved here.")
@click.option("--adopt", is_flag=True, help="As if what carries the mark of another store were taken over.")
@click.option("--up/--keep-holds", default=True, help="As if holds were ended (default), or left.")
@global_options
def plan(ctx: Context, file: str | None, *, allow_withdraw: bool, take_over: bool, adopt: bool, up: bool) -> int:
    """Show what `apply FILE` would do; without FILE, what `reconcile` would. 0: nothing, 2: changes."""
    return _show_plan(ctx, file, ApplyOptions(allow_withdraw, take_over, adopt, not up))


def _show_plan(ctx: Context, file: str | None, options: ApplyOptions) -> int:
    return plans.show(ctx.output, planning.plan(ctx.session.state_dir, ctx.session.run_dir, file, options))


@click.command()
@click.argument("names", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All tunnels that are enabled.")
@global_options
def up(ctx: Context, names: tuple[str, ...], *, every: bool) -> int:
    """End the hold of tunnels and bring them up."""
    return carry_out(ctx, Order("up", names, every))


@click.command()
@click.argument("names", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All tunnels; also without a store that can be read.")
@click.option("--orphans", is_flag=True, help="What carries the mark of another store.")
@global_options
def down(ctx: Context, names: tuple[str, ...], *, every: bool, orphans: bool) -> int:
    """Take tunnels down and keep them down, until `up` or an `apply` that declares them."""
    return carry_out(ctx, Order("down", names, every, orphans))


@click.command()
@click.argument("names", nargs=-1)
@click.option("--source", metavar="SOURCE", help="All tunnels of this source.")
@click.option("--all", "every", is_flag=True, help="All tunnels.")
@global_options
def forget(ctx: Context, names: tuple[str, ...], *, source: str | None, every: bool) -> int:
    """Take tunnels down and delete them from the store; needs no file."""
    return carry_out(ctx, Order("forget", names, every, source=source))


@click.command()
@global_options
def reconcile(ctx: Context) -> int:
    """One pass over all intents, then exit: for a timer."""
    return carry_out(ctx, Order("reconcile"))


def carry_out(ctx: Context, order: Order) -> int:
    """By the daemon when one runs, else here: with the same words."""
    session, output = ctx
    output.goes_on = True
    asking = Asking(session.state_dir, session.run_dir, session.lock_timeout_s, output.as_json, output.debug)
    code = None if session.fault else ask(asking, order, output)
    return orders.carry_out(session, order, output) if code is None else code


COMMANDS = (apply, plan, up, down, forget, reconcile)
