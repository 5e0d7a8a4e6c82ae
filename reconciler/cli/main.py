"""The command line."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli import changes, endpoints, keeping, keys, looks, reserved
from reconciler.cli.alone import ended
from reconciler.cli.complete import completed
from reconciler.cli.options import group_options
from reconciler.cli.output import Output
from reconciler.errors import OutputLost, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(context_settings=SETTINGS)
@group_options
@click.pass_context
def tunctl(ctx: click.Context, /, **words: Any) -> None:
    """Keeps the tunnels of a Linux host as one file says.

    Exit codes: 0 done, 1 not everything could be made so, 64 usage, 65 the file, 69 something is lacking,
    70 a bug, 73 something foreign stands in the way, 74 the store, 75 locked, 77 not permitted.
    """
    ctx.obj = words


for command in (*changes.COMMANDS, *keeping.COMMANDS, *looks.COMMANDS, *keys.COMMANDS, *endpoints.COMMANDS, *reserved.COMMANDS):
    tunctl.add_command(command)
completed(tunctl)


def run(arguments: Sequence[str]) -> int:
    """Parses and carries out; returns the exit code."""
    log_json = "--log-format=json" in arguments or ("--log-format", "json") in pairwise(arguments)
    output = Output(as_json="--json" in arguments, debug="--debug" in arguments, log_json=log_json)
    return ended(output, lambda: _carried_out(arguments))


def _carried_out(arguments: Sequence[str]) -> int:
    """The exit code; click's own words for trouble become ours."""
    try:
        code = tunctl.main(args=list(arguments), prog_name="tunctl", standalone_mode=False)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        if "--json" in arguments:
            raise UsageError("a command is missing", hint=_usage(error)) from None
        click.echo(error.format_message(), err=True)
        return UsageError.exit_code
    except OSError as error:
        if not _is_of_click(error):
            raise
        raise OutputLost(f"standard output cannot be written: {error.strerror}") from None
    except click.ClickException as error:
        raise UsageError(error.format_message(), hint=_usage(error)) from None
    except SystemExit:  # how click takes it that nobody reads its help to the end
        return 0
    return code if isinstance(code, int) else 0


def _is_of_click(error: OSError) -> bool:
    """It happened while click printed a help text."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__") == "click.utils"


def _usage(error: click.ClickException) -> str:
    ctx = getattr(error, "ctx", None)
    return f"{ctx.command_path} --help" if ctx else "tunctl --help"
