"""Plans and what became of them."""

from __future__ import annotations

from reconciler.errors import TunctlError
from reconciler.model.names import TunnelName
from reconciler.model.plan import Conflict, Outcome, Plan, Step
from reconciler.model.resource import Verb, is_many
from reconciler.report.paint import PLAIN, Paint, painted
from reconciler.report.plain import VERSION, resource
from reconciler.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

NO_CHANGES = "no changes"


def plan_text(plan: Plan, held: Sequence[TunnelName] = (), paint: Paint = PLAIN) -> list[str]:
    """One line a step, in the order in which they are done, in the idiom of `ip`."""
    lines = _plan_lines(plan, held)
    return [painted(line, paint) for line in lines] if paint.on else lines


def _plan_lines(plan: Plan, held: Sequence[TunnelName]) -> list[str]:
    lines = [] if plan.steps or plan.conflicts else [NO_CHANGES]
    for step in plan.steps:  # one for each object that it is about
        if is_many(step.resource):
            lines += step.resource.lines(f"{step.verb.value} ")
        else:
            lines.append(step_line(step))
    lines += [f"x {conflict.tunnel}: {conflict.message}" for conflict in plan.conflicts]
    lines += [f"# warning: {warning}" for warning in plan.warnings]
    lines += [f"# {name} is held down (tunctl up {name})" for name in held]
    return lines


def step_line(step: Step) -> str:
    """``~ link tun-demo … (mtu 1300 → 1420)``"""
    if not step.fields:
        return str(step)
    return f"{step}  ({', '.join(_change(step, field) for field in step.fields)})"


def _change(step: Step, field: str) -> str:
    before, now = getattr(step.found, field, None), getattr(step.resource, field, None)
    simple = isinstance(before, int | str | None) and isinstance(now, int | str) and len(str(now)) < 40
    return f"{field} {before} → {now}" if simple else field.replace("_", " ")


def step_json(step: Step) -> dict[str, Any]:
    return {
        "tunnel": step.tunnel or None,
        "verb": step.verb.name.lower(),
        "kind": step.resource.kind,
        "text": str(step),
        "wanted": None if step.verb is Verb.DELETE else resource(step.resource),
        "found": resource(step.found),
    }


def conflict_json(conflict: Conflict) -> dict[str, Any]:
    return {
        "tunnel": conflict.tunnel,
        "kind": conflict.wanted.kind,
        "message": conflict.message,
        "wanted": resource(conflict.wanted),
        "found": resource(conflict.found),
    }


def plan_json(plan: Plan, held: Sequence[TunnelName]) -> dict[str, Any]:
    return {
        "version": VERSION,
        "changes": plan.number,
        "steps": [step_json(step) for step in plan.each()],
        "conflicts": [conflict_json(conflict) for conflict in plan.conflicts],
        "warnings": list(plan.warnings),
        "held": list(held),
    }


def outcome_word(outcome: Outcome) -> str:
    return "skipped" if outcome.skipped else "failed" if outcome.error else "done"


def result_json(
    plan: Plan, held: Sequence[TunnelName], outcomes: Iterable[Outcome], errors: Sequence[tuple[TunnelName, TunctlError]]
) -> dict[str, Any]:
    """As `plan_json`, with what became of each step that was done."""
    steps = [
        {
            **step_json(step),
            "outcome": outcome_word(outcome),
            "seconds": round(outcome.seconds, 6),
            "error": outcome.error.message if outcome.error else None,
        }
        for outcome in outcomes
        for step in outcome.step.each()
    ]
    told = [{"tunnel": name or None, "code": error.exit_code, "message": error.message} for name, error in errors]
    return {**plan_json(plan, held), "changes": len(steps), "steps": steps, "converged": not errors, "errors": told}


def errors_told(errors: Iterable[tuple[TunnelName, TunctlError]]) -> Iterator[tuple[str, str, TunnelName | None]]:
    """Every error with its tunnel, then each hint once: level, words, whose it is."""
    hints: dict[str, None] = {}
    for name, error in errors:
        yield "error", error.message, name or None
        hints.update({error.hint: None} if error.hint else {})
    yield from (("info", f"hint: {hint}", None) for hint in hints)
