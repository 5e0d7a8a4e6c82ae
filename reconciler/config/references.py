"""What a tunnel refers to outside its file: keys, prefix files, watched files, users."""

from __future__ import annotations

import os

from reconciler.config import files, prefixfile
from reconciler.config.declared import Checks, Declared
from reconciler.config.files import Unreadable
from reconciler.config.lines import Path
from reconciler.config.prefixfile import Listed
from reconciler.config.problems import escaped, path_text, printable
from reconciler.config.routechecks import check_families
from reconciler.config.schema import ExecTable, ManifestTable, SplitTable
from reconciler.errors import Problem
from reconciler.host import accounts
from reconciler.model.prefixes import Prefixes
from reconciler.model.tunnel import PrefixFile
from reconciler.typed import NamedTuple

_NAME_S = 3.0


class References(NamedTuple):
    """What was found there."""

    prefix_files: dict[int, tuple[PrefixFile, Prefixes]]  # by the index of the route
    split_files: dict[tuple[str, int], tuple[PrefixFile, Prefixes]]  # by side (vpn, direct) and index
    restart_digest: str

    @property
    def files(self) -> list[PrefixFile]:
        return [file for file, _ in (*self.prefix_files.values(), *self.split_files.values())]


NOTHING = References({}, {}, "")


class Shelf:
    """Files already read: several tunnels may name the same prefix file."""

    def __init__(self, recorder: files.Recorder) -> None:
        self.recorder = recorder
        self._listed: dict[str, tuple[Listed, PrefixFile]] = {}

    def listed(self, path: str) -> Listed:
        if path not in self._listed:
            listed = prefixfile.read(path, self.recorder)
            self._listed[path] = (listed, listed.stored(path))
        return self._listed[path][0]

    def stored(self, path: str) -> PrefixFile:
        """Of a path that `listed` was asked for before."""
        return self._listed[path][1]


def resolve(tunnel: Declared, shelf: Shelf) -> References:
    """Looks at everything that the tunnel names; errors and warnings go to its findings."""
    table = tunnel.table
    for look in _LOOKS.of(table.given):
        look(tunnel)
    found = {}
    for at, entry in enumerate(table.routes):
        if entry.to_file is not None:
            path: Path = ("routes", at, "to_file")
            listed = _prefix_file(tunnel, path, entry.to_file, shelf)
            if listed is not None:
                check_families(tunnel, path[:-1], entry, listed.prefixes)
                found[at] = (shelf.stored(absolute(tunnel, entry.to_file)), listed.prefixes)
    split_files = _split_files(tunnel, table.split, shelf) if table.split else {}
    digest = _restart_digest(tunnel, table.exec, shelf.recorder) if table.exec else ""
    return References(found, split_files, digest) if found or split_files or digest else NOTHING


def _split_files(tunnel: Declared, split: SplitTable, shelf: Shelf) -> dict[tuple[str, int], tuple[PrefixFile, Prefixes]]:
    found = {}
    for side in ("vpn", "direct"):
        for at, entry in enumerate(getattr(split, side)):
            if entry.cidr_file is not None:
                listed = _prefix_file(tunnel, ("split", side, at, "cidr_file"), entry.cidr_file, shelf)
                if listed is not None:
                    found[side, at] = (shelf.stored(absolute(tunnel, entry.cidr_file)), listed.prefixes)
    return found


def absolute(tunnel: Declared, path: str) -> str:
    return os.path.join(tunnel.document.base, path)


def _secrets(tunnel: Declared) -> None:
    table = tunnel.table.wireguard
    if table is None:
        return
    _secret(tunnel, ("wireguard", "private_key_file"), table.private_key_file, is_key=True)
    for at, peer in enumerate(table.peers):
        if peer.preshared_key_file is not None:
            _secret(tunnel, ("wireguard", "peers", at, "preshared_key_file"), peer.preshared_key_file, is_key=True)


def _secret(tunnel: Declared, path: Path, reference: str, *, is_key: bool) -> None:
    lenient = tunnel.manner.lenient
    if lenient and reference.startswith("credential:") and not os.environ.get("CREDENTIALS_DIRECTORY"):
        return  # systemd hands it out when the daemon runs
    try:
        place = files.secret_path(reference, tunnel.document.base)
    except Unreadable as error:
        tunnel.error(path, str(error))
        return
    try:
        problem = files.secret_problem(place, check_owner=not lenient, is_wireguard_key=is_key)
    except Unreadable as error:
        _unreadable(tunnel, path, place, error, forgive_denied=True)
        return
    if problem:
        tunnel.error(path, problem)


def _manifests(tunnel: Declared) -> None:
    """The keys that decide whom to believe. What a manifest says is looked at in every pass, beside the last good one."""
    wireguard, exec_ = tunnel.table.wireguard, tunnel.table.exec
    tables: list[tuple[Path, ManifestTable | None]] = [
        (("exec", "endpoint_manifest"), exec_.endpoint_manifest if exec_ else None)
    ]
    for at, peer in enumerate(wireguard.peers if wireguard else ()):
        tables.append((("wireguard", "peers", at, "endpoint_manifest"), peer.endpoint_manifest))
    for path, table in tables:
        if table is not None:
            _public_key(tunnel, (*path, "public_key_file"), absolute(tunnel, table.public_key_file))
            _is_there(tunnel, (*path, "file"), absolute(tunnel, table.file))


def _public_key(tunnel: Declared, path: Path, place: str) -> None:
    try:
        problem = files.public_key_problem(place, check_owner=not tunnel.manner.lenient)
    except Unreadable as error:
        _unreadable(tunnel, path, place, error, forgive_denied=True)
        return
    if problem:
        tunnel.error(path, problem)


def _is_there(tunnel: Declared, path: Path, place: str) -> None:
    """`check` has nothing to compare with; elsewhere the last good one may do."""
    if tunnel.manner.lenient:
        try:
            files.status(place)
        except Unreadable as error:
            tunnel.warn(path, f"{place}: {error}")


def _unreadable(tunnel: Declared, path: Path, place: str, error: Unreadable, *, forgive_denied: bool) -> None:
    if error.denied and forgive_denied:
        tunnel.warn(path, f"{place}: {error}: not compared")
    elif error.absent and tunnel.manner.lenient:
        tunnel.warn(path, f"{place}: {error}")
    else:
        tunnel.error(path, f"{place}: {error}")


def _prefix_file(tunnel: Declared, path: Path, name: str, shelf: Shelf) -> Listed | None:
    place = absolute(tunnel, name)
    try:
        listed = shelf.listed(place)
    except Unreadable as error:
        _unreadable(tunnel, path, place, error, forgive_denied=False)
        return None
    key = path_text((*tunnel.path, *path))
    for line, message in listed.bad:
        tunnel.findings.errors.append(Problem(printable(place), line, key, escaped(message)))
    if listed.more_bad:
        tunnel.error(path, f"{place}: {listed.more_bad} more lines are wrong")
    if listed.repeated:
        tunnel.warn(path, f"{place}: {listed.repeated} lines repeat a prefix; each counts once")
    return None if listed.bad else listed


def _restart_digest(tunnel: Declared, table: ExecTable, recorder: files.Recorder) -> str:
    if not table.restart_on:
        return ""
    from hashlib import sha256  # with OpenSSL, for few

    whole = sha256()
    for at, name in enumerate(table.restart_on):
        place = absolute(tunnel, name)
        try:
            whole.update(files.digest(place, recorder).encode())
        except Unreadable as error:
            whole.update(b"unreadable " + os.fsencode(place))
            _unreadable(tunnel, ("exec", "restart_on", at), place, error, forgive_denied=True)
    return whole.hexdigest()


def _users(tunnel: Declared) -> None:
    exec_, tun = tunnel.table.exec, tunnel.table.tun
    if exec_ is not None and exec_.user is not None:
        _known(tunnel, ("exec", "user"), exec_.user)
    if tun is not None and tun.owner is not None:
        _known(tunnel, ("tun", "owner"), tun.owner)
    if tun is not None and tun.group is not None:
        _known(tunnel, ("tun", "group"), tun.group)


def _known(tunnel: Declared, path: Path, name: str) -> None:
    kind = "group" if path[-1] == "group" else "user"
    try:
        found = accounts.group(name, _NAME_S) if kind == "group" else accounts.user(name, _NAME_S)
    except TimeoutError:
        tunnel.warn(path, f"{kind} {name!r}: the name service of this machine does not answer")
        return
    if found is None:
        say = tunnel.warn if tunnel.manner.lenient else tunnel.error
        say(path, f"there is no {kind} {name!r} on this machine")


def _not_built_yet(tunnel: Declared) -> None:
    """Files of parts that are refused anyway: judged where they are there, not missed where they are not."""
    table = tunnel.table
    secrets: list[tuple[Path, str | None]] = []
    if table.openvpn is not None:
        secrets.append((("openvpn", "credentials_file"), table.openvpn.credentials_file))
    if table.openconnect is not None:
        keys = ("password_file", "totp_secret_file", "key_file")
        secrets += [(("openconnect", key), getattr(table.openconnect, key)) for key in keys]
    for path, name in secrets:
        if name is not None and (name.startswith("credential:") or os.path.exists(absolute(tunnel, name))):
            _secret(tunnel, path, name, is_key=False)


_LOOKS = Checks(
    (("wireguard",), _secrets),
    (("wireguard", "exec"), _manifests),
    (("openvpn", "openconnect"), _not_built_yet),
    (("exec", "tun"), _users),
)
