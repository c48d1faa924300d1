"""Facts of a host as tests name them: tests/cases/steps/base.yaml."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

from inventory import Host
from inventory.model import EMPTY, Mirrors, Repository
from provisioner.actions import WriteFile
from provisioner.agent.boot_unit import boot_unit
from provisioner.agent.bundle import build_bundle
from provisioner.facts import OS, Facts, Unreadable
from provisioner.facts.agent import AgentFacts
from provisioner.facts.archive import AptSource, ArchiveFacts
from provisioner.facts.directories import Directory, DirectoryFacts
from provisioner.facts.docker import DockerFacts
from provisioner.facts.gpu import Gpu, GpuFacts, GpuProcess, PciGpu
from provisioner.facts.gpu_leases import GpuLeaseFacts
from provisioner.facts.kernel import KernelFacts
from provisioner.facts.login import LoginFacts
from provisioner.facts.machine import MachineFacts
from provisioner.facts.network import NetworkFacts
from provisioner.facts.nvidia_services import NvidiaServiceFacts, Unit
from provisioner.facts.os import OsFacts
from provisioner.facts.packages import PackageFacts
from provisioner.facts.proof import ProofFacts
from provisioner.facts.python import PythonFacts
from provisioner.facts.resources import ResourceFacts, Space
from provisioner.facts.sources import SourceFacts
from provisioner.facts.toolkit import CdiSpec, ToolkitFacts
from provisioner.platforms import platform_of
from provisioner.platforms.keys import FetchKey

CASES = Path(__file__).parents[1] / "cases" / "steps"

KINDS: dict[str, Any] = {
    "os": OsFacts,
    "machine": MachineFacts,
    "login": LoginFacts,
    "resources": ResourceFacts,
    "network": NetworkFacts,
    "packages": PackageFacts,
    "sources": SourceFacts,
    "archive": ArchiveFacts,
    "gpu": GpuFacts,
    "kernel": KernelFacts,
    "nvidia_services": NvidiaServiceFacts,
    "docker": DockerFacts,
    "toolkit": ToolkitFacts,
    "python": PythonFacts,
    "agent": AgentFacts,
    "proof": ProofFacts,
    "directories": DirectoryFacts,
    "gpu_leases": GpuLeaseFacts,
}

PCI = {
    "h100": PciGpu("0000:18:00.0", "0x2330", "nvidia"),
    "passed-through": PciGpu("0000:19:00.0", "0x2330", "vfio-pci"),
    "lost": PciGpu("0000:2a:00.0", "0x2330", "nvidia"),
    "lost, unbound": PciGpu("0000:2a:00.0", "0x2330", None),
    "excluded": PciGpu("0000:2b:00.0", "0x2330", "nvidia", left_out=True),
    "display": PciGpu("0000:02:00.0", "0x2684", "nouveau"),
    "v100": PciGpu("0000:3b:00.0", "0x1db1", None),
    "t4": PciGpu("0000:3c:00.0", "0x1eb8", None),
    "a100": PciGpu("0000:3d:00.0", "0x20b2", None),
    "gh200": PciGpu("0009:01:00.0", "0x2342", None),
    "rtx4090": PciGpu("0000:01:00.0", "0x2684", None),
    "b200": PciGpu("0000:1b:00.0", "0x2901", None),
    "k80": PciGpu("0000:05:00.0", "0x102d", None),
    "future": PciGpu("0000:06:00.0", "0x3500", None),
}
GPUS = {
    "h100": Gpu(0, "GPU-1111", "NVIDIA H100 80GB HBM3", 81559, "9.0", True, "0000:18:00.0"),
    "h100 without address": Gpu(0, "GPU-1111", "NVIDIA H100 80GB HBM3", 81559, "9.0", True),
    "h100 without persistence": Gpu(
        1, "GPU-2222", "NVIDIA H100 80GB HBM3", 81559, "9.0", persistence=False
    ),
    "practice": Gpu(0, "GPU-5555", "SIMULATED NVIDIA H100", 81559, "9.0"),
}


@cache
def _base() -> dict[str, Any]:
    base: dict[str, Any] = yaml.safe_load((CASES / "base.yaml").read_text())
    return base


def facts_of(case: Mapping[str, Any], host: Host) -> Facts:
    """The facts of a case: its situation, its system, its own changes, what is unreadable."""
    base = _base()
    layers = (
        base["defaults"],
        _system(case.get("system", "debian12")),
        base["situations"][case["from"]],
        case.get("facts", {}),
    )
    values: dict[str, Any] = {}
    for name, kind in KINDS.items():
        merged = {key: item for layer in layers for key, item in layer.get(name, {}).items()}
        values[name] = _build(name, kind, merged)
    if "sources" in case:
        values["sources"] = _sources(case["sources"], Facts(values), host)
    unreadable = {name: Unreadable(why) for name, why in case.get("unreadable", {}).items()}
    return Facts({**values, **unreadable})


def _system(name: str) -> dict[str, Any]:
    """A distribution and what its kernels are called."""
    base = _base()
    kernel = base["kernels"].get(name, {})
    running = {"kernel": kernel["running"]} if kernel else {}
    os = {**base["systems"][name], **running}
    managers = {"suse": "zypper", "fedora": "dnf"}
    kin = (*os.get("like", ()), os.get("id"))
    manager = next((managers[word] for word in kin if word in managers), "apt")
    return {"os": os, "kernel": kernel, "packages": {"manager": manager}}


def host_of(case: Mapping[str, Any]) -> Host:
    host = Host("gpu01", "gpu01.example", labels=EMPTY)
    fields = dict(case.get("host", {}))
    if "mirrors" in fields:
        fields["mirrors"] = _mirrors(**fields["mirrors"])
    return replace(host, **fields)


def _mirrors(ca_certificates: Sequence[str] = (), **fields: Any) -> Mirrors:
    """``ca_certificates`` are names of files in tests/cases/authorities."""
    paths = tuple(CASES.parent / "authorities" / name for name in ca_certificates)
    repositories = {
        name: Repository(**fields.pop(name))
        for name in ("nvidia", "container_toolkit", "docker")
        if name in fields
    }
    return Mirrors(ca_certificates=paths, **repositories, **fields)


def _build(name: str, kind: Any, fields: dict[str, Any]) -> Any:
    if name == "gpu":
        fields["pci"] = [PCI[key] for key in fields["pci"]]
        fields["gpus"] = [GPUS[key] for key in fields["gpus"]]
        fields["processes"] = [GpuProcess(*item) for item in fields.get("processes", [])]
    if name == "nvidia_services":
        fields.update({key: _unit(value) for key, value in fields.items() if key != "nvlink5"})
    if name == "archive":
        fields["sources"] = [_apt_source(**item) for item in fields["sources"]]
    if name == "resources":
        fields["mounts"] = {
            point: space and Space(space["mib"] << 20, space.get("files"), space.get("ro", False))
            for point, space in fields["mounts"].items()
        }
    if name == "directories":
        fields["found"] = {path: Directory(*item) for path, item in fields["found"].items()}
    if name == "toolkit":
        fields["cdi"] = [
            item if isinstance(item, CdiSpec) else CdiSpec(*item[:3], tuple(item[3]))
            for item in fields.get("cdi", [])
        ]
    if name == "agent":
        current = build_bundle().digest
        fields["builds"] = [current if item == "current" else item for item in fields["builds"]]
        if fields.get("boot_units") == ["current"]:
            fields["boot_units"] = [sha256(boot_unit().content.encode()).hexdigest()]
    return kind(**{key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()})


def _unit(fields: Mapping[str, Any]) -> Unit:
    return Unit(**{**fields, "arguments": tuple(fields.get("arguments", ()))})


def _apt_source(uris: str, suites: str, components: str, **settings: str) -> AptSource:
    return AptSource(uris, tuple(suites.split()), tuple(components.split()), settings)


def _sources(names: list[str], facts: Facts, host: Host) -> SourceFacts:
    """The named vendor sources as rigup itself would have put them there."""
    platform = platform_of(facts[OS])
    nothing = Facts({**dict(facts.items()), "sources": SourceFacts({}, {})})
    actions = [
        action
        for name in names
        for action in platform.source_actions(
            platform.vendor_source(name, facts[OS], host), nothing
        )
    ]
    return SourceFacts(
        {str(item.path): item.content for item in actions if isinstance(item, WriteFile)},
        {
            str(item.path): item.source.key_fingerprint
            for item in actions
            if isinstance(item, FetchKey)
        },
    )
