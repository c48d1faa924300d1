"""A practice guest seen from outside rigup: OpenSSH with the pinned host key."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class GuestShell:
    port: int
    identity: Path
    known_hosts: Path

    def run(self, script: str, *, check: bool = True, timeout: float = 300) -> str:
        options = ("BatchMode=yes", "StrictHostKeyChecking=yes", "GlobalKnownHostsFile=none")
        words = ["ssh", "-F", "none", "-i", str(self.identity), "-p", str(self.port)]
        words += [
            word
            for option in (*options, f"UserKnownHostsFile={self.known_hosts}")
            for word in ("-o", option)
        ]
        done = subprocess.run(
            [*words, "lab@127.0.0.1", "bash -s"],
            input=script.encode(),
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        if check:
            assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout.decode(errors="replace").strip()

    @property
    def boot_id(self) -> str:
        return self.run("cat /proc/sys/kernel/random/boot_id")
