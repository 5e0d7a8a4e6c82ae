"""Manifests: what is signed is what is read, and what must not be believed is refused with its reason."""

from __future__ import annotations

import json
import random
from base64 import urlsafe_b64decode
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from reconciler.host import jws
from reconciler.host.jws import Refused
from reconciler.host.keyfile import signing_key, verifying_key
from reconciler.host.manifest import KIND, LIMIT, SKEW_US, early, late, signed, verified
from reconciler.model.manifest import TRANSPORTS, Manifest
from reconciler.model.names import TunnelName
from reconciler.model.tunnel import Endpoint
from tests.unit import manifest_of
from tests.unit.manifest_of import KEY, NOW_US, OTHER, headed, manifest, private_pem, public_pem

PUBLIC = KEY.public_key()
HUB = TunnelName("hub")
LATEST_US = 253_402_300_799_999_999  # the last microsecond of the year 9999

ports = st.dictionaries(st.sampled_from(TRANSPORTS), st.integers(1, 65535), max_size=3)
names = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,31}", fullmatch=True)
hosts = st.sampled_from(["vpn.example.com", "a", "xn--bcher-kva.example.", "203.0.113.10", "2001:db8::1"])


@given(hosts, st.integers(0, LATEST_US - 1), st.data(), st.dictionaries(names, ports, min_size=1, max_size=5))
def test_what_is_signed_is_what_is_read(host: str, issued_us: int, data: st.DataObject, given_ports: Any) -> None:
    made = Manifest(host, issued_us, data.draw(st.integers(issued_us + 1, LATEST_US)), given_ports)
    assert verified(signed(made, KEY), PUBLIC) == made


def test_the_form() -> None:
    """Flattened, nothing that is not signed, and all that PRODUCT and old readers want to find."""
    made = Manifest("2001:db8::1", NOW_US, NOW_US + 1_500_000, {HUB: {"udp": 8446, "tcp": 8446}, TunnelName("b"): {"quic": 1}})
    outer = json.loads(signed(made, KEY))
    assert outer.keys() == {"payload", "protected", "signature"}
    header, payload = (json.loads(urlsafe_b64decode(outer[name] + "==")) for name in ("protected", "payload"))
    assert header == {"alg": "EdDSA", "typ": KIND, "kid": jws.thumbprint(PUBLIC)}
    assert payload == {
        "version": 1,
        "host": "2001:db8::1",
        "issued_at": "2027-01-15T08:00:00.000000Z",
        "expires_at": "2027-01-15T08:00:01.500000Z",
        "endpoints": {"b": {"quic": 1}, "hub": {"tcp": 8446, "udp": 8446}},
        "bridges": ["[2001:db8::1]:1", "[2001:db8::1]:8446"],
    }
    assert next(iter(made.endpoints())) == ("b", "quic", Endpoint("2001:db8::1", 1))


def test_a_thumbprint_is_that_of_the_rfc() -> None:
    """RFC 8037, appendix A.3."""
    x = urlsafe_b64decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
    key = Ed25519PublicKey.from_public_bytes(x)
    assert jws.thumbprint(key) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_the_signature_is_that_of_the_rfc() -> None:
    """RFC 8037, appendix A.4: header {"alg":"EdDSA"}, payload `Example of Ed25519 signing`."""
    private = urlsafe_b64decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
    made = manifest_of.jws(b"Example of Ed25519 signing", b'{"alg":"EdDSA"}', Ed25519PrivateKey.from_private_bytes(private))
    assert made["signature"] == "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"


GOOD = json.loads(manifest())
AS_BEFORE = {
    "plain": manifest(),
    "blanks": json.dumps(GOOD, indent=4).encode() + b"\n\n",
    "more members": json.dumps({**GOOD, "comment": "x"}).encode(),
    "of a later version of the payload": manifest(comment={"a": [1.5]}),
    "header of others": headed(x=1, jku="https://evil.example/", jwk={"kty": "oct"}),
    "our key by name": headed(kid=jws.thumbprint(PUBLIC)),
}


@pytest.mark.parametrize("content", AS_BEFORE.values(), ids=AS_BEFORE)
def test_accepted(content: bytes) -> None:
    found = verified(content, PUBLIC)
    assert (found.host, found.ports) == ("vpn.example.com", {"hub": {"udp": 8446, "tcp": 8443}})
    assert (found.issued_us, found.expires_us) == (NOW_US - 1_000_000, NOW_US + 7 * 86_400_000_000 + 500_000)


def damaged(member: str, change: Any) -> bytes:
    return json.dumps({**GOOD, member: change(GOOD[member])}).encode()


def without(member: str) -> bytes:
    return json.dumps({name: value for name, value in GOOD.items() if name != member}).encode()


def flipped(text: str) -> str:
    return ("B" if text[0] == "A" else "A") + text[1:]


def outer(text: str) -> bytes:
    """Around a good signature."""
    return text.replace("GOOD", json.dumps(GOOD)[1:-1]).encode()


def payload(raw: bytes) -> bytes:
    """Signed, whatever it is."""
    return json.dumps(manifest_of.jws(raw)).encode()


def header(raw: bytes) -> bytes:
    return json.dumps(manifest_of.jws(json.dumps(manifest_of.PAYLOAD).encode(), raw)).encode()


REFUSED: dict[str, tuple[bytes, str]] = {
    # the file
    "empty": (b"", "it is not JSON"),
    "half": (manifest()[:200], "it is not JSON"),
    "its end is lost": (manifest()[:-1], "it is not JSON"),
    "more behind it": (manifest() + b"{}", "it is not JSON"),
    "binary": (b"\xff\xfe\0", "it is not text"),
    "byte order mark": (b"\xef\xbb\xbf" + manifest(), "it is not JSON"),
    "compact": (".".join(GOOD[name] for name in ("protected", "payload", "signature")).encode(), "it is not JSON"),
    "a list": (b"[]", "it is no JSON object"),
    "a number": (b"7", "it is no JSON object"),
    "deep": (b"[" * 200_000, "it is nested too deeply"),
    "deep in an object": (b'{"payload":' * 90_000, "it is nested too deeply"),
    "huge": (b" " * (LIMIT + 1), f"it is larger than {LIMIT} bytes"),
    "huge number": (b'{"a":' + b"9" * 5000 + b"}", "it is not JSON"),
    "no number": (b'{"a":NaN}', "NaN is no number"),
    "general": (outer('{"payload":"x","signatures":[]}'), "several signatures"),
    "header beside": (outer('{GOOD,"header":{"alg":"EdDSA"}}'), "a header that is not signed"),
    "payload twice": (outer('{GOOD,"payload":"e30"}'), "it has the key 'payload' twice"),
    "without payload": (without("payload"), "it has no payload"),
    "without header": (without("protected"), "it has no protected"),
    "without signature": (without("signature"), "it has no signature"),
    "payload a number": (damaged("payload", len), "its payload is no text"),
    # its coding
    "padded": (damaged("signature", lambda text: text + "=="), "its signature is not base64url as it must be written"),
    "of the other alphabet": (damaged("payload", lambda text: "+/" + text[2:]), "its payload is not base64url as it must be"),
    "blank inside": (damaged("payload", lambda text: text[:5] + "\n" + text[5:]), "its payload is not base64url"),
    "spare bits": (damaged("signature", lambda text: text[:-1] + chr(ord(text[-1]) + 1)), "its signature is not base64url"),
    "one letter too many": (damaged("signature", lambda text: text[:85]), "its signature is not base64url"),
    "outside ASCII": (damaged("payload", lambda text: "ä" + text), "its payload is not base64url"),
    "half a surrogate": (damaged("protected", lambda _: "\ud800"), "its protected is not base64url"),
    # its signature
    "another key": (manifest(OTHER), "its signature does not fit"),
    "payload changed": (damaged("payload", lambda text: text[:40] + flipped(text[40:])), "its signature does not fit"),
    "signature changed": (damaged("signature", flipped), "its signature does not fit"),
    "signature short": (damaged("signature", lambda text: text[:84]), "its signature has 63 bytes, not 64"),
    "signature empty": (damaged("signature", lambda _: ""), "its signature has 0 bytes, not 64"),
    # its header
    "not signed": (headed(alg="none"), "the algorithm 'none', only EdDSA counts"),
    "not signed at all": (json.dumps({**json.loads(headed(alg="none")), "signature": ""}).encode(), "the algorithm 'none'"),
    "none, otherwise written": (headed(alg="NonE"), "the algorithm 'NonE'"),
    "signed by a shared secret": (headed(alg="HS256"), "the algorithm 'HS256'"),
    "EdDSA in small letters": (headed(alg="eddsa"), "the algorithm 'eddsa'"),
    "algorithm a list": (headed(alg=["EdDSA"]), "the algorithm ['EdDSA']"),
    "without algorithm": (headed(alg=...), "the algorithm None"),
    "two algorithms": (header(b'{"alg":"none","alg":"EdDSA","typ":"tunctl-endpoints+json"}'), "the key 'alg' twice"),
    "critical": (headed(crit=["exp"], exp=1), "extensions that nobody here knows (crit ['exp'])"),
    "critical, nothing": (headed(crit=[]), "(crit [])"),
    "not encoded": (headed(crit=["b64"], b64=False), "(crit ['b64'])"),
    "another sort of document": (headed(typ="JWT"), "the type 'JWT', not 'tunctl-endpoints+json'"),
    "no sort of document": (headed(typ=...), "the type None"),
    "by another key, and says so": (headed(kid=jws.thumbprint(OTHER.public_key())), "it is signed with another key"),
    "key a number": (headed(kid=7), "it is signed with another key, 7"),
    "header a list": (header(b"[]"), "its header is no JSON object"),
    "header not JSON": (header(b"{"), "its header is not JSON"),
    "header not text": (header(b"\xff"), "its header is not text"),
    # its payload
    "payload not JSON": (payload(b"x"), "its payload is not JSON"),
    "payload a list": (payload(b"[1]"), "its payload is no JSON object"),
    "payload empty": (payload(b""), "its payload is not JSON"),
    "host twice": (payload(b'{"host":"a","host":"b"}'), "it has the key 'host' twice"),
    "a port twice": (payload(b'{"endpoints":{"hub":{"udp":1,"udp":2}}}'), "it has the key 'udp' twice"),
    "a later version": (manifest(version=2), "it has version 2, only 1"),
    "version true": (manifest(version=True), "it has version True"),
    "version 1.0": (manifest(version=1.0), "it has version 1.0"),
    "without version": (manifest(version=...), "it has version None"),
    "without host": (manifest(host=...), "its host None"),
    "host empty": (manifest(host=""), "its host ''"),
    "host a command": (manifest(host="a;b"), "its host 'a;b'"),
    "host with a blank": (manifest(host="a b"), "its host 'a b'"),
    "host an option": (manifest(host="-o"), "its host '-o'"),
    "host with a port": (manifest(host="a:1"), "its host 'a:1'"),
    "host with brackets": (manifest(host="[::1]"), "its host '[::1]'"),
    "host nowhere": (manifest(host="0.0.0.0"), "its host '0.0.0.0'"),
    "host half an address": (manifest(host="1.2.3"), "its host '1.2.3'"),
    "host long": (manifest(host="a." * 200), "its host 'a.a."),
    "host NUL": (manifest(host="a\0"), "its host 'a\\x00'"),
    "host half a surrogate": (manifest(host="\ud800"), "its host '\\ud800'"),
    "time a number": (manifest(issued_at=1800000000), "its issued_at 1800000000 is no time"),
    "no time": (manifest(expires_at=...), "its expires_at None is no time"),
    "time of another zone": (manifest(issued_at="2027-01-15T08:00:00+01:00"), "its issued_at '2027-01-15T08:00:00+01:00' is"),
    "no such day": (manifest(issued_at="2027-02-30T08:00:00Z"), "its issued_at '2027-02-30T08:00:00Z' is no time"),
    "before all time": (manifest(issued_at="1969-12-31T23:59:59Z"), "is no time"),
    "no such hour": (manifest(issued_at="2027-01-15T25:00:00Z"), "is no time"),
    "digits of others": (manifest(issued_at="٢027-01-15T08:00:00Z"), "is no time"),
    "expires before": (manifest(expires_at=manifest_of.PAYLOAD["issued_at"]), "it expires (2027-01-15T07:59:59.000000Z) b"),
    "without endpoints": (manifest(endpoints=...), "it names no endpoints"),
    "endpoints empty": (manifest(endpoints={}), "it names no endpoints"),
    "endpoints a list": (manifest(endpoints=["hub"]), "it names no endpoints"),
    "a name that is none": (manifest(endpoints={"Hub": {"udp": 1}}), "'Hub', which is no name of a tunnel"),
    "a tunnel a port": (manifest(endpoints={"hub": 8446}), "its endpoints of hub are no JSON object"),
    "another transport": (manifest(endpoints={"hub": {"sctp": 1}}), "the transport 'sctp': udp, tcp, quic are known"),
    "port 0": (manifest(endpoints={"hub": {"udp": 0}}), "its udp port of hub, 0, is no port"),
    "port 65536": (manifest(endpoints={"hub": {"udp": 65536}}), "65536, is no port"),
    "port true": (manifest(endpoints={"hub": {"udp": True}}), "True, is no port"),
    "port text": (manifest(endpoints={"hub": {"udp": "8446"}}), "'8446', is no port"),
    "port 1.0": (manifest(endpoints={"hub": {"udp": 1.0}}), "1.0, is no port"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "why"), REFUSED.values(), ids=REFUSED)
def test_refused_with_its_reason(content: bytes, why: str) -> None:
    with pytest.raises(Refused) as caught:
        verified(content, PUBLIC)
    assert why in str(caught.value)
    assert len(str(caught.value)) < 300


def test_every_bit_counts() -> None:
    """Whichever bit of the signed parts is another one: refused."""
    chance = random.Random(1)
    for name in GOOD:
        raw = urlsafe_b64decode(GOOD[name] + "==")
        for bit in chance.sample(range(len(raw) * 8), 200):
            changed = bytearray(raw)
            changed[bit // 8] ^= 1 << bit % 8
            with pytest.raises(Refused):
                verified(json.dumps({**GOOD, name: manifest_of.encoded(bytes(changed))}).encode(), PUBLIC)


def test_when_it_counts() -> None:
    assert early(NOW_US, NOW_US - SKEW_US) == ""
    told = early(NOW_US, NOW_US - SKEW_US - 1)
    assert told == "it is not valid yet: issued at 2027-01-15T08:00:00.000000Z, and here it is 2027-01-15T07:54:59.999999Z"
    assert late(NOW_US + 10, NOW_US + 9) == ""
    assert late(NOW_US + 10, NOW_US + 10) == "it expired at 2027-01-15T08:00:00.000010Z"


def spki(key: Any) -> bytes:
    return bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def pkcs8(key: Any, secret: bytes = b"") -> bytes:
    locked = BestAvailableEncryption(secret) if secret else NoEncryption()
    return bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked))


def test_keys_that_are_none() -> None:
    """Of another sort or curve, of the other half, locked, damaged."""
    others = [generate_private_key(65537, 2048), X25519PrivateKey.generate(), Ed448PrivateKey.generate()]
    for key in others:
        with pytest.raises(ValueError, match="is not an Ed25519 key"):
            signing_key(pkcs8(key))
        with pytest.raises(ValueError, match="is not an Ed25519 key"):
            verifying_key(spki(key))
    with pytest.raises(ValueError, match="is encrypted"):
        signing_key(pkcs8(KEY, b"secret"))
    with pytest.raises(ValueError, match="is a private key"):
        verifying_key(private_pem())
    for junk in (b"", b"\xff", public_pem()[:60], b"A" * 43 + b"=", json.dumps({"kty": "OKP", "crv": "Ed25519"}).encode()):
        with pytest.raises(ValueError, match="is not a public key"):
            verifying_key(junk)
        with pytest.raises(ValueError, match="is not a private key"):
            signing_key(junk)
    with pytest.raises(ValueError, match="is not a private key"):
        signing_key(public_pem())
    assert verifying_key(public_pem()).public_bytes_raw() == signing_key(private_pem()).public_key().public_bytes_raw()
