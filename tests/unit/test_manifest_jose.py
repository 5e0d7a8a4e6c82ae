"""Manifests and somebody else's library for JOSE, in both directions."""

from __future__ import annotations

import json
from typing import Any

import pytest
from joserfc import jws
from joserfc.errors import BadSignatureError
from joserfc.jwk import OKPKey

from reconciler.host.jws import thumbprint
from reconciler.host.manifest import signed, verified
from reconciler.model.manifest import Manifest
from reconciler.model.names import TunnelName
from tests.unit.manifest_of import HEADER, KEY, NOW_US, OTHER, PAYLOAD, private_pem, public_pem

MANIFEST = Manifest("vpn.example.com", NOW_US, NOW_US + 1_000_000, {TunnelName("hub"): {"udp": 8446}})

pytestmark = pytest.mark.filterwarnings("ignore:.*EdDSA")  # RFC 9864 would have it called Ed25519


def key_of(pem: bytes) -> OKPKey:
    return OKPKey.import_key(pem)


def test_they_verify_ours() -> None:
    found: Any = jws.deserialize_json(json.loads(signed(MANIFEST, KEY)), key_of(public_pem()), algorithms=["EdDSA"])
    payload = json.loads(found.payload)
    assert payload["endpoints"] == {"hub": {"udp": 8446}}
    assert payload["bridges"] == ["vpn.example.com:8446"]
    assert found.headers()["kid"] == key_of(public_pem()).thumbprint() == thumbprint(KEY.public_key())


def test_they_refuse_ours_with_another_key() -> None:
    with pytest.raises(BadSignatureError):
        jws.deserialize_json(json.loads(signed(MANIFEST, KEY)), key_of(public_pem(OTHER)), algorithms=["EdDSA"])


def test_we_verify_theirs() -> None:
    made = jws.serialize_json({"protected": HEADER}, json.dumps(PAYLOAD).encode(), key_of(private_pem()), algorithms=["EdDSA"])
    found = verified(json.dumps(made).encode(), KEY.public_key())
    assert found.ports == PAYLOAD["endpoints"]
