"""Options that every command takes, before or after its name."""

from __future__ import annotations

from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec

import click

from reconciler.cli.output import Output
from reconciler.cli.short import directory
from reconciler.errors import Unavailable, UsageError
from reconciler.loop import fault
from reconciler.loop.commands import Session

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")


class Context(NamedTuple):
    """What a command needs besides its own words."""

    session: Session
    output: Output


_OPTIONS = (
    click.option("--state-dir", metavar="DIR", help="Where the store is (TUNCTL_STATE_DIR, /var/lib/tunctl)."),
    click.option("--run-dir", metavar="DIR", help="Where the lock, handles and logs are (TUNCTL_RUN_DIR, /run/tunctl)."),
    click.option("--netns", metavar="NAME", help="Reserved."),
    click.option("--lock-timeout", metavar="TIME", help="How long to wait for another tunctl (2s)."),
    click.option("--json", "as_json", is_flag=True, default=None, help="One JSON document on stdout."),
    click.option("--debug", is_flag=True, default=None, help="Tracebacks of bugs, and causes of errors."),
    click.option("--log-format", type=click.Choice(["text", "json"]), help="How stderr is written (text)."),
    click.option("--no-color", is_flag=True, default=None, help="No colour, also on a terminal."),
)
_NAMES = ("state_dir", "run_dir", "netns", "lock_timeout", "as_json", "debug", "log_format", "no_color")


def global_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds them to a command; the command gets a Context as its first argument and none of them."""

    @wraps(function)
    @click.pass_context
    def wrapper(ctx: click.Context, /, **words: Any) -> Any:
        own = {name: words.pop(name) for name in _NAMES}
        before = ctx.find_root().obj or {}
        return function(context({name: own[name] if own[name] is not None else before.get(name) for name in _NAMES}), **words)

    for option in reversed(_OPTIONS):
        wrapper = option(wrapper)
    return wrapper


def group_options(function: Callable[P, Any]) -> Callable[P, Any]:
    """The same before the command's name: remembered for it."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def context(values: dict[str, Any]) -> Context:
    """Values of the options → what commands work with."""
    if values["netns"] is not None:
        raise Unavailable("--netns is not there yet", hint="ip netns exec NAME tunctl … does the same")
    session = Session(
        Path(directory(values["state_dir"] or "", "STATE")),
        Path(directory(values["run_dir"] or "", "RUN")),
        _timeout_s(values["lock_timeout"]),
        fault.from_environment(),
    )
    colour = False if values["no_color"] else None
    log_json = values["log_format"] == "json"
    return Context(
        session, Output(as_json=bool(values["as_json"]), colour=colour, debug=bool(values["debug"]), log_json=log_json)
    )


def _timeout_s(text: str | None) -> float:
    return 2.0 if text is None else seconds(text, "--lock-timeout")


def seconds(text: str, option: str) -> float:
    """A duration on the command line."""
    from reconciler.config.values import duration

    try:
        return float(duration(0.0, 86400.0)(text))
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from error
