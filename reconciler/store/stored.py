"""What the store holds, as values. Standard library only."""

from __future__ import annotations

from reconciler.model.intent import Intent
from reconciler.model.ledger import Entry
from reconciler.model.names import TunnelName
from reconciler.model.tunnel import Host, Input
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA = "0002"  # the revision of migrations/versions that this version reads and writes; they sort as text


class Source(NamedTuple):
    """Where intents come from: one desired file, or directory."""

    name: str
    path: str  # "-" for stdin
    host: Host  # what its [host] declares; None: nothing
    generation: int  # in which it last changed
    applied_us: int  # when that was
    tunnels: int = 0  # how many it declared
    inputs: tuple[Input, ...] = ()  # what its meaning was read from
    warnings: tuple[str, ...] = ()  # that were said of it
    forgotten: bool = False  # `forget` took all it had; gone when its last tunnel is. Its [host] still holds until then


class Stored(NamedTuple):
    """All intents of one store at one moment."""

    exists: bool  # False: nothing was ever stored here
    store_id: str | None = None  # four hex digits
    sources: tuple[Source, ...] = ()  # by name
    intents: tuple[Intent, ...] = ()  # by slot; withdrawn ones too
    ledger: tuple[Entry, ...] = ()  # by key


class Line(NamedTuple):
    """What happened to a tunnel while its progress stayed what it was: a line of the history that is written later."""

    at_us: int
    tunnel: TunnelName
    event: str
    cause: str


class Event(NamedTuple):
    """One line of the history, oldest first."""

    at_us: int
    tunnel: TunnelName | None  # None: of a whole source
    source: str | None
    generation: int | None
    uid: int | None  # None: tunctl by itself
    actor: str
    # saved · created · changed · withdrawn · held · released · moved (its endpoint) · contested · unhealthy · healthy ·
    # forgotten · deleted, a state
    event: str
    cause: str
    outcome: str  # "" while it is not known


class Actor(NamedTuple):
    """Who asked."""

    uid: int | None
    name: str


TUNCTL = Actor(None, "tunctl")  # nobody asked


class Terms(NamedTuple):
    """How a desired file is saved."""

    take_over: frozenset[TunnelName] = frozenset()
    keep_holds: bool = False
    boot_id: str = ""
    generation: int = 1  # the number of this save, if it changes anything
    now_us: int = 0


class Ending(NamedTuple):
    """How the application of a generation went."""

    generation: int
    outcome: str  # in a word
    tunnels: Mapping[TunnelName, str] = {}  # of single ones, where theirs differs


class Saved(NamedTuple):
    """What a save changed in the store; names in the order of the file."""

    generation: int | None = None  # None: no intent differs from what was stored
    created: tuple[TunnelName, ...] = ()
    changed: tuple[TunnelName, ...] = ()  # taken over and declared again ones too
    unchanged: tuple[TunnelName, ...] = ()
    withdrawn: tuple[TunnelName, ...] = ()
    released: tuple[TunnelName, ...] = ()  # whose hold this ended
    still_held: tuple[TunnelName, ...] = ()  # declared, enabled, and left down by `keep_holds`
