"""desired.toml → `model.tunnel.Desired`; every error with file, line and key. Reads files, changes nothing.

`load.load` and `jsonschema.json_schema` are all that others need. They import a parser of TOML, and `re`: take them in late.
"""
