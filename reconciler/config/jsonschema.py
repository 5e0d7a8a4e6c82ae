"""The JSON Schema of a desired file, for editors."""

from __future__ import annotations

from typing import Any

from reconciler.config.schema import DesiredFile

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """Draft 2020-12."""
    definitions: dict[str, Any] = {}
    schema = DesiredFile.schema(definitions)
    return {"$schema": DIALECT, "$defs": dict(sorted(definitions.items())), **schema, "title": "desired.toml"}
