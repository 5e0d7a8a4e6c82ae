"""The JSON Schema for editors, and the defaults that two rooms must agree on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reconciler.config.jsonschema import json_schema
from reconciler.config.load import load
from reconciler.model.tunnel import Exec, Restart, Tun, Tunnel, WireGuard
from tests.unit.config_of import EXEC, TUN, WG, write


def tables(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if "properties" in node:
            yield node
        for inner in node.values():
            yield from tables(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from tables(inner)


def test_tables_are_closed_and_described() -> None:
    schema = json_schema()
    found = list(tables(schema))
    assert len(found) > 15
    for table in found:
        assert table["additionalProperties"] is False
        assert table["description"]
        for key, value in table["properties"].items():
            assert "description" in value or "$ref" in value, key


def test_it_is_plain_json_without_null() -> None:
    text = json.dumps(json_schema())
    assert '"null"' not in text
    assert 'default": null' not in text
    assert json.loads(text)["$schema"].startswith("https://json-schema.org/")


def test_references_lead_somewhere() -> None:
    schema = json_schema()
    names = {part.split('"')[0] for part in json.dumps(schema).split("#/$defs/")[1:]}
    assert names
    assert names <= set(schema["$defs"])


def test_closed_sets_are_listed() -> None:
    schema = json_schema()
    assert schema["required"] == ["version"]
    tunnel = schema["$defs"]["TunnelTable"]
    assert tunnel["properties"]["driver"]["enum"] == ["wireguard", "tun", "exec", "openvpn", "openconnect"]
    assert tunnel["required"] == ["driver"]


def test_defaults_are_those_of_the_model(tmp_path: Path) -> None:
    office, lab, t = load(write(tmp_path, WG + EXEC + TUN)).tunnels
    assert office == Tunnel("office", "wireguard", "office", wireguard=WireGuard(str(tmp_path / "k")))
    assert lab == Tunnel("lab", "exec", "lab", exec_=Exec(("/usr/bin/lab",)))
    assert t == Tunnel("t", "tun", "t", tun=Tun())
    (tunnel,) = load(write(tmp_path, TUN + "[tunnels.t.restart]\n")).tunnels
    assert tunnel.restart == Restart()
