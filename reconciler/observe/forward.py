"""Who drops what is forwarded, and the rules of ours that stand in their chains. By raw netlink and, for the legacy
tables, by the kernel's own listing: no program is started by a look."""

from __future__ import annotations

import os

from reconciler.errors import TunctlError
from reconciler.host import xtables
from reconciler.host.machine import Machine
from reconciler.host.nl_codec import as_text, attributes
from reconciler.host.nl_nft import HOOK_FORWARD, HOOK_PREROUTING, BaseChain, RuleBytes, as_number
from reconciler.kinds.forward import Accept
from reconciler.kinds.nat import COMMENT, TABLE
from reconciler.model.facts import Drop
from reconciler.model.found import Unobserved
from reconciler.model.names import HOST, IfName, TunnelName
from reconciler.model.prefix import Prefix
from reconciler.observe.question import Question
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_USERS_CHAIN = "DOCKER-USER"  # Docker looks into it before its own rules, and never writes there
_IIFNAME, _OIFNAME = 6, 7  # NFT_META_*
_ADDRESSES = {12: ("saddr", 4), 16: ("daddr", 4), 8: ("saddr", 16), 24: ("daddr", 16)}  # by offset in ip and ip6: their bytes
_IDLE = frozenset(("counter", "log", "limit", "immediate", "reject", "target"))  # of a rule that takes every packet
_PROGRAMS = {
    ("iptables-nft", "ip"): ("iptables-nft", "iptables"),
    ("iptables-nft", "ip6"): ("ip6tables-nft", "ip6tables"),
    ("iptables-legacy", "ip"): ("iptables-legacy", "iptables"),
    ("iptables-legacy", "ip6"): ("ip6tables-legacy", "ip6tables"),
}


class Seen(NamedTuple):
    """What one look saw."""

    accepts: tuple[Accept, ...] = ()
    drops: tuple[Drop, ...] = ()
    publishes: bool = False  # a chain could send connections on to other addresses
    unobserved: tuple[Unobserved, ...] = ()


def look(machine: Machine, question: Question) -> Seen:
    """Everything of others that forwarded packets pass."""
    try:
        bases = machine.nl_nft.base_chains()
        chains = [*_by_netlink(machine, bases), *_by_xtables()]
    except TunctlError as error:
        concerned = [intent.name for intent in question.intents if any(entry.forward for entry in intent.tunnel.nat)]
        blind = (Unobserved(name, "forward", error.message, privilege=error.exit_code == 77) for name in (HOST, *concerned))
        return Seen(unobserved=tuple(blind))
    return Seen(
        tuple(a for chain in chains for a in chain.accepts),
        tuple(chain.drop for chain in chains if chain.drop),
        any(base.type == "nat" and base.hook == HOOK_PREROUTING for base in bases) or xtables.has_nat(),
    )


class _Chain(NamedTuple):
    accepts: tuple[Accept, ...]
    drop: Drop | None = None


def _by_netlink(machine: Machine, bases: Iterable[BaseChain]) -> Iterator[_Chain]:
    for base in bases:
        if base.hook != HOOK_FORWARD or base.type != "filter" or (base.family, base.table) == ("inet", TABLE):
            continue
        rules = machine.nl_nft.rules(base.family, base.table, base.name)
        what = _refusal(base, rules)
        if (base.table, base.name) != ("filter", "FORWARD") or base.family == "inet":
            drop = Drop("nft", base.family, base.table, base.name, what, True) if what else None
            yield _Chain(_ours(rules, "nft", base.family, base.table, base.name), drop)
            continue
        yield _Chain(_ours(rules, "iptables-nft", base.family, base.table, base.name))
        users = machine.nl_nft.rules(base.family, base.table, _USERS_CHAIN)
        chain = _USERS_CHAIN if any(_jumps_to_users(rule) for rule in rules) else base.name
        yield _Chain(
            _ours(users, "iptables-nft", base.family, base.table, _USERS_CHAIN),
            _xtables_drop("iptables-nft", base.family, chain, what),
        )


def _refusal(base: BaseChain, rules: Sequence[RuleBytes]) -> str:
    """What stops a packet that no rule accepts, for people; "" when nothing does."""
    place = f"{base.family} {base.table} {base.name}"
    if base.drops:
        return f"{place} policy drop"
    last = rules[-1].expressions if rules else ()
    if last and all(name in _IDLE for name, _ in last) and any(_refuses(name, data) for name, data in last):
        return f"{place} last rule"
    return ""


def _jumps_to_users(rule: RuleBytes) -> bool:
    """NFTA_VERDICT_CHAIN: the chain may be there and nobody look into it."""
    verdicts = (attributes(data.get(2, b"")).get(2, b"") for name, data in rule.expressions if name == "immediate")
    return any(as_text(attributes(verdict).get(2)) == _USERS_CHAIN for verdict in verdicts)


def _refuses(name: str, data: dict[int, bytes]) -> bool:
    if name == "target":
        return data.get(1, b"").startswith(b"REJECT")
    return name == "reject" or (name == "immediate" and _verdict(data) == 0)


def _verdict(data: dict[int, bytes]) -> int | None:
    """NFTA_IMMEDIATE_DATA → NFTA_DATA_VERDICT → NFTA_VERDICT_CODE: 0 drops, 1 accepts."""
    verdict = attributes(data.get(2, b"")).get(2)
    return None if verdict is None else as_number(attributes(verdict).get(1))


def _ours(rules: Sequence[RuleBytes], keeper: str, family: str, table: str, chain: str) -> tuple[Accept, ...]:
    found = (accept_of(rule, keeper, family, table, chain) for rule in rules)
    return tuple(accept for accept in found if accept is not None)


def accept_of(rule: RuleBytes, keeper: str, family: str, table: str, chain: str) -> Accept | None:
    """A rule with our comment as an object; None when it is not one of ours."""
    comment = _comment(rule)
    if not comment.startswith(COMMENT):
        return None
    seen = _compared(rule)
    tunnel = TunnelName(comment.removeprefix(COMMENT))
    everything = Prefix(bytes(4 if family == "ip" else 16), 0)  # iptables writes no such match
    for answers, address, dev in ((False, "saddr", "oifname"), (True, "daddr", "iifname")):
        if isinstance(out := seen.get(dev), str):
            source = seen.get(address, everything)
            if isinstance(source, Prefix):
                return Accept(tunnel, keeper, family, table, chain, source, IfName(out), answers)
    return None


def _compared(rule: RuleBytes) -> dict[str, Prefix | str]:
    """What a rule compares: addresses and interface names."""
    seen: dict[str, Prefix | str] = {}
    word, size, length = "", 0, 0
    for name, data in rule.expressions:
        if name == "meta":
            word, size = {_IIFNAME: "iifname", _OIFNAME: "oifname"}.get(as_number(data.get(2)), ""), 0
        elif name == "payload":
            word, size = _ADDRESSES.get(as_number(data.get(3)), ("", 0)) if as_number(data.get(2)) == 1 else ("", 0)
            length = as_number(data.get(4)) * 8  # of a prefix that ends with a byte only its bytes are compared
        elif name == "bitwise" and size:
            length = int.from_bytes(attributes(data.get(4, b"")).get(1, b""), "big").bit_count()
        elif name == "cmp" and word:
            value = attributes(data.get(3, b"")).get(1, b"")
            seen[word] = Prefix(value.ljust(size, b"\0"), length) if size else as_text(value)
            word = ""
    return seen


def _comment(rule: RuleBytes) -> str:
    """Of nft in the user data (type, length, text), of iptables a match of that name."""
    for name, data in rule.expressions:
        if name == "match" and data.get(1, b"").startswith(b"comment\0"):
            return data.get(3, b"").partition(b"\0")[0].decode(errors="backslashreplace")
    if len(rule.user) > 2 and rule.user[0] == 0:
        return rule.user[2 : 2 + rule.user[1]].partition(b"\0")[0].decode(errors="backslashreplace")
    return ""


def _by_xtables() -> Iterator[_Chain]:
    for family in ("ip", "ip6"):
        table = xtables.read(family)
        if table is None:
            continue
        rules = [entry for entry in table.entries if entry.chain in ("FORWARD", _USERS_CHAIN)]
        chain = _USERS_CHAIN if _USERS_CHAIN in table.jumps else "FORWARD"
        accepts = tuple(accept for entry in rules if (accept := _legacy(entry, family)) is not None)
        forward = [entry for entry in rules if entry.chain == "FORWARD"]
        what = f"{family} filter FORWARD policy drop" if table.drops else ""
        if not what and forward and not forward[-1].matches and _takes_all(forward[-1]):
            what = f"{family} filter FORWARD last rule"
        yield _Chain(accepts, _xtables_drop("iptables-legacy", family, chain, what))


def _takes_all(entry: xtables.Entry) -> bool:
    refuses = entry.target == "REJECT" or (not entry.target and entry.verdict == -1)
    return refuses and not (any(entry.source_mask) or any(entry.destination_mask) or entry.incoming or entry.outgoing)


def _legacy(entry: xtables.Entry, family: str) -> Accept | None:
    comment = next((data.partition(b"\0")[0].decode(errors="replace") for name, data in entry.matches if name == "comment"), "")
    if not comment.startswith(COMMENT):
        return None
    tunnel = TunnelName(comment.removeprefix(COMMENT))
    answers = any(name == "conntrack" for name, _ in entry.matches)
    packed, mask = (entry.destination, entry.destination_mask) if answers else (entry.source, entry.source_mask)
    out = IfName(entry.incoming if answers else entry.outgoing)
    source = Prefix(packed, int.from_bytes(mask, "big").bit_count())
    return Accept(tunnel, "iptables-legacy", family, "filter", entry.chain, source, out, answers)


def _xtables_drop(keeper: str, family: str, chain: str, what: str) -> Drop | None:
    return Drop(keeper, family, "filter", chain, what, program(keeper, family) is not None) if what else None


def program(keeper: str, family: str) -> str | None:
    """The front end that writes this table, if it is installed."""
    places = os.environ.get("PATH", os.defpath).split(os.pathsep)
    for name in _PROGRAMS[keeper, family]:
        for place in places:
            path = os.path.join(place, name)
            if os.access(path, os.X_OK):
                return path
    return None
