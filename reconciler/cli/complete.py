"""What a shell completes where a tunnel, a source, a file or a directory is to be named. It never fails and writes nothing:
somebody is only typing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import click
from click.shell_completion import CompletionItem

from reconciler.cli.short import directory
from reconciler.errors import TunctlError
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from reconciler.store.stored import Stored

STORE_WAIT_S = 0.3

Complete = Callable[[click.Context, str], Iterable[CompletionItem]]


class _Completed(click.types.StringParamType):
    """A word that a shell can complete."""

    def __init__(self, complete: Complete) -> None:
        self._complete = complete

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return list(self._complete(ctx, incomplete))


def completed(command: click.Command) -> None:
    """Makes every word of the command, and of those below it, complete as what its help calls it."""
    for parameter in command.params:
        option = isinstance(parameter, click.Option)
        complete = _BY_WORD.get(parameter.metavar if option else parameter.name)
        if complete is not None and parameter.type is click.STRING:
            parameter.type = _Completed(complete)
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        completed(inner)


def _tunnels(ctx: click.Context, incomplete: str) -> Iterator[CompletionItem]:
    """Of the store, without those that stand there already."""
    given = ctx.params.get("names") or ()
    return _starting(incomplete, (intent.name for intent in _stored(ctx).intents if intent.name not in given))


def _sources(ctx: click.Context, incomplete: str) -> Iterator[CompletionItem]:
    return _starting(incomplete, sorted({intent.source for intent in _stored(ctx).intents}))


def _starting(incomplete: str, words: Iterable[str]) -> Iterator[CompletionItem]:
    return (CompletionItem(word) for word in words if word.startswith(incomplete) and word.isprintable())


def _stored(ctx: click.Context) -> Stored:
    from reconciler.store.read import read
    from reconciler.store.stored import Stored

    given = ctx.params.get("state_dir") or ctx.find_root().params.get("state_dir") or ""
    try:
        return read(directory(given, "STATE"), STORE_WAIT_S)
    except TunctlError:
        return Stored(exists=False)


def _paths(kind: str) -> Complete:
    """Left to the shell, which knows better."""
    return lambda _ctx, incomplete: (CompletionItem(incomplete, type=kind),)


_BY_WORD: dict[str | None, Complete] = {  # arguments by their name, options by what stands behind them
    "name": _tunnels, "names": _tunnels, "file": _paths("file"),
    "SOURCE": _sources, "FILE": _paths("file"), "DIR": _paths("dir"),
}  # fmt: skip
