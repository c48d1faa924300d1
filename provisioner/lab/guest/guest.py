"""One guest: started, reached, frozen, cut off, ended."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from provisioner.errors import LabError
from provisioner.lab.guest.monitor import Monitor
from provisioner.lab.guest.qemu import Machine

BOOT_TIMEOUT_S = 300.0
"""Emulated, a boot takes 30 s on an idle core; machines under test are not idle."""
STOP_TIMEOUT_S = 30.0
POLL_S = 1.0
LINES_SHOWN = 12


class Guest:
    """A practice guest. Its disk and console log lie in ``folder``; SSH on 127.0.0.1:``port``."""

    def __init__(
        self, name: str, folder: Path, machine: Machine, accelerator: str, host_key: str
    ) -> None:
        self.name = name
        self.folder = folder
        self.machine = machine
        self.accelerator = accelerator
        self.host_key = host_key
        self._process: subprocess.Popen[bytes] | None = None
        self._monitor: Monitor | None = None

    @property
    def port(self) -> int:
        assert self.machine.ssh_port is not None
        return self.machine.ssh_port

    @property
    def console(self) -> str:
        """Everything that the guest printed on its serial console, over all boots."""
        with suppress(FileNotFoundError):
            return (self.folder / "console.log").read_text("utf-8", "replace")
        return ""

    def start(self) -> None:
        """Switch it on. Raises LabError when QEMU does not start."""
        serial = f"file,id=console,path={self.folder / 'console.log'},append=on"
        words = self.machine.words(
            self.accelerator, *("-chardev", serial, "-serial", "chardev:console", "-qmp", "stdio")
        )
        with (self.folder / "qemu.log").open("ab") as log:
            self._process = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
        try:
            self._monitor = Monitor(self._process)
        except LabError as error:
            self.power_off()
            said = (self.folder / "qemu.log").read_text("utf-8", "replace")[-500:]
            raise LabError(
                f"QEMU did not start: {error.message}\n{said}", host=self.name
            ) from error

    def wait_for_ssh(
        self,
        timeout_s: float = BOOT_TIMEOUT_S,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Until sshd answers. Raises LabError with the console's end when it does not."""
        deadline = clock() + timeout_s
        while not answers_ssh(self.port):
            if clock() > deadline:
                tail = "\n".join(self.console.splitlines()[-LINES_SHOWN:])
                raise LabError(
                    f"no answer within {timeout_s:g} s; the console ends with\n{tail}",
                    host=self.name,
                    remedy=f"read {self.folder / 'console.log'}",
                )
            sleep(POLL_S)

    def pause(self) -> None:
        """Freeze it: connections stay open and silent."""
        self._command("stop")

    def resume(self) -> None:
        self._command("cont")

    def hold_at_reboot(self) -> None:
        """From now on a reboot stops between shutdown and boot, until :meth:`let_boot`."""
        self._command("set-action", reboot="shutdown", shutdown="pause")

    def is_held(self) -> bool:
        """Has it shut down, and waits for :meth:`let_boot`?"""
        return self._command("query-status")["status"] == "shutdown"

    def let_boot(self) -> None:
        """Undo :meth:`hold_at_reboot`, and boot if it is held there."""
        held = self.is_held()
        self._command("set-action", reboot="reset", shutdown="poweroff")
        if held:
            self._command("system_reset")
            self._command("cont")

    def reset(self) -> None:
        """As the reset button: a new boot, nothing shut down, unsynced data lost."""
        self._command("system_reset")

    def power_off(self) -> None:
        """As pulling the plug. Nothing happens where it is off."""
        if self._process is None:
            return
        self._process.kill()
        self._process.communicate(timeout=STOP_TIMEOUT_S)
        self._process = self._monitor = None

    def _command(self, name: str, **arguments: str) -> dict[str, str]:
        if self._monitor is None:
            raise LabError("the guest is switched off", host=self.name)
        answer: dict[str, str] = self._monitor.command(name, **arguments)
        return answer


def answers_ssh(port: int) -> bool:
    """QEMU itself accepts every connection, so only the server's first words count."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as link:
        return link.recv(4) == b"SSH-"
    return False
