"""desired.toml → `model.tunnel.Desired`; every error with file, line and key. Reads files, changes nothing.

`load.load` and `jsonschema.json_schema` are all that others need. They cost the import of pydantic's core: take them in late.
"""
