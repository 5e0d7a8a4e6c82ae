"""Who has a lock, in words for people. Standard library only."""

from __future__ import annotations

import os

_COMMAND_CHARS = 200


def file_holder(found: os.stat_result, kinds: tuple[str, ...] = ("WRITE", "READ")) -> int | None:
    """The pid that has a lock on this file; None when nobody shows. `kinds`: exclusive and shared ones.

    A line of /proc/locks (proc(5)): ``1: FLOCK  ADVISORY  WRITE 4711 08:01:1234 0 EOF``; those that wait have one word
    more. Where only another device has this inode it is taken: on btrfs and overlays `stat` shows another one.
    """
    device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    try:
        with open("/proc/locks", encoding="utf-8") as file:
            lines = [line.split() for line in file]
    except OSError:
        return None
    inode = f":{found.st_ino}"
    locks = [words for words in lines if len(words) == 8 and words[5].endswith(inode) and words[3] in kinds]
    holders = [(words[5] != device, int(words[4])) for words in locks]
    return min((holder for holder in holders if holder[1] > 0), default=(False, None))[1]


def described(pid: int | None) -> str:
    """``pid 4711 (tunctl apply x.toml)``. None or 0: somebody whose pid we cannot know."""
    if not pid:
        return "a process that cannot be seen from here"
    command = _command(pid)
    return f"pid {pid} ({command})" if command else f"pid {pid}"


def _command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            argv = file.read(4096).split(b"\0")
    except OSError:
        return ""
    words = [word.decode(errors="replace") for word in argv if word]
    for at, word in enumerate(words[:4]):  # behind the interpreter and its options
        if os.path.basename(word) == "tunctl" or (word == "reconciler" and words[at - 1] == "-m"):
            words = ["tunctl", *words[at + 1 :]]
            break
    return "".join(c if c.isprintable() else "?" for c in " ".join(words))[:_COMMAND_CHARS]
