"""Files that come and go, with their directories, and links to them: nothing of that is missed."""

from __future__ import annotations

import os
import select
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.host.inotify import GONE, Inotify


@pytest.fixture
def watched() -> Iterator[Inotify]:
    made = Inotify()
    yield made
    made.close()


def told(inotify: Inotify) -> bool:
    return bool(select.select([inotify], [], [], 0)[0]) and inotify.read()


def test_written_replaced_and_removed(watched: Inotify, tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    assert watched.watch([str(path)])
    assert not watched.watch([str(path)]), "nothing new"
    path.write_text("a")
    assert told(watched)
    (tmp_path / "other").write_text("b")
    assert not told(watched)
    (tmp_path / "other").rename(path)
    assert told(watched)
    path.unlink()
    assert told(watched)


@pytest.mark.parametrize("how", ["removed", "moved"])
def test_the_directory_goes_and_comes(watched: Inotify, tmp_path: Path, how: str) -> None:
    """As that of systemd-resolved, when it is stopped and started."""
    directory = tmp_path / "resolve"
    path = directory / "stub-resolv.conf"
    directory.mkdir()
    watched.watch([str(path)])
    if how == "removed":
        shutil.rmtree(directory)
    else:
        directory.rename(tmp_path / "elsewhere")
    assert told(watched)
    assert watched.watch([str(path)]), "now where it would be made"
    directory.mkdir()
    assert told(watched)
    assert watched.watch([str(path)]), "now in there"
    path.write_text("a")
    assert told(watched)
    if how == "moved":
        (tmp_path / "elsewhere" / path.name).write_text("a")
        assert not told(watched)


def test_what_never_was(watched: Inotify, tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c"
    watched.watch([str(path)])
    for step in (tmp_path / "a", tmp_path / "a" / "b"):
        step.mkdir()
        assert told(watched)
        assert watched.watch([str(path)])
    path.write_text("a")
    assert told(watched)


def test_only_what_goes(watched: Inotify, tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text("")
    watched.watch([str(path)], GONE)
    (tmp_path / "other").write_text("")
    os.rename(tmp_path / "other", tmp_path / "another")
    path.write_text("a")
    assert not select.select([watched], [], [], 0)[0], "it wakes nobody"
    path.unlink()
    assert told(watched)
