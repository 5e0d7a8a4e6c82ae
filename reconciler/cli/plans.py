"""How a plan is told. Without click: `plan` takes the short way, too."""

from __future__ import annotations

from reconciler.cli.output import Output
from reconciler.loop.planning import Planned
from reconciler.report import changes as report


def show(output: Output, planned: Planned) -> int:
    """Prints the plan and returns its exit code."""
    output.data(report.plan_text(planned.plan, planned.held, output.paint))
    output.document(lambda: report.plan_json(planned.plan, planned.held))
    for words in report.errors_told(planned.errors):
        output.note(*words)
    codes = {error.exit_code for _, error in planned.errors} | ({73} if planned.plan.conflicts else set())
    if codes:
        return codes.pop() if len(codes) == 1 else 1
    return 2 if planned.plan.steps else 0
