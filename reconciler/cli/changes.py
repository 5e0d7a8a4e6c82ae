"""The commands that change something."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

from reconciler.cli.options import Context, global_options, seconds
from reconciler.errors import NotConverged, StoreError, Unavailable, UsageError
from reconciler.loop import commands, salvage
from reconciler.loop.commands import ApplyOptions, Done
from reconciler.loop.interrupt import TimeIsUp
from reconciler.loop.reconcile import Watcher
from reconciler.loop.wait import wait_until_connected
from reconciler.model.names import HOST
from reconciler.model.plan import Outcome, Plan
from reconciler.report import changes as report

DESIRED = "/etc/tunctl/desired.toml"


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
        return show_plan(ctx, file, options)
    timeout_s = seconds(timeout, "--timeout")
    deadline = time.monotonic() + timeout_s
    with _bounded(timeout_s):
        done = commands.apply(ctx.session, file, options, _watcher(ctx))
    return _finish(ctx, _waited(ctx, done, deadline) if wait and done.result.converged else done)


def _waited(ctx: Context, done: Done, deadline: float) -> Done:
    """The same, with what is not connected at the deadline as an error: there is one document, and it says so."""
    try:
        wait_until_connected(ctx.session, done.declared, deadline)
    except NotConverged as error:
        return done._replace(result=done.result._replace(errors=((HOST, error),)))
    return done


@click.command()
@click.argument("file", required=False)
@click.option("--allow-withdraw", is_flag=True, help="Also when all or most tunnels of the file are gone from it.")
@click.option("--take-over", is_flag=True, help="As if tunnels that another source has were moved here.")
@click.option("--adopt", is_flag=True, help="As if what carries the mark of another store were taken over.")
@click.option("--up/--keep-holds", default=True, help="As if holds were ended (default), or left.")
@global_options
def plan(ctx: Context, file: str | None, *, allow_withdraw: bool, take_over: bool, adopt: bool, up: bool) -> int:
    """Show what `apply FILE` would do; without FILE, what `reconcile` would. 0: nothing, 2: changes."""
    return show_plan(ctx, file, ApplyOptions(allow_withdraw, take_over, adopt, not up))


def show_plan(ctx: Context, file: str | None, options: ApplyOptions) -> int:
    """Prints the plan and returns its exit code."""
    planned = commands.plan(ctx.session, file, options)
    ctx.output.data(report.plan_text(planned.plan, planned.held, ctx.output.paint))
    ctx.output.document(lambda: report.plan_json(planned.plan, planned.held))
    for words in report.errors_told(planned.errors):
        ctx.output.note(*words)
    codes = {error.exit_code for _, error in planned.errors} | ({73} if planned.plan.conflicts else set())
    if codes:
        return codes.pop() if len(codes) == 1 else 1
    return 2 if planned.plan.steps else 0


@click.command()
@click.argument("names", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All tunnels that are enabled.")
@global_options
def up(ctx: Context, names: tuple[str, ...], *, every: bool) -> int:
    """End the hold of tunnels and bring them up."""
    _names_or_all(names, every=every)
    return _finish(ctx, commands.up(ctx.session, names, _watcher(ctx)))


@click.command()
@click.argument("names", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All tunnels; also without a store that can be read.")
@click.option("--orphans", is_flag=True, help="What carries the mark of another store.")
@global_options
def down(ctx: Context, names: tuple[str, ...], *, every: bool, orphans: bool) -> int:
    """Take tunnels down and keep them down, until `up` or an `apply` that declares them."""
    if orphans:
        if names or every:
            raise UsageError("--orphans goes without names and without --all")
        return _finish(ctx, salvage.down_orphans(ctx.session, _watcher(ctx)))
    _names_or_all(names, every=every)
    try:
        done = commands.down(ctx.session, names, _watcher(ctx))
    except StoreError as error:
        if not every:
            raise
        done = salvage.down_without_store(ctx.session, error, _watcher(ctx))
    return _finish(ctx, done)


@click.command()
@click.argument("names", nargs=-1)
@click.option("--source", metavar="SOURCE", help="All tunnels of this source.")
@click.option("--all", "every", is_flag=True, help="All tunnels.")
@global_options
def forget(ctx: Context, names: tuple[str, ...], *, source: str | None, every: bool) -> int:
    """Take tunnels down and delete them from the store; needs no file."""
    if (bool(names) + bool(source) + every) != 1:
        raise UsageError("forget takes names, or --source, or --all")
    return _finish(ctx, commands.forget(ctx.session, names, source, _watcher(ctx)))


@click.command()
@global_options
def reconcile(ctx: Context) -> int:
    """One pass over all intents, then exit: for a timer."""
    return _finish(ctx, commands.reconcile_all(ctx.session, _watcher(ctx)))


def _names_or_all(names: tuple[str, ...], *, every: bool) -> None:
    if bool(names) == every:
        raise UsageError("names of tunnels, or --all")


def _watcher(ctx: Context) -> Watcher:
    """Steps are shown before they are done, and what fails as soon as it does."""

    def planned(plan: Plan) -> None:
        ctx.output.data(report.plan_text(plan, paint=ctx.output.paint))

    def done(outcome: Outcome) -> None:
        if outcome.error is not None:
            ctx.output.note("error", outcome.error.message, outcome.step.tunnel or None)

    return Watcher(planned, done)


def _finish(ctx: Context, done: Done) -> int:
    result = done.result
    notes = (*done.notes, *result.warnings)
    plan = result.plan._replace(warnings=(*result.plan.warnings, *notes))
    ctx.output.document(lambda: report.result_json(plan, done.held, result.outcomes, result.errors))
    for note in notes:
        ctx.output.note("warning", note)
    for remark in result.remarks:
        ctx.output.note("info", remark)
    for name in done.held:
        ctx.output.note("info", f"held down (tunctl up {name})", name)
    told = {outcome.error for outcome in result.outcomes if outcome.error}
    for words in report.errors_told(pair for pair in result.errors if pair[1] not in told):
        ctx.output.note(*words)
    return result.exit_code


@contextmanager
def _bounded(timeout_s: float) -> Iterator[None]:
    """Ends the command when its time is over; what was done until then stays recorded, the next pass goes on."""

    def expired(_number: int, _frame: object) -> None:
        raise TimeIsUp(timeout_s)

    before = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, timeout_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


COMMANDS = (apply, plan, up, down, forget, reconcile)
