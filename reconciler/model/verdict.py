"""What can be said of a tunnel, and the exit code of each word (PRODUCT section 4)."""

from __future__ import annotations

from reconciler.typed import Enum, NamedTuple


class Verdict(Enum):
    """The value is what is printed; `exit_code` orders them."""

    CONNECTED = "connected"
    NOT_CONNECTED = "not-connected"
    STALE = "stale"
    DEGRADED = "degraded"
    FAILED = "failed"
    UNKNOWN = "unknown"

    @property
    def exit_code(self) -> int:
        return list(Verdict).index(self)


class Judgement(NamedTuple):
    """A verdict and what it rests on."""

    verdict: Verdict
    reasons: tuple[str, ...] = ()
    unobserved: tuple[str, ...] = ()  # what only a privileged user could have seen
    counts: bool = True  # for the exit code of a status without names
