"""Policy rules: added and removed, both families. The kernel changes none in place."""

from __future__ import annotations

from reconciler.actuate.errnos import ALREADY_GONE, failed
from reconciler.errors import StepFailed
from reconciler.host import nl_rule
from reconciler.host.machine import Machine
from reconciler.host.netlink import NLM_F_CREATE, KernelError
from reconciler.host.nl_rule import RuleRow
from reconciler.kinds.rule import Rule
from reconciler.model.marks import PROTOCOL


def create(machine: Machine, wanted: Rule) -> None:
    """A new rule, unless it is there. The protocol is part of what must be equal, so an equal one is ours.

    Looked for by ourselves: with NLM_F_EXCL the kernel takes a rule with `from` for one without.
    """
    row = _row(wanted)
    if row in machine.rtnl.rules(wanted.family):
        return
    try:
        machine.rtnl.request(nl_rule.RTM_NEWRULE, NLM_F_CREATE, nl_rule.wanted(row))
    except KernelError as error:
        raise failed(wanted, error) from error


def change(machine: Machine, wanted: Rule, found: Rule, fields: tuple[str, ...]) -> None:
    """There is nothing in a rule that could differ: all of it is its identity."""
    create(machine, wanted)


def delete(machine: Machine, found: Rule) -> None:
    """Removes this very rule, every copy of it.

    The kernel removes the first rule that matches, and what a deletion does not name (a rule without `from`) matches
    anything. So rules of ours that would be hit before it are doubled behind it first: no packet ever misses one.
    """
    target = _row(found)
    same_place = [row for row in machine.rtnl.rules(found.family) if target.would_be_taken_for(row)]
    copies = same_place.count(target)
    if not copies:
        return
    last = max(at for at, row in enumerate(same_place) if row == target)
    before = [row for row in same_place[:last] if row != target]
    if not all(row.plain for row in before):
        raise StepFailed(f"{found}: a rule that only partly is like ours stands before it and would be removed instead")
    try:
        for error in machine.rtnl.batch(nl_rule.RTM_NEWRULE, NLM_F_CREATE, [nl_rule.wanted(row) for row in before]):
            if error:
                raise error
        for error in machine.rtnl.batch(nl_rule.RTM_DELRULE, 0, [nl_rule.wanted(target)] * (len(before) + copies)):
            if error and error.errno not in ALREADY_GONE["rule"]:
                raise error
    except KernelError as error:
        raise failed(found, error) from error


def _row(rule: Rule) -> RuleRow:
    return RuleRow(*rule[1:], protocol=PROTOCOL)
