"""What the rounds of a health check have found of one tunnel so far: observations, each with its time. Losing them costs
nothing but these rounds."""

from __future__ import annotations

from reconciler.model.names import TunnelName
from reconciler.model.prefix import ntop
from reconciler.model.tunnel import Restart, Tunnel
from reconciler.typed import NamedTuple

SET_US = 1_000_000  # by more than this the clock was set, not only slewed
SILENT_S = 15  # KEEPALIVE_TIMEOUT + REKEY_TIMEOUT: who was sent data answers within that, if only with a keepalive


class Ping(NamedTuple):
    """Who is asked through the tunnel."""

    target: bytes  # packed
    answered_us: int | None = None  # when he last did, in this boot
    missed: int = 0  # rounds in a row without an answer
    problem: str = ""  # why he could not even be asked in the last round

    @property
    def answers(self) -> bool:
        return self.answered_us is not None and not self.missed and not self.problem


class Talk(NamedTuple):
    """A WireGuard peer, as it was counted in the last round."""

    public_key: str
    rx_bytes: int = 0
    tx_bytes: int = 0
    silent_since_us: int | None = None  # since when data is sent to it and nothing at all comes back
    handshake_s: int | None = None  # the last one, as the engine says it: by the clock as it went then
    handshake_us: int | None = None  # the same, by the clock as it goes now


class Pulse(NamedTuple):
    """All rounds since the interface is there. Times: microseconds since the epoch, UTC."""

    id: str  # of the tunnel's mark
    boot_id: str
    ifindex: int
    generation: int
    begun_us: int
    at_us: int  # of the last round
    pings: tuple[Ping, ...] = ()
    talks: tuple[Talk, ...] = ()
    rx_packets: int = 0
    hears: bool = False  # data comes in by itself, whoever does not answer
    bad: int = 0  # rounds in a row by which it is dead
    good: int = 0  # rounds in a row by which it works
    dead_since_us: int | None = None
    restarts: int = 0  # of its program, in a row
    restarted_us: int | None = None
    condemned: tuple[int, int] | None = None  # pid and start ticks of the program that is not to go on
    boot_us: int = 0  # of the last round, since the machine started (CLOCK_BOOTTIME): nobody sets this clock

    def by_clock(self, now_us: int, boot_us: int) -> Pulse:
        """The same rounds by the clock as it goes now. It may have been set since: what was ten seconds ago still is."""
        set_us = (now_us - boot_us) - (self.at_us - self.boot_us)
        if not self.boot_us or abs(set_us) < SET_US:
            return self

        def moved(us: int | None) -> int | None:
            return None if us is None else us + set_us

        talks = (t._replace(silent_since_us=moved(t.silent_since_us), handshake_us=moved(t.handshake_us)) for t in self.talks)
        return self._replace(
            begun_us=self.begun_us + set_us, at_us=self.at_us + set_us, talks=tuple(talks),
            pings=tuple(ping._replace(answered_us=moved(ping.answered_us)) for ping in self.pings),
            dead_since_us=moved(self.dead_since_us), restarted_us=moved(self.restarted_us),
        )  # fmt: skip

    @property
    def is_dead(self) -> bool:
        return self.dead_since_us is not None

    @property
    def works(self) -> bool:
        """It has been seen to, and nothing speaks against it since."""
        return not self.is_dead and self.good > 0

    def next_restart_us(self, restart: Restart) -> int:
        """Not before: the first one at once."""
        if self.restarted_us is None or not self.restarts:
            return 0
        return self.restarted_us + round(restart.delay_s(self.restarts) * 1e6)

    def gave_up(self, tunnel: Tunnel) -> bool:
        """Its program was started anew as often as `[restart]` allows, and it is dead still."""
        settings, attempts = tunnel.health, tunnel.restart.attempts
        if settings is None or settings.action != "restart" or self.condemned is not None:
            return False
        return self.is_dead and self.bad >= settings.failures and 0 < attempts <= self.restarts

    def summary(self, now_us: int) -> str:
        """One line for people: how it is, who answers, and when that was seen."""
        state = "unhealthy" if self.is_dead else "works" if self.works else "nothing known yet"
        answers = [f"{ntop(ping.target)} answered {ago(ping.answered_us or 0, now_us)}" for ping in self.pings if ping.answers]
        return ", ".join((state, *answers, f"looked at {ago(self.at_us, now_us)}"))

    def reasons(self, tunnel: Tunnel, now_us: int, *, blocks: bool) -> list[str]:
        """What is to be said of it. `blocks`: what goes into it while it is dead is unreachable."""
        evidence = self.evidence(tunnel, now_us)
        if self.dead_since_us is None:
            return evidence
        outcome = "what goes into it is unreachable" if blocks else "what went into it goes past it"
        since_s = max(0, now_us - self.dead_since_us) // 1_000_000
        reasons = [f"unhealthy for {since_s} s: {outcome} until it works again (on_failure)", *evidence]
        if self.restarts and self.restarted_us is not None:
            reasons.append(f"its program was restarted {self.restarts} times, the last time {ago(self.restarted_us, now_us)}")
        if self.gave_up(tunnel):
            reasons.append(f"gave up restarting it (attempts = {tunnel.restart.attempts})")
        return reasons

    def evidence(self, tunnel: Tunnel, now_us: int) -> list[str]:
        """What speaks against it, after as many rounds as `failures` says."""
        return [*self._unanswered(tunnel, now_us), *self._silent(tunnel, now_us)]

    def _unanswered(self, tunnel: Tunnel, now_us: int) -> list[str]:
        failures = tunnel.health.failures if tunnel.health else 1
        if any(not ping.problem and ping.missed < failures for ping in self.pings):
            return []  # one answer is enough
        though = ", though data comes in" if self.hears else ""
        observed = f"{though} (observed {ago(self.at_us, now_us)})"
        reasons = []
        for ping in self.pings:
            if ping.problem:
                reasons.append(f"ping {ntop(ping.target)} cannot be sent through it: {ping.problem}{observed}")
            elif ping.missed >= failures and ping.answered_us is None:
                reasons.append(f"ping {ntop(ping.target)} was never answered, {ping.missed} times in a row{observed}")
            elif ping.missed >= failures:
                reasons.append(f"ping {ntop(ping.target)}: last answer {ago(ping.answered_us or 0, now_us)}{observed}")
        return reasons

    def _silent(self, tunnel: Tunnel, now_us: int) -> list[str]:
        names = {peer.public_key: peer.name for peer in tunnel.wireguard.peers} if tunnel.wireguard else {}
        return [
            f"peer {names.get(talk.public_key) or talk.public_key}: data is sent and nothing comes back"
            f" for {(now_us - talk.silent_since_us) // 1_000_000} s (observed {ago(self.at_us, now_us)})"
            for talk in self.talks
            if talk.silent_since_us is not None and is_silent(talk, self.at_us)
        ]


class Vital(NamedTuple):
    """What is known of a tunnel that asks for health checks."""

    name: TunnelName
    pulse: Pulse | None = None
    blind: str = ""  # why it does not say how the tunnel is now


def is_silent(talk: Talk, at_us: int) -> bool:
    """Too long for a peer that is there."""
    return talk.silent_since_us is not None and at_us - talk.silent_since_us >= SILENT_S * 1_000_000


def ago(us: int, now_us: int) -> str:
    """``12 s ago``; a clock that went back makes it 0."""
    return f"{max(0, now_us - us) // 1_000_000} s ago"
