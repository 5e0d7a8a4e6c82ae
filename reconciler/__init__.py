"""tunctl keeps the tunnels of a Linux host as one file says."""

from __future__ import annotations

__version__ = "0.1.0"
