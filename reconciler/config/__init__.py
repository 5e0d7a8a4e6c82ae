"""desired.toml → `model.tunnel.Desired`; every error with file, line and key. Reads files, changes nothing.

`load` and `json_schema` are all that others need. Costs the import of pydantic: take it in late.
"""

from __future__ import annotations

from reconciler.config.jsonschema import json_schema
from reconciler.config.load import load

__all__ = ["json_schema", "load"]
