"""Our policy rules, both families: those of protocol 115 that say nothing we never say."""

from __future__ import annotations

from reconciler.host.machine import Machine
from reconciler.host.nl_rule import RuleRow
from reconciler.kinds.rule import USER_RULES, Rule
from reconciler.model.marks import PROTOCOL, Numbers
from reconciler.model.names import HOST, TunnelName
from reconciler.model.prefix import AF_INET, AF_INET6
from reconciler.observe.question import Question


def look(machine: Machine, question: Question) -> list[Rule]:
    """All rules of ours. NotObserved."""
    rows = [row for family in (AF_INET, AF_INET6) for row in machine.rtnl.rules(family) if _is_ours(row)]
    if not rows:
        return []
    numbers = question.numbers
    by_table = {numbers.table(intent.slot): intent.name for intent in question.intents}
    by_priority: dict[int, TunnelName] = {}
    for intent in question.intents:
        by_priority.setdefault(numbers.priority_base + USER_RULES[(intent.slot - 1) % len(USER_RULES)], intent.name)
    return [
        Rule(by_table.get(row.table) or by_priority.get(row.priority, HOST) if _is_users(row, numbers) else HOST, *row[:11])
        for row in rows
    ]


def _is_users(row: RuleRow, numbers: Numbers) -> bool:
    """The others are shared: they belong to the host, and follow from all tunnels together."""
    return row.priority - numbers.priority_base in USER_RULES


def _is_ours(row: RuleRow) -> bool:
    """Whatever its priority: where `[host] priority_base` was moved, some still stand where it was."""
    return row.protocol == PROTOCOL and row.plain
