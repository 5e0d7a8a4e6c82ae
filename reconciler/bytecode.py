"""The modules that a short command imports, kept in one file, ready to be executed one after the other: to look for a hundred
small files, and to import each of them, costs more than a bare interpreter.

It is a cache as `__pycache__` is one, and stands in it. Whoever may write there makes it; PYTHONDONTWRITEBYTECODE and
PYTHONPYCACHEPREFIX count; it is believed only while each source has the time and the size that it had. Else, and where it is
missing or damaged, Python imports as ever.
"""

from __future__ import annotations

import marshal
import os
import sys
from _frozen_importlib import ModuleSpec, module_from_spec  # importlib, without what that imports
from _frozen_importlib_external import MAGIC_NUMBER, PathFinder, SourceFileLoader

from reconciler import __spec__ as _package
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import CodeType, ModuleType

    Stamp = tuple[int, int]  # when a source was written, ns; its size, bytes
    Module = tuple[str, str, bool, Stamp, CodeType]  # name, path of the source, whether it is a package

# Of the standard library what short commands may load. Whoever leads to more (re, typing, pydantic_core) is not kept: it is not
# needed each time, and all that is kept is executed.
LIGHT = frozenset((
    "__future__", "_blake2", "_collections", "_functools", "_json", "_operator", "_sha2", "_sha256", "_signal", "_socket",
    "_sqlite3", "_struct", "_thread", "binascii", "collections", "contextlib", "errno", "fcntl", "functools", "gc",
    "itertools", "keyword", "operator", "reprlib", "struct", "types",
))  # fmt: skip
_PACKAGE = __name__.partition(".")[0]
_HEAD = b"tunctl 1 " + MAGIC_NUMBER  # another Python's byte code is another language


class Bytecode:
    """What one command imports. Also the finder of modules that are not kept yet."""

    def __init__(self, command: str) -> None:
        """Executes what is kept, and takes down what is imported from now on."""
        place = _package.cached if _package and type(_package.loader) is SourceFileLoader else None
        self._file = place.replace("__init__", f"command-{command}") if place else None
        self._kept = _execute(_read(self._file), self._file) if self._file else []
        self._missed: list[Module] = []
        self._before = frozenset(sys.modules)
        sys.meta_path.insert(0, self)

    def find_spec(self, name: str, path: Sequence[str] | None = None, _target: object = None) -> ModuleSpec | None:
        """None: not one of ours."""
        if not name.startswith(f"{_PACKAGE}."):
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _Recorder(name, spec.loader.path, self._add)
        return spec

    def _add(self, module: Module) -> None:
        """It has been executed. From the first on that leads to more than what is light, none is kept."""
        loaded = {name.partition(".")[0] for name in sys.modules.keys() - self._before}
        if loaded <= LIGHT | {_PACKAGE}:
            self._missed.append(module)

    def end(self, *, keep: bool) -> None:
        """Adds what had to be imported, if that is asked for. Who may not write there does without."""
        sys.meta_path.remove(self)
        if keep and self._missed and self._file and not sys.dont_write_bytecode:
            try:
                _write(self._file, [*self._kept, *self._missed])
            except OSError:
                return


class _Recorder(SourceFileLoader):
    """Python's own, but that it takes down what it has executed."""

    def __init__(self, name: str, path: str, executed: Callable[[Module], None]) -> None:
        super().__init__(name, path)
        self._executed = executed
        self._stamp: Stamp | None = None

    def get_code(self, fullname: str) -> CodeType | None:
        self._stamp = _stamp(self.path)  # older than the code, if that is just being written: then it is not believed
        self._code = super().get_code(fullname)
        return self._code

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        if self._stamp and self._code:
            self._executed((self.name, self.path, hasattr(module, "__path__"), self._stamp, self._code))


def _execute(kept: list[Module], file: str) -> list[Module]:
    """What is ready then: all, or nothing. A module is ready after those that it imports, so they stand before it."""
    new = [one for one in kept if one[0] not in sys.modules]
    modules = {name: _module(name, path, file, is_package=is_package) for name, path, is_package, _, _ in new}
    try:
        for name, _, _, _, code in new:
            parent, _, last = name.rpartition(".")
            setattr(sys.modules[parent], last, modules[name])
            exec(code, modules[name].__dict__)  # noqa: S102 - what importing it does
    except Exception:  # whatever it is, importing says it better
        for name, module in modules.items():
            parent, _, last = name.rpartition(".")
            del sys.modules[name]
            vars(sys.modules.get(parent, module)).pop(last, None)
        return []
    return kept


def _module(name: str, path: str, file: str, *, is_package: bool) -> ModuleType:
    """As Python makes it before it executes it."""
    spec = ModuleSpec(name, SourceFileLoader(name, path), origin=path, is_package=is_package)
    spec.has_location, spec.cached = True, file
    if is_package:
        spec.submodule_search_locations = [os.path.dirname(path)]
    module = sys.modules[name] = module_from_spec(spec)
    return module


def _stamp(path: str) -> Stamp | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _read(file: str) -> list[Module]:
    """Nothing, if anything is not as it was."""
    try:
        with open(file, "rb", buffering=0) as opened:
            content = opened.read()
        if not content.startswith(_HEAD):
            return []
        kept: list[Module] = marshal.loads(memoryview(content)[len(_HEAD) :])  # noqa: S302 - as trusted as all our byte code
        return kept if all(stamp == _stamp(path) for _, path, _, stamp, _ in kept) else []
    except (OSError, EOFError, ValueError, TypeError):
        return []


def _write(file: str, modules: list[Module]) -> None:
    """In one go: another command reads the old one or the new one."""
    new = f"{file}.{os.getpid()}"
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        with open(descriptor, "wb") as opened:
            opened.write(_HEAD + marshal.dumps(modules))
            opened.flush()
            os.fsync(descriptor)
        os.replace(new, file)
    except OSError:
        os.unlink(new)
        raise
