"""What is left alone is left alone also where it is one of many."""

from __future__ import annotations

from reconciler.daemon.report import repaired
from reconciler.kinds.route import Route
from reconciler.kinds.routes import Routes
from reconciler.loop.part import allowed
from reconciler.loop.queue import AT_ONCE, Repairs
from reconciler.loop.reconcile import Request
from reconciler.model.names import IfName, TunnelName
from reconciler.model.plan import Outcome, Plan, Step
from reconciler.model.prefix import Prefix
from reconciler.model.prefixes import Prefixes
from reconciler.model.resource import Verb

A = TunnelName("a")
MANY = Routes(
    Route(A, bytes(4), 0, 254, 0, "unicast", IfName("tun-a")),
    Prefixes.of(Prefix((n << 8).to_bytes(4, "big"), 24) for n in range(100)),
)
ONE = Step(Verb.CREATE, next(MANY.each()), None, A)
ALL = Step(Verb.CREATE, MANY, None, A)
PAIR = Step(
    Verb.CREATE, MANY._replace(prefixes=Prefixes.of(Prefix((n << 8).to_bytes(4, "big"), 24) for n in range(2))), None, A
)


def test_nothing_is_withheld() -> None:
    assert allowed(Plan((ALL,)), Request()).steps == (ALL,)
    assert allowed(Plan((ALL,)), Request(withheld={"other"})).steps == (ALL,)


def test_one_of_many() -> None:
    left = allowed(Plan((ALL,)), Request(withheld={ONE.identity}))
    assert left.number == 99
    assert ONE not in left.steps


def test_all_of_them() -> None:
    """Whichever of them are gone this time."""
    fewer = ALL._replace(resource=MANY._replace(prefixes=MANY.prefixes - Prefixes.of([Prefix(bytes(4), 24)])))
    assert allowed(Plan((fewer,)), Request(withheld={ALL.identity})).steps == ()


def test_what_this_pass_has_done_already() -> None:
    done = [Outcome(ONE, None, 0.0)]
    assert allowed(Plan((ALL,)), Request(patient=True), done).number == 99
    assert allowed(Plan((ALL,)), Request(), done).number == 100
    assert allowed(Plan((ALL,)), Request(patient=True), [Outcome(ONE, None, 0.0, skipped=True)]).number == 100


def test_one_of_a_few_is_the_same_whatever_else_is_gone() -> None:
    """Somebody undoes both routes of a tunnel, then one of them: ten times together, and not ten times each way."""
    repairs = Repairs()
    undone = [PAIR, ONE] * (AT_ONCE // 2)
    contested = [(one.text, repairs.add(one.key, 1.0)) for step in undone for one in repaired([Outcome(step, None, 0.0)])]
    assert [text for text, is_contested in contested if is_contested] == ["route 0.0.0.0/24 dev tun-a"]
    assert [text for text, _ in contested].count("route 0.0.1.0/24 dev tun-a") == AT_ONCE // 2
    (left,) = allowed(Plan((PAIR,)), Request(withheld={ONE.identity})).steps
    assert str(left.resource) == "route 0.0.1.0/24 dev tun-a"


def test_what_this_pass_has_done_among_a_few() -> None:
    assert allowed(Plan((ONE,)), Request(patient=True), [Outcome(PAIR, None, 0.0)]).steps == ()
    assert allowed(Plan((ONE,)), Request(patient=True), [Outcome(ALL, None, 0.0)]).steps == (ONE,)
