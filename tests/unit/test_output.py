"""What reaches a terminal: nothing that somebody else could steer it with."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reconciler.cli.output import Output
from reconciler.errors import Foreign, InvalidFile, Problem
from reconciler.kinds.owner import Owner
from reconciler.model.found import Counters
from reconciler.model.intent import Intent
from reconciler.model.marks import Mark
from reconciler.model.names import IfName, TunnelName
from reconciler.model.verdict import Judgement, Verdict
from reconciler.report.paint import Paint
from reconciler.report.status import HostStatus, OwnerLine, TunnelStatus, _owner_lines, status_text
from tests.unit.test_verdict import INTENT, TUNNEL

HOSTILE = "vpn \x1b]0;title\x07 \x1b[2J \x9b1A \u202eback\r"


def test_a_terminal_is_not_steered_by_what_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output()
    output.data([f"unmanaged: {HOSTILE}", "second\tline"])
    output.note("error", HOSTILE)
    shown = capsys.readouterr()
    assert shown.out == "unmanaged: vpn \\x1b]0;title\\x07 \\x1b[2J \\x9b1A \\u202eback\\r\nsecond\tline\n"
    assert shown.err == "error: vpn \\x1b]0;title\\x07 \\x1b[2J \\x9b1A \\u202eback\\r\n"


@pytest.mark.parametrize("colour", ["green", "yellow", "red", "grey", "bold"])
def test_our_own_colours_pass(capsys: pytest.CaptureFixture[str], colour: str) -> None:
    painted = Paint(on=True)("word", colour)
    Output().data([painted])
    assert capsys.readouterr().out == painted + "\n"


def test_the_words_of_a_program_stay_on_one_line() -> None:
    """A program chooses what /proc shows of it, also one that runs as nobody."""
    argv = ("vpn", "x)\n● office\n     Status: connected\x1b[8m")
    owner = Owner(TunnelName("demo"), Mark(TunnelName("demo"), "0011", "2233"), IfName("tun0"), argv, pid=7)
    assert str(owner) == "owner vpn x)\\n● office\\n     Status: connected\\x1b[8m dev tun0 pid 7"
    (line,) = _owner_lines(OwnerLine(7, True, " ".join(argv)))
    assert line == "      Owner: pid 7 (vpn x)\\n● office\\n     Status: connected\\x1b[8m)"


def test_a_log_of_json_has_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(log_json=True, debug=True)
    output.note("warning", f"{HOSTILE}\nsecond line \udcff", "demo")
    problem = InvalidFile("d.toml is not valid", hint="look again")
    problem.__cause__ = ValueError("why")
    output.error(problem)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [tuple(line) for line in lines] == [("time", "level", "tunnel", "message")] * 4
    assert [(line["level"], line["tunnel"]) for line in lines] == [
        ("warning", "demo"), ("error", None), ("info", None), ("debug", None),
    ]  # fmt: skip
    assert lines[0]["message"] == f"{HOSTILE}\nsecond line \\udcff"
    assert "ValueError: why" in lines[3]["message"]
    for line in lines:
        at = datetime.fromisoformat(line["time"])
        assert (at.tzinfo, abs((datetime.now(UTC) - at).total_seconds()) < 60) == (UTC, True)


@pytest.mark.parametrize("log_json", [False, True], ids=["text", "json"])
def test_the_journal_is_told_the_priority_of_each_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_json: bool) -> None:
    """As sd-daemon(3) has it, and only when stderr is the journal's, not that of whoever has inherited the variable."""
    with (tmp_path / "journal").open("w+", encoding="utf-8") as journal, (tmp_path / "file").open("w+") as file:
        found = os.fstat(journal.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        for stream in (journal, file):
            monkeypatch.setattr(sys, "stderr", stream)
            output = Output(log_json=log_json)
            for level in ("error", "warning", "info"):
                output.note(level, "one\ntwo")
            stream.seek(0)
        lines = journal.read().splitlines()
        assert [line[:3] for line in lines] == [f"<{n}>" for n in (3, 4, 6) for _ in range(1 if log_json else 2)]
        assert [line[3:] for line in lines if not log_json] == [line for line in file.read().splitlines() if not log_json]
        assert not log_json or all(json.loads(line[3:])["message"] == "one\ntwo" for line in lines)


def test_what_the_details_say_already_is_not_said_again(capsys: pytest.CaptureFixture[str]) -> None:
    said = "tunnel a: source two declares it, but it belongs to source one"
    Output().error(Foreign(said, hint="Change one.", details=(Problem("two.toml", 0, "", said),)))
    assert capsys.readouterr().err == f"error: two.toml: {said}\nhint: Change one.\n"


def test_the_last_words_of_a_program_stay_in_their_column() -> None:
    judgement = Judgement(Verdict.NOT_CONNECTED, ("not up yet", "owner vpn: exited with status 7\n  no such device"))
    tunnel = TunnelStatus(TunnelName("demo"), judgement, counters=Counters(), routes=1)
    lines = list(status_text(HostStatus((tunnel,), (), (), 0, 1)))
    assert lines[3:6] == [
        "             owner vpn: exited with status 7",
        "               no such device",
        "    Traffic: 0 B received, 0 B sent; 1 route",
    ]


@pytest.mark.parametrize(
    ("intent", "tip"),
    [
        (INTENT._replace(held=True), "tunctl up demo"),
        (INTENT._replace(held=True, tunnel=TUNNEL._replace(enabled=False)), "enabled = true in its file, then tunctl apply"),
        (INTENT._replace(held=True, withdrawn=True), "tunctl reconcile"),
    ],
)
def test_a_tip_is_something_that_will_not_be_refused(intent: Intent, tip: str) -> None:
    tunnel = TunnelStatus(TunnelName("demo"), Judgement(Verdict.NOT_CONNECTED), intent)
    assert f"        Tip: {tip}" in status_text(HostStatus((tunnel,), (), (), 0, 1))
