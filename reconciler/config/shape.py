"""Documents → typed tables, or errors. A table without its bad keys is kept, so that the rest of it is looked at too."""

from __future__ import annotations

from reconciler.config.lines import Path
from reconciler.config.problems import MOST, Document, Findings
from reconciler.config.schema import DesiredFile, HostTable, TunnelTable
from reconciler.config.tables import AnyTable, Invalid, Of, Wrong
from reconciler.typed import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_FILE, _HOST, _TUNNEL = Of(DesiredFile), Of(HostTable), Of(TunnelTable)


class Shaped(NamedTuple):
    """One document whose values have their types."""

    document: Document
    source: str | None
    host: HostTable | None
    tunnels: Mapping[str, TunnelTable]
    broken: frozenset[str]  # tunnels of which only a part is in `tunnels`, or nothing


def shaped(read: Sequence[Document], findings: Findings) -> list[Shaped]:
    """All documents; together they need one `version`."""
    versioned = any("version" in document.tree for document in read)
    return [_shaped(document, findings, has_version=versioned) for document in read]


def _shaped(document: Document, findings: Findings, *, has_version: bool) -> Shaped:
    tree = document.tree if "version" in document.tree or not has_version else {"version": 1, **document.tree}
    try:
        table = _FILE.read(tree)
    except Invalid as error:
        return _salvaged(document, error.wrong, findings)
    return Shaped(document, table.source, table.host, table.tunnels, frozenset())


def _salvaged(document: Document, wrong: Sequence[Wrong], findings: Findings) -> Shaped:
    from reconciler.config import words

    bad: dict[Path, list[Path]] = {}  # by the first two parts: of a tunnel, of [host]
    for one in wrong[:MOST]:
        findings.error(document, one.path, _version_hint(one.path, words.message(one)))
    findings.unlisted += len(wrong[MOST:])
    for one in wrong:
        path = _removable(document, one.path)
        findings.left_out(path)
        bad.setdefault(path[: 1 if path[:1] == ("host",) else 2], []).append(path)
    tree = document.tree.get("tunnels")
    tables: dict[str, Any] = tree if isinstance(tree, dict) else {}
    paths: dict[str, Path] = {name: ("tunnels", name) for name in tables}
    good = [name for name, path in paths.items() if path not in bad]
    rest: dict[str, TunnelTable | None] = dict(zip(good, _TUNNEL.read_all([tables[name] for name in good]), strict=True))
    rest |= {name: _remainder(_TUNNEL, document, path, bad[path]) for name, path in paths.items() if path in bad}
    source = document.tree.get("source")
    return Shaped(
        document,
        source if isinstance(source, str) else None,
        _remainder(_HOST, document, ("host",), bad.get(("host",), ())),
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


def _remainder(table: Of[AnyTable], document: Document, path: Path, bad: Iterable[Path]) -> AnyTable | None:
    """The table at this path without its bad keys; None when there is none, or too little of it."""
    at: Any = document.tree
    for part in path:
        if not isinstance(at, dict) or part not in at:
            return None
        at = at[part]
    for wrong in bad:
        if wrong[: len(path)] == path:
            if wrong == path:
                return None
            at = _without(at, wrong[len(path) :])
    try:
        return table.read(at)
    except Invalid:
        return None


def _without(tree: Any, path: Path) -> Any:
    """A copy without the key at this path; what the path does not touch is shared."""
    first, *rest = path
    if isinstance(tree, list):
        return [_without(inner, tuple(rest)) if at == first and rest else inner for at, inner in enumerate(tree)]
    if not isinstance(tree, dict) or first not in tree:
        return tree
    if not rest:
        return {key: inner for key, inner in tree.items() if key != first}
    return {key: _without(inner, tuple(rest)) if key == first else inner for key, inner in tree.items()}
