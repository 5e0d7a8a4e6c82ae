"""A bound on calls that have none: name look-ups, and /proc files of a process that is stuck in the kernel."""

from __future__ import annotations

import _thread  # `threading` is 2 ms and gives nothing more here
import errno

from reconciler.typed import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Call(Generic[T]):
    """A function running in a thread that nobody waits for longer than wanted; it dies with the process. Where there is no room
    for a thread (the limit of tasks of a service counts them, too) it is one that gives no answer."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._done = _thread.allocate_lock()
        self._done.acquire()
        self._value: list[T] = []
        self._error: BaseException | None = None
        try:
            _thread.start_new_thread(self._run, (work,))
        except RuntimeError as error:
            self._error = TimeoutError(errno.EAGAIN, str(error))
            self._done.release()

    def _run(self, work: Callable[[], T]) -> None:
        try:
            self._value.append(work())
        except BaseException as error:  # raised again where the result is asked for
            self._error = error
        finally:
            self._done.release()

    def result(self, seconds: float) -> T:
        """What the function returned or raised; TimeoutError when it is not through within so many seconds."""
        if not self._done.acquire(timeout=max(0.0, seconds)):
            raise TimeoutError
        self._done.release()
        if self._error is not None:
            raise self._error
        return self._value[0]
