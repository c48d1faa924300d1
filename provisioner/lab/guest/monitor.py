"""QEMU's control channel (QMP): one JSON object per line, over the process's stdin and stdout."""

from __future__ import annotations

import json
import os
import select
import subprocess
from typing import Any

from provisioner.errors import LabError

ANSWER_TIMEOUT_S = 30.0
CHUNK = 65536


class Monitor:
    """Commands to one QEMU process that was started with ``-qmp stdio``."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._received = b""
        self._line()  # the greeting
        self.command("qmp_capabilities")

    def command(self, name: str, **arguments: Any) -> Any:
        """What QEMU answers; events that arrive before are dropped. Raises LabError."""
        question = {"execute": name, "arguments": arguments}
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise LabError(f"QEMU is gone: {error}") from error
        while True:
            answer = self._line()
            if "error" in answer:
                raise LabError(f"QEMU refuses {name}: {answer['error'].get('desc')}")
            if "return" in answer:
                return answer["return"]

    def _line(self) -> dict[str, Any]:
        while b"\n" not in self._received:
            self._received += self._more()
        line, _, self._received = self._received.partition(b"\n")
        parsed: dict[str, Any] = json.loads(line)
        return parsed

    def _more(self) -> bytes:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        ready, _, _ = select.select([descriptor], [], [], ANSWER_TIMEOUT_S)
        data = os.read(descriptor, CHUNK) if ready else b""
        if not data:
            raise LabError("QEMU does not answer" if not ready else "QEMU ended")
        return data
