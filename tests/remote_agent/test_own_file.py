"""An agent file that is in use is not old."""

from __future__ import annotations

import os
import sys

from remote_agent.detach import own_command
from remote_agent.own_file import REFRESH_S, OwnFile


def test_the_file_is_touched_every_hour(tmp_path):
    path = tmp_path / "agent.pyz"
    path.write_bytes(b"")
    now = [0.0]
    own = OwnFile(str(path), clock=lambda: now[0])
    for touched in (True, False, True):
        os.utime(path, (1.0, 1.0))
        own.keep()
        assert (path.stat().st_mtime > 1.0) is touched
        now[0] += REFRESH_S if not touched else REFRESH_S / 2


def test_a_file_that_is_gone_breaks_nothing(tmp_path):
    OwnFile(str(tmp_path / "gone")).keep()


def test_what_a_symlink_started_goes_on_from_the_file_itself(tmp_path, monkeypatch):
    """Else an upgrade would exchange the program under running processes."""
    (tmp_path / "abc.pyz").write_bytes(b"")
    (tmp_path / "current.pyz").symlink_to("abc.pyz")
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "current.pyz")])
    assert own_command("dispatch")[2] == str(tmp_path / "abc.pyz")
