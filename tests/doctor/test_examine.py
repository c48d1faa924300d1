"""One host is examined in one round trip, with every fact and probe; nothing is changed."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scripted_host import ScriptedHost

from inventory import Host
from provisioner.doctor.examine import Diagnosis, examine
from provisioner.doctor.probes import PROBES
from provisioner.errors import ConnectionLost
from provisioner.facts import ALL_FACTS, Fact
from provisioner.transport.fake import FakeTransport

HOST = Host("gpu01", "gpu01.example")


def diagnosis_of(**sections: str) -> tuple[Diagnosis, FakeTransport]:
    transport = ScriptedHost(sections=sections).transport()
    return examine(transport, HOST), transport


def test_one_round_trip_asks_everything() -> None:
    _, transport = diagnosis_of()
    [command] = transport.commands
    assert command.words == ("sh", "-s")
    assert command.stdin is not None
    script = command.stdin.decode()
    for fact in (*ALL_FACTS, *PROBES):
        assert f" begin {fact.name}\\n" in script
    assert not transport.files


def test_the_directories_that_the_inventory_wants_are_looked_at() -> None:
    transport = ScriptedHost().transport()
    examine(transport, replace(HOST, data_directories=("/srv/data set",)))
    [command] = transport.commands
    assert b"DIRECTORIES='/srv/data set'" in (command.stdin or b"")


def test_what_the_kernel_and_a_container_said_becomes_findings() -> None:
    found, _ = diagnosis_of(
        kernel_log="source|dmesg\nlog|[7.0] NVRM: Xid (PCI:0000:05:00): 79, x\n",
        gpu="smi=1\nmodule=580.1\ngpu|0, GPU-a, 580.1, 81559, 9.0, SIMULATED H100\n",
        gpu_containers="container|mine|Failed to initialize NVML: Unknown Error =255\n",
    )
    problems = {one.id for one in found.findings if one.severity == "problem"}
    assert {"xid-79", "container-gpus-lost"} <= problems
    assert found.simulated
    assert "kernel log" in found.checked


def test_a_section_that_is_missing_is_unread_and_never_health() -> None:
    found, _ = diagnosis_of(kernel_log="", gpu_health="row|half an ans")
    unread = {one.subject for one in found.findings if one.id == "unreadable"}
    assert {"kernel log", "gpu health"} <= unread
    assert not {"kernel log", "GPUs"} & set(found.checked)
    assert {"kernel log", "GPUs"} <= set(found.unchecked)
    assert not found.is_well


def test_hints_name_the_host() -> None:
    text = "row|No devices were found\nexit|6\n"
    found, _ = diagnosis_of(gpu_health=text, docker='installed=1\ninfo={"ServerVersion":"29"}\n')
    assert all("--host HOST" not in one.fix for one in found.findings)


def test_a_host_that_breaks_off_is_an_error() -> None:
    def answer(command: object) -> None:
        raise ConnectionLost("the connection broke", host="gpu01")

    with pytest.raises(ConnectionLost):
        examine(FakeTransport(answer), HOST)  # type: ignore[arg-type]


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_no_probe_redirects_into_a_file(probe: Fact[Any]) -> None:
    targets = re.findall(r"(?<![-=])>>?\s*([^\s;)\"]+)", probe.script)
    assert set(targets) <= {"/dev/null", "&1", "&2"}


def test_the_tables_travel_with_the_package() -> None:
    import provisioner.data

    folder = Path(provisioner.data.__file__).parent
    assert (folder / "failures.yaml").is_file()
    assert (folder / "xid.yaml").is_file()
