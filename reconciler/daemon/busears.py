"""What D-Bus tells: who keeps names comes and goes, the machine wakes up, and somebody else tells systemd-resolved
what to do with a link. Listened to only while a tunnel has `dns`."""

from __future__ import annotations

import selectors
from collections.abc import Callable

from reconciler.daemon.culprits import Culprits
from reconciler.host import bus
from reconciler.host.busline import BusLine, Said
from reconciler.loop.watch import Due

_NAMES = ("org.freedesktop.resolve1", "org.freedesktop.NetworkManager")
_SETTERS = ("SetLinkDNS", "SetLinkDNSEx", "SetLinkDomains", "SetLinkDefaultRoute", "RevertLink")  # of the manager
_LINK_SETTERS = ("SetDNS", "SetDNSEx", "SetDomains", "SetDefaultRoute", "Revert")  # of a link's own object

Heard = Callable[[Due], None]


class BusEars:
    """Two lines: a monitor may not ask, so the other one asks who that was."""

    def __init__(self, selector: selectors.BaseSelector, culprits: Culprits, is_ours: Callable[[int], bool]) -> None:
        self._selector, self._culprits, self._is_ours = selector, culprits, is_ours
        self._heard: Heard = lambda _due: None
        self._names: BusLine | None = None
        self._monitor: BusLine | None = None
        self._asked: set[int] = set()  # serials of questions who somebody is
        self._opening: set[int] = set()  # serials of what is asked for to hear at all
        self._becoming = 0  # the same on the monitor's line

    def listen(self, heard: Heard, *, wanted: bool) -> None:
        """Opens what is not open, where there is a bus; closes it when nobody wants it any more."""
        self._heard = heard
        if not wanted:
            self.close()
        elif self._names is None and bus.is_there():
            try:
                self._open()
            except OSError:  # the next pass tries again
                self.close()

    def close(self) -> None:
        for line in (self._names, self._monitor):
            if line is not None:
                if line in [key.fileobj for key in self._selector.get_map().values()]:
                    self._selector.unregister(line)
                line.close()
        self._names = self._monitor = None
        self._asked.clear()

    def _open(self) -> None:
        self._names = BusLine()
        rules = [f"type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='{name}'" for name in _NAMES]
        rules.append("type='signal',interface='org.freedesktop.login1.Manager',member='PrepareForSleep'")
        self._opening = {self._names.ask_bus("AddMatch", "s", (rule,)) for rule in rules}
        self._selector.register(self._names, selectors.EVENT_READ, self._told)
        self._monitor = BusLine()
        calls = [f"type='method_call',interface='org.freedesktop.resolve1.Manager',member='{name}'" for name in _SETTERS]
        calls += [f"type='method_call',interface='org.freedesktop.resolve1.Link',member='{name}'" for name in _LINK_SETTERS]
        self._becoming = self._monitor.ask_bus("BecomeMonitor", "asu", (calls, 0), "org.freedesktop.DBus.Monitoring")
        self._selector.register(self._monitor, selectors.EVENT_READ, self._overheard)

    def _told(self, line: BusLine) -> None:
        try:
            for said in line.read():
                self._hear(said)
        except OSError:  # what it kept is gone, too, or about to be
            self.close()
            self._heard(Due.NOW)

    def _hear(self, said: Said) -> None:
        if said.reply_to in self._opening:
            self._opening.discard(said.reply_to)
            if not self._opening:  # what happened between the last look and now was told to nobody
                self._heard(Due.NOW)
        elif said.member == "NameOwnerChanged" and any(said.body[2:3]):
            self._ask_who(said.body[2])  # it has come: whoever that is
        elif said.kind == "signal" and said.member in ("NameOwnerChanged", "PrepareForSleep"):
            self._heard(Due.NOW)
        elif said.reply_to in self._asked:
            self._asked.discard(said.reply_to)
            pid = said.body[0] if said.kind == "method_return" else 0
            if not self._is_ours(pid):
                self._culprits.saw("resolver", pid)
                self._heard(Due.NOW)

    def _overheard(self, line: BusLine) -> None:
        """Who becomes a monitor loses its own name on the bus: that is told as well, and no call."""
        try:
            for said in line.read():
                if self._becoming and said.reply_to == self._becoming:
                    self._becoming = 0
                    self._heard(Due.NOW)  # as above
                elif said.kind == "method_call" and said.member in (*_SETTERS, *_LINK_SETTERS):
                    self._ask_who(said.sender)
        except OSError:  # refused: then the next look finds out
            self._selector.unregister(line)
            line.close()
            self._monitor = None

    def _ask_who(self, sender: str) -> None:
        if self._names is None or not sender:
            self._heard(Due.NOW)
            return
        try:
            self._asked.add(self._names.ask_bus("GetConnectionUnixProcessID", "s", (sender,)))
        except OSError:
            self._heard(Due.NOW)
