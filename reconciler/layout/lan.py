"""Which connected networks stay local, whatever tunnels say."""

from __future__ import annotations

from reconciler.layout.lay import Lay
from reconciler.model.facts import Connected, Facts, Unknown
from reconciler.model.names import TunnelName
from reconciler.model.policy import Policy
from reconciler.model.prefix import Prefix, parse_prefix
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

# RFC 1918, RFC 6598, RFC 3927; RFC 4193, RFC 4291
PRIVATE = tuple(
    parse_prefix(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "fc00::/7", "fe80::/10")
)
_WIDEST_BELIEVED = {4: 8, 16: 32}  # guarantee 9: a rogue DHCP mask must not take everything out of the tunnels


def connected(facts: Facts) -> tuple[Connected, ...]:
    """The host's networks; none when they are not known (then nothing is decided anyway)."""
    return () if isinstance(facts.connected, Unknown) else facts.connected


def kept(connected: Iterable[Connected], policy: Policy) -> tuple[Connected, ...]:
    """The networks to which no packet may go through a tunnel."""
    if policy.lan == "tunnel":
        return ()
    believed = [one for one in connected if is_believed(one.prefix) and not _is_excepted(one, policy)]
    return tuple(one for one in believed if policy.lan == "keep" or is_private(one.prefix))


def is_believed(prefix: Prefix) -> bool:
    return prefix.length >= _WIDEST_BELIEVED[len(prefix.packed)]


def is_private(prefix: Prefix) -> bool:
    return any(private.covers(prefix) for private in PRIVATE)


def public(kept: Iterable[Connected], full: Collection[Lay], families: Collection[int]) -> Iterator[tuple[TunnelName, str]]:
    """Connected networks that are public, under full tunnels: a DHCP server can make any address look local."""
    for one in kept if full else ():
        if one.prefix.family in families and not is_private(one.prefix):
            said = f"connected network {one.prefix} on {one.dev} is public and stays outside the tunnel"
            yield from ((lay.intent.name, said) for lay in full if one.prefix.family in lay.full)


def _is_excepted(one: Connected, policy: Policy) -> bool:
    for word in policy.lan_except:
        if "/" in word or ":" in word or word[:1].isdigit():
            try:
                if parse_prefix(word).covers(one.prefix):
                    return True
            except ValueError:
                continue
        elif _is_like(one.dev, word):
            return True
    return False


def _is_like(dev: str, pattern: str) -> bool:
    from fnmatch import fnmatchcase  # only where patterns are declared: it makes regular expressions of them

    return fnmatchcase(dev, pattern)
