"""The JSON Schema of a desired file, for editors."""

from __future__ import annotations

from typing import Any

from reconciler.config.schema import DesiredFile

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """Draft 2020-12. TOML has no null, so no key may be null in it."""
    schema: dict[str, Any] = _without_null(DesiredFile.model_json_schema())
    return {"$schema": DIALECT, **schema, "title": "desired.toml"}


def _without_null(node: Any) -> Any:
    """The same without `null` alternatives and null defaults (Python's way to say "not given"), and without made-up titles."""
    if isinstance(node, list):
        return [_without_null(inner) for inner in node]
    if not isinstance(node, dict):
        return node
    given = {key: inner for key, inner in node.items() if not (key == "default" and inner is None)}
    result = {key: _without_null(inner) for key, inner in given.items() if not (key == "title" and isinstance(inner, str))}
    options = [option for option in result.get("anyOf", ()) if option != {"type": "null"}]
    if len(options) == 1:
        del result["anyOf"]
        return {**options[0], **result}
    return {**result, "anyOf": options} if options else result
