"""The command line, and when hardware acceleration is believed."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from provisioner.lab.guest import qemu
from provisioner.lab.guest.qemu import Machine


def test_a_guest_is_reached_on_the_loopback_only() -> None:
    words = Machine(Path("/d.qcow2"), seed=Path("/s.raw"), ssh_port=2222).words("tcg")
    assert "user,id=net,ipv6=off,hostfwd=tcp:127.0.0.1:2222-:22" in words
    assert "file=/d.qcow2,if=virtio,cache=unsafe,format=qcow2" in words
    assert "file=/s.raw,if=virtio,format=raw,readonly=on" in words


@pytest.mark.parametrize(
    ("body", "patience_s", "chosen"),
    [
        ("echo '[    0.000000] Linux version 6.1.0'; exec sleep 60", 60.0, "kvm"),
        ("echo 'failed to set MSR 0x10a' >&2; exit 134", 60.0, "tcg"),
        ("printf 'Welcome to GRUB!'; exec sleep 60", 0.01, "tcg"),
    ],
    ids=["boots", "crashes", "hangs"],
)
def test_kvm_counts_only_when_a_kernel_boots_with_it(
    tmp_path: Path, monkeypatch, body: str, patience_s: float, chosen: str
) -> None:
    program = tmp_path / "setpriv"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(stat.S_IRWXU)
    device = tmp_path / "kvm"
    device.touch()
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(qemu, "KVM_DEVICE", device)
    monkeypatch.setattr(qemu, "KVM_BOOT_S", patience_s)
    assert qemu.accelerator(tmp_path / "disk.raw") == chosen


def test_without_the_device_nothing_is_tried(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(qemu, "KVM_DEVICE", tmp_path / "none")
    monkeypatch.setenv("PATH", "")
    assert qemu.accelerator(tmp_path / "disk.raw") == "tcg"
