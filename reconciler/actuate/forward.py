"""Accepts in somebody else's chain: put there by the front end that keeps the table, taken out by their own words."""

from __future__ import annotations

import os

from reconciler.errors import StepFailed, Unavailable
from reconciler.host.machine import Machine
from reconciler.kinds.forward import Accept
from reconciler.kinds.nat import COMMENT
from reconciler.model.prefix import AF_INET
from reconciler.observe.forward import accept_of, program

TIMEOUT_S = 10.0
_LOCK_S = "5"  # how long iptables waits for another iptables


def create(machine: Machine, wanted: Accept) -> None:
    """In front of all others of its chain. Once: what is there already stays."""
    if wanted.keeper == "nft":
        if not _handles(machine, wanted):
            machine.nft.apply(f"insert rule {_place(wanted)} {_text(wanted)}\n")
        return
    if _run(wanted, "-C", check=False):
        _run(wanted, "-I")


def change(machine: Machine, wanted: Accept, found: Accept, fields: tuple[str, ...]) -> None:
    """There is nothing in it that could differ: all of it is its identity."""
    create(machine, wanted)


def delete(machine: Machine, found: Accept) -> None:
    """Every copy of it."""
    if found.keeper == "nft":
        for handle in _handles(machine, found):
            machine.nft.apply(f"delete rule {_place(found)} handle {handle}\n")
        return
    while not _run(found, "-C", check=False):
        _run(found, "-D")


def _handles(machine: Machine, accept: Accept) -> list[int]:
    place = (accept.family, accept.table, accept.chain)
    rules = machine.nl_nft.rules(*place)
    return [rule.handle for rule in rules if accept_of(rule, "nft", *place) == accept]


def _place(accept: Accept) -> str:
    return f"{accept.family} {accept.table} {accept.chain}"


def _text(accept: Accept) -> str:
    family = "ip" if accept.source.family == AF_INET else "ip6"
    comment = f'comment "{COMMENT}{accept.tunnel}"'
    if accept.answers:
        return f'{family} daddr {accept.source} iifname "{accept.out}" ct state established,related accept {comment}'
    return f'{family} saddr {accept.source} oifname "{accept.out}" accept {comment}'


def _words(accept: Accept) -> list[str]:
    mark = ["-m", "comment", "--comment", f"{COMMENT}{accept.tunnel}"]
    if accept.answers:
        state = ["-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED"]
        return ["-d", str(accept.source), "-i", accept.out, *state, *mark, "-j", "ACCEPT"]
    return ["-s", str(accept.source), "-o", accept.out, *mark, "-j", "ACCEPT"]


def _run(accept: Accept, verb: str, *, check: bool = True) -> int:
    """Its exit code; without `check` 1 says that there is no such rule."""
    import subprocess

    path = program(accept.keeper, accept.family)
    if path is None:
        raise Unavailable(f"{accept}: {accept.keeper} is not installed")
    argv = [path, "-w", _LOCK_S, "-t", accept.table, verb, accept.chain, *_words(accept)]
    try:
        done = subprocess.run(
            argv, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        raise StepFailed(f"{accept}: {os.path.basename(path)} did not answer within {TIMEOUT_S:g} s") from None
    if done.returncode and (check or done.returncode != 1):
        raise StepFailed(f"{accept}: {done.stderr.strip() or f'{path} ended with {done.returncode}'}")
    return done.returncode
