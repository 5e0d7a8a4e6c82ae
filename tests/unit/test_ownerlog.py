"""What programs say, as it is passed on while they start."""

from __future__ import annotations

from pathlib import Path

from reconciler.host.ownerlog import Follower


def test_lines_come_whole_and_once(tmp_path: Path) -> None:
    path = tmp_path / "owner.log"
    follower = Follower(path, 4)
    assert follower.lines() == [], "there is no log yet"
    path.write_bytes(b"old\nfirst\nsec")
    assert follower.lines() == ["first"]
    assert follower.lines() == []
    with path.open("ab") as log:
        log.write(b"ond \xff\x1b[2J\r\n\n")
    assert follower.lines() == ["second \ufffd\\x1b[2J"]


def test_one_that_babbles_is_heard_for_a_while(tmp_path: Path) -> None:
    path = tmp_path / "owner.log"
    path.write_bytes(b"babble\n" * 10_000)
    follower = Follower(path, 0)
    assert follower.lines() == [*["babble"] * 200, "(log capture truncated)"]
    path.write_bytes(b"more\n" * 30_000)
    assert follower.lines() == []


def test_a_line_without_end_is_none(tmp_path: Path) -> None:
    path = tmp_path / "owner.log"
    path.write_bytes(b"x" * 300_000)
    follower = Follower(path, 0)
    assert [*follower.lines(), *follower.lines()] == ["(log capture truncated)"]


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    assert Follower(tmp_path / "dir", 0).lines() == []
