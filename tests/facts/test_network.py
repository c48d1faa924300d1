"""The network fact's script over made-up files."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from provisioner.facts.base import PRELUDE, Output
from provisioner.facts.network import SCRIPT, parse


def test_files_come_as_they_are_but_for_logins_in_addresses(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/pip.conf").write_text(
        "[global]\nindex-url = https://alice:hunter2@mirror.example/simple\ntimeout = 60\n"
    )
    script = re.sub(r"(?<![\w.])/(etc|usr|var)\b", lambda found: f"{tmp_path}{found[0]}", SCRIPT)
    done = subprocess.run(
        ["sh", "-s"], input=PRELUDE + script, capture_output=True, text=True, timeout=60
    )
    assert parse(Output(done.stdout, done.returncode)).files == {
        f"{tmp_path}/etc/pip.conf": "[global]\nindex-url = https://***@mirror.example/simple\n"
        "timeout = 60\n"
    }
