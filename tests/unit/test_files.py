"""Files that are whole or not there, and reads that nothing planted can block."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from reconciler.host import files


def test_replace_has_the_mode_and_leaves_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o666)
    files.replace(path, b"new")
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("new", 0o600)
    files.replace(path, b"newer", 0o644)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_replace_replaces_a_symlink_and_not_its_target(tmp_path: Path) -> None:
    target, path = tmp_path / "target", tmp_path / "link"
    target.write_text("precious")
    path.symlink_to(target)
    files.replace(path, b"new")
    assert (target.read_text(), path.is_symlink()) == ("precious", False)


def test_a_failed_replace_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError):
        files.replace(tmp_path / "taken", b"new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]


def test_read_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    assert files.read(path, 100) == b"x" * 100
    with pytest.raises(OSError, match="larger than 99 bytes"):
        files.read(path, 99)


def test_read_refuses_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "fifo")
    for name in ("fifo", "link", "."):
        with pytest.raises(OSError):  # noqa: PT011 - which one is the kernel's to say
            files.read(tmp_path / name, 10)
    with pytest.raises(OSError, match="not a regular file"):
        files.read(tmp_path / "link", 10, follow=True)


def test_read_refuses_what_everybody_can_write(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    path.chmod(0o666)
    with pytest.raises(PermissionError, match="writable by everybody"):
        files.read(path, 10)


def test_directories_are_narrowed(tmp_path: Path) -> None:
    path = tmp_path / "a/b"
    before = os.umask(0)
    try:
        files.make_directory(path)
    finally:
        os.umask(before)
    assert [stat.S_IMODE(one.stat().st_mode) for one in (path, path.parent)] == [0o755, 0o755]
    path.chmod(0o777)
    files.make_directory(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o755
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
        files.make_directory(tmp_path / "link")


def test_where_no_directory_can_be_made_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        files.make_directory("/proc/tunctl/tunnels")
    assert files.make_directory(tmp_path / "a/b/c")
    assert not files.make_directory(tmp_path / "a/b/c")


def test_many_at_once(tmp_path: Path) -> None:
    """More than are open at a time. What cannot be written is told by its path, and nothing is left of it."""
    names = [str(tmp_path / f"file-{number}") for number in range(files._AT_ONCE * 2 + 3)]
    taken, gone = tmp_path / "file-7", str(tmp_path / "none/file")
    taken.mkdir()
    placed, failed = files.replace_all({path: path.encode() for path in (*names, gone)})
    assert {path: type(error) for path, error in failed.items()} == {str(taken): IsADirectoryError, gone: FileNotFoundError}
    assert placed.keys() == set(names) - {str(taken)}
    for path, status in placed.items():
        assert (status.st_ino, status.st_mtime_ns) == (os.stat(path).st_ino, os.stat(path).st_mtime_ns)
        assert (Path(path).read_text(), stat.S_IMODE(Path(path).stat().st_mode)) == (path, 0o600)
    assert len(list(tmp_path.iterdir())) == len(names), "no temporary file"
    assert len(os.listdir("/proc/self/fd")) < 50
    assert files.replace_all({}) == ({}, {})


_MANY = """
import os, resource, sys
sys.path.insert(0, {project!r})
from reconciler.host import files
files._WAITS_S = 0.0
if os.geteuid() == 0:
    os.setuid(65534)
{limit}
placed, wrong = files.replace_all({{f"{directory}/file-{{number}}": b"x" for number in range(40)}})
assert len(placed) == 40 and wrong == {{}}, wrong
"""


_LIMITS = {
    "threads": "",
    "no room for any": "resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))",
    "few may be open": "resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))",
}


@pytest.mark.parametrize("limit", _LIMITS.values(), ids=_LIMITS)
def test_where_a_disk_is_waited_for(limit: str) -> None:
    """Any disk counts as one that is waited for. For nobody, as root has always room for a thread."""
    project = Path(__file__).resolve().parents[2]
    with tempfile.TemporaryDirectory() as directory:
        if os.geteuid() == 0:
            os.chown(directory, 65534, 65534)
        code = _MANY.format(project=str(project), limit=limit, directory=directory)
        subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
        assert len([path for path in Path(directory).iterdir() if path.read_bytes() == b"x"]) == 40
        assert len(os.listdir(directory)) == 40
