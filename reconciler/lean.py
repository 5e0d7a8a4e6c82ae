"""The words of `contextlib`, `functools`, `collections` and `hashlib` that short commands need, without importing these: with
what they import in turn, that costs a quarter of a bare interpreter. Only what is small and plain is here. mypy sees the real
ones."""

from __future__ import annotations

import sys

from reconciler.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections import defaultdict
    from contextlib import suppress
    from functools import cache, cached_property, lru_cache
else:
    from _collections import defaultdict
    from _functools import _lru_cache_wrapper as _cached

    class suppress:  # noqa: N801 - as in contextlib
        """``with suppress(OSError):`` leaves the block when it fails so, and goes on behind it."""

        __slots__ = ("_exceptions",)

        def __init__(self, *exceptions):
            self._exceptions = exceptions

        def __enter__(self):
            return None

        def __exit__(self, kind, error, trace):
            return kind is not None and issubclass(kind, self._exceptions)

    def lru_cache(maxsize):
        """Keeps the last so many results."""
        return lambda function: _cached(function, maxsize, False, _counts)

    def cache(function):
        """Keeps every result."""
        return _cached(function, None, False, _counts)

    def _counts(*counts):
        """What `cache_info` says: hits, misses, how many it keeps at most, how many it keeps."""
        return counts

    class cached_property:  # noqa: N801 - as in functools
        """Computed when it is first asked for; it stands in the instance from then on."""

        def __init__(self, function):
            self._function = function
            self.__doc__ = function.__doc__

        def __set_name__(self, _owner, name):
            self._name = name

        def __get__(self, instance, owner=None):
            if instance is None:
                return self
            value = instance.__dict__[self._name] = self._function(instance)
            return value


_LARGE_BYTES = 1 << 20
_SHA256 = "_sha2" if sys.version_info >= (3, 12) else "_sha256"  # what hashlib itself falls back on; promised to nobody


def sha256_hex(content: bytes) -> str:
    """64 hex digits. `hashlib` loads OpenSSL, which costs as much as a thousand files; for a large one it pays."""
    digest: str = (_of_openssl() if len(content) > _LARGE_BYTES else _in_c())(content).hexdigest()
    return digest


def _in_c() -> Any:
    try:
        return __import__(_SHA256).sha256
    except ImportError:
        return _of_openssl()


def _of_openssl() -> Any:
    from hashlib import sha256

    return sha256


__all__ = ["cache", "cached_property", "defaultdict", "lru_cache", "sha256_hex", "suppress"]
