"""The errors of pydantic's core in plain words, with the suggestion that a person would make."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from pydantic_core import ErrorDetails

from reconciler.config import tables
from reconciler.config.lines import Path
from reconciler.config.problems import path_text, shortened
from reconciler.config.schema import DesiredFile
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
_TYPES = {
    "model_type": "a table",
    "model_attributes_type": "a table",
    "dict_type": "a table",
    "list_type": "an array",
    "string_type": "a string",
    "int_type": "an integer",
    "bool_type": "true or false",
    "float_type": "a number",
}


def message(error: ErrorDetails) -> str:
    """One error → its text; unknown keys and their suggestion are `unknown_key`'s."""
    kind = error["type"]
    if kind == "value_error":
        return str(error["ctx"]["error"])
    if kind == "missing":
        return "missing, it is required"
    if kind in _TYPES:
        return f"expected {_TYPES[kind]}, got {shown(error['input'])}{_brackets(error)}"
    if kind == "extra_forbidden":
        return unknown_key(tuple(error["loc"]))
    return "is not valid here"


def _brackets(error: ErrorDetails) -> str:
    """A table where an array of tables belongs is the commonest slip of TOML."""
    path = tuple(error["loc"])
    if error["type"] == "list_type" and isinstance(error["input"], Mapping) and (*_shape(path), "#") in _levels():
        return f": write [[{path_text(path)}]]"
    if error["type"].startswith("model") and isinstance(error["input"], list) and _shape(path) in _levels():
        return f": write [{path_text(path)}]"
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
    return dict(tables.levels(DesiredFile))
