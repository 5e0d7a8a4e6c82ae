"""Short words for tests of the store."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

from reconciler.model.intent import Intent
from reconciler.model.names import IfName, TunnelName
from reconciler.model.prefix import pack, parse_prefix
from reconciler.model.tunnel import Desired, Host, PrefixFile, RouteSettings, Tun, Tunnel, WireGuard
from reconciler.store.stored import Actor, Saved, Terms
from reconciler.store.write import Store

BOOT = "6b5a4c1e-0000-4000-8000-000000000001"
ALICE = Actor(1000, "alice")


def tun(name: str, **fields: Any) -> Tunnel:
    fields = {"interface": IfName(name)} | fields
    return Tunnel(TunnelName(name), "tun", tun=Tun(), **fields)


def wireguard(name: str, port: int) -> Tunnel:
    return Tunnel(TunnelName(name), "wireguard", IfName(name), wireguard=WireGuard("/etc/w.key", port))


def desired(*tunnels: Tunnel | str, source: str = "gateway", host: Host | None = None) -> Desired:
    made = tuple(tun(t) if isinstance(t, str) else t for t in tunnels)
    return Desired(source, f"/etc/{source}.toml", host or Host(), made)


def routed_by_file(name: str, *prefixes: str) -> Tunnel:
    packed = pack(map(parse_prefix, prefixes))
    return tun(name, routes=(RouteSettings(to_file=PrefixFile("/etc/p.txt", sha256(packed).hexdigest(), packed)),))


def put(store: Store, *tunnels: Tunnel | str, source: str = "gateway", host: Host | None = None, **terms: Any) -> Saved:
    wish = desired(*tunnels, source=source, host=host)
    return store.save(wish, Terms(**{"boot_id": BOOT} | terms), actor=ALICE, cause="apply")[0]


def intents(store: Store) -> dict[str, Intent]:
    return {intent.name: intent for intent in store.stored().intents}


def mtime(state_dir: Path) -> int:
    return (state_dir / "intent.db").stat().st_mtime_ns


def delete(store: Store, *names: TunnelName) -> tuple[TunnelName, ...]:
    """Nothing of them is left on the machine → those that are deleted by that."""
    before = intents(store)
    store.conclude({}, names)
    return tuple(intent.name for name, intent in before.items() if name not in intents(store))
