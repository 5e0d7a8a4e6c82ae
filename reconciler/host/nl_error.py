"""How the kernel says no over netlink: a number, and since Linux 4.12 a sentence with it."""

from __future__ import annotations

import os

from reconciler.host.nl_codec import HEADER, HEADER_BYTES, I32, as_text, attributes

_CAPPED, _ACK_TLVS = 0x100, 0x200  # NLM_F_* of NLMSG_ERROR and NLMSG_DONE
_MSG = 1  # NLMSGERR_ATTR_MSG


class KernelError(OSError):
    """The kernel said no. `errno` and `ext_ack`: its sentence, "" when it gave none."""

    def __init__(self, number: int, ext_ack: str = "") -> None:
        super().__init__(number, os.strerror(number))
        self.ext_ack = ext_ack

    def __str__(self) -> str:
        words = os.strerror(self.errno or 0)
        return f"{words}: {self.ext_ack}" if self.ext_ack else words


def error_in(answer: bytes, flags: int, *, with_request: bool) -> KernelError | None:
    """The error of an NLMSG_ERROR (`with_request`: the header of the request follows) or NLMSG_DONE; None: no error."""
    if len(answer) < 4:
        if not with_request:
            return None  # a DONE without a number, as some families send it
        raise ValueError("netlink: an error without a number")
    number = -I32.unpack_from(answer)[0]
    if number <= 0:
        return None
    if number >> 31:
        raise ValueError("netlink: an error with a number that is none")
    return KernelError(number, _ext_ack(answer, flags, with_request=with_request))


def _ext_ack(answer: bytes, flags: int, *, with_request: bool) -> str:
    if not flags & _ACK_TLVS:
        return ""
    at = 4
    if with_request:
        if len(answer) < 4 + HEADER_BYTES:
            return ""
        echoed = HEADER.unpack_from(answer, 4)[0]
        at += HEADER_BYTES if flags & _CAPPED else (echoed + 3) & ~3
    try:
        return as_text(attributes(answer, at).get(_MSG))
    except ValueError:
        return ""  # the words are a courtesy, the number counts
