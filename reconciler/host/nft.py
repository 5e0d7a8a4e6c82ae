"""The packet filter by its own language: text goes in, JSON comes out, all or nothing.

In process by libnftables where that is installed (0.3 ms a transaction), else by the `nft` program (16 ms). Knows no
table and no rule.
"""

from __future__ import annotations

import _thread  # `threading` is 2 ms and gives nothing more here
import errno

from reconciler.errors import NotPermitted, StepFailed, Unavailable
from reconciler.host.jsontext import loads
from reconciler.typed import Any, Protocol

TIMEOUT_S = 5.0  # of the program; the library only talks to the kernel, which does not wait
PROGRAM = "nft"
LIBRARY = "libnftables.so.1"
_STATELESS, _JSON = 1 << 1, 1 << 4  # NFT_CTX_OUTPUT_* of nftables/libnftables.h

Objects = list[dict[str, Any]]


class Nft(Protocol):
    """One way to the packet filter."""

    def apply(self, text: str) -> None:
        """One transaction. StepFailed with nft's words, NotPermitted."""

    def listing(self, what: str) -> str:
        """``listing("table inet x")`` → JSON for `objects`. Errors as of `apply`."""

    def close(self) -> None: ...


def open_nft(library: str = LIBRARY) -> Nft:
    """The library, else the program. Unavailable when there is neither."""
    try:
        return Library(library)
    except OSError:
        pass
    import shutil

    program = shutil.which(PROGRAM)
    if program is None:
        raise Unavailable(f"neither {library} nor {PROGRAM} is installed", hint="Install nftables.")
    return Program(program)


class Library:
    """libnftables through ctypes. One command at a time, whichever thread asks; OSError when it is not installed.

    It works in the network namespace of the thread that makes it.
    """

    def __init__(self, file: str = LIBRARY) -> None:
        import ctypes

        self._lock = _thread.allocate_lock()
        library = self._library = ctypes.CDLL(file)
        library.nft_ctx_new.restype = ctypes.c_void_p
        library.nft_ctx_new.argtypes = [ctypes.c_uint32]
        for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
            getattr(library, name).restype = ctypes.c_char_p
            getattr(library, name).argtypes = [ctypes.c_void_p]
        for name in ("nft_ctx_buffer_output", "nft_ctx_buffer_error", "nft_ctx_free"):
            getattr(library, name).argtypes = [ctypes.c_void_p]
        library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
        self._context = library.nft_ctx_new(0)
        if not self._context:
            raise OSError(errno.ENOMEM, file)
        library.nft_ctx_buffer_output(self._context)
        library.nft_ctx_buffer_error(self._context)
        library.nft_ctx_output_set_flags(self._context, _STATELESS | _JSON)

    def apply(self, text: str) -> None:
        self._run(text)

    def listing(self, what: str) -> str:
        return self._run(f"list {what}").decode()

    def close(self) -> None:
        with self._lock:
            if self._context:
                self._library.nft_ctx_free(self._context)
                self._context = None

    def _run(self, text: str) -> bytes:
        with self._lock:
            code = self._library.nft_run_cmd_from_buffer(self._context, text.encode())
            output = self._library.nft_ctx_get_output_buffer(self._context) or b""
            words = self._library.nft_ctx_get_error_buffer(self._context) or b""
        if code:
            raise _failed(words)
        return bytes(output)


class Program:
    """`nft`, started for each command."""

    def __init__(self, program: str, timeout_s: float = TIMEOUT_S) -> None:
        self._program = program
        self._timeout_s = timeout_s

    def apply(self, text: str) -> None:
        self._run(["-f", "-"], text)

    def listing(self, what: str) -> str:
        return self._run(["-j", "-s", "list", *what.split()], "").decode()

    def close(self) -> None:
        """Nothing is open."""

    def _run(self, words: list[str], text: str) -> bytes:
        import subprocess

        try:
            done = subprocess.run(
                [self._program, *words], check=False, input=text.encode(), capture_output=True, timeout=self._timeout_s
            )
        except subprocess.TimeoutExpired:
            raise StepFailed(f"{self._program} did not answer within {self._timeout_s:g} s") from None
        except OSError as error:
            raise StepFailed(f"{self._program}: {error.strerror}") from error
        if done.returncode:
            raise _failed(done.stderr)
        return done.stdout


def _failed(words: bytes) -> StepFailed | NotPermitted:
    """The first line is the reason; what follows shows the place."""
    lines = words.decode(errors="replace").strip().splitlines()
    reason = next((line.partition("Error: ")[2] for line in lines if "Error: " in line), lines[0] if lines else "it failed")
    if "Operation not permitted" in reason:
        return NotPermitted(f"nft: {reason}", hint="This needs CAP_NET_ADMIN; run it as root.")
    return StepFailed(f"nft: {reason}")


def objects(listing: str) -> Objects:
    """What a listing lists; handles mean nothing. StepFailed when it is no JSON of nftables."""
    try:
        found = loads(listing)["nftables"]
    except (ValueError, KeyError, TypeError) as error:
        raise StepFailed(f"nft: its answer is no JSON of nftables: {error}") from error
    return [one for one in found if isinstance(one, dict) and "metainfo" not in one]
