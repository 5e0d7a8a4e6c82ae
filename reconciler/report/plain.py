"""Values → what JSON can say: addresses as text, marks as text, nothing secret (there is none in them)."""

from __future__ import annotations

from reconciler.errors import TunctlError
from reconciler.model.marks import Mark
from reconciler.model.prefix import Prefix, ntop
from reconciler.model.publickey import PublicKey
from reconciler.model.resource import Resource
from reconciler.typed import Any

VERSION = 1


def resource(value: Resource | None) -> dict[str, Any] | None:
    """A resource as an object: its fields by name, without those that say nothing; `to`/`address` for prefixes."""
    if value is None:
        return None
    fields: dict[str, Any] = value._asdict()  # type: ignore[attr-defined]
    out: dict[str, Any] = {}
    for name, field in fields.items():
        if name == "packed":
            out["to" if value.kind == "route" else "address"] = str(Prefix(field, fields["length"]))
        elif name not in ("length", "environment") and field is not None and field != ():
            out[name.rstrip("_")] = plain(field)
    return out


def plain(value: Any) -> Any:
    """One value."""
    if isinstance(value, Prefix | Mark | PublicKey) or type(value).__module__.startswith("reconciler.kinds"):
        return str(value)
    if isinstance(value, bytes):
        return ntop(value)
    if isinstance(value, tuple | list | frozenset):
        return [plain(item) for item in value]
    if hasattr(value, "items"):
        return {str(key): plain(item) for key, item in value.items()}
    return value


def error(problem: TunctlError) -> dict[str, Any]:
    """The document that stands on stdout instead of a result."""
    details = [{"file": d.file, "line": d.line, "key": d.key, "message": d.message} for d in problem.details]
    body = {"code": problem.exit_code, "message": problem.message, "hint": problem.hint, "details": details}
    return {"version": VERSION, "error": body}
