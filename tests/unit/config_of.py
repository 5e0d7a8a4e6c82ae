"""Pieces of desired files for tests, and what is said about them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconciler.config.load import load
from reconciler.errors import InvalidFile, Problem, Unavailable
from reconciler.model.prefix import Prefix, parse_prefix

KEY = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="
OTHER_KEY = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
PRIVATE = "SECRETSECRETSECRETSECRETSECRETSECRETSECRETE="  # 44 characters that must never be seen again


def write(directory: Path, text: str, name: str = "d.toml") -> str:
    """Writes a desired file, and a good key `k` and preshared key `psk` beside it."""
    for secret in ("k", "psk"):
        if not (directory / secret).exists():
            (directory / secret).write_text(PRIVATE + "\n")
            (directory / secret).chmod(0o600)
    path = directory / name
    path.write_text(text if text.lstrip().startswith("version") else "version = 1\n" + text)
    path.chmod(0o644)
    return str(path)


def problems(location: str, **options: object) -> list[str]:
    """What is said about an invalid file, its directory left out."""
    with pytest.raises(InvalidFile) as caught:
        load(location, **options)
    assert caught.value.exit_code == 65
    return [str(problem).replace(os.path.dirname(location) + "/", "") for problem in caught.value.details]


def refusals(location: str) -> list[Problem]:
    with pytest.raises(Unavailable) as caught:
        load(location)
    assert caught.value.exit_code == 69
    return list(caught.value.details)


def prefixes(*texts: str) -> tuple[Prefix, ...]:
    return tuple(parse_prefix(text) for text in texts)


WG = """
[tunnels.office]
driver = "wireguard"
[tunnels.office.wireguard]
private_key_file = "k"
"""
PEER = f"""
[[tunnels.office.wireguard.peers]]
public_key = "{KEY}"
"""
PEER2 = PEER.replace(KEY, OTHER_KEY)
EXEC = """
[tunnels.lab]
driver = "exec"
[tunnels.lab.exec]
command = ["/usr/bin/lab"]
"""
TUN = """
[tunnels.t]
driver = "tun"
"""


def judge(directory: Path, text: str, said: list[str]) -> None:
    """Everything in `said` is said about the file, and nothing else."""
    found = problems(write(directory, text))
    for wanted in said:
        assert [line for line in found if wanted in line], found
    assert len(found) == len(said), found
