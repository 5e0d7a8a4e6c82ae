"""What WireGuard tunnels follow from on this machine: does the kernel have it, and the keys in their files. Loaded for
them only."""

from __future__ import annotations

from reconciler.errors import NotObserved, TunctlError
from reconciler.host import keys
from reconciler.host.nl_error import KernelError
from reconciler.model.facts import Unknown
from reconciler.model.found import LinkState
from reconciler.model.names import IfName
from reconciler.model.publickey import PublicKey
from reconciler.model.tunnel import WireGuard
from reconciler.typed import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

T = TypeVar("T")
_PRIVILEGE = Unknown("only root may read it", privilege=True)


def in_kernel(engines: Iterable[WireGuard], links: Mapping[IfName, LinkState]) -> bool | Unknown:
    """Asked only when a tunnel wants to know. A module that is not loaded yet counts: making a link loads it."""
    if all(engine.backend == "userspace" for engine in engines):
        return False
    from reconciler.host import kernel_wireguard

    if any(link.type == "wireguard" for link in links.values()) or kernel_wireguard.is_known_to_the_kernel():
        return True
    probe = kernel_wireguard.KernelWireGuard()
    try:
        return probe.family() is not None
    except (KernelError, NotObserved) as error:
        return Unknown(str(error))
    finally:
        probe.close()


def public_keys(engines: Iterable[WireGuard], *, privileged: bool) -> dict[str, PublicKey | Unknown]:
    """By private key file."""
    files = dict.fromkeys(engine.private_key_file for engine in engines)
    return {file: _of_file(file, keys.public_key, privileged=privileged) for file in files}


def preshared(engines: Iterable[WireGuard], *, privileged: bool) -> dict[str, str | Unknown]:
    """Keyed digests, by preshared key file."""
    files = dict.fromkeys(peer.preshared_key_file for engine in engines for peer in engine.peers if peer.preshared_key_file)
    return {file: _of_file(file, lambda one: keys.preshared_digest(keys.read(one)), privileged=privileged) for file in files}


def _of_file(file: str, derive: Callable[[str], T], *, privileged: bool) -> T | Unknown:
    if not privileged:
        return _PRIVILEGE
    try:
        return derive(file)
    except PermissionError:
        return Unknown(f"{file}: may not be read", privilege=True)
    except TunctlError as error:
        return Unknown(error.message)
