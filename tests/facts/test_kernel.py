"""The kernel fact's script, really run by a shell over a made-up /boot and /lib/modules."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from provisioner.facts.base import Output
from provisioner.facts.kernel import SCRIPT, KernelFacts, parse

RUNNING = "6.1.0-41-amd64"
PROGRAMS = {
    "uname": f"echo {RUNNING}",
    "dpkg-query": "printf 'ii |linux-image-amd64\\nhi |linux-headers-amd64\\n'",
}
LONG_AGO, LATER = 1_000_000_000, 4_000_000_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("boot", "bin", "etc/modprobe.d", "run", "sys/firmware", "proc"):
        (tmp_path / folder).mkdir(parents=True)
    for program, line in PROGRAMS.items():
        (tmp_path / "bin" / program).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / "bin" / program).chmod(0o755)
    (tmp_path / "proc/stat").write_text("cpu 1 2 3\nbtime 2000000000\nprocesses 7\n")
    (tmp_path / "proc/cmdline").write_text("quiet\n")
    return tmp_path


def install(root: Path, release: str, *, headers: bool = True) -> None:
    (root / "lib/modules" / release).mkdir(parents=True)
    (root / "boot" / f"vmlinuz-{release}").touch()
    if headers:
        (root / "lib/modules" / release / "build").mkdir()
        (root / "lib/modules" / release / "build/Makefile").touch()


def kernel(root: Path, *, installed_at: int = LONG_AGO) -> KernelFacts:
    """``installed_at``: when the kernel images' inodes changed, which no test can set."""
    folders = r"(?<!\w)/(boot|etc|run|sys|proc|lib|usr|var|\.dockerenv)\b"
    script = re.sub(folders, lambda found: f"{root}{found[0]}", SCRIPT)
    path = f"PATH={root}/bin:$PATH\nstat() {{ echo {installed_at}; }}\n"
    done = subprocess.run(
        ["sh", "-s"], input=path + script, capture_output=True, text=True, timeout=30
    )
    assert done.stderr == ""
    return parse(Output(done.stdout, done.returncode))


def test_kernels_and_headers(root: Path) -> None:
    install(root, RUNNING)
    install(root, "6.1.0-42-amd64", headers=False)
    install(root, "6.12.9-cloud-amd64")
    found = kernel(root, installed_at=LATER)
    assert (found.running, found.newest, found.next) == (RUNNING, *["6.1.0-42-amd64"] * 2)
    assert set(found.headers_for) == {RUNNING, "6.12.9-cloud-amd64"}
    assert found.metapackages == ("linux-image-amd64", "linux-headers-amd64")
    assert found.held == ("linux-headers-amd64",)


def test_a_kernel_that_was_there_at_the_boot_was_passed_over(root: Path) -> None:
    install(root, RUNNING)
    install(root, "6.1.0-42-amd64")
    assert kernel(root, installed_at=LONG_AGO).next == RUNNING


def test_a_leftover_directory_of_modules_is_no_kernel(root: Path) -> None:
    (root / "lib/modules/6.1.0-99-amd64").mkdir(parents=True)
    assert kernel(root).newest is None


def test_nouveau_and_the_initramfs_that_still_has_it(root: Path) -> None:
    install(root, RUNNING)
    (root / f"lib/modules/{RUNNING}/modules.dep").write_text("kernel/x/nouveau.ko: kernel/y.ko\n")
    initramfs = root / f"boot/initrd.img-{RUNNING}"
    initramfs.touch()
    assert kernel(root).nouveau_installed
    assert not kernel(root).nouveau_blacklisted
    blacklist = root / "etc/modprobe.d/rigup-nouveau.conf"
    blacklist.write_text("# nouveau\nblacklist nouveau\n")
    os.utime(initramfs, (LONG_AGO, LONG_AGO))
    found = kernel(root)
    assert (found.nouveau_blacklisted, found.initramfs_stale) == (True, True)
    os.utime(initramfs, (LATER, LATER))
    assert not kernel(root).initramfs_stale


def test_a_comment_does_not_blacklist_and_the_command_line_does(root: Path) -> None:
    (root / "etc/modprobe.d/x.conf").write_text("# blacklist nouveau\nblacklist nouveau_x\n")
    assert not kernel(root).nouveau_blacklisted
    (root / "proc/cmdline").write_text("quiet modprobe.blacklist=pcspkr,nouveau\n")
    assert kernel(root).nouveau_blacklisted


@pytest.mark.parametrize(
    ("secure", "shim", "expected"),
    [
        (b"\6\0\0\0\1", None, True),
        (b"\6\0\0\0\0", None, False),
        (b"\6\0\0\0\1", b"\6\0\0\0\1", False),
    ],
)
def test_secure_boot(root: Path, secure: bytes, shim: bytes | None, expected: bool) -> None:
    assert kernel(root).secure_boot is False, "no EFI"
    variables = root / "sys/firmware/efi/efivars"
    variables.mkdir(parents=True)
    assert kernel(root).secure_boot is None, "variables that nobody can read"
    (variables / "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c").write_bytes(secure)
    if shim is not None:
        name = "MokSBStateRT-605dab50-e046-4300-abb6-3dd810dd8b23"
        (variables / name).write_bytes(shim)
    assert kernel(root).secure_boot is expected


def test_containers_and_waiting_reboots(root: Path) -> None:
    assert (kernel(root).container, kernel(root).reboot_required) == (None, False)
    (root / "run/systemd").mkdir()
    (root / "run/systemd/container").write_text("lxc\n")
    (root / "run/reboot-required").touch()
    assert (kernel(root).container, kernel(root).reboot_required) == ("lxc", True)
