"""The nftables table ``inet tunctl``, whole: what masquerades, clamps and marks packets for all tunnels together.

It is replaced in one transaction, so it is one object. Each rule carries the name of its tunnel in its comment.
"""

from __future__ import annotations

from reconciler.model.names import HOST, IfName, TunnelName
from reconciler.model.prefix import Prefix, parse_prefix
from reconciler.model.resource import Resource
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

TABLE = "tunctl"
COMMENT = "tunctl:"
_SHOWN = 5  # of what it does, in a line of a plan


class NatRule(NamedTuple):
    """One rule, in the words of nft, each of its expressions written in the one way that `observe.nat` writes it too."""

    text: str
    tunnel: TunnelName

    def __str__(self) -> str:
        return f'{self.text} comment "{COMMENT}{self.tunnel}"'


class Chain(NamedTuple):
    """A base chain. Its policy is accept: what we let through, nobody else has to."""

    name: str
    type: str  # filter · nat
    hook: str
    priority: int
    rules: tuple[NatRule, ...]

    def __str__(self) -> str:
        return f"chain {self.name} type {self.type} hook {self.hook} priority {self.priority}: {len(self.rules)} rules"


class Table(NamedTuple):
    """The whole table, wanted or found."""

    chains: tuple[Chain, ...]
    strange: tuple[str, ...] = ()  # found only: what stands in it and is none of ours

    @property
    def kind(self) -> str:
        return "nat"

    @property
    def replace_on(self) -> frozenset[str]:
        return frozenset()

    @property
    def tunnel(self) -> TunnelName | None:
        return HOST

    @property
    def key(self) -> Hashable:
        return TABLE

    @property
    def place(self) -> Hashable:
        return TABLE

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
        return 8

    @property
    def rules(self) -> Iterator[NatRule]:
        return (rule for chain in self.chains for rule in chain.rules)

    @property
    def tunnels(self) -> frozenset[TunnelName]:
        """Those that have rules in it."""
        return frozenset(rule.tunnel for rule in self.rules)

    def rules_of(self, tunnel: TunnelName) -> tuple[NatRule, ...]:
        return tuple(rule for rule in self.rules if rule.tunnel == tunnel)

    def meant(self, found: Table | None) -> set[TunnelName]:
        """The tunnels whose rules in it are others than found; all that have rules in it if only that tells nothing."""
        if found is None:
            return set(self.tunnels)
        every = self.tunnels | found.tunnels
        return {name for name in every if self.rules_of(name) != found.rules_of(name)} or set(every)

    def differs_from(self, found: Resource) -> tuple[str, ...]:
        return () if self == found else ("rules",)

    def __str__(self) -> str:
        said = [f"{name} {let}" for name in sorted(self.tunnels) for let in lets(self, name)]
        said += [f"{len(chain.rules)} rules in {chain.name}" for chain in self.chains if chain.hook in ("prerouting", "output")]
        said += [f"strange: {text}" for text in self.strange]
        more = f"; and {len(said) - _SHOWN} more" if len(said) > _SHOWN else ""
        return f"nat table inet {TABLE} ({'; '.join(said[:_SHOWN])}{more})"


class Let(NamedTuple):
    """What the rules do with one source of a tunnel, for people."""

    source: Prefix
    out: IfName
    masquerade: bool
    forward: bool

    def __str__(self) -> str:
        words = [word for word, does in (("masquerade", self.masquerade), ("forward", self.forward)) if does]
        return f"{self.source} out {self.out}: {', '.join(words)}"


def lets(table: Table, tunnel: TunnelName) -> list[Let]:
    """All of one tunnel."""
    does: dict[tuple[Prefix, IfName], set[str]] = {}
    for rule in table.rules_of(tunnel):
        match rule.text.split(" "):  # in no interface's name is a blank
            case ["ip" | "ip6", "saddr", source, "oifname", out, "masquerade" | "accept" as verb] if out[0] == out[-1] == '"':
                does.setdefault((parse_prefix(source), IfName(out[1:-1])), set()).add(verb)
    return [Let(*sides, "masquerade" in words, "accept" in words) for sides, words in does.items()]


def outs(table: Table) -> dict[tuple[TunnelName, Prefix], tuple[IfName, ...]]:
    """By which devices the rules let a source of a tunnel out."""
    found: dict[tuple[TunnelName, Prefix], tuple[IfName, ...]] = {}
    for tunnel in table.tunnels:
        for source, out, *_ in lets(table, tunnel):
            found[tunnel, source] = (*found.get((tunnel, source), ()), out)
    return found
