"""Tells when the clock was set, or the machine slept: a timer that is cancelled by it (timerfd_create(2))."""

from __future__ import annotations

import ctypes
import errno
import os

_REALTIME, _ABSTIME, _CANCEL_ON_SET = 0, 1, 2
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC  # TFD_NONBLOCK | TFD_CLOEXEC
_NEVER_S = 1 << 40


class ClockSet:
    """Can be read when the clock made a jump."""

    def __init__(self) -> None:
        """OSError when the kernel has no such timers."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.timerfd_create(_REALTIME, _FLAGS)
        if self._descriptor < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        self._arm()

    def fileno(self) -> int:
        return int(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)

    def read(self) -> bool:
        """Was it set since the last time?"""
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.ECANCELED:
                raise
        self._arm()
        return True

    def _arm(self) -> None:
        spec = (ctypes.c_long * 4)(0, 0, _NEVER_S, 0)  # itimerspec: interval, first expiry
        self._libc.timerfd_settime(self._descriptor, _ABSTIME | _CANCEL_ON_SET, spec, None)
