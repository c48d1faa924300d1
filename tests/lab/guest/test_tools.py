"""What is said where guests cannot run."""

from __future__ import annotations

import pytest

from provisioner.errors import LabError
from provisioner.lab.guest import tools


def test_missing_programs_are_named_as_packages(monkeypatch) -> None:
    here = {"mke2fs", "unshare", "setpriv", "ssh-keygen", "qemu-img"}
    monkeypatch.setattr(tools.shutil, "which", lambda name: name if name in here else None)
    monkeypatch.setattr(tools.platform, "machine", lambda: "x86_64")
    assert tools.missing_tools() == ("debootstrap", "qemu-system-x86")
    with pytest.raises(LabError) as caught:
        tools.require()
    assert caught.value.remedy == (
        "apt-get install --no-install-recommends debootstrap qemu-system-x86"
    )


def test_other_processors_are_refused(monkeypatch) -> None:
    monkeypatch.setattr(tools.platform, "machine", lambda: "aarch64")
    with pytest.raises(LabError, match="x86_64 machines, this one is aarch64"):
        tools.require()
