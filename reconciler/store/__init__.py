"""SQLite: intents, history, ledger. `read` looks, `write` changes: both with the standard library alone.

SQLAlchemy defines what is stored (`tables`), and the statements that write it (`statements`, from which `sql` is made); with
alembic it brings older stores up to date (`migration`).

No secrets, and nothing that a reboot makes wrong: what is transient stands in the run directory.
"""

from __future__ import annotations

import sys

from reconciler import lean

# SQLite is the half in C of Python's module: the other adds `datetime`, which the store has no use for. This half imports
# functools, with all that functools imports, for a single word of it: where nobody has done so, it finds the word here.
_stands_in = sys.modules.setdefault("functools", lean) is lean
try:
    import _sqlite3 as sqlite
finally:
    if _stands_in:
        del sys.modules["functools"]

__all__ = ["sqlite"]
