"""desired.toml → `Desired`: everything that is wrong at once, or all of it.

Three sieves: the shape (`schema`), what belongs together (`checks`, `references`, `crosschecks`), what is built
(`refusals`). A file that fails the first two is invalid (65); the third is asked only of valid ones (69).
"""

from __future__ import annotations

from reconciler import __version__
from reconciler.config import build, checks, crosschecks, refusals, shape
from reconciler.config.declared import Declared, Manner
from reconciler.config.files import Recorder
from reconciler.config.problems import MOST, Document, Findings, printable
from reconciler.config.references import NOTHING, References, Shelf, resolve
from reconciler.config.shape import Shaped
from reconciler.config.source import STDIN, STDIN_NAME, absolute, absolute_path, documents
from reconciler.errors import InvalidFile, Problem, Unavailable
from reconciler.model.marks import Numbers
from reconciler.model.names import TunnelName, is_tunnel_name
from reconciler.model.text import counted
from reconciler.model.tunnel import Desired, Host, Input
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path as FilePath
    from typing import BinaryIO

    from reconciler.config.crosschecks import Whole

    _Judged = tuple[Declared, References]  # a tunnel that has been looked at by itself, and what it refers to

_new = tuple.__new__  # as in `kinds.routes`


def load(
    location: str,
    *,
    stdin: BinaryIO | None = None,
    base_dir: FilePath | None = None,
    lenient_files: bool = False,
) -> Desired:
    """Reads a desired file, a directory of them, or ``-``.

    `base_dir`: what relative paths are relative to, instead of the place of their file. `lenient_files`: referenced files
    and users that are absent are warnings. InvalidFile (65) and Unavailable (69) carry one Problem for each thing.
    """
    path = absolute(location)
    findings = Findings()
    recorder = Recorder()
    base = None if base_dir is None else absolute_path(str(base_dir))
    read = documents(location, stdin=stdin, base_dir=base, findings=findings, recorder=recorder)
    shaped = shape.shaped(read, findings)
    source = _source(path, shaped, findings)
    host_of = _host(shaped, findings)
    host = build.host(host_of.host if host_of else None)
    if host_of is not None and host.runtime_file == "beside" and path == STDIN:
        findings.error(host_of.document, ("host", "runtime_file"), "nothing can stand beside what comes from standard input")
    manner = Manner(lenient_files, _numbers(host))
    shelf = Shelf(recorder)
    judged = []
    for declared in _declared(shaped, manner, findings):
        checks.check(declared)
        judged.append((declared, resolve(declared, shelf)))
    whole = _whole(judged, shaped)
    if findings.errors:
        raise _invalid(location, findings, read)
    _refuse(location, whole, findings)
    tunnels = tuple(build.tunnel(declared, references) for declared, references in judged)
    inputs = (Input("version", "", __version__), *recorder.inputs.values()) if path != STDIN and base is None else ()
    return Desired(source, path, host, tunnels, _emptied(judged), tuple(findings.warnings), inputs)


def _source(path: str, shaped: Sequence[Shaped], findings: Findings) -> str:
    """The key `source` of one of the documents, else the path."""
    named = [one for one in shaped if "source" in one.document.tree]
    for one in named[1:]:
        findings.error(one.document, ("source",), f"is given already ({named[0].document.place(('source',))})")
    if named:
        return named[0].source or ""
    if path == STDIN and shaped:
        findings.error(shaped[0].document, ("source",), "missing: what comes from standard input has to name its source")
    elif shaped and not path.isprintable():  # bytes that are no UTF-8 among others: neither the store nor JSON takes them
        findings.errors.append(Problem(ascii(path), 0, "source", "missing: the path cannot be a name, so `source` is required"))
    return path


def _host(shaped: Sequence[Shaped], findings: Findings) -> Shaped | None:
    """The document with `[host]`."""
    hosts = [one for one in shaped if "host" in one.document.tree]
    for one in hosts[1:]:
        findings.error(one.document, ("host",), f"[host] is given already ({hosts[0].document.place(('host',))})")
    return hosts[0] if hosts else None


def _numbers(host: Host) -> Numbers:
    default = Numbers()
    return default._replace(table_base=default.table_base if host.table_base is None else host.table_base)


def _declared(shaped: Sequence[Shaped], manner: Manner, findings: Findings) -> Iterator[Declared]:
    """The tunnels in the order of the documents; a name that comes twice is an error."""
    first: dict[str, Document] = {}
    for one in shaped:
        document = one.document
        tables = document.tree.get("tunnels")
        for name in tables if isinstance(tables, dict) else ():
            if not is_tunnel_name(name):
                findings.errors.append(document.problem(("tunnels", name), checks.name_problem(name)))
            other = first.setdefault(name, document)
            if other is not document:
                path = ("tunnels", name)
                findings.error(document, path, f"the tunnel {name!r} is declared already ({other.place(path)})")
            elif name in one.tunnels:
                table = one.tunnels[name]
                interface = None if table.interface == "auto" else table.interface or name
                declared: Declared = _new(Declared, (name, table, document, findings, manner, interface))
                yield declared


def _whole(judged: Sequence[_Judged], shaped: Sequence[Shaped]) -> list[Whole]:
    """The tunnels of which nothing had to be left out, checked against each other."""
    broken = {(one.document.file, name) for one in shaped for name in one.broken}
    whole: list[Whole] = [
        (declared, build.routed(declared, references))
        for declared, references in judged
        if not broken or (declared.document.file, declared.name) not in broken
    ]
    crosschecks.check(whole)
    for declared, routed in whole:
        if declared.table.dns is not None:
            checks.check_dns(declared, is_full=refusals.is_full(declared, routed))
    return whole


def _invalid(location: str, findings: Findings, read: Sequence[Document]) -> InvalidFile:
    files = {document.file: at for at, document in enumerate(read)}
    problems = sorted(findings.errors, key=lambda problem: (files.get(problem.file, len(files)), problem.file, problem.line))
    problems = list(dict.fromkeys(problems))
    count = len(problems) + findings.unlisted
    if count > MOST:
        problems = [*problems[:MOST], Problem(problems[0].file, 0, "", f"{count - MOST} more problems")]
    if count == 1 and not problems[0].line:
        return InvalidFile(str(problems[0]), details=tuple(problems))
    message = f"{_named(location)} is not valid: {counted(count, 'problem')}"
    return InvalidFile(message, hint="Nothing was changed.", details=tuple(problems))


def _refuse(location: str, whole: Sequence[Whole], findings: Findings) -> None:
    """Unavailable for all that is valid and not built yet."""
    for declared, _ in whole:
        refusals.refuse(declared)
    if findings.refusals:
        keys = ", ".join(dict.fromkeys(problem.key for problem in findings.refusals[:8]))
        more = ", …" if len(findings.refusals) > 8 else ""
        message = f"{_named(location)} asks for what this version of tunctl does not do yet: {keys}{more}"
        raise Unavailable(message, hint="Nothing was changed; remove these keys.", details=tuple(findings.refusals))


def _named(location: str) -> str:
    return STDIN_NAME if location == STDIN else printable(location)


def _emptied(judged: Sequence[_Judged]) -> tuple[tuple[TunnelName, str], ...]:
    referring = [(declared.name, references.files) for declared, references in judged if references is not NOTHING]
    return tuple((name, file.path) for name, files in referring for file in files if not file.packed)
