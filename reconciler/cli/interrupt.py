"""What ends a command from outside. Not exceptions of the work: nothing in it may take them for a failed step.

Every instant is one in which a command may end: the next pass goes on.
"""

from __future__ import annotations


class Interrupted(BaseException):
    """SIGTERM or SIGINT."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class TimeIsUp(BaseException):
    """The time that --timeout gave is over."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__(timeout_s)
        self.timeout_s = timeout_s
