"""How the clock was set in this boot: what the kernel noted by the clock of before, in terms of the clock of now.

WireGuard keeps a handshake as the time that the clock showed. Set the clock a day forward, and a tunnel that works looks as if
nobody had answered for a day; set it back, and a dead one looks alive for as long. Nothing in the kernel says when it was set.
"""

from __future__ import annotations

from reconciler.typed import NamedTuple

STEP_US = 1_000_000  # less is no step: handshakes are told in seconds
SLACK_US = 35_000_000  # a timer's pass may find out so much later


class Setting(NamedTuple):
    """How the clock was set for a while."""

    offset_us: int  # what it showed at the moment of the boot, microseconds since the epoch
    until_us: int  # microseconds since the boot


class Timeline(NamedTuple):
    """All settings of this boot that are known."""

    at_us: int  # now, microseconds since the boot
    offset_us: int
    before: tuple[Setting, ...] = ()  # the last one last

    def translated(self, stamp_us: int) -> int:
        """What the clock of now would have shown. A stamp that fits none of the settings is left as it is.

        Of one that fits several the last is believed: after a step back, what is as old as the step is long looks new.
        """
        if not self.before or self._is_since(self.before[-1].until_us, stamp_us - self.offset_us):
            return stamp_us
        begins = (0, *(one.until_us for one in self.before))
        for one, begun_us in zip(reversed(self.before), reversed(begins[:-1]), strict=True):
            since_boot_us = stamp_us - one.offset_us
            if max(0, begun_us - SLACK_US) <= since_boot_us <= one.until_us + STEP_US:
                return since_boot_us + self.offset_us
        return stamp_us

    def _is_since(self, step_us: int, since_boot_us: int) -> bool:
        return step_us - SLACK_US <= since_boot_us <= self.at_us + STEP_US
