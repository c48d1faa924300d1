"""The GPU fact's script, really run by a shell: a made-up bus, a stand-in nvidia-smi, a real ps."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from provisioner.facts.base import PRELUDE, Output
from provisioner.facts.gpu import GpuFacts, parse
from provisioner.facts.gpu_script import SCRIPT

ROW = "0, GPU-aaaa, 580.173.02, 81559, 9.0, Enabled, NVIDIA H100 80GB HBM3"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("bin", "sys/bus/pci/devices", "sys/module", "proc/driver/nvidia", "dev"):
        (tmp_path / folder).mkdir(parents=True)
    for program in ("modinfo", "ldconfig"):
        nvidia_program(tmp_path, program, "exit 1")
    return tmp_path


def nvidia_program(root: Path, name: str, script: str) -> None:
    (root / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
    (root / "bin" / name).chmod(0o755)


def device(root: Path, address: str, vendor: str, kind: str, id_: str, driver: str = "") -> None:
    folder = root / "sys/bus/pci/devices" / address
    folder.mkdir()
    for name, text in (("vendor", vendor), ("class", kind), ("device", id_)):
        (folder / name).write_text(f"{text}\n")
    if driver:
        (root / "drivers" / driver).mkdir(parents=True, exist_ok=True)
        (folder / "driver").symlink_to(root / "drivers" / driver)


def gpu(root: Path) -> GpuFacts:
    script = re.sub(
        r"(?<!\w)/(sys|proc|etc|dev/nvidia)\b", lambda found: f"{root}{found[0]}", SCRIPT
    )
    path = f'PATH="{root}/bin:$PATH"\n'
    done = subprocess.run(
        ["sh", "-s"], input=PRELUDE + path + script, capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    return parse(Output(done.stdout, done.returncode))


def test_the_bus(root: Path) -> None:
    device(root, "0000:18:00.0", "0x10de", "0x030200", "0x2330", "nvidia")
    device(root, "0000:19:00.0", "0x10de", "0x030200", "0x2330", "vfio-pci")
    device(root, "0000:1a:00.0", "0x10de", "0x068000", "0x22a3")
    device(root, "0000:1b:00.0", "0x10de", "0x068000", "0x22a3", "vfio-pci")
    device(root, "0000:00:1f.0", "0x8086", "0x030000", "0x1234", "i915")
    found = gpu(root)
    assert [one.driver for one in found.pci] == ["nvidia", "vfio-pci"]
    assert [one.address for one in found.own] == ["0000:18:00.0"]
    assert (found.nvswitches, found.present, found.smi_installed) == (1, True, False)


def test_one_look_at_the_gpus_and_one_at_their_processes(root: Path) -> None:
    nvidia_program(
        root,
        "nvidia-smi",
        f'echo "$*" >> {root}/calls\n'
        f'case "$*" in *compute-apps*) printf "GPU-aaaa, %s\\n" {os.getpid()} 4194999 ;;\n'
        f'*) echo "{ROW}" ;; esac',
    )
    found = gpu(root)
    assert [one.persistence for one in found.gpus] == [True]
    mine, hidden = found.processes
    assert (mine.pid, mine.gpu_uuid) == (os.getpid(), "GPU-aaaa")
    assert mine.name.startswith(("python", "pytest"))
    assert mine.user not in ("", "?")
    assert (hidden.user, hidden.name) == ("?", "?")
    assert len((root / "calls").read_text().splitlines()) == 2


def test_a_failing_nvidia_smi_says_why_with_its_status(root: Path) -> None:
    nvidia_program(root, "nvidia-smi", "echo 'Failed to initialize NVML: Unknown Error'; exit 255")
    found = gpu(root)
    assert found.smi_error == (
        "Failed to initialize NVML: Unknown Error nvidia-smi ended with status 255"
    )
    assert (found.gpus, found.processes) == ((), ())


def test_programs_that_compute_on_while_nvidia_smi_fails(root: Path) -> None:
    nvidia_program(root, "nvidia-smi", "echo 'Driver/library version mismatch'; exit 18")
    (root / "dev/nvidia-uvm").touch()
    for pid, held in ((os.getpid(), "nvidia-uvm"), (4194999, "nvidia-uvm"), (1, "nvidia0")):
        (root / f"proc/{pid}/fd").mkdir(parents=True)
        (root / f"proc/{pid}/fd/7").symlink_to(root / "dev" / held)
    hidden, mine = sorted(gpu(root).processes, key=lambda one: one.user != "?")
    assert (mine.pid, mine.gpu_uuid) == (os.getpid(), None)
    assert (hidden.pid, hidden.user) == (4194999, "?")


def test_a_driver_that_does_not_know_compute_capability_still_lists_its_gpus(root: Path) -> None:
    nvidia_program(
        root,
        "nvidia-smi",
        'case "$*" in\n'
        "*compute-apps*) ;;\n"
        "*compute_cap*) echo 'Field \"compute_cap\" is not a valid field to query.'; exit 2 ;;\n"
        '*) echo "0, GPU-aaaa, 470.256.02, 16160, Enabled, Tesla V100-SXM2-16GB" ;; esac',
    )
    found = gpu(root)
    (one,) = found.gpus
    assert (one.compute_capability, one.persistence, one.memory_mib) == (None, True, 16160)
    assert (found.driver_version, found.smi_error) == ("470.256.02", None)


def test_a_board_of_many_gpus_may_take_its_time(root: Path) -> None:
    nvidia_program(root, "timeout", f'echo "$1" >> {root}/limits; shift; exec "$@"')
    nvidia_program(root, "nvidia-smi", f'echo "{ROW}"')
    gpu(root)
    assert set((root / "limits").read_text().split()) == {"60"}


@pytest.mark.parametrize(
    ("told", "flavour"),
    [
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.173.02  Release", "open"),
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.309.01  Mon Jul 1", "proprietary"),
    ],
)
def test_the_loaded_module(root: Path, told: str, flavour: str) -> None:
    (root / "proc/driver/nvidia/version").write_text(f"{told}\nGCC version: 12\n")
    found = gpu(root)
    assert found.module_flavour == flavour
    assert found.module_version in told.split()


def test_debians_module_has_a_name_of_its_own(root: Path) -> None:
    nvidia_program(
        root,
        "modinfo",
        '[ "$1" = nvidia-current ] || exit 1; echo "version:        550.163.01"\n'
        'echo "license:        Dual MIT/GPL"; echo "srcversion:     X"',
    )
    library = root / "libnvidia-ml.so.550.163.01"
    library.touch()
    (root / "libnvidia-ml.so.1").symlink_to(library)
    line = f"\\tlibnvidia-ml.so.1 (libc6,x86-64) => {root}/libnvidia-ml.so.1"
    nvidia_program(root, "ldconfig", f"printf '{line}\\n'")
    found = gpu(root)
    assert (found.module_on_disk, found.disk_flavour) == ("550.163.01", "open")
    assert found.library_version == "550.163.01"
