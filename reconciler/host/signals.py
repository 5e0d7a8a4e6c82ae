"""`signal` without the enumerations that it makes of its constants: they cost a third of a bare interpreter. mypy sees the real
one."""

from __future__ import annotations

from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import signal
else:
    import _signal as signal

__all__ = ["signal"]
