"""Facts and probes -> findings: tests/cases/doctor/checks.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from situations import facts_of, host_of

from provisioner.doctor.checks import ALL_CHECKS
from provisioner.doctor.examine import Diagnosis, diagnose
from provisioner.doctor.probes.agent_files import AgentFiles
from provisioner.doctor.probes.docker_access import DockerAccessFacts
from provisioner.doctor.probes.docker_journal import DockerJournalFacts
from provisioner.doctor.probes.docker_settings import DockerSettingsFacts
from provisioner.doctor.probes.gpu_containers import GpuContainer, GpuContainerFacts
from provisioner.doctor.probes.gpu_health import GpuHealthFacts
from provisioner.doctor.probes.jobs import JobFacts
from provisioner.doctor.probes.storage import Place, StorageFacts
from provisioner.doctor.report import host_text
from provisioner.facts import Facts, Unreadable
from provisioner.facts.kernel_log import KernelLogFacts
from provisioner.facts.pending import PendingFacts, PendingReboot
from provisioner.facts.proof import Proof, ProofFacts, ProofRecord
from provisioner.facts.sources import SourceFacts

TODAY = "2026-11-21"
CASES = yaml.safe_load(
    (Path(__file__).parents[1] / "cases" / "doctor" / "checks.yaml").read_text("utf-8")
)
MEMBER = {"member": True, "session": True, "manager": True}
PROVISIONING = "what provisioning would change"


def probes_of(told: Mapping[str, Any]) -> dict[str, Any]:
    """What a healthy host answers, changed by the case."""
    containers = told.get("gpu_containers", {})
    fields = {"exit_code": 0, "gpus": [{"index": "0"}], **told.get("gpu_health", {})}
    return {
        "pending": PendingFacts(None),
        "doctor_jobs": JobFacts(**{key: tuple(v) for key, v in told.get("jobs", {}).items()}),
        "kernel_log": KernelLogFacts(**told.get("kernel_log", {"source": "dmesg", "lines": ()})),
        "docker_journal": DockerJournalFacts(**told.get("docker_journal", {"state": "active"})),
        "docker_settings": DockerSettingsFacts(told.get("docker_settings", "")),
        "docker_access": DockerAccessFacts(True, **{**MEMBER, **told.get("docker_access", {})}),
        "doctor_storage": StorageFacts(
            tuple(
                _place(*row) for row in told.get("storage", [["home", "/home/ml", "/", 900, 999]])
            ),
            tuple(map(tuple, told.get("silent", ()))),
        ),
        "doctor_agent_files": AgentFiles(
            tuple(told.get("damaged_agents", ())), told.get("state_owner", "")
        ),
        "gpu_health": GpuHealthFacts(**{key: _tuple(value) for key, value in fields.items()}),
        "gpu_containers": GpuContainerFacts(
            tuple(GpuContainer(*one) for one in containers.get("containers", ())),
            containers.get("left_out", False),
        ),
    }


def _place(
    what: str,
    path: str,
    mount: str,
    free_gib: float,
    total_gib: float,
    free_files: int | None = None,
    read_only: bool = False,
) -> Place:
    sizes = int(free_gib * (1 << 30)), int(total_gib * (1 << 30))
    return Place(what, path, mount, *sizes, free_files, read_only)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def diagnosis_of(case: Mapping[str, Any], **more: Any) -> Diagnosis:
    host = host_of(case)
    unread = {name: Unreadable(why) for name, why in case.get("unreadable", {}).items()}
    known = {**dict(facts_of(case, host).items()), **probes_of(case.get("probes", {}))}
    known = {**known, **unread, **more}
    checks = [check for check in ALL_CHECKS if check.subject != PROVISIONING]
    return diagnose(host, Facts(known), TODAY, checks)


@pytest.mark.parametrize("case", [pytest.param(case, id=case["name"]) for case in CASES])
def test_situation(case: dict[str, Any]) -> None:
    found = diagnosis_of(case).findings
    assert [[one.id, one.severity] for one in found] == [row[:2] for row in case["expect"]]
    for one, row in zip(found, case["expect"], strict=True):
        told = " ".join((one.subject, one.cause, one.evidence, one.where, one.fix))
        for words in row[2:]:
            assert words in told, told


def test_what_was_looked_at_is_told_and_what_could_not_be_is_not() -> None:
    whole = diagnosis_of({"from": "converged"})
    assert len(whole.checked) == len(ALL_CHECKS) - 1
    half = diagnosis_of({"from": "converged", "unreadable": {"gpu": "x", "kernel_log": "y"}})
    assert set(whole.checked) - set(half.checked) >= {"driver"}
    assert {"driver", "kernel log"} <= set(half.unchecked)
    assert "disk space" in half.checked


@pytest.mark.parametrize(
    ("case", "verdict", "well"),
    [
        ({}, "healthy", True),
        ({"facts": {"packages": {"busy": True}}}, "healthy", True),
        ({"facts": {"login": {"lingers": False}}}, "warnings", True),
        ({"unreadable": {"kernel_log": "only root"}}, "unchecked", False),
        ({"unreadable": {"archive": "why"}}, "unchecked", False),
        ({"probes": {"silent": [["home", "/home/ml"]]}}, "unchecked", False),
        ({"facts": {"docker": {"snap": True}}}, "problems", False),
        (
            {"facts": {"docker": {"snap": True}}, "unreadable": {"kernel_log": "only root"}},
            "problems",
            False,
        ),
    ],
)
def test_healthy_means_that_everything_was_read_and_is_well(
    case: dict[str, Any], verdict: str, well: bool
) -> None:
    found = diagnosis_of({"from": "converged", **case})
    assert (found.verdict, found.is_well) == (verdict, well)
    assert ("healthy" in host_text("gpu01", found)) is (verdict == "healthy")


def test_what_could_not_be_checked_is_named_with_its_reason() -> None:
    case = {"from": "converged", "unreadable": {"kernel_log": "only root may read it"}}
    text = host_text("gpu01", diagnosis_of(case))
    assert "gpu01: 1 could not be checked" in text
    assert "? kernel log: could not be read" in text
    assert "only root may read it" in text
    assert text.splitlines()[-1] == "  not checked: kernel log"


def test_a_reboot_that_rigup_itself_waits_for_is_told() -> None:
    pending = PendingFacts(PendingReboot("kernel", "boot", 1.0))
    [found] = diagnosis_of({"from": "converged"}, pending=pending).findings
    assert (found.id, found.severity) == ("reboot-pending", "warning")
    assert "a run of rigup waits" in found.evidence


def test_a_card_that_is_on_no_bus_any_more_is_told() -> None:
    record = ProofRecord.of("f", [Proof("x")], "2026-11-21", ["GPU-1111", "GPU-gone"])
    found = diagnosis_of({"from": "converged"}, proof=ProofFacts(record)).findings
    assert [(one.id, one.severity, one.evidence) for one in found] == [
        ("gpu-vanished", "problem", "GPU-gone")
    ]


def test_a_key_file_that_holds_something_else_is_told() -> None:
    keys = {"/etc/apt/keyrings/rigup-a.asc": "A" * 40, "/etc/apt/keyrings/rigup-b.asc": ""}
    found = diagnosis_of({"from": "converged"}, sources=SourceFacts({}, keys)).findings
    assert [(one.id, one.severity, one.evidence) for one in found] == [
        ("signing-key-file", "problem", "/etc/apt/keyrings/rigup-b.asc")
    ]


@pytest.mark.parametrize("name", ["gpu", "docker"])
def test_practice_gpus_say_so(name: str) -> None:
    case = {"from": "converged", "facts": {"gpu": {"gpus": ["practice"]}}}
    assert diagnosis_of(case).simulated
    assert not diagnosis_of({"from": "converged"}).simulated
    assert not diagnosis_of({"from": "converged", "unreadable": {name: "x", "gpu": "x"}}).simulated


def test_what_provisioning_would_change_is_a_warning_with_its_reason() -> None:
    case = {"from": "converged", "facts": {"docker": {"installed": False, "server_version": None}}}
    host = host_of(case)
    known = {**dict(facts_of(case, host).items()), **probes_of({})}
    found = {one.id: one for one in diagnose(host, Facts(known), TODAY).findings}
    docker = found["not-provisioned-docker"]
    assert docker.severity == "warning"
    assert docker.cause.startswith("not as provisioning leaves it: ")
    assert docker.where == "invoke provision --host gpu01 --check"


@pytest.mark.parametrize(
    ("leases", "told"),
    [
        ({"owner": None, "mode": ""}, "/run/lock/rigup is not there"),
        ({"owner": 1000}, "/run/lock/rigup is not root's, open to all users"),
        ({"mode": "777"}, "/run/lock/rigup is not root's, open to all users"),
        ({"configuration": None}, "/run/lock/rigup would be gone at boot"),
    ],
)
def test_a_directory_for_leases_that_is_missing_or_wrong_is_a_warning(
    leases: dict[str, Any], told: str
) -> None:
    case = {"from": "converged", "facts": {"gpu_leases": leases}}
    known = {**dict(facts_of(case, host_of(case)).items()), **probes_of({})}
    found = diagnose(host_of(case), Facts(known), TODAY)
    [finding] = [one for one in found.findings if one.id == "not-provisioned-gpu_leases"]
    assert finding.severity == "warning"
    assert told in finding.cause
    assert finding.fix == "invoke provision --host gpu01"


def test_a_step_that_cannot_be_judged_leaves_the_area_unchecked() -> None:
    case = {"from": "converged", "unreadable": {"network": "why"}}
    known = {**dict(facts_of(case, host_of(case)).items()), **probes_of({})}
    found = diagnose(host_of(case), Facts(known), TODAY)
    assert PROVISIONING in found.unchecked
    assert not found.is_well


def test_where_only_a_reboot_helps_the_fix_allows_it() -> None:
    gpu: dict[str, Any] = {
        "module_version": "580.65.06",
        "library_version": "580.173.02",
        "driver_version": None,
        "gpus": [],
        "smi_error": "Failed to initialize NVML: Driver/library version mismatch",
    }
    case = {"from": "converged", "facts": {"gpu": gpu}}
    host = host_of(case)
    known = {**dict(facts_of(case, host).items()), **probes_of({})}
    fixes = {one.id: one.fix for one in diagnose(host, Facts(known), TODAY).findings}
    assert fixes["not-provisioned-driver"] == "invoke provision --host gpu01 --reboot"
