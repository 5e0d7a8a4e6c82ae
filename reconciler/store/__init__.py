"""SQLite: intents, history, ledger. `read` (standard library, read-only) and `write` (SQLAlchemy).

No secrets, and nothing that a reboot makes wrong: what is transient stands in the run directory.
"""
