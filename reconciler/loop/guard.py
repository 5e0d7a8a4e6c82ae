"""What a valid file may not do all the same. A half-written file is often valid TOML: what would withdraw much needs a word
from the user. And nobody has a tunnel use keys that he may not read."""

from __future__ import annotations

import os

from reconciler.config import files
from reconciler.errors import InvalidFile, Problem
from reconciler.loop.unchanged import secrets
from reconciler.model.tunnel import Desired
from reconciler.store.stored import Stored

HINT = "if that is meant, say --allow-withdraw"


def refuse_withdrawal(stored: Stored, desired: Desired) -> None:
    """InvalidFile when the file would withdraw all tunnels of its source, or three or more that are more than half
    of it, or when a prefix file that had prefixes has become empty: of a split that would be another tunnel."""
    before = [i for i in stored.intents if i.source == desired.source and not i.withdrawn]
    declared = {tunnel.name for tunnel in desired.tunnels}
    going = [intent.name for intent in before if intent.name not in declared]
    if going and (len(going) == len(before) or (len(going) >= 3 and len(going) * 2 > len(before))):
        raise InvalidFile(
            f"{desired.path} would withdraw {len(going)} of {len(before)} tunnels: {', '.join(going)}",
            hint=HINT,
            details=tuple(Problem(desired.path, 0, f"tunnels.{name}", "no longer declared") for name in going),
        )
    had = {(intent.name, file.path) for intent in before for file in intent.tunnel.prefix_files if file.packed}
    emptied = [place for place in desired.emptied if place in had]
    if emptied:
        raise InvalidFile(
            f"{', '.join(path for _, path in emptied)}: no prefix is left in it",
            hint=HINT,
            details=tuple(Problem(path, 0, f"tunnels.{name}", "the prefix file became empty") for name, path in emptied),
        )


def refuse_borrowed(stored: Stored, desired: Desired) -> None:
    """InvalidFile when the file names keys that whoever we read as may not read, but for those that its tunnels have already:
    the daemon, which reads them later, may read all. To be called with the rights of whoever asks."""
    had = {(intent.name, path) for intent in stored.intents for path in secrets(intent.tunnel)}
    named = [(tunnel.name, path) for tunnel in desired.tunnels for path in secrets(tunnel)]
    borrowed = [place for place in named if place not in had and not _may_read(place[1])]
    if borrowed:
        raise InvalidFile(
            f"{', '.join(path for _, path in borrowed)}: permission denied",
            hint="whoever applies a file must be able to read the keys that are new in it",
            details=tuple(Problem(desired.path, 0, f"tunnels.{name}", f"{path}: permission denied") for name, path in borrowed),
        )


def _may_read(reference: str) -> bool:
    """What is absent is told of when it is needed."""
    try:
        os.close(os.open(files.secret_path(reference, ""), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except PermissionError:
        return False
    except (OSError, files.Unreadable):
        return True
    return True
