"""What commands change about an intent. Pure; the same intent comes back when there is nothing to change."""

from __future__ import annotations

from reconciler.model.intent import Intent, Progress, Vouched
from reconciler.model.names import TunnelName
from reconciler.store.stored import Actor
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Moves = Mapping[TunnelName, tuple[Progress, str]]  # how tunnels get on, and why

_TEXT_CHARS = 4000  # of a cause or an outcome: the words of a program can be a book


class Who(NamedTuple):
    """Whose doing it is, and why."""

    actor: Actor
    cause: str


class Change(NamedTuple):
    """A change to some intents, and its word in the history."""

    names: frozenset[TunnelName]
    make: Callable[[Intent], Intent]
    event: str

    def of(self, intent: Intent) -> Intent:
        """The intent as it is to be."""
        return self.make(intent) if intent.name in self.names else intent


def held(intent: Intent) -> Intent:
    """`down`. A start by hand is over with it."""
    return intent._replace(held=True, started_boot=None)


def withdrawn(intent: Intent) -> Intent:
    """It goes from the machine, and then from the store. A hold has nothing to hold any more."""
    return intent._replace(withdrawn=True, held=False, started_boot=None)


def started(boot_id: str, now_us: int) -> Callable[[Intent], Intent]:
    """`up`."""

    def change(intent: Intent) -> Intent:
        asked = asked_again(intent, now_us)
        return asked._replace(held=False, started_boot=None if intent.tunnel.autostart else boot_id)

    return change


def asked_again(intent: Intent, now_us: int) -> Intent:
    """A user wants it: what gave up or waits starts anew, its attempts are counted from none."""
    if intent.progress.state not in ("waiting", "failed"):
        return intent
    again = intent.progress._replace(state="pending", since_us=now_us, attempt=0, next_retry_us=None, error="")
    return intent._replace(progress=again)


def vouched(found: Mapping[TunnelName, tuple[Vouched, ...]]) -> Callable[[Intent], Intent]:
    """What manifests vouch for."""
    return lambda intent: intent._replace(vouched=found[intent.name])


def plain(text: str) -> str:
    """Bounded, and UTF-8 whatever it was."""
    if text.isascii() and len(text) <= _TEXT_CHARS:
        return text
    return text[:_TEXT_CHARS].encode("utf-8", "backslashreplace").decode()
