"""Policy rules, both families, always with an explicit priority."""

from __future__ import annotations

from itertools import product

from reconciler.model.intent import Intent
from reconciler.model.marks import Numbers
from reconciler.model.names import IfName, TunnelName
from reconciler.model.prefix import AF_INET, AF_INET6, Prefix
from reconciler.model.resource import Resource
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

MAIN = 254  # RT_TABLE_MAIN
FULL_TABLES = range(500, 900)  # own tables of full tunnels
UNMARKED = (0, 0xFFFFFFFF)  # a selector: packets without any mark
USER_RULES = range(100, 500)  # offsets from priority_base: users' rules, own tables of tunnels that are not full


class Rule(NamedTuple):
    """One rule. All of it is its identity: the kernel changes none in place."""

    tunnel: TunnelName | None
    family: int  # AF_INET · AF_INET6
    priority: int
    table: int
    from_: Prefix | None = None
    to: Prefix | None = None
    iif: str | None = None
    fwmark: tuple[int, int] | None = None  # value, mask
    uid_range: tuple[int, int] | None = None
    action: str = "lookup"  # lookup · unreachable, then `table` is 0
    suppress_group: int | None = None  # routes by devices of this group do not count
    suppress_length: int | None = None  # routes with this prefix length or a shorter one do not count

    @property
    def kind(self) -> str:
        return "rule"

    @property
    def replace_on(self) -> frozenset[str]:
        return frozenset()

    @property
    def is_judged(self) -> bool:
        """It comes behind the packet filter, which judges what goes by it (see layout.begun)."""
        return self.fwmark == UNMARKED

    @property
    def holds_back(self) -> bool:
        """Packets that the packet filter asks about find no way, whatever their senders find (see layout.begun)."""
        return self.action == "unreachable" and self.fwmark is not None and self.fwmark[1] == UNMARKED[1]

    @property
    def key(self) -> Hashable:
        return self[1:]

    @property
    def place(self) -> Hashable:
        return (self.tunnel, *self[1:])  # somebody else's rule with the same words may stand beside it

    @property
    def dev(self) -> IfName | None:
        return None

    @property
    def hangs_on(self) -> tuple[str, ...]:
        return ()

    @property
    def yields(self) -> bool:
        return False

    @property
    def order(self) -> int:
        if self.holds_back:
            return -1  # before any way comes back
        return 9 if self.is_judged else 7

    def differs_from(self, found: Resource) -> tuple[str, ...]:
        return ()

    def __str__(self) -> str:
        words = ["rule", "-6" if self.family == AF_INET6 else "-4", f"priority {self.priority}", f"from {self.from_ or 'all'}"]
        if self.to:
            words.append(f"to {self.to}")
        if self.iif:
            words.append(f"iif {self.iif}")
        if self.fwmark:
            words.append(f"fwmark {self.fwmark[0]:#x}/{self.fwmark[1]:#x}")
        if self.uid_range:
            words.append(f"uidrange {self.uid_range[0]}-{self.uid_range[1]}")
        words.append(f"lookup {'main' if self.table == MAIN else self.table}" if self.action == "lookup" else self.action)
        if self.suppress_group is not None:
            words.append(f"suppress_ifgroup {self.suppress_group}")
        if self.suppress_length is not None:
            words.append(f"suppress_prefixlength {self.suppress_length}")
        return " ".join(words)


def user_priority(slot: int, numbers: Numbers) -> int:
    """Of all rules of one tunnel: it must not depend on what else is declared."""
    return numbers.priority_base + USER_RULES[(slot - 1) % len(USER_RULES)]


def wanted(intent: Intent, numbers: Numbers) -> Iterator[Rule]:
    """The rules of a tunnel: each `from` with each `to` of one family; without either, one in both families."""
    priority = user_priority(intent.slot, numbers)
    own = intent.tunnel.table or numbers.table(intent.slot)
    for entry in intent.tunnel.rules:
        for from_, to in product(entry.from_ or (None,), entry.to or (None,)):
            families = {prefix.family for prefix in (from_, to) if prefix} or {AF_INET, AF_INET6}
            if len(families) == 1 or not (from_ or to):
                for family in sorted(families):
                    selectors = (_selector(from_), _selector(to), entry.iif, entry.fwmark, entry.uid_range)
                    yield Rule(intent.name, family, priority, entry.lookup or own, *selectors)


def _selector(prefix: Prefix | None) -> Prefix | None:
    """A prefix of length 0 selects nothing: the kernel keeps it as "from all" of its family."""
    return prefix if prefix and prefix.length else None
