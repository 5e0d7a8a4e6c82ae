"""The control socket's protocol: who changes its words says so, for a daemon that still runs knows the old ones."""

from __future__ import annotations

import pytest

from reconciler.daemon import protocol
from reconciler.daemon.protocol import Request, decode, encode
from reconciler.errors import Unavailable, UsageError
from reconciler.model.order import ApplyOptions, Order

REQUEST = Request(Order("apply", file="d.toml", options=ApplyOptions(adopt=True)), "/var/lib/tunctl", "/root", stdin=b"\0\xff")
FIELDS = {  # by version
    1: {
        Request: "order state_dir directory stdin sudo_uid as_json debug lock_timeout_s",
        Order: "command names every orphans source file options timeout_s wait",
        ApplyOptions: "allow_withdraw take_over adopt keep_holds",
    }
}


def test_what_goes_in_comes_out() -> None:
    assert decode(encode(REQUEST).rstrip(b"\n")) == REQUEST


def test_other_fields_are_another_version() -> None:
    """Else a daemon of before an upgrade would say "this is no request", and not "restart me"."""
    found = {kind: " ".join(kind._fields) for kind in (Request, Order, ApplyOptions)}
    assert found == FIELDS[protocol.VERSION], "count VERSION up, and write its fields down here"


@pytest.mark.parametrize("version", [0, 2, "1"])
def test_another_version_is_told_what_to_do(version: object) -> None:
    text = encode(REQUEST).replace(b'"version": 1', f'"version": {version!r}'.replace("'", '"').encode())
    with pytest.raises(Unavailable) as told:
        decode(text)
    assert "restart" in told.value.hint


def test_none_at_all_is_no_request() -> None:
    with pytest.raises(UsageError):
        decode(b"{}")
