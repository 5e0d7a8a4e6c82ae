"""Documents → typed tables, or errors. A table without its bad keys is kept, so that the rest of it is looked at too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from pydantic_core import ErrorDetails, ValidationError

from reconciler.config import words
from reconciler.config.lines import Path
from reconciler.config.problems import MOST, Document, Findings
from reconciler.config.schema import DesiredFile, HostTable, TunnelTable
from reconciler.config.tables import Table

AnyTable = TypeVar("AnyTable", bound=Table)


class Shaped(NamedTuple):
    """One document whose values have their types."""

    document: Document
    source: str | None
    host: HostTable | None
    tunnels: dict[str, TunnelTable]
    broken: frozenset[str]  # tunnels of which only a part is in `tunnels`, or nothing


def prepare() -> None:
    """Checks a file of nobody, for a process whose children read files, some with the rights of users who may not read Python:
    the validator is made, and what it loads for the first default is loaded."""
    DesiredFile.of({"version": 1, "tunnels": {"any": {"driver": "tun"}}})


def shaped(read: Sequence[Document], findings: Findings) -> list[Shaped]:
    """All documents; together they need one `version`."""
    versioned = any("version" in document.tree for document in read)
    return [_shaped(document, findings, has_version=versioned) for document in read]


def _shaped(document: Document, findings: Findings, *, has_version: bool) -> Shaped:
    tree = document.tree if "version" in document.tree or not has_version else {"version": 1, **document.tree}
    try:
        table = DesiredFile.of(tree)
    except ValidationError as error:
        return _salvaged(document, error.errors(include_url=False), findings)
    return Shaped(document, table.source, table.host, table.tunnels, frozenset())


def _salvaged(document: Document, errors: Sequence[ErrorDetails], findings: Findings) -> Shaped:
    bad: dict[Path, list[Path]] = {}  # by the first two parts: of a tunnel, of [host]
    for error in errors[:MOST]:
        path = tuple(error["loc"])
        findings.error(document, path, _version_hint(path, words.message(error)))
    findings.unlisted += len(errors[MOST:])
    for error in errors:
        path = _removable(document, tuple(error["loc"]))
        findings.left_out(path)
        bad.setdefault(path[: 1 if path[:1] == ("host",) else 2], []).append(path)
    tree = document.tree.get("tunnels")
    names = list(tree) if isinstance(tree, dict) else []
    paths: dict[str, Path] = {name: ("tunnels", name) for name in names}
    rest = {name: _remainder(TunnelTable, document, path, bad.get(path, ())) for name, path in paths.items()}
    source = document.tree.get("source")
    return Shaped(
        document,
        source if isinstance(source, str) else None,
        _remainder(HostTable, document, ("host",), bad.get(("host",), ())),
        {name: table for name, table in rest.items() if table is not None},
        frozenset(name for name, path in paths.items() if path in bad),
    )


def _version_hint(path: Path, message: str) -> str:
    return "missing: a desired file begins with `version = 1`" if path == ("version",) and "missing" in message else message


def _removable(document: Document, path: Path) -> Path:
    """The key whose value goes: never an element of an array, the others would change their numbers."""
    path = document.within(path)
    while path and isinstance(path[-1], int):
        path = path[:-1]
    return path


def _remainder(table: type[AnyTable], document: Document, path: Path, bad: Iterable[Path]) -> AnyTable | None:
    """The table at this path without its bad keys; None when there is none, or too little of it."""
    at: Any = document.tree
    for part in path:
        if not isinstance(at, Mapping) or part not in at:
            return None
        at = at[part]
    for wrong in bad:
        if wrong[: len(path)] == path:
            if wrong == path:
                return None
            at = _without(at, wrong[len(path) :])
    try:
        return table.of(at)
    except ValidationError:
        return None


def _without(tree: Any, path: Path) -> Any:
    """A copy without the key at this path; what the path does not touch is shared."""
    first, *rest = path
    if isinstance(tree, list):
        return [_without(inner, tuple(rest)) if at == first and rest else inner for at, inner in enumerate(tree)]
    if not isinstance(tree, Mapping) or first not in tree:
        return tree
    if not rest:
        return {key: inner for key, inner in tree.items() if key != first}
    return {key: _without(inner, tuple(rest)) if key == first else inner for key, inner in tree.items()}
