"""The record of what is bound: its form, and that nothing damaged in it is believed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.host import record
from reconciler.host.record import Entry, Record
from reconciler.model.names import TunnelName

ENTRY = Entry(1795994406, {"udp": "0.0.0.0:8443"}, {"udp": "0.0.0.0:8446"})
RECORD = Record("boot", {TunnelName("hub"): ENTRY})


def test_its_form() -> None:
    assert json.loads(record.encode(RECORD)) == {
        "version": 1,
        "boot_id": "boot",
        "tunnels": {
            "hub": {
                "bound_at_unix": 1795994406, "requested": {"udp": "0.0.0.0:8443"}, "endpoints": {"udp": "0.0.0.0:8446"},
            }
        },
    }  # fmt: skip
    assert record.decode(record.encode(RECORD)) == RECORD


def test_of_this_boot_only(tmp_path: Path) -> None:
    assert record.of_boot(tmp_path, "boot") == Record("boot")
    (tmp_path / record.FILE).write_bytes(record.encode(RECORD))
    assert record.of_boot(tmp_path, "boot") == RECORD
    assert record.of_boot(tmp_path, "another") == Record("another")


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", '{"version":1}', '{"version":2,"boot_id":"boot","tunnels":{}}',
        '{"version":1,"boot_id":"boot","tunnels":[]}', '{"version":1,"boot_id":"boot","tunnels":{"../x":{}}}',
        '{"version":1,"boot_id":"boot","tunnels":{"hub":{"bound_at_unix":true}}}',
        '{"version":1,"boot_id":"boot","tunnels":{"hub":{"bound_at_unix":1,"endpoints":{"udp":5}}}}',
        '{"version":1,"boot_id":"boot","tunnels":{"hub":[]}}',
    ],
)  # fmt: skip
def test_damaged_is_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / record.FILE).write_text(text)
    assert record.of_boot(tmp_path, "boot") == Record("boot")
    with pytest.raises(ValueError, match=r"."):
        record.decode(text.encode())


@given(st.binary(max_size=200))
def test_bytes_of_any_kind(content: bytes) -> None:
    try:
        record.decode(content)
    except ValueError:
        pass
