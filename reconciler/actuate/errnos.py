"""What the kernel's no means: already so, not allowed, or a step that failed."""

from __future__ import annotations

import errno

from reconciler.errors import NotPermitted, StepFailed, TunctlError

ALREADY_GONE = {  # a deletion that has nothing left to do, by kind
    "link": frozenset((errno.ENODEV,)),
    "address": frozenset((errno.EADDRNOTAVAIL, errno.ENODEV)),
    "route": frozenset((errno.ESRCH,)),
    "rule": frozenset((errno.ENOENT,)),
}


def failed(what: object, error: OSError) -> TunctlError:
    """The error of a step: `what` it was about and the kernel's words."""
    if error.errno == errno.EPERM:  # EACCES is something else here: "IPv6 is disabled on nexthop device"
        return NotPermitted(f"{what}: {words(error)}", hint="This needs CAP_NET_ADMIN; run it as root.")
    return StepFailed(f"{what}: {words(error)}")


def words(error: OSError) -> str:
    """The kernel's words, without a number in front."""
    return str(error) if not error.strerror or type(error) is not OSError else error.strerror
