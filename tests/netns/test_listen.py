"""Bound ports on the real kernel: seen by socket diagnostics, proven by inode, never taken for ours without proof."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from reconciler.actuate import listen as actuate_listen
from reconciler.actuate import owner as actuate_owner
from reconciler.errors import Bug, LookAgain, StepFailed
from reconciler.host import sockets
from reconciler.host.machine import Machine
from reconciler.host.nl_diag import Diag
from reconciler.kinds.listen import Bound
from reconciler.kinds.owner import Owner
from reconciler.model.found import Unobserved
from reconciler.model.intent import Intent
from reconciler.model.marks import Mark
from reconciler.model.port import ANY4, ANY6, TCP, UDP, Socket
from reconciler.model.prefix import pton
from reconciler.model.tunnel import Exec, Listen, Tunnel
from reconciler.observe import listen as observe_listen
from reconciler.observe.listen import Seen
from tests.netns.engines import look as look_at_owners
from tests.netns.engines import machine_in, new_mark, program, question_for
from tests.netns.serving import holding
from tests.netns.world import Host

LOCAL = pton("127.0.0.1")
ENTRY = Listen("udp", ANY4, 8443, 4)
SOME = (range(8443, 8447),)


def wanted(mark: Mark, port: int = 8443, patience_s: float = 5.0, *, told: bool = True) -> Bound:
    return Bound(mark.tunnel, "udp", ANY4, port, 8443, (ANY4,), mark, True, told, patience_s)


def server(mark: Mark, *words: str) -> Owner:
    return program(mark, "server.py", *words)


def see(machine: Machine, mark: Mark, *entries: Listen, privileged: bool = True) -> Seen:
    """What is found of a tunnel that has these entries."""
    owner = server(mark)
    tunnel = Tunnel(mark.tunnel, "exec", owner.dev, exec_=Exec(owner.argv), listen=entries or (ENTRY,))
    owners, blind = look_at_owners(machine, owner, privileged=privileged)
    return observe_listen.look(machine, question_for(Intent(tunnel, mark, 1, "test", 1)), owners, blind)


@pytest.fixture
def mark() -> Mark:
    return new_mark()


@pytest.fixture
def machine(host: Host, mark: Mark) -> Iterator[Machine]:
    with machine_in(host, mark) as opened:
        yield opened


def test_absent(machine: Machine, mark: Mark) -> None:
    actuate_owner.create(machine, server(mark))
    assert see(machine, mark) == Seen()
    with pytest.raises(StepFailed, match=r"listen udp 0.0.0.0 port 8443: pid \d+ does not bind it"):
        actuate_listen.create(machine, wanted(mark, patience_s=0.0))


def test_present_and_twice(machine: Machine, mark: Mark) -> None:
    actuate_owner.create(machine, server(mark, "udp=0.0.0.0:8443"))
    for _ in range(2):
        actuate_listen.create(machine, wanted(mark))
        seen = see(machine, mark)
        assert seen.bound == (Bound(mark.tunnel, "udp", ANY4, 8443),)
        assert not wanted(mark).differs_from(seen.bound[0])
        assert [one.tunnel for one in seen.sockets] == [mark.tunnel]
    assert machine.refused == set()


def test_changed(machine: Machine, mark: Mark) -> None:
    """It has another one of its candidates, or another address: that is seen, and cannot be changed from here."""
    actuate_owner.create(machine, server(mark, "udp=127.0.0.1:8445"))
    (found,) = see(machine, mark).bound
    assert (found.address, found.port) == (LOCAL, 8445)
    assert wanted(mark).differs_from(found) == ("port", "address")
    with pytest.raises(StepFailed, match=r"its program has 127\.0\.0\.1:8445, and is not told to move"):
        actuate_listen.change(machine, wanted(mark, told=False), found, ("port",))
    with pytest.raises(StepFailed, match="does not bind it"):
        actuate_listen.change(machine, wanted(mark, patience_s=0.0), found, ("port",))


def test_deleted(machine: Machine, mark: Mark) -> None:
    """With its engine, and only so."""
    actuate_owner.create(machine, server(mark, "udp=0.0.0.0:8443"))
    (found,) = see(machine, mark).bound
    with pytest.raises(Bug, match="cannot be taken from its engine"):
        actuate_listen.delete(machine, found)
    (owner,), _ = look_at_owners(machine, server(mark))
    actuate_owner.delete(machine, owner)
    assert see(machine, mark) == Seen()


def test_foreign(host: Host, machine: Machine, mark: Mark) -> None:
    """A stranger's socket is seen as nobody's; who wants its port is told to look further, and to whom it was lost."""
    actuate_owner.create(machine, server(mark))
    with holding(host, 8443):
        seen = see(machine, mark)
        assert (seen.bound, [one.tunnel for one in seen.sockets]) == ((), [None])
        with pytest.raises(LookAgain, match=rf"8443 was taken by pid {os.getpid()} \(.+\) before it was bound"):
            actuate_listen.create(machine, wanted(mark))
    assert machine.refused == {(mark.tunnel, "udp", 8443)}


def test_a_marked_stranger_is_a_stranger(host: Host, machine: Machine, mark: Mark) -> None:
    """The mark of another tunnel proves nothing for this one."""
    actuate_owner.create(machine, server(mark))
    other = new_mark("other")
    with machine_in(host, other) as theirs:
        actuate_owner.create(theirs, program(other, "server.py", "udp=0.0.0.0:8443", dev="tun-o"))  # type: ignore[arg-type]
        assert see(machine, mark).bound == ()


def test_unprivileged(host: Host, machine: Machine, mark: Mark) -> None:
    """What nobody has bound is seen by anybody; whose the rest is, is not."""
    assert see(machine, mark, privileged=False) == Seen()
    actuate_owner.create(machine, server(mark, "udp=0.0.0.0:8443"))
    seen = see(machine, mark, privileged=False)
    assert seen.bound == ()
    assert seen.unobserved == (Unobserved(mark.tunnel, "listen", "needs root to see whose the sockets are", privilege=True),)


def test_two_entries_do_not_share(machine: Machine, mark: Mark) -> None:
    actuate_owner.create(machine, server(mark, "udp=0.0.0.0:8444", "udp=0.0.0.0:8445"))
    seen = see(machine, mark, ENTRY, ENTRY._replace(transport="quic"))
    assert sorted((one.transport, one.port) for one in seen.bound) == [("quic", 8445), ("udp", 8444)]


def test_late_but_in_time(machine: Machine, mark: Mark, host: Host) -> None:
    owner = server(mark, f"until:{host.dir}/go", "udp=0.0.0.0:8443")
    actuate_owner.create(machine, owner)
    pid = os.fork()
    if pid == 0:
        time.sleep(0.3)
        (host.dir / "go").touch()
        os._exit(0)
    try:
        actuate_listen.create(machine, wanted(mark, patience_s=30.0))
    finally:
        os.waitpid(pid, 0)


class TestDiag:
    """What the kernel says of sockets, in all the shapes they have."""

    @contextmanager
    def bound(
        self, host: Host, family: int, kind: int, place: tuple[str, int], v6only: int | None = None
    ) -> Iterator[socket.socket]:
        with host.inside(), socket.socket(family, kind) as opened:
            if v6only is not None:
                opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
            opened.bind(place)
            yield opened

    def seen(self, host: Host, protocol: int, ports: tuple[range, ...] = SOME) -> list[Socket]:
        with host.inside():
            diag = Diag()
            try:
                return [one._replace(inode=0) for one in diag.sockets(protocol, ports)]
            finally:
                diag.close()

    @pytest.mark.parametrize(
        ("family", "address", "v6only", "wanted"),
        [
            (socket.AF_INET, "0.0.0.0", None, Socket(UDP, ANY4, 8443)),
            (socket.AF_INET, "127.0.0.1", None, Socket(UDP, LOCAL, 8443)),
            (socket.AF_INET6, "::", 0, Socket(UDP, ANY6, 8443)),
            (socket.AF_INET6, "::", 1, Socket(UDP, ANY6, 8443, v6only=True)),
            (socket.AF_INET6, "::1", None, Socket(UDP, pton("::1"), 8443, v6only=True)),
            (socket.AF_INET6, "::ffff:127.0.0.1", 0, Socket(UDP, LOCAL, 8443)),
        ],
    )
    def test_udp(self, host: Host, family: int, address: str, v6only: int | None, wanted: Socket) -> None:
        with self.bound(host, family, socket.SOCK_DGRAM, (address, 8443), v6only):
            assert self.seen(host, UDP) == [wanted]
            assert self.seen(host, UDP, (range(8443, 8444),)) == [wanted]
            assert self.seen(host, UDP, (range(8444, 8445),)) == self.seen(host, TCP) == []

    def test_connected_udp_still_has_its_port(self, host: Host) -> None:
        with self.bound(host, socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 8443)) as opened:
            opened.connect(("127.0.0.1", 9))
            assert self.seen(host, UDP) == [Socket(UDP, LOCAL, 8443)]

    def test_tcp_that_listens(self, host: Host) -> None:
        with self.bound(host, socket.AF_INET, socket.SOCK_STREAM, ("0.0.0.0", 8443)) as opened:
            opened.listen()
            assert self.seen(host, TCP) == self.seen(host, TCP, (range(8443, 8444),)) == [Socket(TCP, ANY4, 8443)]

    def test_whose_it_is(self, host: Host) -> None:
        with self.bound(host, socket.AF_INET, socket.SOCK_DGRAM, ("0.0.0.0", 8443)) as opened:
            inode = os.fstat(opened.fileno()).st_ino
            assert inode in sockets.inodes(os.getpid())
            assert sockets.holders(frozenset((inode, 1))).by_inode == {inode: os.getpid()}

    @pytest.mark.parametrize(("protocol", "kind"), [(UDP, socket.SOCK_DGRAM), (TCP, socket.SOCK_STREAM)])
    def test_a_try(self, host: Host, protocol: int, kind: int) -> None:
        with self.bound(host, socket.AF_INET, kind, ("127.0.0.1", 8443)) as opened:
            if kind == socket.SOCK_STREAM:
                opened.listen()
            assert not sockets.is_free(protocol, LOCAL, 8443)
            assert not sockets.is_free(protocol, ANY4, 8443)
            assert sockets.is_free(protocol, LOCAL, 8444)
            assert sockets.is_free(protocol, pton("192.0.2.9"), 8443), "not ours, so nobody else's: its program will say so"

    def test_as_with_keep_out(self, host: Host) -> None:
        """What `keeps_out` says is what the kernel does."""
        places = [("0.0.0.0", None), ("127.0.0.1", None), ("127.0.0.2", None), ("::", 0), ("::", 1), ("::1", None)]
        for address, v6only in places:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with self.bound(host, family, socket.SOCK_DGRAM, (address, 8443), v6only):
                (there,) = self.seen(host, UDP)
                for other in ("0.0.0.0", "127.0.0.1", "127.0.0.2", "::", "::1"):
                    assert there.keeps_out(pton(other)) is not sockets.is_free(UDP, pton(other), 8443), (address, v6only, other)


def _many_s(host: Host, count: int, marks: list[Mark]) -> float:
    """CPU seconds of a look at so many tunnels whose ports are all taken by this process."""
    entry = Listen("udp", LOCAL, 20000, 2000)
    intents = [
        Intent(
            Tunnel(mark.tunnel, "exec", None, exec_=Exec(("/bin/true",)), listen=(entry._replace(port=20000 + at),)),
            mark,
            1,
            "t",
            1,
        )
        for at, mark in enumerate(marks[:count])
    ]
    with host.inside(), Machine(host.run_dir) as machine, ExitStack() as stack:
        for at in range(count):
            opened = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            opened.bind(("127.0.0.1", 20000 + at))
        begun = time.process_time()
        seen = observe_listen.look(machine, question_for(*intents), (), ())
        took = time.process_time() - begun
    assert len(seen.sockets) == count
    return took


def test_a_thousand_tunnels_are_one_look(host: Host) -> None:
    marks = [new_mark(f"t{at}") for at in range(800)]
    few = min(_many_s(host, 100, marks) for _ in range(3))
    many = min(_many_s(host, 800, marks) for _ in range(3))
    assert many < few * 24, f"eight times as many: {many / few:.1f} times the work"
