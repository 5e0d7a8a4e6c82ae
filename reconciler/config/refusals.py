"""What the format has and this version of tunctl does not do yet: refused by name, never accepted and ignored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reconciler.config.declared import Declared, Routed
from reconciler.config.lines import Path
from reconciler.config.problems import Document, Findings
from reconciler.config.schema import HostTable, TunnelTable
from reconciler.model.prefix import Prefix

NOT_YET = "not supported by this version of tunctl yet"
_HOST_DEFAULTS: dict[str, object] = {"lan": "keep", "lan_except": [], "uplink": "auto", "runtime_file": "run"}
_ENGINES = ("openvpn", "openconnect")
_SECTIONS = ("openvpn", "openconnect", "accept", "split", "listen", "health")
_WORDS = {"on_failure": "block", "ipv6_leak": "allow"}


def refuse_host(table: HostTable, document: Document, findings: Findings) -> None:
    for key, default in _HOST_DEFAULTS.items():
        value = getattr(table, key)
        if value is not None and value != default:
            words = f'{key} = "{value}"' if isinstance(value, str) else f"`{key}`"
            findings.refuse(document, ("host", key), f"{words} is {NOT_YET}")


def refuse(tunnel: Declared, routed: Sequence[Routed]) -> None:
    """Every key of the tunnel that stands for something which is not built yet."""
    for path, words in _keys(tunnel.table):
        tunnel.refuse(path, f"{words} is {NOT_YET}")
    if not tunnel.has_own_table:
        for size, family in ((4, "IPv4"), (16, "IPv6")):
            covering = _covering([entry for entry in routed if entry.table is None], size)
            if covering is not None:
                tunnel.refuse(covering, f"a full tunnel (these prefixes cover all of {family}) is {NOT_YET}")


def _keys(table: TunnelTable) -> Iterable[tuple[Path, str]]:
    if table.driver in _ENGINES:
        yield ("driver",), f"the driver {table.driver!r}"
    for key in _SECTIONS:
        if getattr(table, key) not in (None, []):
            yield (key,), f"`{key}`"
    for key, value in _WORDS.items():
        if getattr(table, key) == value:
            yield (key,), f'{key} = "{value}"'
    if table.exec is not None and table.exec.remote:
        yield ("exec", "remote"), "exec.remote"
    for at, peer in enumerate(table.wireguard.peers if table.wireguard else ()):
        if peer.endpoint_manifest is not None:
            yield ("wireguard", "peers", at, "endpoint_manifest"), "endpoint_manifest"


def _covering(entries: Sequence[Routed], size: int) -> Path | None:
    """The first key with prefixes of this family, if all of them together cover the family; else None."""
    lengths = [length for entry in entries for packed, length in entry.prefixes if len(packed) == size]
    if not lengths or len(lengths) < 1 << min(lengths):  # too few, even if all were as wide as the widest: the usual case
        return None
    if not covers_all({prefix for entry in entries for prefix in entry.prefixes if len(prefix[0]) == size}, size):
        return None
    return next(entry.path for entry in entries if any(len(prefix[0]) == size for prefix in entry.prefixes))


def covers_all(prefixes: set[Prefix], size: int) -> bool:
    """True when these prefixes of one family (addresses of `size` bytes) leave no address out."""
    bits = size * 8
    end = 0
    for packed, length in sorted(prefixes):
        start = int.from_bytes(packed, "big")
        if start > end:
            return False
        end = max(end, start + (1 << (bits - length)))
    return end == 1 << bits


def is_full(tunnel: Declared, routed: Sequence[Routed], sizes: tuple[int, ...] = (4, 16)) -> bool:
    """PRODUCT section 3: what goes into it covers a family, and no rule `lookup = "tunnel"` narrows it."""
    entries = [entry for entry in routed if entry.table is None]
    return not tunnel.has_own_table and any(_covering(entries, size) for size in sizes)
