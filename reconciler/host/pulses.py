"""Pulses as files of the run directory, one a tunnel, for all to see: whoever makes a round (the daemon, a timer's pass)
writes, and `status` reads the same. Hints like all there: what cannot be read as a pulse is none."""

from __future__ import annotations

import os
import time

from reconciler.host import files
from reconciler.host.jsontext import dumps, loads
from reconciler.lean import suppress
from reconciler.model.names import TunnelName
from reconciler.model.prefix import ntop, pton
from reconciler.model.pulse import Ping, Pulse, Talk
from reconciler.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

FILE = "health.json"
_VERSION = 1
_MOST_BYTES = 1 << 20
_NUMBERS = ("ifindex", "boot_us", "generation", "begun_us", "at_us", "rx_packets", "bad", "good", "restarts")


def read(run_dir: str | Path, name: TunnelName) -> Pulse | None:
    """The last round that was made; None when there was none, or it cannot be understood."""
    try:
        document = loads(files.read(_path(run_dir, name), _MOST_BYTES).decode())
        return _decoded(document) if document.pop("version") == _VERSION else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def write(run_dir: str | Path, name: TunnelName, pulse: Pulse) -> None:
    """Replaces what was there. OSError when it cannot be written: a tunnel that went down meanwhile has no directory."""
    document = pulse._asdict() | {
        "version": _VERSION,
        "pings": [{**ping._asdict(), "target": ntop(ping.target)} for ping in pulse.pings],
        "talks": [talk._asdict() for talk in pulse.talks],
    }
    files.replace(_path(run_dir, name), dumps(document).encode() + b"\n", 0o644)


def drop(run_dir: str | Path, name: TunnelName) -> None:
    """Nothing that was before counts any more."""
    with suppress(OSError):
        os.unlink(_path(run_dir, name))


def boot_us() -> int:
    """Since the machine started, its sleep included. Times of the clock are compared with it: that may have been set."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000


def _path(run_dir: str | Path, name: TunnelName) -> str:
    return os.path.join(run_dir, "tunnels", name, FILE)


def _decoded(document: dict[str, Any]) -> Pulse:
    pings = tuple(Ping(**{**one, "target": pton(one["target"])}) for one in document.pop("pings"))
    talks = tuple(Talk(**one) for one in document.pop("talks"))
    condemned = document.pop("condemned")
    pulse = Pulse(**document, pings=pings, talks=talks, condemned=tuple(condemned) if condemned else None)
    numbers = [getattr(pulse, field) for field in _NUMBERS]
    numbers += [one for one in (pulse.dead_since_us, pulse.restarted_us) if one is not None]
    numbers += [one for ping in pings for one in (ping.missed, ping.answered_us or 0)]
    numbers += [one for talk in talks for one in (talk.rx_bytes, talk.tx_bytes, talk.silent_since_us or 0)]
    numbers += [one for talk in talks for one in (talk.handshake_s or 0, talk.handshake_us or 0)]
    numbers += pulse.condemned or ()
    if not all(isinstance(number, int) for number in numbers) or not isinstance(pulse.hears, bool):
        raise ValueError("no pulse")
    return pulse
