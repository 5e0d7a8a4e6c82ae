"""The modules that a command imports, kept in one file: to look for a hundred small files, and to import each of them,
costs more than a bare interpreter. What each run needs is executed at its start, one module after the other; the rest waits
there until it is imported. Ours and the standard library's: these are where Python has them, whatever else lies on its path.

It is a cache as `__pycache__` is one, and stands in it. Whoever may write there makes it; PYTHONDONTWRITEBYTECODE and
PYTHONPYCACHEPREFIX count; it is believed only while each source has the time and the size that it had. Else, and where it is
missing or damaged, Python imports as ever.
"""

from __future__ import annotations

import marshal
import os
import sys
from _frozen_importlib import ModuleSpec, module_from_spec  # importlib, without what that imports
from _frozen_importlib_external import MAGIC_NUMBER, ExtensionFileLoader, PathFinder, SourceFileLoader
from _imp import is_frozen  # of these Python has its own copy

from reconciler import __spec__ as _package
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import CodeType, ModuleType

    Stamp = tuple[int, int]  # when a source was written, ns; its size, bytes
    Place = tuple[int, int]  # of marshalled code in the file: where it begins, its size; bytes
    Tell = Callable[["Module"], None]

# Of the standard library what each run may load. Whoever leads to more (re, typing, tomli) waits until it is imported.
LIGHT = frozenset((
    "__future__", "_blake2", "_collections", "_functools", "_json", "_operator", "_sha2", "_sha256", "_signal", "_socket",
    "_sqlite3", "_struct", "_thread", "binascii", "errno", "fcntl", "gc", "itertools", "struct",
))  # fmt: skip
_PACKAGE = __name__.partition(".")[0]
_OURS = sys.stdlib_module_names | {_PACKAGE}  # other packages may be those of another environment next time
_PLACES = tuple(os.path.join(os.path.dirname(file), "") for file in (os.__file__, __file__))
# Another Python's byte code is another language, and a copy of us is somebody else.
HEAD = b"tunctl 4 %b %b %b\n" % (MAGIC_NUMBER, os.fsencode(os.__file__), os.fsencode(__file__))
SIZE = 4  # bytes, of the index that follows


class Module(NamedTuple):
    """One source, compiled; or where a library stands."""

    name: str
    path: str
    is_package: bool
    stamp: Stamp  # of the source, when it was compiled
    code: CodeType | Place | None  # None: a library in C


class Bytecode:
    """What one command imports, from now to `end`. Also the finder of what waits, and of what is not kept yet."""

    def __init__(self, command: str, *, learn: bool = True) -> None:
        """Executes what each run needs. `learn`: they need the same, more or less."""
        place = _package.cached if _package and type(_package.loader) is SourceFileLoader else None
        self._file = place.replace("__init__", f"command-{command}") if place else ""
        self._kept = Kept(self._file)
        self._learns = learn
        self._needed: list[tuple[Module, int]] = []  # by this run, beyond those; how many modules there were when it was ready
        self._new: list[Module] = []
        sys.meta_path.insert(0, self)
        if not _execute(self._kept.always, self._file):
            self._kept.always = []
        self._before = len(sys.modules)

    def find_spec(self, name: str, path: Sequence[str] | None = None, _target: object = None) -> ModuleSpec | None:
        """None: not one of those that are kept."""
        kept = self._kept.later.get(name)
        if kept is not None and kept.stamp == _stamp(kept.path):
            library = ExtensionFileLoader(name, kept.path) if kept.code is None else None
            return _spec(kept, library or _Waiting(kept, self._kept, self._executed, self._imported), self._file)
        if name.partition(".")[0] not in _OURS or name in sys.builtin_module_names or is_frozen(name):
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is None or not (spec.origin or "").startswith(_PLACES):
            return spec
        if type(spec.loader) is SourceFileLoader:
            spec.loader = _Source(name, spec.loader.path, self._imported)
        elif type(spec.loader) is ExtensionFileLoader and (stamp := _stamp(spec.loader.path)) is not None:
            self._new.append(Module(name, spec.loader.path, False, stamp, None))
        return spec

    def _imported(self, module: Module) -> None:
        self._new.append(module)
        self._executed(module)

    def _executed(self, module: Module) -> None:
        """It is ready, and so are those that it imports: they stand before it."""
        self._needed.append((module, len(sys.modules)))

    def end(self) -> Kept | None:
        """What had to be imported waits from now on. When a run that finds everything here needs half as much again as each run
        executes, then each run executes that, too. → what is to be written, by who has the right to; None: it is all there."""
        sys.meta_path.remove(self)
        if self._learned() and self._may_write():
            return self._kept
        self._kept.close()
        return None

    def _may_write(self) -> bool:
        return bool(self._file) and not sys.dont_write_bytecode and os.access(os.path.dirname(self._file), os.W_OK)

    def _learned(self) -> bool:
        """There is something new to be kept."""
        always, later = self._kept.always, self._kept.later
        if self._new:
            later |= {new.name: new for new in self._new}
        elif self._learns and len(needed := self._light()) * 2 > len(always):
            always += needed
            for module in needed:
                later.pop(module.name, None)
        else:
            return False
        return True

    def _light(self) -> list[Module]:
        """What was needed, up to the first one that leads to more than what is light."""
        new = [name.partition(".")[0] for name in list(sys.modules)[self._before :]]
        heavy = next((at for at, name in enumerate(new) if name not in LIGHT and name != _PACKAGE), len(new))
        return [module for module, loaded in self._needed if loaded <= self._before + heavy]


_Plain = type(sys)  # types.ModuleType, without what `types` imports


class _Executing(type(sys)):  # type: ignore[misc]
    """A module while others are executed. `from module import name` asks each whether it has a `__path__`, and Python 3.11
    words three errors when it has none: as much as for all else that an import takes."""

    __slots__ = ()
    __getattribute__ = object.__getattribute__


class Kept:
    """The file, open as long as something waits in it: another one may stand in its place by then."""

    def __init__(self, file: str) -> None:
        """Nothing is kept, if anything is not as it was."""
        self.file = file
        self.always: list[Module] = []
        self.later: dict[str, Module] = {}
        self._descriptor: int | None = None
        try:
            self._descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
            self._read(self._descriptor)
        except (OSError, EOFError, ValueError, TypeError, OverflowError, MemoryError):
            self.always, self.later = [], {}

    def _read(self, descriptor: int) -> None:
        head = os.read(descriptor, len(HEAD) + SIZE)
        if not head.startswith(HEAD):
            return
        size = int.from_bytes(head[len(HEAD) :], "little")
        executed, later = marshal.loads(os.read(descriptor, size))  # noqa: S302 - as trusted as all our byte code
        always = [Module(*module) for module in marshal.loads(os.read(descriptor, executed))]  # noqa: S302
        if any(module.stamp != _stamp(module.path) for module in always):
            return
        at = len(head) + size + executed
        for name, path, is_package, stamp, size in later:
            self.later[name] = Module(name, path, is_package, stamp, None if size is None else (at, size))
            at += size or 0
        self.always = always

    def marshalled(self, module: Module) -> bytes:
        """The code of one that waits, or that is new; OSError, EOFError when it cannot be read."""
        if isinstance(module.code, tuple):
            assert self._descriptor is not None
            at, size = module.code
            code = os.pread(self._descriptor, size, at)
            if len(code) < size:
                raise EOFError
            return code
        return marshal.dumps(module.code) if module.code else b""

    def close(self) -> None:
        """Nothing is asked of it any more."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class _Waiting(SourceFileLoader):
    """Of a module that waits."""

    def __init__(self, module: Module, kept: Kept, executed: Tell, imported: Tell) -> None:
        super().__init__(module.name, module.path)
        self._module = module
        self._kept = kept
        self._executed, self._imported = executed, imported

    def exec_module(self, module: ModuleType) -> None:
        tell = self._executed
        try:
            code = marshal.loads(self._kept.marshalled(self._module))  # noqa: S302 - as trusted as all our byte code
        except (OSError, EOFError, ValueError, TypeError):
            code, tell = self.get_code(self.name), self._imported  # and kept anew
        exec(code, module.__dict__)  # noqa: S102 - what importing it does
        tell(self._module._replace(code=code))


class _Source(SourceFileLoader):
    """Of a module that is not kept yet: Python's own, but that it tells what it has executed."""

    def __init__(self, name: str, path: str, imported: Tell) -> None:
        super().__init__(name, path)
        self._imported = imported

    def exec_module(self, module: ModuleType) -> None:
        stamp = _stamp(self.path)  # older than the code, if that is just being written: then it is not believed
        code = self.get_code(self.name)
        if code is None or stamp is None:
            raise ImportError(f"the source of {self.name} is gone", name=self.name, path=self.path)
        exec(code, module.__dict__)  # noqa: S102 - what importing it does
        self._imported(Module(self.name, self.path, hasattr(module, "__path__"), stamp, code))


def _execute(modules: list[Module], file: str) -> bool:
    """All are ready then; or none, when one of them fails."""
    new = [module for module in modules if module.name not in sys.modules]
    made = [module_from_spec(_spec(module, SourceFileLoader(module.name, module.path), file)) for module in new]
    try:
        sys.modules.update(zip([module.name for module in new], made, strict=True))
        _turn(_Plain, _Executing)
        for module, its in zip(new, made, strict=True):
            parent, _, last = module.name.rpartition(".")
            if parent:
                setattr(sys.modules[parent], last, its)
            exec(module.code, its.__dict__)  # type: ignore[arg-type] # noqa: S102 - what importing it does
    except Exception:  # whatever it is, importing says it better
        for module, its in zip(new, made, strict=True):
            parent, _, last = module.name.rpartition(".")
            sys.modules.pop(module.name, None)
            vars(sys.modules.get(parent, its)).pop(last, None)
        return False
    finally:
        _turn(_Executing, _Plain)
    return True


def _turn(old: type[ModuleType], new: type[ModuleType]) -> None:
    for module in sys.modules.values():
        if type(module) is old:
            module.__class__ = new


def _spec(module: Module, loader: SourceFileLoader | ExtensionFileLoader, file: str) -> ModuleSpec:
    """As Python makes it before it executes a module."""
    spec = ModuleSpec(module.name, loader, origin=module.path, is_package=module.is_package)
    spec.has_location, spec.cached = True, file if module.code is not None else None
    spec._initializing = False  # type: ignore[attr-defined] # each import asks: not to be there costs more than all else of it
    if module.is_package:
        spec.submodule_search_locations = [os.path.dirname(module.path)]
    return spec


def _stamp(path: str) -> Stamp | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
