"""The writing of the file that `bytecode` reads."""

from __future__ import annotations

import marshal
import os

from reconciler.bytecode import HEAD, SIZE, Kept, Module


def write(kept: Kept) -> None:
    """In one go: another command reads the old one or the new one. Who cannot write it does without."""
    try:
        _sweep(os.path.dirname(kept.file))
        _replace(kept.file, _content(kept))
    except OSError:
        return
    finally:
        kept.close()


def _content(kept: Kept) -> bytes:
    executed = marshal.dumps([*map(tuple, kept.always)])
    waiting = [(module, code) for module in kept.later.values() if (code := _code(kept, module)) is not None]
    later = [(*module[:-1], len(code) if module.code else None) for module, code in waiting]
    index = marshal.dumps((len(executed), later))
    return b"".join((HEAD, len(index).to_bytes(SIZE, "little"), index, executed, *(code for _, code in waiting)))


def _replace(file: str, content: bytes) -> None:
    new = f"{file}.{os.getpid()}"
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        with open(descriptor, "wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(descriptor)
        os.replace(new, file)
    except BaseException:
        os.unlink(new)
        raise


def _code(kept: Kept, module: Module) -> bytes | None:
    """None: the file was damaged; it is imported from its source next time, and kept then."""
    try:
        return kept.marshalled(module)
    except (OSError, EOFError):
        return None


def _sweep(directory: str) -> None:
    """What others had begun to write when they were killed."""
    for name in os.listdir(directory):
        stem, _, pid = name.rpartition(".")
        if stem.startswith("command-") and stem.endswith(".pyc") and pid.isdecimal() and not _is_running(int(pid)):
            try:
                os.unlink(f"{directory}/{name}")
            except OSError:  # swept by somebody else, or not ours to be
                continue


def _is_running(pid: int) -> bool:
    """Not true of us: what has our number was begun by an earlier one."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return pid != os.getpid()
