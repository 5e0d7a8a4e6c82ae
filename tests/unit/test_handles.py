"""handles.json: hints that may be missing, damaged, hostile or of another boot, and never more than hints."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.host import handles as module
from reconciler.host.handles import Handle, Handles
from reconciler.model.names import IfName, TunnelName

DEMO = TunnelName("demo")


@pytest.fixture
def umask_0() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


def _file(run: Path) -> Path:
    return run / "tunnels/demo/handles.json"


def _handle(run: Path) -> Handle:
    return Handle(DEMO, "12345678", Handles(run).boot_id, IfName("tun0"), 7, 4711, 99, "f" * 32, {"key": "vpn.example.com:1"})


def _written(run: Path) -> tuple[int, int, int]:
    """Which file, and when it was last written; that somebody reads it changes nothing."""
    status = _file(run).stat()
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def test_what_is_put_is_got_by_the_next(run: Path) -> None:
    Handles(run).put(_handle(run))
    fresh = Handles(run)
    assert fresh.get(DEMO) == _handle(run)
    assert fresh.warnings() == ()


@pytest.mark.usefixtures("umask_0")
def test_modes_do_not_depend_on_the_umask(run: Path) -> None:
    Handles(run).put(_handle(run))
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (run, run / "tunnels", run / "tunnels/demo", _file(run))]
    assert modes == [0o755, 0o755, 0o755, 0o600]


def test_nothing_is_written_when_it_says_so_already(run: Path) -> None:
    handles = Handles(run)
    handles.put(_handle(run))
    before = _written(run)
    handles.put(_handle(run))
    assert _written(run) == before
    reader = Handles(run)
    reader.get(DEMO)
    reader.put(_handle(run))
    assert _written(run) == before


def test_a_file_that_others_changed_is_written_again(run: Path) -> None:
    handles = Handles(run)
    handles.put(_handle(run))
    text = _file(run).read_text()
    _file(run).write_text(text.replace("4711", "999999"))
    seen = handles.get(DEMO)
    assert seen
    assert seen.pid == 999999
    handles.put(_handle(run))
    assert _file(run).read_text() == text


def test_a_file_that_vanished_costs_nothing(run: Path) -> None:
    handles = Handles(run)
    handles.put(_handle(run))
    _file(run).unlink()
    assert handles.get(DEMO) == _handle(run)
    assert handles.warnings() == ()
    assert Handles(run).get(DEMO) is None
    handles.put(_handle(run))
    assert _file(run).exists()


def test_of_another_boot_it_is_ignored(run: Path) -> None:
    Handles(run).put(_handle(run)._replace(boot_id="another"))
    fresh = Handles(run)
    assert fresh.get(DEMO) is None
    assert fresh.warnings() == ()


def test_of_an_older_tunctl_that_knew_less(run: Path) -> None:
    handles = Handles(run)
    handles.put(_handle(run)._replace(bound={"udp": "192.0.2.1:1"}, resolved=True))
    known = json.loads(_file(run).read_text())
    for key in ("bound", "resolved"):
        known.pop(key)
    _file(run).write_text(json.dumps(known))
    assert Handles(run).get(DEMO) == _handle(run)


def _damages() -> dict[str, Callable[[Path], object]]:
    def fifo(path: Path) -> None:
        path.unlink()
        os.mkfifo(path)

    def symlink(path: Path) -> None:
        good = path.rename(path.with_name("elsewhere"))
        path.symlink_to(good)

    def directory(path: Path) -> None:
        path.unlink()
        path.mkdir()
        (path / "inside").touch()

    def rewritten(**fields: object) -> Callable[[Path], object]:
        return lambda path: path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))

    return {
        "truncated": lambda path: path.write_text('{"pid": '),
        "empty": lambda path: path.write_text(""),
        "binary": lambda path: path.write_bytes(os.urandom(200)),
        "list": lambda path: path.write_text("[]"),
        "deep": lambda path: path.write_text("[" * 100000),
        "huge": lambda path: path.write_text(" " * 300_000),
        "long number": lambda path: path.write_text('{"pid": ' + "9" * 5000 + "}"),
        "pid is text": rewritten(pid="4711"),
        "pid is true": rewritten(pid=True),
        "pid is negative": rewritten(pid=-1),
        "endpoints of numbers": rewritten(endpoints={"a": 1}),
        "endpoints a list": rewritten(endpoints=[]),
        "no boot id": rewritten(boot_id=None),
        "another tunnel": rewritten(name="other"),
        "another version": rewritten(version=2),
        "writable by everybody": lambda path: path.chmod(0o666),
        "fifo": fifo,
        "symlink": symlink,
        "directory": directory,
    }


@pytest.mark.parametrize("damage", _damages().values(), ids=_damages())
def test_a_damaged_one_is_a_warning_and_the_next_writer_replaces_it(run: Path, damage: Callable[[Path], object]) -> None:
    Handles(run).put(_handle(run))
    damage(_file(run))
    listing = sorted(path.name for path in _file(run).parent.iterdir())
    handles = Handles(run)
    assert handles.get(DEMO) is None
    assert handles.get(DEMO) is None
    (warning,) = handles.warnings()
    assert warning.startswith(f"{_file(run)}: ignored: ")
    assert sorted(path.name for path in _file(run).parent.iterdir()) == listing, "reading changes nothing"
    handles.put(_handle(run))
    assert Handles(run).get(DEMO) == _handle(run)
    assert not _file(run).is_symlink()
    assert os.path.lexists(_file(run).with_name(module.ASIDE))
    assert handles.warnings() == ()


def test_a_directory_aside_is_in_nobodys_way(run: Path) -> None:
    handles = Handles(run)
    handles.put(_handle(run))
    aside = _file(run).with_name(module.ASIDE)
    aside.mkdir()
    (aside / "inside").touch()
    handles.move_aside(DEMO)
    assert aside.is_file()
    handles.move_aside(DEMO)  # nothing there: nothing to do


def test_drop_leaves_nothing_and_follows_no_symlink(run: Path, tmp_path: Path) -> None:
    handles = Handles(run)
    handles.put(_handle(run))
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    (run / "tunnels/demo/link").symlink_to(outside)
    (run / "tunnels/demo/owner.log").touch()
    handles.drop(DEMO)
    handles.drop(DEMO)
    assert list((run / "tunnels").iterdir()) == []
    assert (outside / "precious").exists()
    assert handles.get(DEMO) is None
    (run / "tunnels/demo").symlink_to(outside)
    handles.drop(DEMO)
    assert (outside / "precious").exists()


def test_a_planted_directory_is_refused(run: Path, tmp_path: Path) -> None:
    (run / "tunnels").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (run / "tunnels/demo").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
        Handles(run).put(_handle(run))


@pytest.mark.parametrize("name", ["..", "a/b", "", "A"])
def test_a_name_is_never_a_path(run: Path, name: str) -> None:
    with pytest.raises(ValueError, match="is no tunnel name"):
        Handles(run).get(TunnelName(name))


@given(st.binary(max_size=300))
def test_no_bytes_are_an_exception(content: bytes) -> None:
    try:
        module._decode(content)
    except (ValueError, RecursionError):
        pass


def test_the_owner_is_forgotten_once(run: Path) -> None:
    handles = Handles(run)
    handles.put(_handle(run))
    handles.forget_owner(DEMO)
    left = Handles(run).get(DEMO)
    assert left == _handle(run)._replace(pid=None, start_ticks=None, fingerprint=None)
    before = _written(run)
    handles.forget_owner(DEMO)
    assert _written(run) == before
