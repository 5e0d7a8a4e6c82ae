"""What reaches a terminal: nothing that somebody else could steer it with."""

from __future__ import annotations

import pytest

from reconciler.cli.output import Output
from reconciler.kinds.owner import Owner
from reconciler.model.marks import Mark
from reconciler.model.names import IfName, TunnelName
from reconciler.report.paint import Paint
from reconciler.report.status import OwnerLine, _owner_lines

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
