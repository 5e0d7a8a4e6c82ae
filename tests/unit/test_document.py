"""Tunnel ↔ document: nothing is lost, and the same wish is always the same text."""

from __future__ import annotations

import types
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from reconciler.model.names import IfName, TunnelName
from reconciler.model.prefix import Prefix, pack, parse_prefix, pton
from reconciler.model.tunnel import Exec, Host, PrefixFile, Restart, RouteSettings, RuleSettings, Tun, Tunnel, WireGuard
from reconciler.store.document import decode_host, decode_tunnel, encode_host, encode_tunnel, prefix_lists

PACKED = st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)
PREFIX = PACKED.flatmap(lambda packed: st.builds(Prefix, st.just(packed), st.integers(0, len(packed) * 8)))
LEAVES: dict[Any, SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: st.integers(-(2**40), 2**40),
    float: st.floats(allow_nan=False, allow_infinity=False),
    str: st.text(max_size=8),
    bytes: PACKED,
    Prefix: PREFIX,
    TunnelName: st.sampled_from(["a", "b-1"]).map(TunnelName),
    IfName: st.text(min_size=1, max_size=8).map(IfName),
    type(None): st.none(),
}


def any_of(hint: Any) -> SearchStrategy[Any]:
    """Values of a type as the model uses them. A field of a new type fails here until it is known."""
    if hint in LEAVES:
        return LEAVES[hint]
    if hint is PrefixFile:
        return st.builds(PrefixFile, st.text(max_size=5), st.text("0123456789abcdef", min_size=64, max_size=64), st.binary())
    arguments = get_args(hint)
    if get_origin(hint) in (types.UnionType, Union):
        return st.one_of(*map(any_of, arguments))
    if get_origin(hint) is tuple and arguments[-1] is ...:
        return st.lists(any_of(arguments[0]), max_size=2).map(tuple)
    if get_origin(hint) is tuple:
        return st.tuples(*map(any_of, arguments))
    return st.builds(hint, **{field: any_of(of) for field, of in get_type_hints(hint).items()})


TUNNELS = any_of(Tunnel)
HOSTS = any_of(Host)


def tun(**fields: Any) -> Tunnel:
    return Tunnel(TunnelName("lab"), "tun", IfName("lab"), tun=Tun(), **fields)


@given(TUNNELS)
def test_every_tunnel_comes_back(tunnel: Tunnel) -> None:
    lists = prefix_lists(tunnel)
    files = [route.to_file for route in tunnel.routes if route.to_file]
    files += [*tunnel.split.vpn_files, *tunnel.split.direct_files] if tunnel.split else []
    if any(lists[file.digest] != file.packed for file in files):
        return  # one digest for two contents: not in this world
    text = encode_tunnel(tunnel)
    back = decode_tunnel(text, lists)
    assert back == tunnel
    assert encode_tunnel(back) == text


@given(HOSTS)
def test_every_host_comes_back(host: Host) -> None:
    assert decode_host(encode_host(host)) == host


@given(TUNNELS)
def test_types_come_back_too(tunnel: Tunnel) -> None:
    """Equal is not enough: a Prefix equals a plain tuple."""
    back = decode_tunnel(encode_tunnel(tunnel), prefix_lists(tunnel))
    assert [type(prefix) for prefix in back.addresses] == [Prefix] * len(tunnel.addresses)
    assert [type(route) for route in back.routes] == [RouteSettings] * len(tunnel.routes)


@pytest.mark.parametrize(
    ("tunnel", "text"),
    [
        pytest.param(tun(), '{"driver":"tun","interface":"lab","name":"lab","tun":{}}', id="defaults are left out"),
        pytest.param(
            tun(addresses=(parse_prefix("10.0.0.2/24"), parse_prefix("fd00::1/64")), src=pton("10.0.0.2"), mtu=1400),
            '{"addresses":["10.0.0.2/24","fd00::1/64"],"driver":"tun","interface":"lab","mtu":1400,"name":"lab"'
            ',"src":"10.0.0.2","tun":{}}',
            id="text for addresses, host bits kept",
        ),
        pytest.param(
            tun(rules=(RuleSettings(from_=(parse_prefix("10.1.0.0/16"),), fwmark=(1, 255)),), restart=Restart(base_s=1)),
            '{"driver":"tun","interface":"lab","name":"lab","restart":{"base_s":1.0}'
            ',"rules":[{"from":["10.1.0.0/16"],"fwmark":[1,255]}],"tun":{}}',
            id="keys as in the file, numbers of one kind",
        ),
        pytest.param(
            tun(routes=(RouteSettings(to_file=PrefixFile("/p", "0" * 64, pack([parse_prefix("10.0.0.0/8")]))),)),
            '{"driver":"tun","interface":"lab","name":"lab","routes":[{"to_file":{"digest":"'
            + "0" * 64
            + '","path":"/p"}}],"tun":{}}',
            id="prefix files by their digest",
        ),
    ],
)
def test_document_is_canonical(tunnel: Tunnel, text: str) -> None:
    assert encode_tunnel(tunnel) == text


def test_an_interface_of_the_kernels_choice_is_not_the_default() -> None:
    tunnel = Tunnel(TunnelName("lab"), "tun", None, tun=Tun())
    assert decode_tunnel(encode_tunnel(tunnel), {}).interface is None


def test_a_path_that_is_no_utf8_comes_back() -> None:
    tunnel = Tunnel(TunnelName("lab"), "exec", None, exec_=Exec((b"/opt/\xff".decode(errors="surrogateescape"),)))
    assert encode_tunnel(tunnel).isascii()
    assert decode_tunnel(encode_tunnel(tunnel), {}) == tunnel


def test_no_secret_is_in_it() -> None:
    tunnel = Tunnel(TunnelName("w"), "wireguard", IfName("w"), wireguard=WireGuard("/etc/w.key"))
    assert '"private_key_file":"/etc/w.key"' in encode_tunnel(tunnel)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"name":"a","driver":"tun"}',
        '{"name":"a","driver":"tun","interface":null,"colour":"red"}',
        '{"name":"a","driver":"tun","interface":null,"addresses":["10.0.0.300/8"]}',
        '{"name":"a","driver":"tun","interface":null,"addresses":[7]}',
        '{"name":"a","driver":"tun","interface":null,"routes":[{"to_file":{"path":"/p","digest":"00"}}]}',
        '{"name":"a","driver":"tun","interface":null,"routes":7}',
        '{"name":"a","driver":"tun","interface":null,"routes":null}',
        '{"name":"a","driver":"tun","interface":null,"split":{"vpn":null}}',
        '{"name":"a","driver":"tun","interface":null,"restart":{"base_s":null}}',
        '{"name":"a","driver":"tun","interface":null,"tun":7}',
    ],
)
def test_damage_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_tunnel(text, {})
