"""What is wrong with the shape of a document in plain words, with the suggestion that a person would make."""

from __future__ import annotations

import difflib

from reconciler.config.lines import Path
from reconciler.config.problems import path_text, shortened
from reconciler.config.schema import DesiredFile
from reconciler.config.tables import Wrong
from reconciler.config.values import shown
from reconciler.lean import cache

Shape = tuple[str, ...]  # a place in any document: "*" is a name, "#" an index

# What people who know other tools write, and what it is called here.
_ELSEWHERE = {
    "vpn_cidrs": "'cidr' in [[tunnels.X.split.vpn]]",
    "direct_cidrs": "'cidr' in [[tunnels.X.split.direct]]",
    "gateway": "'via'",
    "peer": "[[tunnels.X.wireguard.peers]]",
    "private_key": "'private_key_file'",
    "preshared_key": "'preshared_key_file'",
    "persistent_keepalive": "'keepalive'",
    "address": "'addresses'",
    "route": "[[tunnels.X.routes]]",
    "rule": "[[tunnels.X.rules]]",
    "dst": "'to'",
    "env": "'environment'",
}


def message(wrong: Wrong) -> str:
    """One error → its text; unknown keys and their suggestion are `unknown_key`'s."""
    if wrong.kind == "missing":
        return "missing, it is required"
    if wrong.kind == "unknown":
        return unknown_key(wrong.path)
    if wrong.kind == "value":
        return wrong.words
    return f"expected {'an array' if wrong.kind == 'array' else 'a table'}, got {shown(wrong.value)}{_brackets(wrong)}"


def _brackets(wrong: Wrong) -> str:
    """A table where an array of tables belongs is the commonest slip of TOML."""
    here = _shape(wrong.path)
    if wrong.kind == "array" and isinstance(wrong.value, dict) and (*here, "#") in _levels():
        return f": write [[{path_text(wrong.path)}]]"
    if wrong.kind == "table" and isinstance(wrong.value, list) and here in _levels():
        return f": write [{path_text(wrong.path)}]"
    return ""


def unknown_key(path: Path) -> str:
    """``unknown key 'mtuu', did you mean 'mtu'?`` or where a key of this name belongs."""
    key = str(path[-1])
    text = f"unknown key {shortened(key)!r}"
    here = _shape(path[:-1])
    siblings = _levels().get(here, ())
    homes = _homes(key, here)
    near = _near(key, siblings, cutoff=0.85 if homes else 0.6)
    if near:
        return f"{text}, did you mean {near!r}?"
    if homes:
        return f"{text}, it belongs in {' or '.join(_title(home, path) for home in homes)}"
    if _squashed(key) in _ELSEWHERES:
        return f"{text}, did you mean {_ELSEWHERES[_squashed(key)].replace('X', _tunnel(path))}?"
    for home in sorted(_levels(), key=lambda level: _distance(level, here)):
        near = _near(key, _levels()[home], cutoff=0.84)
        if near:
            return f"{text}, did you mean {near!r} in {_title(home, path)}?"
    return text


def _near(key: str, keys: tuple[str, ...], cutoff: float = 0.6) -> str:
    same = [known for known in keys if _squashed(known) == _squashed(key)]
    return next(iter(same or difflib.get_close_matches(shortened(key), keys, 1, cutoff)), "")


def _squashed(key: str) -> str:
    """``AllowedIPs``, ``allowed-ips`` and ``allowed_ips`` are the same word."""
    return key.replace("_", "").replace("-", "").lower()


_ELSEWHERES = {_squashed(key): meant for key, meant in _ELSEWHERE.items()}


def _homes(key: str, here: Shape) -> list[Shape]:
    """The nearest tables that have this key, two at the most."""
    homes = [level for level, keys in _levels().items() if key in keys]
    if not homes:
        return []
    nearest = min(_distance(level, here) for level in homes)
    return [level for level in homes if _distance(level, here) == nearest][:2]


def _distance(level: Shape, here: Shape) -> int:
    """Steps up and down from one table to the other."""
    same = 0
    for ours, theirs in zip(level, here, strict=False):
        if ours != theirs:
            break
        same += 1
    return len(level) + len(here) - 2 * same


def _title(level: Shape, path: Path) -> str:
    """``[tunnels.office.wireguard]``, ``[[tunnels.office.routes]]``; the tunnel is the one of `path`, else X."""
    if not level:
        return "the top of the file"
    words = [_tunnel(path) if part == "*" else part for part in level if part != "#"]
    return f"[[{'.'.join(words)}]]" if level[-1] == "#" else f"[{'.'.join(words)}]"


def _tunnel(path: Path) -> str:
    return path_text((path[1],)) if len(path) > 2 and path[0] == "tunnels" else "X"


def _shape(path: Path) -> Shape:
    return tuple(
        "#" if isinstance(part, int) else "*" if at == 1 and path[0] == "tunnels" else part for at, part in enumerate(path)
    )


@cache
def _levels() -> dict[Shape, tuple[str, ...]]:
    """Every table of the format → its keys."""
    return dict(DesiredFile.levels())
