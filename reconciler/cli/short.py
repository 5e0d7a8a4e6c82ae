"""`status`, `plan` and `version` without click: a prompt or a monitoring check must not wait. So do `apply`, `up`, `down` and
`reconcile` with plain words: asked of the daemon, else found to be so already, else done here. Anything unusual goes the long
way."""

from __future__ import annotations

import os

from reconciler.bytecode import Bytecode
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from reconciler.cli.output import Output
    from reconciler.model.order import Order

    Command = Callable[["Words", Output], int | None]

DESIRED = "/etc/tunctl/desired.toml"
STATE_DIR, RUN_DIR = "/var/lib/tunctl", "/run/tunctl"
_CONTROL = "control.sock"  # of a daemon, in the run directory: where it is not, nobody is asked

_FLAGS = {"--json": "as_json", "--no-color": "no_color", "--debug": "debug"}
_VALUES = {"--state-dir": "state_dir", "--run-dir": "run_dir", "--lock-timeout": "", "--log-format": ""}


class Words(NamedTuple):
    """A command line that has only words and options that every command takes."""

    command: str
    names: tuple[str, ...] = ()
    state_dir: str = ""
    run_dir: str = ""
    as_json: bool = False
    no_color: bool = False
    debug: bool = False


def run_short(arguments: Sequence[str]) -> int | None:
    """The exit code, or None when the command line is not one of ours."""
    words = Words("version") if list(arguments) == ["--version"] else _parse(arguments)
    if words is None:
        return None
    code = None
    if words.command in _ORDERS and os.path.lexists(os.path.join(_meant(words.run_dir, "RUN"), _CONTROL)):
        code = _kept("order", _by_daemon, words)
    if code is None and words.command in _COMMANDS:
        code = _kept(words.command, _COMMANDS[words.command], words)
    if code is None and words.command in _ORDERS:
        code = _kept("change", _here, words, learn=False)
    return code


def _kept(name: str, command: Command, words: Words, *, learn: bool = True) -> int | None:
    """With the byte code that is kept by this name. `learn`: it needs the same each time."""
    bytecode = Bytecode(name, learn=learn)
    code = _run(command, words)
    kept = bytecode.end()
    if kept is not None:
        from reconciler.bytewrite import write

        write(kept)
    return code


def _run(command: Command, words: Words) -> int | None:
    from reconciler.cli.output import Output
    from reconciler.errors import Bug, TunctlError

    output = Output(as_json=words.as_json, colour=False if words.no_color else None, debug=words.debug)
    try:
        return command(words, output)
    except TunctlError as error:
        output.error(error)
        return error.exit_code
    except Exception as error:
        bug = Bug.of(error)
        output.error(bug)
        return bug.exit_code


def _parse(arguments: Sequence[str]) -> Words | None:
    """None for everything that is not plainly one of these commands with known words: click says what is wrong with it."""
    values: dict[str, str | bool] = {}
    names: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        key, equals, value = word.partition("=")
        if word in _FLAGS:
            values[_FLAGS[word]] = True
        elif _VALUES.get(key) and (equals or rest):
            values[_VALUES[key]] = value if equals else rest.pop(0)
        elif word.startswith("-"):
            return None
        else:
            names.append(word)
    if not names or names[0] not in {*_COMMANDS, *_ORDERS} or len(names) > _MOST_NAMES.get(names[0], len(names)) + 1:
        return None
    return Words(names[0], tuple(names[1:]), **values)  # type: ignore[arg-type]


def _status(words: Words, output: Output) -> int:
    from reconciler.loop.look import look
    from reconciler.report import status as report

    seen = look(directory(words.state_dir, "STATE"), directory(words.run_dir, "RUN"), words.names)
    output.data(report.status_text(seen, output.paint))
    if words.as_json:
        from reconciler.report.statusjson import status_json

        output.document(lambda: status_json(seen))
    return seen.exit_code


def _plan(words: Words, output: Output) -> int:
    from reconciler.cli.plans import show
    from reconciler.loop.planning import plan
    from reconciler.model.order import ApplyOptions

    file = words.names[0] if words.names else None
    return show(output, plan(directory(words.state_dir, "STATE"), directory(words.run_dir, "RUN"), file, ApplyOptions()))


def _apply(words: Words, output: Output) -> int | None:
    return _settled(words, output, _file(words))


def _reconcile(words: Words, output: Output) -> int | None:
    return _settled(words, output, None)


def _file(words: Words) -> str:
    return words.names[0] if words.names else DESIRED


def _settled(words: Words, output: Output, file: str | None) -> int | None:
    """0 when there is nothing to do; None: there is, or it is not sure."""
    if os.environ.get("TUNCTL_FAULT"):
        return None
    from reconciler.loop.settled import settled

    found = settled(directory(words.state_dir, "STATE"), directory(words.run_dir, "RUN"), file)
    if found is None:
        return None
    from reconciler.report import changes as report

    output.goes_on = True
    output.data(report.plan_text(found.plan, paint=output.paint))
    told = found.plan._replace(warnings=(*found.plan.warnings, *found.notes))
    output.document(lambda: report.result_json(told, found.held, (), ()))
    for note in found.notes:
        output.note("warning", note)
    for name in found.held:
        output.note("info", f"held down (tunctl up {name})", name)
    return 0


def _by_daemon(words: Words, output: Output) -> int | None:
    """None: there is none, or the words are not enough. First of all: the look at the machine is left to it."""
    from reconciler.daemon.client import Asking, ask

    order = _order(words)
    if order is None:
        return None
    output.goes_on = True
    places = (directory(words.state_dir, "STATE"), directory(words.run_dir, "RUN"))
    return ask(Asking(*places, as_json=words.as_json, debug=words.debug), order, output)


def _here(words: Words, output: Output) -> int | None:
    """By ourselves, when there is something to do and no daemon to do it."""
    order = _order(words)
    if order is None:
        return None
    from reconciler.cli.alone import carry_out
    from reconciler.loop.commands import Session

    places = (directory(words.state_dir, "STATE"), directory(words.run_dir, "RUN"))
    return carry_out(Session(*places), order, output)


def _order(words: Words) -> Order | None:
    """None: the words are not enough, or something is to go wrong."""
    from reconciler.model.order import Order

    if os.environ.get("TUNCTL_FAULT") or not (words.names or words.command in ("apply", "reconcile")):
        return None
    return Order("apply", file=_file(words)) if words.command == "apply" else Order(words.command, words.names)


def _version(_words: Words, output: Output) -> int:
    from reconciler import __version__

    output.data([f"tunctl {__version__}"])
    output.document(lambda: {"version": 1, "tunctl": __version__})
    return 0


def directory(given: str, which: str) -> str:
    """The state or run directory, absolute. UsageError when it is relative to nothing."""
    path = _meant(given, which)
    try:
        return os.path.abspath(path)
    except FileNotFoundError:
        from reconciler.errors import UsageError

        raise UsageError(f"{path}: the working directory is gone (no such file or directory)") from None


def _meant(given: str, which: str) -> str:
    """The option, else the environment, else the default."""
    return given or os.environ.get(f"TUNCTL_{which}_DIR") or (STATE_DIR if which == "STATE" else RUN_DIR)


_MOST_NAMES = {"plan": 1, "apply": 1, "reconcile": 0, "version": 0}
_COMMANDS: dict[str, Command] = {
    "status": _status, "plan": _plan, "version": _version,
    "apply": _apply, "reconcile": _reconcile,
}  # fmt: skip
_ORDERS = ("apply", "reconcile", "up", "down")
