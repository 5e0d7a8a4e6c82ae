"""SQLite: intents, history, ledger. `read` looks, `write` changes: both with the standard library alone.

SQLAlchemy defines what is stored (`tables`), and the statements that write it (`statements`, from which `sql` is made); with
alembic it brings older stores up to date (`migration`).

No secrets, and nothing that a reboot makes wrong: what is transient stands in the run directory.
"""
