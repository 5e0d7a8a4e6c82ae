"""Checked tables → the values that the rest of the house knows."""

from __future__ import annotations

from reconciler.config.declared import Declared, Routed
from reconciler.config.references import References, absolute
from reconciler.config.schema import (
    DnsTable,
    ExecTable,
    HealthTable,
    HostTable,
    ListenTable,
    ManifestTable,
    NatTable,
    PeerTable,
    RestartTable,
    RouteTable,
    RuleTable,
    SplitEntry,
    SplitTable,
    TunTable,
    WireGuardTable,
)
from reconciler.model.names import TunnelName
from reconciler.model.prefix import Prefix
from reconciler.model.prefixes import Prefixes
from reconciler.model.tunnel import (
    HANDSHAKE_MAX_AGE_S,
    Dns,
    EndpointManifest,
    Exec,
    Health,
    Host,
    Listen,
    Nat,
    PeerSettings,
    PrefixFile,
    Restart,
    RouteSettings,
    RuleSettings,
    Split,
    Tun,
    Tunnel,
    WireGuard,
)

_RESTART, _TUN = Restart(), Tun()


def host(table: HostTable | None) -> Host:
    if table is None:
        return Host()
    return Host(
        lan=table.lan,
        lan_except=table.lan_except,
        uplink=table.uplink,
        reconcile_interval_s=table.reconcile_interval,
        runtime_file=table.runtime_file,
        mark=table.mark,
        table_base=table.table_base,
        priority_base=table.priority_base,
        link_group=table.link_group,
    )


def tunnel(declared: Declared, references: References) -> Tunnel:
    table, driver, files = declared.table, declared.table.driver, references.prefix_files
    return Tunnel(  # by position: so many names would cost four times as much
        declared.name,
        driver,
        declared.interface,
        table.description,
        table.enabled,
        table.autostart,
        table.addresses,
        table.mtu,
        table.table,
        table.metric,
        table.src,
        _wireguard(declared, table.wireguard) if table.wireguard else None,
        _exec(declared, table.exec, references) if table.exec else None,
        _tun(table.tun) if driver == "tun" else None,
        tuple([_route(entry, files.get(at)) for at, entry in enumerate(table.routes)]),
        tuple(map(_rule, table.rules)) if table.rules else (),
        _restart(table.restart) if table.restart else _RESTART,
        table.ipv6_leak or "block",
        table.on_failure,
        _split(table.split, references) if table.split else None,
        _dns(table.dns) if table.dns else None,
        tuple(map(_nat, table.nat)) if table.nat else (),
        tuple(map(_listen, table.listen)) if table.listen else (),
        _health(table.health, driver) if table.health else None,
    )


def _secret(declared: Declared, reference: str) -> str:
    """As it is kept: absolute, or `credential:NAME`, whose directory differs from start to start."""
    return reference if reference.startswith("credential:") else absolute(declared, reference)


def _wireguard(declared: Declared, table: WireGuardTable) -> WireGuard:
    return WireGuard(
        private_key_file=_secret(declared, table.private_key_file),
        listen_port=table.listen_port,
        backend=table.backend,
        userspace_command=table.userspace_command,
        route_allowed_ips=table.route_allowed_ips,
        peers=tuple(_peer(declared, peer) for peer in table.peers),
    )


def _peer(declared: Declared, table: PeerTable) -> PeerSettings:
    return PeerSettings(
        public_key=table.public_key,
        allowed_ips=tuple(sorted(set(table.allowed_ips))),
        name=table.name,
        preshared_key_file=_secret(declared, table.preshared_key_file) if table.preshared_key_file else None,
        endpoint=table.endpoint,
        keepalive_s=table.keepalive,
        manifest=_manifest(declared, table.endpoint_manifest),
    )


def _manifest(declared: Declared, table: ManifestTable | None) -> EndpointManifest | None:
    if table is None:
        return None
    return EndpointManifest(
        file=absolute(declared, table.file),
        public_key_file=absolute(declared, table.public_key_file),
        tunnel=None if table.tunnel is None else TunnelName(table.tunnel),
        transport=table.transport,
        refresh_s=table.refresh,
    )


def _exec(declared: Declared, table: ExecTable, references: References) -> Exec:
    return Exec(
        command=table.command,
        device=table.device or ("tunctl" if table.user else "program"),
        environment=tuple(sorted(table.environment.items())),
        user=table.user,
        remote=table.remote,
        restart_on=tuple(absolute(declared, name) for name in table.restart_on),
        restart_digest=references.restart_digest,
        ready_timeout_s=table.ready_timeout,
        stop_grace_s=table.stop_grace,
        manifest=_manifest(declared, table.endpoint_manifest),
    )


def _tun(table: TunTable | None) -> Tun:
    if table is None or not table.given:
        return _TUN
    return Tun(table.mode, table.owner, table.group, table.multi_queue)


def _route(entry: RouteTable, listed: tuple[PrefixFile, Prefixes] | None) -> RouteSettings:
    file = listed[0] if listed else None
    return RouteSettings(entry.to or (), file, entry.metric, entry.table, entry.via, entry.src, entry.type)


def _rule(entry: RuleTable) -> RuleSettings:
    return RuleSettings(
        lookup=entry.lookup,
        from_=tuple(dict.fromkeys(entry.from_ or ())),
        to=tuple(dict.fromkeys(entry.to or ())),
        iif=entry.iif,
        fwmark=entry.fwmark,
        uid_range=entry.uid_range,
    )


def _split(table: SplitTable, references: References) -> Split:
    def inline(entries: tuple[SplitEntry, ...]) -> tuple[Prefix, ...]:
        return tuple(dict.fromkeys(prefix for entry in entries for prefix in entry.cidr or ()))

    def of_files(side: str) -> tuple[PrefixFile, ...]:
        return tuple(file for (where, _), (file, _) in references.split_files.items() if where == side)

    return Split(inline(table.vpn), of_files("vpn"), inline(table.direct), of_files("direct"))


def _dns(table: DnsTable) -> Dns:
    return Dns(table.servers, table.search, table.domains, table.backend, table.priority)


def _nat(entry: NatTable) -> Nat:
    return Nat(tuple(dict.fromkeys(entry.source)), entry.out, entry.masquerade, entry.forward)


def _listen(entry: ListenTable) -> Listen:
    return Listen(entry.transport, entry.address, entry.port, entry.scan)


def _restart(table: RestartTable) -> Restart:
    return Restart(table.base, table.factor, table.max, table.attempts)


def _health(table: HealthTable, driver: str) -> Health:
    max_age_s = table.handshake_max_age
    if max_age_s is None and driver == "wireguard":
        max_age_s = HANDSHAKE_MAX_AGE_S
    return Health(max_age_s, tuple(dict.fromkeys(table.ping)), table.interval, table.failures, table.action)


def routed(declared: Declared, references: References) -> list[Routed]:
    """Everything of a tunnel that becomes routes, with the key it stands at."""
    table = declared.table
    result: list[Routed] = []
    if table.split and table.split.vpn:
        for at, one in enumerate(table.split.vpn):
            result.append(Routed(("split", "vpn", at, "cidr"), tuple(dict.fromkeys(one.cidr or ())), table.metric, table.table))
            if ("vpn", at) in references.split_files:
                listed = references.split_files["vpn", at][1]
                result.append(Routed(("split", "vpn", at, "cidr_file"), listed, table.metric, table.table))
    elif table.wireguard is not None and table.wireguard.route_allowed_ips:
        for at, peer in enumerate(table.wireguard.peers):
            prefixes: tuple[Prefix, ...] = tuple(dict.fromkeys(peer.allowed_ips))
            result.append(Routed(("wireguard", "peers", at, "allowed_ips"), prefixes, table.metric, table.table))
    for at, entry in enumerate(table.routes):
        metric = table.metric if entry.metric is None else entry.metric
        number = entry.table or table.table
        result.append(Routed(("routes", at, "to"), entry.to or (), metric, number))
        if at in references.prefix_files:
            result.append(Routed(("routes", at, "to_file"), references.prefix_files[at][1], metric, number))
    return result
