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
if sys.modules.setdefault("functools", lean) is lean:
    try:
        import _sqlite3 as sqlite
    except (ImportError, AttributeError):  # a Python in which it asks for more
        sys.modules.pop("_sqlite3", None)
    finally:
        del sys.modules["functools"]
import _sqlite3 as sqlite

__all__ = ["sqlite"]
