"""The facts of a host as people read them: a line or two per subject."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from provisioner.command import MASK
from provisioner.facts.agent import AgentFacts
from provisioner.facts.base import Unreadable
from provisioner.facts.docker import DockerFacts
from provisioner.facts.gpu import GpuFacts
from provisioner.facts.kernel import KernelFacts
from provisioner.facts.login import LoginFacts
from provisioner.facts.machine import MachineFacts
from provisioner.facts.nvidia_services import NvidiaServiceFacts
from provisioner.facts.os import OsFacts
from provisioner.facts.packages import PackageFacts
from provisioner.facts.python import PythonFacts
from provisioner.facts.resources import ResourceFacts
from provisioner.facts.toolkit import ToolkitFacts
from provisioner.text import one_line
from provisioner.transcript import URL_LOGIN

GIB = 1 << 30
MIB_PER_GIB = 1024
SECRET = re.compile(r"passw|secret|token|credential|api-?key", re.IGNORECASE)
"""Keys whose values are nobody else's business, such as the splunk-token of a log driver."""


def text(host: str, facts: Mapping[str, Any]) -> str:
    """One host; a fact that could not be read says so in its place."""
    width = max((len(name) for name in facts), default=0)
    lines = [host]
    for name, value in facts.items():
        for place, said in enumerate(_said(value)):
            lines.append(f"  {name if place == 0 else '':<{width}}  {said}")
    return "\n".join(one_line(line) for line in lines)


def plain(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The same for machines, without passwords: a daemon.json may hold a proxy's, or a token of a
    log driver. The facts themselves keep them, for a merge must not lose them."""
    return {name: _masked(_fields(value)) for name, value in facts.items()}


def _fields(value: Any) -> Any:
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value  # type: ignore[arg-type]


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return URL_LOGIN.sub(f"://{MASK}@", value)
    if isinstance(value, Mapping):
        return {
            key: MASK if _holds_text(item) and SECRET.search(str(key)) else _masked(item)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_masked(item) for item in value]
    return value


def _holds_text(value: Any) -> bool:
    return bool(value) and isinstance(value, (str, Mapping, list, tuple))


def _said(value: Any) -> Iterator[str]:
    if isinstance(value, Unreadable):
        yield f"could not be read: {value.reason}"
        if value.remedy:
            yield f"try: {value.remedy}"
        return
    yield from WRITERS.get(type(value), _any)(value)


def _os(os: OsFacts) -> Iterator[str]:
    practice = ", a practice host" if os.is_practice_host else ""
    init = "" if os.systemd else ", without systemd"
    yield f"{os.pretty_name}, {os.architecture}{init}{practice}"


def _machine(machine: MachineFacts) -> Iterator[str]:
    kinds = {"WSL": machine.wsl, "Tegra": machine.tegra, "musl": machine.musl, "vGPU": machine.vgpu}
    yield ", ".join(kind for kind, true in kinds.items() if true) or "an ordinary one"


def _login(login: LoginFacts) -> Iterator[str]:
    if login.is_root:
        right = "root"
    else:
        right = f"sudo {'without' if login.sudo_without_password else 'needs'} a password"
    lingers = ", lingers" if login.lingers else ""
    yield f"{login.user} ({right}{lingers}), home {login.home}, groups {', '.join(login.groups)}"


def _resources(resources: ResourceFacts) -> Iterator[str]:
    yield "; ".join(
        f"{mount} {'not asked' if space is None else f'{space.free_bytes / GIB:.1f} GiB free'}"
        f"{', read-only' if space is not None and space.read_only else ''}"
        for mount, space in sorted(resources.mounts.items())
    )
    if resources.clock_ahead_s:
        where = "ahead of" if resources.clock_ahead_s > 0 else "behind"
        yield f"clock {abs(resources.clock_ahead_s)} s {where} this machine's"


def _packages(packages: PackageFacts) -> Iterator[str]:
    if packages.manager is None:
        yield "no package manager that rigup knows"
        return
    busy = f", busy ({packages.lock_holder or 'lock held'})" if packages.busy else ""
    unattended = ", upgrades by itself" if packages.unattended_upgrades else ""
    yield f"{packages.manager}{busy}{unattended}"
    for title, names in (("broken", packages.broken), ("held", packages.held)):
        if names:
            yield f"{title}: {', '.join(names)}"
    if packages.versions:
        yield ", ".join(f"{name} {version}" for name, version in sorted(packages.versions.items()))


def _gpu(gpu: GpuFacts) -> Iterator[str]:
    models = Counter(
        f"{one.name} ({(one.memory_mib or 0) / MIB_PER_GIB:.1f} GiB, "
        f"compute capability {one.compute_capability or 'not told'})"
        for one in gpu.gpus
    )
    yield from (f"{count} x {model}" for model, count in models.items())
    if not gpu.gpus:
        unlisted = [f"{one.address} {one.device} ({one.driver or 'no driver'})" for one in gpu.pci]
        yield f"on the bus: {', '.join(unlisted)}" if unlisted else "none"
    yield from _driver(gpu)
    if gpu.processes:
        used = ", ".join(f"{one.pid} {one.name} of {one.user}" for one in gpu.processes)
        yield f"in use by {used}"


def _driver(gpu: GpuFacts) -> Iterator[str]:
    parts = {
        "loaded": gpu.module_version,
        "on disk": gpu.module_on_disk,
        "user space": gpu.library_version,
    }
    known = [f"{version} {name}" for name, version in parts.items() if version]
    if known:
        flavour = f", {gpu.module_flavour} module" if gpu.module_flavour else ""
        yield f"driver {', '.join(known)}{flavour}{_persistence(gpu)}"
    if gpu.nouveau_loaded:
        yield "nouveau is loaded"
    if gpu.smi_error:
        yield f"nvidia-smi: {gpu.smi_error}"


def _persistence(gpu: GpuFacts) -> str:
    states = {one.persistence for one in gpu.gpus if one.persistence is not None}
    if len(states) != 1:
        return ""
    return ", persistence on" if states.pop() else ", persistence off"


def _kernel(kernel: KernelFacts) -> Iterator[str]:
    boot = {True: "on", False: "off", None: "not told"}[kernel.secure_boot]
    inside = f", in a container ({kernel.container})" if kernel.container else ""
    later = f", {kernel.next} after a reboot" if kernel.next != kernel.running else ""
    yield f"{kernel.running}{later}{inside}, Secure Boot {boot}"
    if kernel.reboot_required:
        yield "the distribution asks for a reboot"
    yield f"headers for {', '.join(kernel.headers_for) or 'no kernel'}"


def _services(services: NvidiaServiceFacts) -> Iterator[str]:
    units = {
        "nvidia-persistenced": services.persistenced,
        "rigup's persistence unit": services.own_persistence,
        "Fabric Manager": services.fabric_manager,
    }
    told = [
        f"{name} {'runs' if unit.active else 'does not run'}"
        f"{', starts at boot' if unit.wanted else ''}"
        for name, unit in units.items()
        if unit.loaded
    ]
    yield "; ".join(told) or "none"


def _docker(docker: DockerFacts) -> Iterator[str]:
    if not docker.installed:
        yield "not installed"
        return
    kind = " (a snap)" if docker.snap else ""
    boot = "starts at boot" if docker.enabled else "does not start at boot"
    if docker.server_version is None:
        yield f"installed{kind}, does not answer: {docker.error}"
        return
    yield (
        f"{docker.server_version}{kind}, {boot}, {docker.containers_running} container(s) run, "
        f"runtimes {', '.join(docker.runtimes)}, cgroup driver {docker.cgroup_driver}"
    )


def _toolkit(toolkit: ToolkitFacts) -> Iterator[str]:
    yield toolkit.version or "not installed"
    for spec in toolkit.cdi:
        drivers = f", driver {', '.join(spec.drivers)}" if spec.drivers else ""
        yield f"CDI {spec.path}{drivers}"


def _python(python: PythonFacts) -> Iterator[str]:
    yield f"{python.version[0]}.{python.version[1]}" if python.version else "none"


def _agent(agent: AgentFacts) -> Iterator[str]:
    builds = ", ".join(dict.fromkeys(digest[:12] for digest in agent.builds))
    boot = ", starts queued jobs after a boot" if agent.boot_units else ""
    yield f"{builds}{boot}" if builds else "not there yet"


def _any(value: Any) -> Iterator[str]:
    """A fact that this report does not know better: its fields that say something."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        yield str(value)
        return
    fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    told = [f"{name} {_plain(item)}" for name, item in fields.items() if item]
    yield "; ".join(told) or "nothing"


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(map(str, value))
    if isinstance(value, tuple):
        return ", ".join(map(_plain, value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return " ".join(_plain(getattr(value, one.name)) for one in dataclasses.fields(value))
    return str(value)


WRITERS: dict[type, Callable[[Any], Iterator[str]]] = {
    OsFacts: _os,
    MachineFacts: _machine,
    LoginFacts: _login,
    ResourceFacts: _resources,
    PackageFacts: _packages,
    GpuFacts: _gpu,
    KernelFacts: _kernel,
    NvidiaServiceFacts: _services,
    DockerFacts: _docker,
    ToolkitFacts: _toolkit,
    PythonFacts: _python,
    AgentFacts: _agent,
}
