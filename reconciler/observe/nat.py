"""The table ``inet tunctl`` as it is: nft's JSON put into the words that `layout.filter` uses.

What comes in other words, or is no rule, is `strange`: then the table is not as wanted, and is replaced as a whole.
"""

from __future__ import annotations

from reconciler.errors import TunctlError
from reconciler.host import nft
from reconciler.host.machine import Machine
from reconciler.kinds.nat import COMMENT, TABLE, Chain, NatRule, Table
from reconciler.lean import lru_cache
from reconciler.model.found import Unobserved
from reconciler.model.names import HOST, TunnelName
from reconciler.observe.question import Question
from reconciler.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def look(machine: Machine, question: Question) -> tuple[list[Table], list[Unobserved]]:
    """The table, if it is there. Where that cannot be seen, it is not seen for the host and for each tunnel that needs it."""
    try:
        if not machine.nl_nft.has_table(TABLE):
            return [], []
        return [_table(machine)], []
    except TunctlError as error:
        concerned = [HOST, *(intent.name for intent in question.intents if intent.tunnel.nat)]
        return [], [Unobserved(name, "nat", error.message, privilege=error.exit_code == 77) for name in concerned]


@lru_cache(maxsize=2)  # as a rule it says what it said before
def listed(listing: str) -> Table:
    """What nft lists → the table. StepFailed."""
    return decoded(nft.objects(listing))


_last: tuple[tuple[bytes, int] | None, Table] | None = None


def _table(machine: Machine) -> Table:
    """As the kernel's generation says that it still is, or read anew. A generation is asked for first: what changes while
    the table is read is seen again."""
    global _last  # noqa: PLW0603 - what followed from a generation follows again
    generation = machine.nl_nft.generation()
    if _last is None or generation is None or _last[0] != generation:
        _last = generation, listed(machine.nft.listing(f"table inet {TABLE}"))
    return _last[1]


def decoded(objects: list[dict[str, Any]]) -> Table:
    """Objects of nft's JSON → the table. Handles and counters mean nothing, comments of tables and chains get lost in it."""
    chains: dict[str, tuple[dict[str, Any], list[NatRule]]] = {}
    strange: list[str] = []
    for one in objects:
        ((kind, body),) = one.items()
        if kind == "chain":
            chains[body["name"]] = (body, [])
        elif kind == "rule" and _is_ours(body) and body.get("chain") in chains:
            tunnel = TunnelName(body["comment"].removeprefix(COMMENT))
            chains[body["chain"]][1].append(NatRule(" ".join(map(_words, body["expr"])), tunnel))
        elif kind != "table":
            strange.append(_json(_without_handles(body)))
    found = []
    for name, (body, rules) in chains.items():
        if body.get("policy") == "accept":
            found.append(Chain(name, body["type"], body["hook"], body["prio"], tuple(rules)))
        else:
            strange.append(_json(_without_handles(body)))
    return Table(tuple(found), tuple(strange))


def _is_ours(body: Mapping[str, Any]) -> bool:
    return str(body.get("comment", "")).startswith(COMMENT)


def _without_handles(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name != "handle"}


def _json(value: Mapping[str, Any]) -> str:
    import json  # only for who has such a table: `status` has no use for it otherwise

    return json.dumps(value, sort_keys=True)


def _words(expression: Mapping[str, Any]) -> str:
    """One statement. Whatever is not one of ours stays JSON, which equals no rule of ours."""
    ((kind, body),) = expression.items()
    if kind in ("masquerade", "accept") and body is None:
        return kind
    try:
        if kind == "match":
            return _match(body)
        if kind == "mangle":
            return f"{_left(body['key'])} set {_value(body['value'])}"
        if kind == "reject":
            return f"reject with {body['type']}" + (f" type {body['expr']}" if "expr" in body else "")
    except (KeyError, TypeError, ValueError):
        pass
    return _json(expression)


def _match(body: Mapping[str, Any]) -> str:
    """`in` and `==` say the same of a flag; a set in braces, the states of a connection after one another."""
    operator, left, right = body["op"], _left(body["left"]), body["right"]
    quoted = left.endswith("ifname")
    if isinstance(right, dict) and "set" in right and (quoted or left.startswith("fib")):
        named = sorted(map(_quote, right["set"]) if quoted else right["set"])
        return f"{left} {'!= ' if operator == '!=' else ''}{{ {', '.join(named)} }}"
    if isinstance(right, dict) and "prefix" in right:
        text = f"{right['prefix']['addr']}/{right['prefix']['len']}"
    elif isinstance(right, list) or (isinstance(right, dict) and "set" in right):
        text = ",".join(sorted(right["set"] if isinstance(right, dict) else right))
    elif isinstance(right, int):
        text = f"{right:#x}"
    else:
        text = _quote(right) if quoted else str(right)
    if operator == "!=":
        return f"{left} != {text}"
    return f"{left} == {text}" if isinstance(right, int) else f"{left} {text}"


def _quote(name: Any) -> str:
    return f'"{name}"'


def _left(body: Mapping[str, Any]) -> str:
    """What is compared or set."""
    ((kind, value),) = body.items()
    return _LEFTS[kind](value)


def _masked(value: Any) -> str:
    left, mask = value
    return f"{_left(left)} & {mask:#x}"


_LEFTS: Mapping[str, Callable[[Any], str]] = {
    "payload": lambda value: f"{value['protocol']} {value['field']}",
    "meta": lambda value: f"meta {value['key']}" if value["key"] in ("mark", "nfproto") else str(value["key"]),
    "ct": lambda value: f"ct {value['key']}",
    "tcp option": lambda value: f"tcp option {value['name']} {value['field']}",
    "rt": lambda value: f"rt {value['key']}",
    "fib": lambda value: f"fib {' . '.join(value['flags'])} {value['result']}",
    "&": _masked,
}


def _value(value: Any) -> str:
    """What something is set to. Of "a & b | c" the bits of c may stand in b too: some versions put them there."""
    if isinstance(value, int):
        return f"{value:#x}"
    if "|" not in value:
        return _left(value)
    masked, bits = value["|"]
    left, mask = masked["&"]
    return f"{_left(left)} & {mask & ~bits:#x} | {bits:#x}"
