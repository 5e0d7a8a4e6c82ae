"""Any program that moves packets through a TUN device, which it opens itself or finds made before it."""

from __future__ import annotations

from reconciler.drivers.tun import ROOT, user_id
from reconciler.errors import InvalidFile, NotObserved
from reconciler.kinds.link import Link
from reconciler.kinds.owner import Owner
from reconciler.model.facts import Facts, Whereabouts
from reconciler.model.intent import Intent
from reconciler.model.marks import Numbers
from reconciler.model.names import IfName
from reconciler.model.prefix import Prefix, ntop
from reconciler.model.resource import Resource
from reconciler.model.tunnel import Exec, Tunnel
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from reconciler.kinds.listen import Bound

DEFAULT_MTU = 1500  # of a TUN, drivers/net/tun.c
_TRANSPORTS = ("udp", "tcp", "quic")


def link(intent: Intent, facts: Facts, numbers: Numbers, dev: IfName) -> Link:
    settings = intent.tunnel.exec_
    assert settings is not None
    ours = settings.device == "tunctl"
    user = user_id(facts, settings.user) if settings.user else ROOT  # the kernel lets everybody attach to a TUN of nobody
    mtu = intent.tunnel.mtu or (_by_way(intent, facts) if ours else None)
    return Link(
        intent.name, dev, "tun", mtu, up=True, alias=intent.mark.alias, group=numbers.link_group,
        uid=user if ours else None, by_program=not ours,
    )  # fmt: skip


def owner(intent: Intent, facts: Facts, dev: IfName) -> Owner | None:
    settings = intent.tunnel.exec_
    assert settings is not None
    values = {
        "interface": dev,
        "mtu": str(_mtu(intent, settings, facts, dev)),
        "run_dir": f"{facts.run_dir}/tunnels/{intent.name}",
    }
    if settings.manifest:
        values["endpoint"] = _endpoint(intent, facts)
    for port in facts.ports_of(intent.name):
        values[f"listen.{port.entry.transport}.address"] = ntop(port.entry.address)
        values[f"listen.{port.entry.transport}.port"] = str(port.port)
    if settings.user:
        user_id(facts, settings.user)  # a user that does not exist is said before anything is done
    return Owner(
        intent.name, intent.mark, dev, expand(settings.command, values), settings.environment, settings.user,
        by_program=settings.device == "program", any_device=settings.device == "program" and intent.tunnel.interface is None,
        restart_digest=settings.restart_digest,
        ready_timeout_s=settings.ready_timeout_s, stop_grace_s=settings.stop_grace_s, ports=served(intent, facts),
    )  # fmt: skip


def _mtu(intent: Intent, settings: Exec, facts: Facts, dev: IfName) -> int:
    """What a program is told; one that is told another one has to be started again. Of a device that it makes itself it
    decides more than we do. While no way is known, nothing changes."""
    if intent.tunnel.mtu or settings.device != "tunctl" or not any(endpoints(intent.tunnel, facts)):
        return intent.tunnel.mtu or DEFAULT_MTU
    return _by_way(intent, facts) or facts.forwarding.mtus.get(dev) or DEFAULT_MTU


def _by_way(intent: Intent, facts: Facts) -> int | None:
    hosts = tuple(endpoints(intent.tunnel, facts))
    if not hosts:
        return None
    from reconciler.drivers import way  # only for who has such a tunnel

    return way.mtu(intent.tunnel, hosts, facts)


def _endpoint(intent: Intent, facts: Facts) -> str:
    """What a manifest says; without any there is nothing to start the program with."""
    vouched = facts.vouched(intent.name)
    if vouched is None:
        known = facts.whereabouts.get((intent.name, ""), Whereabouts(None, "not looked up"))
        raise (NotObserved if known.unread else InvalidFile)(f"no endpoint is known: {known.trouble}")
    return str(vouched)


def engine(intent: Intent, facts: Facts, numbers: Numbers, dev: IfName) -> Iterator[Resource]:
    return iter(served(intent, facts))


def served(intent: Intent, facts: Facts) -> tuple[Bound, ...]:
    """The ports that its program is to bind."""
    if not intent.tunnel.listen:
        return ()
    from reconciler.kinds import listen

    settings = intent.tunnel.exec_
    patience_s = settings.ready_timeout_s if settings else 0.0
    return tuple(
        listen.wanted(intent, port, by_program=True, mark=intent.mark, patience_s=patience_s)
        for port in facts.ports_of(intent.name)
    )


def prefixes(tunnel: Tunnel) -> Iterator[Prefix]:
    return iter(())


def endpoints(tunnel: Tunnel, facts: Facts) -> Iterator[str]:
    assert tunnel.exec_ is not None
    yield from tunnel.exec_.remote
    vouched = facts.vouched(tunnel.name)
    if vouched is not None:
        yield vouched.host


def expand(command: tuple[str, ...], values: Mapping[str, str]) -> tuple[str, ...]:
    """Placeholders → values, ``{{`` → ``{``. Which ones may stand there was checked when the file was read."""

    return tuple("{".join(_filled(part, values) for part in word.split("{{")) for word in command)


def _filled(text: str, values: Mapping[str, str]) -> str:
    head, *rest = text.split("{")
    return head + "".join(values[name] + tail for name, _, tail in (part.partition("}") for part in rest))


def told_ports(command: Sequence[str], argv: Sequence[str]) -> dict[str, int]:
    """Transport → the port in a command line that was made from this command; as far as it can be read there."""
    pairs = [*zip(command, argv, strict=False)] if len(command) == len(argv) else []
    read = {
        t: _told(word, filled, f"{{listen.{t}.port}}") for t in _TRANSPORTS for word, filled in pairs if f".{t}.port}}" in word
    }
    return {transport: port for transport, port in read.items() if port is not None}


def _told(word: str, filled: str, placeholder: str) -> int | None:
    """``{listen.udp.address}:{listen.udp.port}`` and ``0.0.0.0:8446`` → 8446"""
    head, _, tail = word.partition(placeholder)
    separator = head.rpartition("}")[2]
    if "{" in tail or not filled.endswith(tail) or ("{" in head and not separator):
        return None
    rest = filled.removesuffix(tail)
    digits = rest.rpartition(separator)[2] if "{" in head else rest.removeprefix(head)
    return int(digits) if digits.isascii() and digits.isdecimal() and len(digits) <= 5 else None
