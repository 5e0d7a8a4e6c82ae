"""One tunctl a network namespace: a listening abstract socket, which state and run directories have no say in.

It dies with its process. Anybody may take the name, so its holder counts only if it is root or has our uid.
"""

from __future__ import annotations

import _socket as socket  # the half of it in C, as in nl_wire
import errno
import os
import struct
import time

from reconciler.errors import Locked, NotObserved, Unavailable
from reconciler.host.netlink import KernelError, Netlink
from reconciler.host.nl_codec import as_u32, attributes
from reconciler.typed import NamedTuple

NAME = b"\0tunctl"
_POLL_S = (0.001, 0.02)  # between two tries: a tenth of what was waited so far, within these

_NETLINK_SOCK_DIAG = 4  # linux/netlink.h
_SOCK_DIAG_BY_FAMILY = 20  # linux/sock_diag.h
_QUESTION = struct.Struct("=BBHIIIII")  # unix_diag_req: family, protocol, pad, states, inode, show, cookie
_SHOW_NAME, _SHOW_UID = 0x1, 0x40  # UDIAG_SHOW_*
_NAME, _UID = 0, 7  # UNIX_DIAG_*
_ROW_BYTES = 16  # unix_diag_msg
_CREDENTIALS = struct.Struct("=iII")  # ucred: pid, uid, gid


class Holder(NamedTuple):
    """Who has the socket; pid None: it does not answer, or lives in another pid namespace."""

    pid: int | None
    uid: int


class Claim(NamedTuple):
    """What `claim` got."""

    listener: socket.socket | None  # None: a squatter has the name
    warnings: tuple[str, ...] = ()


def claim(deadline: float) -> Claim:
    """The socket. Locked when another tunctl has it until `deadline` (monotonic); a warning when a squatter has it."""
    known, begun_s = False, time.monotonic()
    while True:
        listener = _listen()
        if listener is not None:
            return Claim(listener)
        late = time.monotonic() >= deadline
        if not known or late:  # not each time: every question waits in the holder's queue until it ends
            holder = _holder()
            known = holder is not None
            if holder is not None and holder.uid not in (0, os.geteuid()):
                return Claim(None, (_warning(holder),))
            if late:
                raise locked(holder.pid if holder else None, "the socket @tunctl of this network namespace")
        time.sleep(pause_s(begun_s, deadline))


def pause_s(begun_s: float, deadline: float) -> float:
    """Until the next try. Short at first: passes of the daemon follow upon one another, with a millisecond between them."""
    now_s = time.monotonic()
    least_s, most_s = _POLL_S
    return max(0.0, min(max((now_s - begun_s) / 10, least_s), most_s, deadline - now_s))


def locked(pid: int | None, what: str) -> Locked:
    """Another tunctl has what we need."""
    from reconciler.host.holder import described

    hint = "Wait until it is done, or wait longer with --lock-timeout."
    return Locked(f"another tunctl is at work: {described(pid)} holds {what}", hint=hint)


def _warning(holder: Holder) -> str:
    from reconciler.host.holder import described

    return (
        f"the socket @tunctl is taken by {described(holder.pid)} of uid {holder.uid}, which has no right to it:"
        " tunctl in other containers or with another run directory is not kept out"
    )


def _listen() -> socket.socket | None:
    """None: the name is taken."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(NAME)
        listener.listen(socket.SOMAXCONN)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            return None
        raise Unavailable(f"the socket @tunctl cannot be opened: {error.strerror}") from error
    except BaseException:
        listener.close()
        raise
    return listener


def _holder() -> Holder | None:
    """Who has the name now: as it was when it began to listen; else by its socket alone. None: nobody any more."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        client.settimeout(0)
        client.connect(NAME)
        pid, uid, _gid = _CREDENTIALS.unpack(client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    except OSError:  # its queue is full, or it does not listen
        return _by_socket()
    finally:
        client.close()
    return Holder(pid or None, uid)


def _by_socket() -> Holder | None:
    """The uid that made the socket, from the kernel's list (unix_diag); None also where the kernel cannot tell."""
    netlink = Netlink(_NETLINK_SOCK_DIAG)
    question = _QUESTION.pack(socket.AF_UNIX, 0, 0, 0xFFFFFFFF, 0, _SHOW_NAME | _SHOW_UID, 0, 0)
    try:
        uids = netlink.dump(_SOCK_DIAG_BY_FAMILY, question, _uid_of_ours)
    except (KernelError, NotObserved, OSError):
        return None
    finally:
        netlink.close()
    return Holder(None, uids[0]) if uids else None


def _uid_of_ours(row: bytes) -> int | None:
    found = attributes(row, _ROW_BYTES)
    return as_u32(found.get(_UID)) if found.get(_NAME) == NAME and _UID in found else None
