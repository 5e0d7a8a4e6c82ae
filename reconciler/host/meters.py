"""The daemon's meter as a file of the run directory, for `metrics`. A hint like all there: it counts only while the daemon's
lock is held (board.py), and what cannot be read as a meter is none."""

from __future__ import annotations

import json
import math
import os
from typing import TYPE_CHECKING, Any

from reconciler.host import files
from reconciler.model.meter import BOUNDS_S, Histogram, Meter, Work
from reconciler.model.names import TunnelName

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FILE = "meter.json"
_VERSION = 1
_MOST_BYTES = 4 << 20


def show(run_dir: str | Path, meter: Meter) -> None:
    """Replaces what was shown before. OSError when it cannot be written."""
    work = meter.work
    document = {
        "version": _VERSION,
        "started_us": meter.started_us,
        "last_pass_us": meter.last_pass_us,
        "passes": [[scope, *took] for scope, took in meter.passes.items()],
        "unfinished": [[why, count] for why, count in meter.unfinished.items()],
        "steps": [[*key, *took] for key, took in work.steps.items()],
        "repairs": [[*key, count] for key, count in work.repairs.items()],
        "failures": [[*key, count] for key, count in work.failures.items()],
    }
    files.replace(os.path.join(run_dir, FILE), json.dumps(document).encode() + b"\n", 0o644, synced=False)


def hide(run_dir: str | Path) -> None:
    """Nobody counts any more."""
    path = os.path.join(run_dir, FILE)
    if os.path.lexists(path):
        os.unlink(path)


def shown(run_dir: str | Path) -> Meter | None:
    """What the daemon showed last; None when there is nothing that can be understood."""
    try:
        document = json.loads(files.read(os.path.join(run_dir, FILE), _MOST_BYTES))
        return _decoded(document) if document["version"] == _VERSION else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _decoded(document: Mapping[str, Any]) -> Meter:
    last_us = document["last_pass_us"]
    return Meter(
        _count(document["started_us"]),
        None if last_us is None else _count(last_us),
        {str(scope): _histogram(*took) for scope, *took in document["passes"]},
        {str(why): _count(number) for why, number in document["unfinished"]},
        Work(
            {(str(kind), str(verb)): _histogram(*took) for kind, verb, *took in document["steps"]},
            {(TunnelName(str(name)), str(kind)): _count(number) for name, kind, number in document["repairs"]},
            {(TunnelName(str(name)), str(kind)): _count(number) for name, kind, number in document["failures"]},
        ),
    )


def _histogram(counts: list[Any], sum_s: Any) -> Histogram:
    if len(counts) != len(BOUNDS_S) + 1 or not isinstance(sum_s, int | float) or not 0 <= sum_s < math.inf:
        raise ValueError("no histogram of these bounds")
    return Histogram(tuple(map(_count, counts)), float(sum_s))


def _count(number: Any) -> int:
    if not isinstance(number, int) or number < 0:
        raise ValueError(f"{number!r} is no count")
    return number
