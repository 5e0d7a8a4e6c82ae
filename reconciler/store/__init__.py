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

# What is no number and no text is asked what it wants to be, and answers by an error: twice what it costs to store it.
sqlite.register_adapter(type(None), {None: None}.__getitem__)
sqlite.register_adapter(bool, {False: 0, True: 1}.__getitem__)

__all__ = ["sqlite"]
