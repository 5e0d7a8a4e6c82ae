"""The commands that only look."""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path

import click

from reconciler import __version__
from reconciler.cli.options import Context, global_options
from reconciler.errors import Unavailable, UsageError
from reconciler.loop.details import details
from reconciler.loop.look import look
from reconciler.model.text import counted
from reconciler.report import details as report_details
from reconciler.report import history as report_history
from reconciler.report import status as report_status
from reconciler.report.statusjson import status_json

WATCH_S = 1.0


@click.command()
@click.argument("names", nargs=-1)
@click.option("--watch", is_flag=True, help="Again every second.")
@global_options
def status(ctx: Context, names: tuple[str, ...], *, watch: bool) -> int:
    """Tell how the tunnels are, from the kernel. 0 connected, 1 not connected, 2 stale, 3 degraded, 4 failed, 5 unknown."""
    while True:
        if watch and not ctx.output.as_json:
            click.clear()
        code = _show_status(ctx, names)
        if not watch or ctx.output.closed:
            return code
        time.sleep(WATCH_S)


def _show_status(ctx: Context, names: tuple[str, ...]) -> int:
    seen = look(ctx.session.state_dir, ctx.session.run_dir, names)
    ctx.output.data(report_status.status_text(seen, ctx.output.paint))
    ctx.output.document(lambda: status_json(seen))
    return seen.exit_code


@click.command()
@click.argument("file")
@click.option("--base-dir", type=click.Path(path_type=Path), help="Where relative paths in FILE start.")
@global_options
def check(ctx: Context, file: str, *, base_dir: Path | None) -> int:
    """Validate FILE: needs no root, no kernel, no store. Files it names that are absent are warnings."""
    from reconciler.config.load import load

    desired = load(file, base_dir=base_dir, lenient_files=True)
    for warning in desired.warnings:
        ctx.output.note("warning", warning)
    names = [tunnel.name for tunnel in desired.tunnels]
    ctx.output.data([f"{desired.path}: {counted(len(names), 'tunnel')}, source {desired.source}"])
    ctx.output.document(lambda: {"version": 1, "source": desired.source, "tunnels": names, "warnings": list(desired.warnings)})
    return 0


@click.command()
@click.argument("name")
@global_options
def show(ctx: Context, name: str) -> int:
    """Intent, wanted, found, handles and ledger of one tunnel."""
    seen = details(ctx.session, name)
    ctx.output.data(report_details.text(seen))
    ctx.output.document(lambda: report_details.document(seen))
    return 0


@click.command()
@click.argument("name", required=False)
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 100_000), help="How many of the latest.")
@global_options
def history(ctx: Context, name: str | None, *, limit: int) -> int:
    """Generations and transitions: when, who, source, cause, outcome."""
    from reconciler.store.read import history as read_history

    events = read_history(ctx.session.state_dir, name, limit)
    if name is not None and not events:
        raise UsageError(f"nothing is known of a tunnel {name!r}", hint="tunctl history, without a name, shows all")
    ctx.output.data(report_history.text(events))
    ctx.output.document(lambda: report_history.document(events))
    return 0


@click.command()
@global_options
def metrics(ctx: Context) -> int:
    """Figures for Prometheus: verdicts, counters and handshakes as they are now, and what the daemon has counted."""
    from reconciler.loop.gauge import gauge
    from reconciler.report import metrics as report_metrics

    seen = gauge(ctx.session.state_dir, ctx.session.run_dir)
    told = report_metrics.families(seen.host, seen.meter)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # the format has no other
    ctx.output.data(report_metrics.text(told))
    ctx.output.document(lambda: report_metrics.document(told))
    for warning in seen.host.warnings:
        ctx.output.note("warning", warning)
    return 0


@click.command()
@global_options
def schema(ctx: Context) -> int:
    """Print the JSON Schema of desired.toml, for editors."""
    import json

    from reconciler.config.jsonschema import json_schema

    document = json_schema()
    ctx.output.data([json.dumps(document, indent=2)])
    ctx.output.document(lambda: document)
    return 0


@click.command()
@global_options
def version(ctx: Context) -> int:
    """Print the version."""
    ctx.output.data([f"tunctl {__version__}"])
    ctx.output.document(lambda: {"version": 1, "tunctl": __version__})
    return 0


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@global_options
def completion(ctx: Context, shell: str) -> int:
    """Print what makes SHELL complete tunctl's words; for bash: source <(tunctl completion bash)."""
    from click.shell_completion import get_completion_class

    cls = get_completion_class(shell)
    root = click.get_current_context().find_root().command
    if cls is None:
        raise Unavailable(f"no completion for {shell}")
    script = cls(root, {}, "tunctl", "_TUNCTL_COMPLETE").source()
    ctx.output.data([script])
    ctx.output.document(lambda: {"version": 1, "shell": shell, "script": script})
    return 0


COMMANDS = (status, check, show, history, metrics, schema, version, completion)
