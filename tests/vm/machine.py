"""A virtual machine without acceleration: Debian with systemd and its own kernel, from `tools/vm_image.sh`."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from tests.vm.agent import Agent, AgentGone, monitor

BUILT = Path(__file__).parents[2] / "build" / "vm"
BOOT_S = 240  # fifteen seconds, on processors that have nothing else to do
BOOTS = 3  # on a busy machine the emulation may stand still in the first second of a boot: no interrupt of a timer comes
STARTED_S = 900
OFF_S = 240
_SLEEP_S = 3  # the clock on the board counts whole seconds: a nap within one was none

# Nehalem: what older emulators do with AVX corrupts strings.
_QEMU = [
    "qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "Nehalem", "-smp", "2", "-m", "768",
    "-display", "none", "-monitor", "none", "-nic", "none", "-no-reboot", "-device", "virtio-rng-pci",
    "-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0",
    "-device", "nvme,drive=disk,serial=1",
]  # fmt: skip
# Without what protects a kernel from its users it does the same in two thirds of the time.
_KERNEL = (
    "root=/dev/nvme0n1 rw console=ttyS0 panic=-1 systemd.show_status=1 TERM=dumb audit=0 lsm= "
    "no_timer_check mitigations=off nokaslr init_on_alloc=0 transparent_hugepage=always"
)
_STATE = (
    'for it in "tunctl status" "tunctl plan" "ip -br addr" "ip rule" "wg show" uptime; do echo "# $it"; $it 2>&1 || true; done'
)


class Machine:
    """`directory` has its disk and its socket. What the machine has told its serial line is in `log`."""

    def __init__(self, directory: Path) -> None:
        self.log = directory / "serial.log"
        self._disk, self._socket, self._monitor = directory / "disk", directory / "agent", directory / "monitor"
        self._qemu: subprocess.Popen[bytes] | None = None
        self._agent: Agent | None = None
        for name in ("disk", "vmlinuz"):
            assert (BUILT / name).exists(), f"there is no {BUILT / name}: `make test-vm` builds it"
        subprocess.run(["cp", "--sparse=always", BUILT / "disk", self._disk], check=True, timeout=600)

    # Power

    @property
    def is_off(self) -> bool:
        return self._qemu is None

    def power_on(self) -> None:
        """Until commands can be given to it; not until everything is started."""
        for left in reversed(range(BOOTS)):
            self._start_qemu()
            try:
                self._agent = Agent(self._socket, BOOT_S)
            except AgentGone as error:
                self.cut_power()
                if not left:
                    raise AssertionError(f"{error}; {self.last_words()}") from None
            else:
                return

    def _start_qemu(self) -> None:
        assert self._qemu is None
        assert shutil.which(_QEMU[0]), f"{_QEMU[0]} is not here: `make test-vm` installs it"
        self._qemu = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL"),  # it never outlives the tests
                *_QEMU,
                *("-kernel", os.fspath(BUILT / "vmlinuz"), "-append", _KERNEL),
                *("-drive", f"id=disk,file={self._disk},if=none,format=raw,cache=unsafe"),
                *("-chardev", f"socket,id=agent,path={self._socket},server=on,wait=off"),
                *("-qmp", f"unix:{self._monitor},server=on,wait=off"),
                *("-serial", f"file:{self.log}"),
            ],
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        wait_until(lambda: self._socket.exists() or not self._is_running, 120, "qemu has made its socket")
        assert self._is_running, f"qemu has ended with {self._qemu.poll()}"

    @property
    def _is_running(self) -> bool:
        return self._qemu is not None and self._qemu.poll() is None

    def booted(self) -> None:
        """Until everything that belongs to the boot is started."""
        self.run(["systemctl", "is-system-running", "--wait"], check=False, timeout=STARTED_S)

    def reboot(self) -> None:
        with suppress(AgentGone):
            self.run(["systemctl", "reboot"], check=False)
        self._is_off(OFF_S)
        self.power_on()

    def sleep(self) -> None:
        """Suspends to memory, and wakes up again after some seconds."""
        self.start(["sh", "-c", "echo mem >/sys/power/state"])
        wait_until(lambda: monitor(self._monitor, "query-status")["return"]["status"] == "suspended", OFF_S, "it sleeps")
        time.sleep(_SLEEP_S)
        told = monitor(self._monitor, "system_wakeup")
        assert "return" in told, told
        self.sh("true", timeout=BOOT_S)

    def cut_power(self) -> None:
        """What the machine has not written to its disk is lost."""
        if self._qemu is not None:
            self._qemu.kill()
            self._is_off(30)

    def _is_off(self, patience_s: float) -> None:
        assert self._qemu is not None
        try:
            self._qemu.wait(patience_s)
        except subprocess.TimeoutExpired:
            self._qemu.kill()
            self._qemu.wait(30)
            raise AssertionError(f"it has not gone off within {patience_s} s; {self.last_words()}") from None
        finally:
            if self._agent is not None:
                self._agent.close()
            for path in (self._socket, self._monitor):
                path.unlink(missing_ok=True)
            self._qemu = self._agent = None

    # Commands

    def start(self, argv: Sequence[str], stdin: str | None = None) -> int:
        """→ its pid in the machine. Nobody waits for it."""
        assert self._agent is not None, "the machine is off"
        return self._agent.start(argv, stdin)

    def run(
        self, argv: Sequence[str], *, check: bool = True, timeout: float = 300, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs it to its end. With `check`, a code other than 0 fails the test and shows the output."""
        done = self.wait(self.start(argv, stdin), argv, timeout)
        assert not check or done.returncode == 0, f"{argv} → {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def wait(self, pid: int, argv: Sequence[str], timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """For one that was started."""
        assert self._agent is not None, "the machine is off"
        return self._agent.wait(pid, argv, timeout)

    def sh(self, script: str, *, check: bool = True, timeout: float = 300) -> str:
        """Runs a script; → what it has printed."""
        return self.run(["sh", "-ec", script], check=check, timeout=timeout).stdout.strip()

    def write(self, path: str, text: str, mode: str = "644") -> None:
        """A file of the machine."""
        self.run(["sh", "-ec", 'cat > "$0"; chmod "$1" "$0"', path, mode], stdin=text)

    def last_words(self) -> str:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "its serial line ends with:\n" + "\n".join(text.splitlines()[-60:])

    def journal(self) -> str:
        """What it has written down last, if it can still be asked."""
        if self._agent is None:
            return "the machine is off"
        try:
            return self.sh(f"journalctl -b --no-pager -o short-monotonic | tail -n 200; {_STATE}", check=False)
        except Exception as error:  # whatever it is: the failure that is being reported is not this one
            return repr(error)


def wait_until(condition: Callable[[], object], timeout: float, what: str | Callable[[], str]) -> None:
    """Ask until it is true; AssertionError after `timeout` seconds, with what it is about, or how it is then."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not so within {timeout} s: {what() if callable(what) else what}"
        time.sleep(0.2)
