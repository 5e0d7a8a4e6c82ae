"""What is wrong within one tunnel although each of its values is good. What it refers to outside the file: ``references``."""

from __future__ import annotations

import re
from operator import attrgetter

from reconciler.config.declared import Checks, Declared
from reconciler.config.lines import Path
from reconciler.config.placeholders import KNOWN, LISTEN, placeholders
from reconciler.config.portchecks import check_listen
from reconciler.config.routechecks import check_routes, check_rules, check_split
from reconciler.config.schema import ExecTable, ManifestTable, WireGuardTable
from reconciler.config.values import MTU_IPV6, did_you_mean, duration_text, shown
from reconciler.model.names import ifname_problem, is_tunnel_name
from reconciler.model.prefix import Prefix

_ENGINES = ("wireguard", "exec", "tun", "openvpn", "openconnect")
_OTHERS = {engine: frozenset(_ENGINES) - {engine} for engine in _ENGINES}
_REQUIRED = {"wireguard": "private_key_file", "exec": "command"}
_TABLE, _LOOKUP = attrgetter("table"), attrgetter("lookup")
_VARIABLE = "[A-Za-z_][A-Za-z0-9_]*"


def check(tunnel: Declared) -> None:
    """All of it; errors go to the tunnel's findings."""
    for one in _CHECKS.of(tunnel.table.given):
        one(tunnel)


def name_problem(name: str) -> str:
    """Why no tunnel can be called so."""
    lower = re.sub(r"[^a-z0-9_-]", "-", name.lower()).lstrip("_-")[:32]
    hint = f", did you mean {lower!r}?" if is_tunnel_name(lower) else ""
    return f"{shown(name)} is no name for a tunnel: a-z, 0-9, _ and -, at most 32, beginning with a letter or digit{hint}"


def _engine(tunnel: Declared) -> None:
    """The table of its driver, where that needs one, and of no other one."""
    driver, given = tunnel.table.driver, tunnel.table.given
    if not given.isdisjoint(_OTHERS[driver]):
        for engine in _ENGINES:
            if engine in given and engine != driver:
                tunnel.error((engine,), f"the driver is {driver!r}: [tunnels.{tunnel.name}.{engine}] says nothing to it")
    if driver in _REQUIRED and driver not in given:
        key = _REQUIRED[driver]
        tunnel.error((driver, key), f"missing, it is required ({key} in [tunnels.{tunnel.name}.{driver}])")


def _accept(tunnel: Declared) -> None:
    driver = tunnel.table.driver
    if tunnel.table.accept is not None and driver not in ("openvpn", "openconnect"):
        tunnel.error(("accept",), f"is for the drivers openvpn and openconnect, not for {driver!r}")


def _interface(tunnel: Declared) -> None:
    if tunnel.interface is None:
        if tunnel.table.driver not in ("tun", "exec"):
            tunnel.error(("interface",), f'"auto" is for the drivers tun and exec, not for {tunnel.table.driver!r}')
    elif tunnel.table.interface is None and is_tunnel_name(tunnel.name):
        problem = ifname_problem(tunnel.interface)
        if problem:
            tunnel.error(("interface",), f"missing: the tunnel's name cannot be the interface's, {problem}")


def _mtu(tunnel: Declared) -> None:
    mtu = tunnel.table.mtu
    if mtu is not None and mtu < MTU_IPV6 and any(len(packed) == 16 for packed, _ in tunnel.table.addresses):
        tunnel.error(("mtu",), f"invalid MTU {mtu} (must be >= {MTU_IPV6} with an IPv6 address)")


def _addresses(tunnel: Declared) -> None:
    addresses = tunnel.table.addresses
    if len(addresses) < 2:
        return
    seen: dict[bytes, Prefix] = {}
    for at, prefix in enumerate(addresses):
        first = seen.setdefault(prefix.packed, prefix)
        if first is not prefix:
            other = "" if first == prefix else f" (as {first})"
            tunnel.error(("addresses", at), f"{prefix} stands in the list already{other}")


def _tables(tunnel: Declared) -> None:
    table, routes, rules = tunnel.table.table, tunnel.table.routes, tunnel.table.rules
    if not any((table, *map(_TABLE, routes), *map(_LOOKUP, rules))):
        return
    numbers: list[tuple[Path, int | None]] = [(("table",), table)]
    numbers += [(("routes", at, "table"), entry.table) for at, entry in enumerate(routes)]
    numbers += [(("rules", at, "lookup"), entry.lookup) for at, entry in enumerate(rules)]
    base = tunnel.manner.numbers.table_base
    for path, number in numbers:
        if number is not None and base <= number <= base + 999:
            tunnel.error(
                path, f"tables {base} to {base + 999} are tunctl's own ([host] table_base): leave it out, or take another"
            )


def _wireguard(tunnel: Declared) -> None:
    table = tunnel.table.wireguard
    if table is None:
        return
    _peers(tunnel, table)
    path: Path = ("wireguard", "userspace_command")
    command = table.userspace_command
    if not command or not command[0]:
        tunnel.error(path, "must not be empty")
        return
    if "/" in command[0] and not command[0].startswith("/"):
        tunnel.error((*path, 0), f"expected an absolute path, or a name without slashes, got {shown(command[0])}")
    if "interface" not in _placeholders(tunnel, path, command, ("interface",)):
        tunnel.error(path, "{interface} must stand in it: the engine has to be told the name of the device")


def _peers(tunnel: Declared, table: WireGuardTable) -> None:
    keys: dict[str, int] = {}
    allowed: dict[Prefix, int] = {}
    for at, peer in enumerate(table.peers):
        path: Path = ("wireguard", "peers", at)
        first = keys.setdefault(peer.public_key, at)
        if first != at:
            tunnel.error((*path, "public_key"), f"is the key of peers[{first}] too ({tunnel.place((*path[:-1], first))})")
        for index, prefix in enumerate(peer.allowed_ips):
            first = allowed.setdefault(prefix, at)
            if first != at:
                place = tunnel.place((*path[:-1], first, "allowed_ips"))
                tunnel.error((*path, "allowed_ips", index), f"{prefix} is an allowed prefix of peers[{first}] too ({place})")
        if peer.endpoint is not None and peer.endpoint_manifest is not None:
            tunnel.error((*path, "endpoint"), "stands beside endpoint_manifest: only one of them can say where the peer is")
        if peer.endpoint_manifest is not None:
            _manifest(tunnel, (*path, "endpoint_manifest"), peer.endpoint_manifest)
            if peer.endpoint_manifest.transport == "tcp":
                tunnel.error((*path, "endpoint_manifest", "transport"), "WireGuard speaks UDP: udp, or quic, which is UDP too")


def _manifest(tunnel: Declared, path: Path, table: ManifestTable) -> None:
    if table.tunnel is not None and not is_tunnel_name(table.tunnel):
        tunnel.error((*path, "tunnel"), f"{shown(table.tunnel)} is no name of a tunnel")


def _exec(tunnel: Declared) -> None:
    table = tunnel.table.exec
    if table is None:
        return
    if not table.command:
        tunnel.error(("exec", "command"), "must not be empty")
    elif not table.command[0].startswith("/"):
        tunnel.error(("exec", "command", 0), f"expected the absolute path of a program, got {shown(table.command[0])}")
    used = _placeholders(tunnel, ("exec", "command"), table.command, KNOWN)
    if table.endpoint_manifest is not None:
        _manifest(tunnel, ("exec", "endpoint_manifest"), table.endpoint_manifest)
        if "endpoint" not in used:
            tunnel.error(("exec", "endpoint_manifest"), "{endpoint} does not stand in the command: nobody would be told")
    elif "endpoint" in used:
        tunnel.error(("exec", "command"), f"{{endpoint}} is what [tunnels.{tunnel.name}.exec.endpoint_manifest] says: missing")
    _environment(tunnel, table)


def _environment(tunnel: Declared, table: ExecTable) -> None:
    for name in table.environment:
        path: Path = ("exec", "environment", name)
        if not re.fullmatch(_VARIABLE, name):
            tunnel.error(path, f"{shown(name)} is no name of an environment variable")
        elif name in ("PATH", "TUNCTL_TUNNEL"):
            tunnel.error(path, f"{name} is set by tunctl")
        elif name.startswith("LD_"):
            tunnel.error(path, f"{shown(name)} would change what the dynamic linker loads: not allowed")


def _placeholders(tunnel: Declared, path: Path, command: tuple[str, ...], known: tuple[str, ...]) -> set[str]:
    """Checks those of a command, and gives their names."""
    found: set[str] = set()
    for at, word in enumerate(command):
        try:
            names = list(placeholders(word))
        except ValueError as error:
            tunnel.error((*path, at), str(error))
            continue
        found.update(names)
        for name in names:
            if name not in known:
                _other_placeholder(tunnel, (*path, at), name, known)
    return found


def _other_placeholder(tunnel: Declared, path: Path, name: str, known: tuple[str, ...]) -> None:
    listen = re.fullmatch(LISTEN, name) if known is KNOWN else None
    if listen is None:
        words = (*known, "listen.udp.port", "listen.udp.address") if known is KNOWN else known
        shown_name = "{" + name[:40] + "}"
        listed = " ".join("{" + word + "}" for word in known)
        near = did_you_mean(name[:40], words) or f" (known: {listed}; '{{{{' is a brace)"
        tunnel.error(path, f"unknown placeholder {shown_name}{near}")
    elif not any(entry.transport == listen[1] for entry in tunnel.table.listen):
        tunnel.error(path, f"{{{name}}}: this tunnel has no `listen` with transport = {listen[1]!r}")


def _nat(tunnel: Declared) -> None:
    for at, entry in enumerate(tunnel.table.nat):
        if not entry.source:
            tunnel.error(("nat", at, "source"), "missing, it is required: the networks whose packets are let through")
        if not (entry.masquerade or entry.forward):
            tunnel.error(("nat", at), "neither masquerades nor forwards: such an entry does nothing")


def _restart(tunnel: Declared) -> None:
    table = tunnel.table.restart
    if table is not None and table.max < table.base:
        tunnel.error(("restart", "max"), f"{duration_text(table.max)} is less than base ({duration_text(table.base)})")


def _health(tunnel: Declared) -> None:
    health, driver = tunnel.table.health, tunnel.table.driver
    if health is None:
        return
    if health.handshake_max_age is not None and driver != "wireguard":
        tunnel.error(("health", "handshake_max_age"), f"is for the driver wireguard, not for {driver!r}")
    if driver != "wireguard" and not health.ping:
        tunnel.error(("health", "ping"), f"missing, it is required for the driver {driver!r}: who answers through the tunnel")
    if health.action == "restart" and driver == "tun":
        tunnel.error(("health", "action"), "restart: the driver 'tun' starts no program, there is nothing to restart")


def check_dns(tunnel: Declared, *, is_full: bool) -> None:
    """Which names go to the servers must be said, or follow from the tunnel being full; asked when its prefixes are known."""
    dns = tunnel.table.dns
    if dns is None:
        return
    if not dns.servers:
        tunnel.error(("dns", "servers"), "missing, it is required: the addresses of the name servers")
    if not is_full and not dns.search and not dns.domains:
        tunnel.error(("dns",), 'domains or search is required: which names go to these servers? ["."]: all of them')
    domains = [name.rstrip(".").lower() for name in dns.domains or ([""] if is_full and dns.domains is None else dns.search)]
    if "" in domains:  # "." is everything
        return
    for at, name in enumerate(dns.search):
        searched = name.rstrip(".").lower()
        if not any(searched == domain or searched.endswith(f".{domain}") for domain in domains):
            tunnel.error(("dns", "search", at), f"{name} is not in domains, but to search it is to ask these servers for it")
    if dns.backend == "file":
        tunnel.refuse(
            ("dns", "backend"), 'resolv.conf cannot send only some names to a server: domains = ["."], or another backend'
        )


_CHECKS = Checks(
    (("driver",), _engine),
    (("accept",), _accept),
    (("driver",), _interface),
    (("mtu",), _mtu),
    (("addresses",), _addresses),
    (("table", "routes", "rules"), _tables),
    (("wireguard",), _wireguard),
    (("exec",), _exec),
    (("routes",), check_routes),
    (("split",), check_split),
    (("rules",), check_rules),
    (("listen",), check_listen),
    (("nat",), _nat),
    (("restart",), _restart),
    (("health",), _health),
)
