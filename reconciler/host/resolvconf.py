"""resolvconf: three programs of this name. openresolv and Debian's keep records and write resolv.conf from them;
the one of systemd is resolvectl under another name. Told apart by what they do and leave, not by who packaged them.

Records are read from where the program keeps them: no process is started only to look.
"""

from __future__ import annotations

import os

from reconciler.host import children, resolvfile
from reconciler.host.resolvfile import Names
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT_S = 5.0  # openresolv takes 43 ms, Debian's 31 ms, if nothing hooks into them
_PROBE_S = 1.0
_DEBIAN = "/run/resolvconf/interface"
_ORDER = "/etc/resolvconf/interface-order"
_CONFIG = "/etc/resolvconf.conf"
_OPENRESOLV = ("interfaces", "keys")  # below its state directory; keys since 3.13
_STATE_DIR = r"""^\s*state_dir=["']?([^"'\s#;]+)"""
_STEM = r"^([A-Za-z0-9-]+)\*$"

NONE, RESOLVED, OPENRESOLV, DEBIAN, OTHER = "none", "resolved", "openresolv", "debian", "unknown"


class Tool(NamedTuple):
    """The resolvconf of this machine."""

    flavour: str = NONE
    first: str = ""  # Debian's: what a record's name must begin with to stand before those of uplinks


def identify() -> Tool:
    """Which one it is."""
    path = children.find("resolvconf")
    if path is None:
        return Tool()
    if os.path.basename(os.path.realpath(path)) == "resolvectl":
        return Tool(RESOLVED)
    debian, openresolv = os.path.isdir(_DEBIAN), any(map(os.path.isdir, _directories()))
    flavour = _version(path) if debian == openresolv else DEBIAN if debian else OPENRESOLV
    return Tool(flavour, _first() if flavour == DEBIAN else "")


def record_name(tool: Tool, interface: str, mark_id: str) -> str:
    """Of the record of a tunnel; the id in it makes it ours. Debian's orders records by the beginning of their names."""
    first = f"{tool.first}." if tool.first and not interface.startswith(tool.first) else ""
    return f"{first}{interface}.tunctl.{mark_id}"


def records() -> Iterator[tuple[str, str, Names]]:
    """Records of tunctl, whoever's: name, the id in it, what it says. OSError."""
    for directory in (_DEBIAN, *_directories()):
        try:
            names = os.listdir(directory)
        except FileNotFoundError:
            continue
        for name in names:
            _, ours, mark_id = name.rpartition(".tunctl.")
            if ours and (content := resolvfile.read(os.path.join(directory, name))) is not None:
                yield name, mark_id, resolvfile.parse(content)


def others() -> Iterator[Names]:
    """What the records of everybody else say. OSError."""
    for directory in (_DEBIAN, *_directories()):
        try:
            names = sorted(os.listdir(directory))
        except FileNotFoundError:
            continue
        for name in names:
            path = os.path.join(directory, name)
            if ".tunctl." not in name and os.path.isfile(path) and (content := resolvfile.read(path)) is not None:
                yield resolvfile.parse(content)


def add(tool: Tool, record: str, content: bytes) -> None:
    """Sets a record, before all others; with openresolv no other one is used. OSError with the program's words."""
    _run(["-a", record, "-m", "0", "-x"] if tool.flavour == OPENRESOLV else ["-a", record], content)


def delete(tool: Tool, record: str) -> None:
    """Removes a record. One that is not there is fine."""
    _run(["-f", "-d", record] if tool.flavour == OPENRESOLV else ["-d", record])


def update() -> None:
    """Has resolv.conf written anew from the records."""
    _run(["-u"])


def _run(words: list[str], content: bytes = b"") -> None:
    import subprocess

    path = children.find("resolvconf")
    if path is None:
        raise FileNotFoundError(2, "not found", "resolvconf")
    try:
        done = subprocess.run(
            [path, *words],
            input=content,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
            env={"PATH": children.PATH},
            cwd="/",
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"resolvconf {words[0]} did not end within {TIMEOUT_S:g} s") from None
    if done.returncode:
        told = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise OSError(f"resolvconf {words[0]} ended with {done.returncode}{f': {told[-1]}' if told else ''}")


def _version(path: str) -> str:
    """Asked only as long as it has never been used: later its directories tell."""
    import subprocess

    try:
        done = subprocess.run(
            [path, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=_PROBE_S, check=False,
            env={"PATH": children.PATH}, cwd="/",
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return OTHER
    if done.stdout.startswith(b"openresolv"):
        return OPENRESOLV
    return DEBIAN if done.stdout.startswith(b"Debian resolvconf") else OTHER


def _directories() -> tuple[str, ...]:
    """Where openresolv keeps its records."""
    state_dir = _said(_CONFIG, _STATE_DIR) or "/run/resolvconf"
    return tuple(os.path.join(state_dir, name) for name in _OPENRESOLV)


def _first() -> str:
    """The first family of names in Debian's order that is no local resolver: `tun`, unless an administrator changed it."""
    return _said(_ORDER, _STEM)


def _said(path: str, pattern: str) -> str:
    """The first that a file says so; "" when it does not, or is not there."""
    content = resolvfile.read(path)
    if content is None:
        return ""
    import re  # only where one of these files is: `status` has no use for it otherwise

    found = re.search(pattern, content.decode("utf-8", "replace"), re.MULTILINE)
    return found[1] if found else ""
