"""How the clock was set in this boot, as far as passes have seen it: `clock.json` in the run directory. A hint like all there:
without it, handshakes of before a step are as old as the clock says."""

from __future__ import annotations

import os
import time

from reconciler.host import files
from reconciler.host.handles import CLOCK as FILE
from reconciler.host.jsontext import dumps, loads
from reconciler.lean import suppress
from reconciler.model.timeline import STEP_US, Setting, Timeline
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_VERSION = 1
_MOST = 32  # settings: who sets it more often loses the first
_MOST_BYTES = 1 << 16


def read(run_dir: str | Path, boot_id: str) -> Timeline:
    """Until now: a step that nobody has seen yet was just made."""
    at_us = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
    offset_us = time.time_ns() // 1000 - at_us
    known_us, before = _kept(run_dir, boot_id) or (offset_us, ())
    if abs(known_us - offset_us) < STEP_US:
        return Timeline(at_us, known_us, before)
    return Timeline(at_us, offset_us, (*before, Setting(known_us, at_us))[-_MOST:])


def keep(run_dir: str | Path, boot_id: str) -> None:
    """For whoever reads it next; nothing is written that was so already, nor what cannot be."""
    now = read(run_dir, boot_id)
    if _kept(run_dir, boot_id) == (now.offset_us, now.before):
        return
    document = {"version": _VERSION, "boot_id": boot_id, "offset_us": now.offset_us, "before": list(map(list, now.before))}
    with suppress(OSError):
        files.replace(os.path.join(run_dir, FILE), dumps(document).encode() + b"\n", 0o644, synced=False)


def _kept(run_dir: str | Path, boot_id: str) -> tuple[int, tuple[Setting, ...]] | None:
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        document = loads(files.read(os.path.join(run_dir, FILE), _MOST_BYTES).decode())
        before = tuple(Setting(*pair) for pair in document["before"])
        numbers = (document["offset_us"], *(number for pair in before for number in pair))
        if (document["version"], document["boot_id"]) == (_VERSION, boot_id) and all(type(one) is int for one in numbers):
            return document["offset_us"], before
    return None
