"""What only doctor asks a host, beside the facts: read in the same round trip, changing nothing."""

from typing import Any

from provisioner.doctor.probes.agent_files import AGENT_FILES
from provisioner.doctor.probes.docker_access import DOCKER_ACCESS
from provisioner.doctor.probes.docker_journal import DOCKER_JOURNAL
from provisioner.doctor.probes.docker_settings import DOCKER_SETTINGS
from provisioner.doctor.probes.gpu_containers import GPU_CONTAINERS
from provisioner.doctor.probes.gpu_health import GPU_HEALTH
from provisioner.doctor.probes.jobs import JOBS
from provisioner.doctor.probes.storage import STORAGE
from provisioner.facts.base import Fact
from provisioner.facts.kernel_log import KERNEL_LOG

PROBES: tuple[Fact[Any], ...] = (
    KERNEL_LOG,
    GPU_HEALTH,
    DOCKER_JOURNAL,
    DOCKER_SETTINGS,
    DOCKER_ACCESS,
    GPU_CONTAINERS,
    STORAGE,
    AGENT_FILES,
    JOBS,
)
