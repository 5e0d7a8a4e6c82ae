"""The kept byte code of short commands: used, and never believed when anything is not as it was."""

from __future__ import annotations

import marshal
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler import bytecode, errors

PROJECT = Path(__file__).resolve().parents[2]


class Copy:
    """A copy of the package, with its own byte code, and a host on which nothing is declared."""

    def __init__(self, directory: Path) -> None:
        self.dir = directory
        shutil.copytree(PROJECT / "reconciler", directory / "reconciler", ignore=shutil.ignore_patterns("command-*"))
        self.cache = directory / "reconciler/__pycache__"
        self.environment = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(directory),
            "TUNCTL_STATE_DIR": str(directory / "state"),
            "TUNCTL_RUN_DIR": str(directory / "run"),
        }

    def run(self, *words: str, **environment: str) -> tuple[str, str, set[str]]:
        """stdout, stderr, and those of our modules that had to be imported."""
        code = "from reconciler.__main__ import main; main()"
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-c", code, *words],
            check=True, timeout=30, text=True, capture_output=True,
            cwd=self.dir, env={**self.environment, **environment},
        )  # fmt: skip
        imported = re.findall(r"^import time:.*\| +(reconciler\.[\w.]+)$", done.stderr, re.MULTILINE)
        said = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
        return done.stdout, "\n".join(said), set(imported)

    def file(self, command: str = "version") -> Path:
        return next(iter(self.cache.glob(f"command-{command}.*")), self.cache / "none")


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path)


ALONE = {
    "reconciler.__main__",
    "reconciler.bytecode",
    "reconciler.typed",
    "reconciler.cli",
    "reconciler.cli.short",
}


def test_what_a_run_needed_that_found_all_of_it_is_imported_no_more(copy: Copy) -> None:
    first, second, third = copy.run("version"), copy.run("version"), copy.run("version")
    assert first[:2] == second[:2] == third[:2] == (first[0], "")
    assert first[0].startswith("tunctl ")
    assert "reconciler.cli.output" in first[2] & second[2]
    assert third[2] == ALONE
    assert copy.file().stat().st_mode & 0o777 == 0o644 & ~_umask()


def test_what_waits_comes_from_the_file(copy: Copy) -> None:
    copy.run("version")
    (copy.cache / f"errors.{sys.implementation.cache_tag}.pyc").unlink()
    copy.run("version")
    assert not list(copy.cache.glob("errors.*")), "Python would have compiled it again"


def test_a_run_that_needs_more_adds_it_for_those_who_need_it(copy: Copy) -> None:
    for _ in range(2):
        copy.run("status")
    assert copy.run("status")[2] == ALONE
    small = copy.file("status").stat().st_size
    said = copy.run("--json", "status")
    assert "reconciler.report.statusjson" in said[2]
    large = copy.file("status").stat().st_size
    assert large > small
    assert copy.run("status")[2] == ALONE, "not executed by all"
    assert copy.run("--json", "status")[0] == said[0]
    assert copy.file("status").stat().st_size == large


def test_what_the_first_runs_needed_is_no_pattern_for_ever(copy: Copy) -> None:
    """On a fresh host `status` finds no store and is done: that is a third of what it needs later."""
    for _ in range(3):
        copy.run("status")
    small = copy.run("status")[2]
    (copy.dir / "state").mkdir()
    code = "from pathlib import Path; from reconciler.store.write import Store; Store.open(Path('state')).close()"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=copy.dir, env=copy.environment)
    for _ in range(2):
        copy.run("status")
    assert copy.run("status")[2] == small == ALONE


def test_an_edited_source_is_read(copy: Copy) -> None:
    for _ in range(2):
        copy.run("version")
    source = copy.dir / "reconciler/errors.py"
    source.write_text(source.read_text() + '\nimport sys\n\nprint("edited", file=sys.stderr)\n')
    for _ in range(3):
        assert copy.run("version")[1] == "edited"
    assert "reconciler.errors" not in copy.run("version")[2], "and is kept again"


def test_an_edited_source_of_what_waits_is_read(copy: Copy) -> None:
    copy.run("version")
    source = copy.dir / "reconciler/errors.py"
    source.write_text(source.read_text() + '\nimport sys\n\nprint("edited", file=sys.stderr)\n')
    before = copy.file().read_bytes()
    assert copy.run("version")[1] == "edited"
    assert copy.file().read_bytes() != before


@pytest.mark.parametrize("runs", [1, 2])
def test_a_source_that_is_gone_is_not_executed(copy: Copy, runs: int) -> None:
    for _ in range(runs):
        copy.run("version")
    (copy.dir / "reconciler/errors.py").unlink()
    with pytest.raises(subprocess.CalledProcessError) as error:
        copy.run("version")
    assert "No module named 'reconciler.errors'" in error.value.stderr


def _head(content: bytes) -> bytes:
    """It ends with the path of the module that made the file."""
    end = b"/reconciler/bytecode.py\n"
    return content[: content.index(end) + len(end)]


def _made(content: bytes, index: Any, *parts: Any) -> bytes:
    """With this index, and these after it."""
    packed = marshal.dumps(index)
    return _head(content) + len(packed).to_bytes(4, "little") + packed + b"".join(marshal.dumps(part) for part in parts)


def _modules(content: bytes) -> list[tuple[Any, ...]]:
    """Those that each run executes."""
    at = len(_head(content)) + 4
    at += int.from_bytes(content[at - 4 : at], "little")
    modules: list[tuple[Any, ...]] = marshal.loads(content[at:])
    return modules


def _shuffled(content: bytes) -> bytes:
    """Modules stand before those that they import, and one raises what nobody expects."""
    modules = _modules(content)
    name, path, is_package, stamp, _ = modules[0]
    bad = compile("half = 1\nraise ZeroDivisionError", path, "exec")
    run = [*reversed(modules[1:]), (name, path, is_package, stamp, bad)]
    return _made(content, (len(marshal.dumps(run)), []), run)


def _waits(content: bytes) -> bytes:
    """All of them wait, in a file that ends where they should begin."""
    later = [(name, path, is_package, stamp, 1000) for name, path, is_package, stamp, _ in _modules(content)]
    return _made(content, (5, later), [])


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[: len(_head(content)) + 2],
        lambda content: b"tunctl 0" + content[8:],
        lambda content: _head(content) + b"\xff" * 4 + b"N",
        lambda content: _made(content, None),
        lambda content: _made(content, [1, 2]),
        lambda content: _made(content, (5, [(1, 2)]), []),
        lambda content: _made(content, (2**40, [])),
        lambda content: _made(content, (2**70, [])),
        lambda content: _made(content, (-1, [])),
        lambda content: _made(content, ("x", [])),
        lambda content: _made(content, (1, []), None),
        lambda content: _made(content, (5, [(*_modules(content)[0][:4], "x")]), []),
        lambda content: _made(content, (5, [(*_modules(content)[0][:4], -1)]), []),
        _waits,
        lambda content: _head(content) + os.urandom(64),
        _shuffled,
    ],
    ids=[
        "empty", "cut", "without an index", "another form", "a long index", "nothing", "other things", "other things that wait",
        "too much", "far too much", "less than nothing", "not even a number", "no modules", "a strange place",
        "a place before it", "what waits is cut off", "noise", "shuffled",
    ],
)  # fmt: skip
def test_a_damaged_file_costs_time_only(copy: Copy, damage: Callable[[bytes], bytes]) -> None:
    for _ in range(2):
        said = copy.run("version")[0]
    whole = copy.file().read_bytes()
    copy.file().write_bytes(damage(whole))
    for _ in range(2):
        assert copy.run("version")[:2] == (said, "")
    assert "reconciler.cli.output" not in copy.run("version")[2], "it is whole again"


def test_what_waits_is_that_of_the_file_that_was_read(copy: Copy) -> None:
    """Another run may have put another file in its place; and a file that grew shorter is read no further."""
    for command in ("version", "status", "version"):  # what waits for `status` is more than for `version`
        copy.run(command)
    code = """if True:
        import os, sys
        from reconciler.bytecode import Bytecode
        from reconciler.bytewrite import write
        kept = Bytecode("status")
        name = next(name for name, one in kept._kept.later.items() if one.code and name not in sys.modules)
        {do}
        __import__(name)
        print(len(os.listdir("/proc/self/fd")))
        new = kept.end()
        if new:
            write(new)
        print(len(os.listdir("/proc/self/fd")))
    """
    copy.file("status").unlink()
    copy.run("status")  # once: all of it waits
    for do in ("os.unlink(kept._file); open(kept._file, 'wb').write(os.urandom(10_000_000))", "os.truncate(kept._file, 1000)"):
        done = subprocess.run(
            [sys.executable, "-c", code.format(do=do)],
            check=True, timeout=30, text=True, capture_output=True, cwd=copy.dir, env=copy.environment,
        )  # fmt: skip
        before, after = map(int, done.stdout.split())
        assert (after, done.stderr) == (before - 1, ""), "and it is closed"
        copy.file("status").unlink()
        copy.run("status")


def test_a_copy_believes_its_own_sources(copy: Copy, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Made with all caches, as `cp -a` makes it, and edited then: the original is still there as it was."""
    for _ in range(2):
        copy.run("version")
    other = Copy(tmp_path_factory.mktemp("other"))
    shutil.copytree(copy.dir / "reconciler", other.dir / "reconciler", dirs_exist_ok=True)
    assert other.file().exists()
    source = other.dir / "reconciler/errors.py"
    source.write_text(source.read_text() + '\nimport sys\n\nprint("edited", file=sys.stderr)\n')
    assert other.run("version")[1] == "edited"


def test_the_standard_library_is_kept_and_nothing_that_stands_before_it(
    copy: Copy, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """`struct` is needed by the first look, and somebody has one of his own on his path."""
    shadow = tmp_path_factory.mktemp("shadow")
    (shadow / "struct.py").write_text('import sys\nfrom _struct import *\nprint("shadow", file=sys.stderr)\n')
    path = f"{shadow}{os.pathsep}{copy.dir}"
    for _ in range(3):
        assert copy.run("status", PYTHONPATH=path)[1] == "shadow"
    for _ in range(3):
        assert copy.run("status")[1] == ""


def test_where_python_keeps_none_we_keep_none(copy: Copy) -> None:
    copy.run("version", PYTHONDONTWRITEBYTECODE="1")
    assert not copy.file().exists()
    copy.run("version", PYTHONPYCACHEPREFIX=str(copy.dir / "elsewhere"))
    assert not copy.file().exists()
    assert len(list((copy.dir / "elsewhere").rglob("command-version.*"))) == 1


def test_who_cannot_write_it_does_without(copy: Copy) -> None:
    copy.run("version")
    file = copy.file()
    file.unlink()
    file.mkdir()  # stops root, too
    said = copy.run("version")
    assert (said[0][:7], said[1]) == ("tunctl ", "")
    assert list(copy.cache.glob("command-*")) == [file], "nothing half-made"


def test_what_killed_writers_have_left_is_taken_away(copy: Copy) -> None:
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    tag = sys.implementation.cache_tag
    stays = [f"command-version.{tag}.pyc.{os.getpid()}", f"errors.{tag}.pyc.{gone.pid}", f"command-version.{tag}.pyc.{2**70}"]
    goes = [f"command-version.{tag}.pyc.{gone.pid}", f"command-apply.{tag}.pyc.{gone.pid}"]
    copy.cache.mkdir(exist_ok=True)
    for name in (*stays, *goes):
        (copy.cache / name).write_bytes(b"half")
    copy.run("version")
    there = {path.name for path in copy.cache.iterdir()}
    assert there.isdisjoint(goes)
    assert there.issuperset((*stays, f"command-version.{tag}.pyc"))


def test_a_word_that_is_no_command_leaves_nothing(copy: Copy) -> None:
    for words in (["check", "x.toml"], ["nonsense"], ["../version"], ["show", "version"]):
        with pytest.raises(subprocess.CalledProcessError):
            copy.run(*words)
    assert list(copy.cache.glob("command-*")) == []


def test_modules_that_are_there_are_left_alone() -> None:
    code = compile("raise ZeroDivisionError", "x", "exec")
    assert bytecode._execute([bytecode.Module("reconciler.errors", str(errors.__file__), False, (0, 0), code)], "x")
    assert sys.modules["reconciler.errors"] is errors


def test_modules_are_modules_again(copy: Copy) -> None:
    """However they were executed; and one that is asked for what it has not says so as any module does."""
    for _ in range(3):
        copy.run("version")
    code = """if True:
        import sys
        from reconciler.cli.short import Bytecode
        before, plain = set(sys.modules), type(sys)
        Bytecode("version")
        assert "reconciler.errors" in sys.modules and "reconciler.errors" not in before
        print([name for name, module in sys.modules.items() if type(module) is not plain])
        try:
            sys.modules["reconciler.errors"].nothing
        except AttributeError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=30, text=True, capture_output=True, cwd=copy.dir, env=copy.environment
    )
    assert done.stdout == "[]\nmodule 'reconciler.errors' has no attribute 'nothing'\n"


def test_what_fails_leaves_nothing() -> None:
    good, bad = compile("there = 1", "x", "exec"), compile("raise ZeroDivisionError", "x", "exec")
    modules = [bytecode.Module(f"reconciler.{name}", "x", False, (0, 0), code) for name, code in (("one", good), ("two", bad))]
    assert not bytecode._execute(modules, "x")
    assert not {"reconciler.one", "reconciler.two"} & sys.modules.keys()
    assert not hasattr(sys.modules["reconciler"], "one")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
