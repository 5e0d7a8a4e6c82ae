"""Policy rules on the real kernel: absent, present, twice, deleted, foreign beside them, doubles."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.actuate import rule as actuate
from reconciler.errors import StepFailed
from reconciler.host import nl_rule
from reconciler.host.machine import Machine
from reconciler.host.netlink import NLM_F_CREATE
from reconciler.host.nl_rule import RuleRow
from reconciler.kinds.rule import Rule
from reconciler.model.names import HOST
from reconciler.model.prefix import AF_INET, AF_INET6, parse_prefix
from reconciler.observe import rule as observe
from tests.netns.test_link import NAME, QUESTION
from tests.netns.world import Host

PLAIN = Rule(NAME, AF_INET, 20100, 20001)
FROM = PLAIN._replace(from_=parse_prefix("192.168.50.0/24"))
RULES = [
    PLAIN,
    PLAIN._replace(family=AF_INET6),
    FROM,
    PLAIN._replace(to=parse_prefix("10.0.0.0/8")),
    FROM._replace(to=parse_prefix("10.0.0.0/8")),
    PLAIN._replace(family=AF_INET6, from_=parse_prefix("fd00::/8"), to=parse_prefix("2001:db8::1/128")),
    PLAIN._replace(iif="lan0"),
    PLAIN._replace(fwmark=(0x10, 0xFF)),
    PLAIN._replace(fwmark=(0x10, 0xFFFFFFFF)),
    PLAIN._replace(fwmark=(0, 0xFF)),
    PLAIN._replace(uid_range=(1000, 2000)),
    PLAIN._replace(table=254),
    PLAIN._replace(table=200, iif="lan0", uid_range=(0, 0), family=AF_INET6),
]


@pytest.fixture
def machine(host: Host, tmp_path: Path) -> Iterator[Machine]:
    with host.inside(), Machine(tmp_path) as machine:
        yield machine


def found(machine: Machine) -> list[Rule]:
    return observe.look(machine, QUESTION)


def test_absent(machine: Machine) -> None:
    assert found(machine) == []


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_create_twice_and_delete_twice(machine: Machine, host: Host, rule: Rule) -> None:
    before = host.snapshot()
    actuate.create(machine, rule)
    assert found(machine) == [rule]
    actuate.create(machine, rule)
    actuate.change(machine, rule, rule, ())
    assert found(machine) == [rule]
    actuate.delete(machine, rule)
    assert found(machine) == []
    actuate.delete(machine, rule)
    assert host.snapshot() == before


@pytest.mark.parametrize("victim", RULES, ids=str)
@pytest.mark.parametrize("backwards", [False, True])
def test_delete_removes_this_one_only(machine: Machine, victim: Rule, backwards: bool) -> None:
    """A deletion without `from` matches every rule: the kernel would take the first."""
    for rule in reversed(RULES) if backwards else RULES:
        actuate.create(machine, rule)
    actuate.delete(machine, victim)
    left = found(machine)
    assert len(left) == len(RULES) - 1
    assert set(left) == set(RULES) - {victim}


def test_delete_removes_every_copy(machine: Machine) -> None:
    """Copies are what is left when we were cut off while we removed a rule that stood behind others."""
    copy = nl_rule.wanted(RuleRow(*FROM[1:], protocol=115))
    assert machine.rtnl.batch(nl_rule.RTM_NEWRULE, NLM_F_CREATE, [copy] * 3) == [None] * 3
    actuate.create(machine, PLAIN)
    assert machine.rtnl.batch(nl_rule.RTM_NEWRULE, NLM_F_CREATE, [copy]) == [None]
    actuate.delete(machine, PLAIN)
    assert found(machine) == [FROM] * 4
    actuate.delete(machine, FROM)
    assert found(machine) == []


def test_what_cannot_be_sent_is_a_step_that_failed(machine: Machine) -> None:
    copies = [nl_rule.wanted(RuleRow(*FROM[1:], protocol=115))] * 100
    assert not any(machine.rtnl.batch(nl_rule.RTM_NEWRULE, NLM_F_CREATE, copies))
    machine.rtnl._wire.open().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # 4608 bytes: less than so many need
    with pytest.raises(StepFailed, match="Message too long"):
        actuate.delete(machine, FROM)
    actuate.delete(machine, FROM)
    assert found(machine) == []


def test_foreign_rules_are_not_seen_and_not_hit(machine: Machine, host: Host) -> None:
    host.ip("rule add priority 20100 from 192.168.50.0/24 lookup 20001")  # another protocol
    host.ip("rule add priority 20100 protocol 115 oif lo lookup 20001")  # more than we ever say
    host.ip("rule add not priority 20100 protocol 115 fwmark 0x1 lookup 20001")
    host.ip("rule add priority 20101 protocol 115 tos 0x10 lookup main")
    before = host.snapshot()
    assert found(machine) == []
    actuate.create(machine, FROM)
    assert found(machine) == [FROM]
    actuate.delete(machine, FROM)
    assert host.snapshot() == before


def test_whose_it_is(machine: Machine) -> None:
    by_table, by_priority, shared = (
        PLAIN._replace(priority=20555 - 100),
        PLAIN._replace(table=77),
        PLAIN._replace(priority=20555),
    )
    for rule in (by_table, by_priority, shared):
        actuate.create(machine, rule)
    assert found(machine) == [by_priority, by_table, shared._replace(tunnel=HOST)]


SHARED = [
    Rule(HOST, AF_INET, 20020, 0, fwmark=(0x3174, 0x3FFF), action="unreachable"),
    Rule(HOST, AF_INET6, 20030, 20000, suppress_length=0),
    Rule(HOST, AF_INET, 20040, 254, parse_prefix("192.0.2.1"), suppress_group=20000),
    Rule(HOST, AF_INET6, 20050, 254, suppress_group=0),
]


@pytest.mark.parametrize("rule", SHARED, ids=str)
def test_shared_rules_come_back_as_they_were_made(machine: Machine, rule: Rule) -> None:
    actuate.create(machine, rule)
    actuate.create(machine, rule)
    assert found(machine) == [rule]
    actuate.delete(machine, rule)
    assert found(machine) == []
