"""Figures as a reader of Prometheus' format understands them, and what the daemon counts."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from reconciler.daemon.shown import Shown
from reconciler.daemon.tally import Tally, measured
from reconciler.errors import StepFailed
from reconciler.host import meters
from reconciler.kinds.address import Address
from reconciler.model.found import Counters
from reconciler.model.intent import Intent, Progress
from reconciler.model.marks import Mark
from reconciler.model.meter import BOUNDS_S, Histogram, Meter, Work, histogram
from reconciler.model.names import HOST, IfName, TunnelName
from reconciler.model.plan import Outcome, Step
from reconciler.model.pulse import Pulse
from reconciler.model.resource import Verb
from reconciler.model.tunnel import Tunnel
from reconciler.model.verdict import Judgement, Verdict
from reconciler.report import metrics
from reconciler.report.status import HostStatus, Orphan, OwnerLine, PeerLine, TunnelStatus

DEMO, OTHER = TunnelName("demo"), TunnelName("other")
KEY = "6cM35egc2hX5y0Qi/YgyqaGGWF3YxsSjNRhGqlAiGQk="
ADDRESS = Address(DEMO, IfName("tun-demo"), bytes(4), 32)
WORK = Work(
    {("address", "create"): histogram((0.0005, 0.3)), ("owner", "create"): histogram((70.0,))},
    {(DEMO, "address"): 2, (DEMO, "owner"): 1, (HOST, "rule"): 3},
    {(OTHER, "route"): 1},
)
METER = Meter(1_800_000_000_500_000, None, {"all": histogram((0.02,))}, {"locked": 2}, WORK)


def a_tunnel(source: str = "gateway", peer_name: str | None = "hub") -> TunnelStatus:
    progress = Progress("waiting", 1_800_000_000_000_000, None, 3, 1_800_000_060_000_000)
    intent = Intent(Tunnel(DEMO, "exec", IfName("tun-demo")), Mark(DEMO, "0011", "2233"), 1, source, 7, progress=progress)
    peers = (PeerLine(peer_name, KEY, None, 1_800_000_000, 10, 20), PeerLine(None, "other", None, None, None, None))
    judgement = Judgement(Verdict.DEGRADED, ("contested: route x is undone again and again", "mtu"), ("owner: root",))
    return TunnelStatus(
        DEMO, judgement, intent, "tun-demo", 4, mtu=1400, owner=OwnerLine(4711, False, ""),
        counters=Counters(1, 2, 3, 1 << 62), peers=peers, routes=5,
    )  # fmt: skip


def a_host(*tunnels: TunnelStatus, keeper: int | None = None) -> HostStatus:
    return HostStatus(tunnels, (), (Orphan("tun-x", "tunctl:x:00112233"),), 1_800_000_007_500_000, 3, keeper=keeper)


def read(host: HostStatus, meter: Meter | None = None) -> dict[str, Metric]:
    """By name."""
    text = "\n".join(metrics.text(metrics.families(host, meter))) + "\n"
    text.encode()  # nothing in it that is no UTF-8
    found = list(text_string_to_metric_families(text))
    assert len({family.name for family in found}) == len(found), "each name once"
    return {family.name: family for family in found}


def values(families: dict[str, Metric], name: str, /, **labels: str) -> list[float]:
    """Of the samples of this name with at least these labels."""
    samples = [sample for family in families.values() for sample in family.samples]
    return [s.value for s in samples if s.name == name and labels.items() <= s.labels.items()]


def test_figures_are_what_status_saw() -> None:
    told = read(a_host(a_tunnel(), keeper=9))
    one = {"tunnel": "demo"}
    peer = {"tunnel": "demo", "public_key": KEY, "peer": "hub"}
    expected = {
        "tunctl_daemon_running": 1, "tunctl_orphan_interfaces": 1, "tunctl_unmanaged_interfaces": 0,
    }  # fmt: skip
    of_tunnel = {
        "tunctl_tunnel_held": 0, "tunctl_tunnel_since_timestamp_seconds": 1.8e9, "tunctl_tunnel_generation": 7,
        "tunctl_tunnel_attempts": 3, "tunctl_tunnel_next_retry_timestamp_seconds": 1_800_000_060,
        "tunctl_tunnel_pending_steps": 0, "tunctl_tunnel_contested_objects": 1, "tunctl_tunnel_unobserved": 1,
        "tunctl_tunnel_owner_running": 0, "tunctl_tunnel_routes": 5, "tunctl_tunnel_mtu_bytes": 1400,
        "tunctl_tunnel_receive_bytes_total": 1, "tunctl_tunnel_transmit_bytes_total": 2,
        "tunctl_tunnel_receive_packets_total": 3, "tunctl_tunnel_transmit_packets_total": 1 << 62,
    }  # fmt: skip
    of_peer = {
        "tunctl_peer_latest_handshake_timestamp_seconds": 1.8e9, "tunctl_peer_handshake_age_seconds": 7.5,
        "tunctl_peer_receive_bytes_total": 10, "tunctl_peer_transmit_bytes_total": 20,
    }  # fmt: skip
    assert {name: values(told, name) for name in expected} == {name: [value] for name, value in expected.items()}
    assert {name: values(told, name, **one) for name in of_tunnel} == {name: [value] for name, value in of_tunnel.items()}
    assert {name: values(told, name) for name in of_peer} == {name: [value] for name, value in of_peer.items()}
    assert all(values(told, name, **peer) for name in of_peer), "the other one has nothing to tell"
    what = {"tunnel": "demo", "driver": "exec", "interface": "tun-demo", "source": "gateway"}
    assert values(told, "tunctl_tunnel_info", **what) == [1]
    verdicts = {v.value: values(told, "tunctl_tunnel_verdict", tunnel="demo", verdict=v.value) for v in Verdict}
    assert verdicts == {v.value: [int(v is Verdict.DEGRADED)] for v in Verdict}
    families = set(read(a_host()))
    assert families == {"tunctl_build_info", "tunctl_daemon_running", "tunctl_orphan_interfaces", "tunctl_unmanaged_interfaces"}


@pytest.mark.parametrize(
    ("pulse", "healthy"),
    [
        (None, []),
        (Pulse("id", "boot", 4, 7, 0, 1), []),
        (Pulse("id", "boot", 4, 7, 0, 1, good=1), [1]),
        (Pulse("id", "boot", 4, 7, 0, 1, good=1, dead_since_us=1), [0]),
    ],
)
def test_health_is_told_when_it_is_known(pulse: Pulse | None, healthy: list[float]) -> None:
    assert values(read(a_host(a_tunnel()._replace(pulse=pulse))), "tunctl_tunnel_healthy", tunnel="demo") == healthy


def test_what_the_daemon_has_counted() -> None:
    told = read(a_host(keeper=9), METER)
    assert values(told, "tunctl_daemon_start_time_seconds") == [1_800_000_000.5]
    assert values(told, "tunctl_daemon_last_pass_timestamp_seconds") == []
    assert values(told, "tunctl_passes_unfinished_total", reason="locked") == [2]
    assert values(told, "tunctl_repairs_total", tunnel="demo", kind="address") == [2]
    assert values(told, "tunctl_repairs_total", tunnel="", kind="rule") == [3]
    assert values(told, "tunctl_step_failures_total", tunnel="other", kind="route") == [1]
    step = {"kind": "address", "verb": "create"}
    assert values(told, "tunctl_step_duration_seconds_bucket", **step) == [1, 1, 1, 1, 2, 2, 2, 2, 2]
    assert values(told, "tunctl_step_duration_seconds_bucket", kind="owner", le="60.0") == [0]
    assert values(told, "tunctl_step_duration_seconds_bucket", kind="owner", le="+Inf") == [1]
    assert values(told, "tunctl_step_duration_seconds_sum", **step) == [0.3005]
    assert values(told, "tunctl_step_duration_seconds_count", **step) == [2]
    assert values(told, "tunctl_pass_duration_seconds_count", scope="all") == [1]


def test_names_and_units_are_those_of_prometheus() -> None:
    told = metrics.families(a_host(a_tunnel(), keeper=9), METER._replace(last_pass_us=1))
    assert {family.kind for family in told} == {"gauge", "counter", "histogram"}
    for family in told:
        assert re.fullmatch(r"tunctl_[a-z_]+", family.name)
        assert family.name.endswith("_total") == (family.kind == "counter"), family.name
        assert re.fullmatch(r"[A-Z0-9][^\n\\]*\.", family.help), family.help
        assert not re.search(r"_(ms|us|kb|percent|count|sum|bucket)(_|$)", family.name), family.name
        if "timestamp" in family.name or "time" in family.name.split("_") or "duration" in family.name:
            assert family.name.endswith("_seconds"), family.name
        assert len({tuple(sample.labels) for sample in family.samples if "le" not in sample.labels}) <= 1, family.name


def test_labels_of_any_content_are_read_back() -> None:
    hostile = 'a "quoted" \\ back\\nslash ünicode} 1'
    told = read(a_host(a_tunnel(source=hostile, peer_name='"\\"')))
    assert values(told, "tunctl_tunnel_info", source=hostile) == [1]
    assert values(told, "tunctl_peer_receive_bytes_total", peer='"\\"') == [10]
    told = read(a_host(a_tunnel(source="line\nend \u202e\x1b[2J \x85 \udcff")))
    assert values(told, "tunctl_tunnel_info", source="line\\nend \\u202e\\x1b[2J \\x85 \\udcff") == [1]


def test_as_json() -> None:
    told = metrics.families(a_host(a_tunnel(), keeper=9), METER)
    document = json.loads(json.dumps(metrics.document(told), allow_nan=False))
    assert document["version"] == 1
    assert document["metrics"][0] == {
        "name": "tunctl_build_info", "type": "gauge", "help": "The version of tunctl.",
        "samples": [{"name": "tunctl_build_info", "labels": {"version": metrics.__version__}, "value": 1}],
    }  # fmt: skip
    assert [family["name"] for family in document["metrics"]] == [family.name for family in told]


def test_a_histogram() -> None:
    assert histogram(()) == Histogram()
    assert histogram((0.001, 0.0011, 1e9)).counts == (1, 1, 0, 0, 0, 0, 0, 0, 1), "a bound belongs to what is below it"
    assert histogram(BOUNDS_S).counts == (1,) * 8 + (0,)
    assert histogram((1.0, 2.0)).plus(histogram((3.0,))) == histogram((1.0, 2.0, 3.0))


def an_outcome(verb: Verb = Verb.CREATE, *, error: bool = False, skipped: bool = False) -> Outcome:
    return Outcome(Step(verb, ADDRESS, None, DEMO), StepFailed("no") if error else None, 0.01, skipped)


def test_steps_are_counted_as_they_went() -> None:
    outcomes = [an_outcome(), an_outcome(), an_outcome(Verb.DELETE), an_outcome(error=True), an_outcome(skipped=True)]
    work = measured(outcomes)
    assert {key: took.total for key, took in work.steps.items()} == {("address", "create"): 2, ("address", "delete"): 1}
    assert work.repairs == {(DEMO, "address"): 3}
    assert work.failures == {(DEMO, "address"): 1}


def test_counters_only_grow_and_are_read_back(tmp_path: Path) -> None:
    tally = Tally()
    Shown(tally.meter).write(tmp_path)
    empty = meters.shown(tmp_path)
    assert empty is not None
    assert empty == Meter(empty.started_us)
    for _ in range(2):
        tally.passed("all", 0.2, WORK, (DEMO, OTHER))
    tally.passed("tunnel", 3.0, Work(), (DEMO,))
    tally.missed("killed")
    Shown(tally.meter).write(tmp_path)
    found = meters.shown(tmp_path)
    assert found is not None
    assert found.started_us == empty.started_us < (found.last_pass_us or 0)
    assert found.passes == {"all": histogram((0.2, 0.2)), "tunnel": histogram((3.0,))}
    assert found.unfinished == {"killed": 1}
    assert found.work.repairs == {(DEMO, "address"): 4, (DEMO, "owner"): 2, (HOST, "rule"): 6}
    assert found.work.failures == {}, "of a tunnel that is not to be up any more nothing is kept"
    assert found.work.steps["owner", "create"] == histogram((70.0, 70.0))
    assert (tmp_path / meters.FILE).stat().st_mode & 0o777 == 0o644, "for everybody to read"
    Shown().write(tmp_path)
    Shown().write(tmp_path)
    assert meters.shown(tmp_path) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"version": 1', '"version": 2'), ('"started_us": 1', '"started_us": -1'), ('"started_us": 1', '"started_us": "1"'),
        ('"last_pass_us": 2, ', ""), ('["locked", 2]', '["locked"]'), ('["locked", 2]', '["locked", 2.5]'),
        ('["locked", 2]', "7"), ("[0, 0, 1, 0,", "[0, 0, 1,"), (", 0.02]", ", NaN]"), (", 0.02]", ", Infinity]"),
        (", 0.02]", ", -1]"), ('{"version"', '[{"version"'), ('"passes": [', '"passes": {"a": '), ("}", ""),
    ],
)  # fmt: skip
def test_what_is_no_meter_is_none(tmp_path: Path, old: str, new: str) -> None:
    meters.show(tmp_path, METER._replace(started_us=1, last_pass_us=2))
    path = tmp_path / meters.FILE
    text = path.read_text()
    assert meters.shown(tmp_path) is not None
    assert old in text
    path.write_text(text.replace(old, new, 1))
    assert meters.shown(tmp_path) is None


def test_what_others_planted_is_none(tmp_path: Path) -> None:
    meters.show(tmp_path, METER)
    path = tmp_path / meters.FILE
    path.chmod(0o646)
    assert meters.shown(tmp_path) is None, "writable by everybody"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert meters.shown(tmp_path) is None, "a symlink"
