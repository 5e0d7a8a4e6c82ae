"""Which of many prefixes cover an address: one look for each length that there is, not one for each prefix."""

from __future__ import annotations

from collections.abc import Iterable

from reconciler.model.prefix import Prefix


class Cover:
    """Networks (without host bits), to be asked about many addresses."""

    def __init__(self, networks: Iterable[Prefix]) -> None:
        self._networks = frozenset(networks)
        self._lengths = sorted({(len(packed), length) for packed, length in self._networks})

    def lengths(self, host: Prefix) -> list[int]:
        """Of those that cover it, the shortest first."""
        size = len(host.packed)
        lengths = [length for bytes_, length in self._lengths if bytes_ == size and length <= host.length]
        return [length for length in lengths if Prefix(host.packed, length).network in self._networks]
