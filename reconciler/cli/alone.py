"""Work done in this process: what it comes to when it is cut off, when it fails, when it has a bug."""

from __future__ import annotations

from reconciler.cli.output import Output
from reconciler.errors import Bug, NotConverged, TunctlError
from reconciler.loop import interrupt, orders
from reconciler.loop.commands import Session
from reconciler.loop.interrupt import Interrupted, TimeIsUp
from reconciler.model.order import Order
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

GOES_ON = "tunctl reconcile goes on where this stopped"


def carry_out(session: Session, order: Order, output: Output) -> int:
    """The exit code."""
    output.goes_on = True
    return ended(output, lambda: orders.carry_out(session, order, output))


def ended(output: Output, work: Callable[[], int]) -> int:
    """The exit code. No traceback reaches the user without --debug."""
    interrupt.listen()
    try:
        return work()
    except Interrupted as interrupted:
        from signal import Signals

        name = Signals(interrupted.number).name
        _say(output, NotConverged(f"interrupted by {name}", hint=GOES_ON))
        return 128 + interrupted.number
    except TimeIsUp as late:
        return _say(output, NotConverged(f"not done within {late.timeout_s:g} s", hint=GOES_ON))
    except TunctlError as error:
        return _say(output, error)
    except Exception as error:
        return _say(output, Bug.of(error))
    finally:
        interrupt.no_more()


def _say(output: Output, error: TunctlError) -> int:
    output.error(error)
    return error.exit_code
