"""Owner processes, as the kernel shows them. The recorded pid only says where to look first."""

from __future__ import annotations

from reconciler.host import cgroup, children, process
from reconciler.host.bounded import Call
from reconciler.host.handles import Handle
from reconciler.host.machine import Machine
from reconciler.host.process import Marked, Process
from reconciler.host.trees import Hint, Tree, belonging, trees
from reconciler.kinds.owner import Owner
from reconciler.model.found import LinkState, Unobserved
from reconciler.model.intent import Intent
from reconciler.model.marks import Mark
from reconciler.model.names import IfName, TunnelName
from reconciler.observe.question import Question
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

_OTHER_MARK = "started under another mark"  # no fingerprint is ever equal to it: such an owner is started anew


def look(machine: Machine, question: Question, links: Mapping[IfName, LinkState]) -> tuple[list[Owner], list[Unobserved]]:
    """Owners of ours, and with tunnel None those of other stores in this network namespace.

    A second tree of the same tunnel is a second owner, after the first. Needs root: the marks of other users' processes
    are not for everybody to read.
    """
    if not question.privileged:
        return [], [Unobserved(None, "owner", "needs root to read the environment of processes", privilege=True)]
    try:
        seen = Call(lambda: _look(machine, question, links)).result(question.patience_s * 2)
    except TimeoutError:
        return [], [Unobserved(None, "owner", f"the process table could not be read within {question.patience_s * 2:g} s")]
    except OSError as error:
        return [], [Unobserved(None, "owner", f"/proc: {error.strerror}")]
    machine.unmarked.clear()
    machine.unmarked.update(seen.unmarked)
    return seen.owners, seen.blind


class _Seen(NamedTuple):
    owners: list[Owner]
    blind: list[Unobserved]
    unmarked: Mapping[int, int]


def _look(machine: Machine, question: Question, links: Mapping[IfName, LinkState]) -> _Seen:
    """In a thread: reading /proc of a process that is stuck in the kernel can take for ever."""
    children.reap()
    scan = process.find_marked(machine.unmarked)
    mine, none = _by_tunnel(scan), scan._replace(processes=())
    concerned = _concerned(machine, question, scan, links)
    marked = {link.mark: link for link in reversed(tuple(links.values()))} if concerned else {}
    found: list[Owner] = []
    for intent in concerned:
        found += _of_intent(machine, question, mine.get(intent.name, none), intent, marked.get(intent.mark))
    blind = _hidden(question, scan, frozenset(one.tunnel for one in found)) if scan.hidden else []
    return _Seen(found + _strangers(question, mine), blind, scan.unmarked)


def _concerned(machine: Machine, question: Question, scan: Marked, links: Mapping[IfName, LinkState]) -> list[Intent]:
    """Most devices are there for somebody else's process: nothing leads to an owner of ours, neither a mark nor a record, a
    control group, or a device that cannot be without one."""
    if scan.groups is None:
        return list(question.intents)
    named = {one.mark.tunnel for one in scan.processes if one.mark}
    kept = {link.mark for link in filter(_needs_keeper, links.values())}
    groups, get = scan.groups, machine.handles.get
    leads = bool(named or kept or groups)
    return [
        intent
        for intent in question.intents
        if ((handle := get(intent.name)) and handle.pid)
        or (leads and (intent.name in named or intent.mark in kept or (groups and cgroup.path_of(intent.mark) in groups)))
    ]


def _hidden(question: Question, scan: Marked, seen: frozenset[TunnelName | None]) -> list[Unobserved]:
    """Tunnels whose owner is none of those that were seen, and may be one that nobody may look into."""
    reason = f"{scan.hidden} processes may not be read"
    return [
        Unobserved(intent.name, "owner", reason, privilege=True)
        for intent in question.intents
        if intent.tunnel.exec_ and intent.tunnel.exec_.user and intent.name not in seen
    ]


def _by_tunnel(scan: Marked) -> dict[TunnelName, Marked]:
    """The same, cut up by the tunnels that the marks name: there may be a thousand of them."""
    found: dict[TunnelName, list[Process]] = {}
    for one in scan.processes:
        if one.mark:
            found.setdefault(one.mark.tunnel, []).append(one)
    return {name: scan._replace(processes=tuple(processes)) for name, processes in found.items()}


def _of_intent(machine: Machine, question: Question, scan: Marked, intent: Intent, marked: LinkState | None) -> list[Owner]:
    """`marked`: the link that carries the tunnel's mark."""
    handle = machine.handles.get(intent.name)
    dev = (marked.name if marked else None) or intent.tunnel.interface or (handle.interface if handle else None) or IfName("")
    if handle and handle.id != intent.mark.id:  # of another store, or of a tunnel that was forgotten
        handle = None
    hint: Hint = (handle.pid, handle.start_ticks) if handle else (None, None)
    members = belonging(scan, intent.mark, hint, dev) or (_keepers(marked, intent.mark) if marked else [])
    if handle and handle.pid and not any((one.pid, one.start_ticks) == hint for one in members):
        _warn_of_reuse(machine, handle)
    found = [_found(intent, tree, dev, _fingerprint(tree, handle)) for tree in trees(members, hint)]
    if handle and handle.starting:
        found = [one._replace(ready=not _is_starting(intent, one, handle)) for one in found]
    for mark in sorted({one.mark for one in scan.processes if one.mark}):
        if mark != intent.mark and question.is_ours(mark):
            found += [_found(intent, tree, dev, _OTHER_MARK)._replace(mark=mark) for tree in trees(belonging(scan, mark))]
    return found


def _is_starting(intent: Intent, one: Owner, handle: Handle) -> bool:
    """By the hand that started it and wrote that down, as long as it may take."""
    timeout_s = intent.tunnel.exec_.ready_timeout_s if intent.tunnel.exec_ else one.ready_timeout_s
    return (one.pid, one.start_ticks) == (handle.pid, handle.start_ticks) and process.age_s(one.start_ticks or 0) < timeout_s


def _needs_keeper(link: LinkState) -> bool:
    """A device that is not persistent is there because a process has it open."""
    return not link.persist and link.type in ("tun", "tap")


def _keepers(link: LinkState, mark: Mark) -> list[Process]:
    """Who keeps a device of ours in being: only a process of ours can have made what carries our mark. Also one that has wiped
    its environment, and of which no hint is left."""
    if not _needs_keeper(link):
        return []
    from reconciler.host import tunproof

    pids = [pid for pid in process.tun_holders().get(link.name, ()) if tunproof.holds_here(pid, link.name)]
    return [one._replace(mark=mark) for one in map(process.stat, pids) if one is not None]


def _warn_of_reuse(machine: Machine, handle: Handle) -> None:
    """The recorded pid lives, but is somebody else."""
    if handle.pid and process.stat(handle.pid):
        machine.handles.warn(
            handle.name, "pid", f"tunnel {handle.name}: refusing to signal pid {handle.pid}: it is not the recorded owner"
        )


def _found(intent: Intent, tree: Tree, dev: IfName, fingerprint: str | None) -> Owner:
    settings = intent.tunnel.exec_
    holds = _holds(tree, dev)
    return Owner(
        intent.name, intent.mark, dev, _argv(tree.main.pid, intent),
        by_program=settings is not None and settings.device == "program", own_mounts=intent.tunnel.wireguard is not None,
        stop_grace_s=settings.stop_grace_s if settings else Owner._field_defaults["stop_grace_s"],
        fingerprint=fingerprint, pid=tree.main.pid, start_ticks=tree.main.start_ticks,
        members=tuple(one.pid for one in tree.members), holds=holds,
    )  # fmt: skip


def _argv(pid: int, intent: Intent) -> tuple[str, ...]:
    """Its command line, without the interpreter that the kernel puts before a script."""
    argv = process.command_line(pid)
    tunnel = intent.tunnel
    command = tunnel.exec_.command if tunnel.exec_ else tunnel.wireguard.userspace_command if tunnel.wireguard else ()
    if not command or not argv or argv[0] == command[0]:
        return argv
    scripts = (command[0], children.find(command[0]))
    at = next((n for n in (1, 2) if n < len(argv) and argv[n] in scripts), None)  # "#!/bin/sh -e" is two words
    return argv if at is None else (command[0], *argv[at + 1 :])


def _fingerprint(tree: Tree, handle: Handle | None) -> str | None:
    """What was recorded when it was started; also of one that left its work to a child and ended: that is in its session,
    and the number of a session is given to nobody else."""
    if handle is None:
        return None
    is_recorded = (handle.pid, handle.start_ticks) == (tree.main.pid, tree.main.start_ticks)
    return handle.fingerprint if is_recorded or (handle.pid and tree.main.session == handle.pid) else None


def _holds(tree: Tree, dev: IfName) -> IfName | None:
    """The tunnel's device if one of them has it open, else any other."""
    first: IfName | None = None
    for one in tree.members:
        try:
            for name in process.held_devices(one.pid):
                if name == dev:
                    return name
                first = first or name
        except PermissionError:
            continue
    return first


def _strangers(question: Question, scans: Mapping[TunnelName, Marked]) -> list[Owner]:
    """Owners of no intent: ours to be swept, other stores' to be shown (only those of this network namespace)."""
    marks = {one.mark for scan in scans.values() for one in scan.processes if one.mark}
    if not marks:
        return []
    names = {intent.name for intent in question.intents}
    here = process.network_namespace()
    return [
        _stranger(mark, tree, mark.tunnel if question.is_ours(mark) else None)
        for mark in sorted(marks)
        if not (question.is_ours(mark) and mark.tunnel in names)
        for tree in trees(belonging(scans[mark.tunnel], mark))
        if process.network_namespace(tree.main.pid) == here
    ]


def _stranger(mark: Mark, tree: Tree, tunnel: TunnelName | None) -> Owner:
    holds = _holds(tree, IfName(""))
    return Owner(
        tunnel, mark, holds or IfName(""), process.command_line(tree.main.pid),
        pid=tree.main.pid, start_ticks=tree.main.start_ticks, holds=holds,
    )  # fmt: skip
