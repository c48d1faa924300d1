"""What rigup wants of Docker's configuration, and how it gets there without losing anything.

Keys that the host's admin has set, in daemon.json or on dockerd's command line, stay as they are.

What keeps GPUs in containers through ``systemctl daemon-reload``: systemd writes a container's
device rules anew then, and knows nothing of devices that NVIDIA's prestart hook added behind its
back ("Failed to initialize NVML: Unknown Error"; NVIDIA/cloud-native-docs, troubleshooting).

- Docker 29.2 and newer turn ``--gpus`` into CDI devices (moby 86f122af27), which systemd is told
  of: nothing to set, unless the admin switched ``features.cdi`` off.
- Older ones always call the hook for ``--gpus``, whatever ``features.cdi`` says: if they manage
  cgroups through systemd (the default with cgroup v2), they are given
  ``native.cgroupdriver=cgroupfs``, so that systemd does not touch their containers' rules. With
  cgroup v1 that is the default.
- Docker 26.1 to 28 also get ``features.cdi``, for ``--device nvidia.com/gpu=all``. Older ones
  cannot read the CDI specification 0.7.0 of toolkit 1.19.1 and newer (toolkit issue 1940).
- ``default-runtime: nvidia`` would do too (from toolkit 1.18 on it works through CDI), but gives
  every container made from a CUDA image all GPUs, asked for or not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from inventory import Host
from provisioner.daemon_json import KeyConflict, Wish, value_at
from provisioner.facts.docker import DockerFacts

LOG_SIZE, LOG_FILES = "100m", "5"
NOFILE_HARD, NOFILE_SOFT = 1048576, 65536
RUNTIME = Wish(("runtimes", "nvidia"), {"args": [], "path": "nvidia-container-runtime"})
"""As ``nvidia-ctk runtime configure`` writes it."""
CGROUPFS = "native.cgroupdriver=cgroupfs"
CGROUP_DRIVER = "native.cgroupdriver="

FIRST_WITH_LOW_NOFILE = (29,)
FIRST_WITH_CDI_07 = (26, 1)
FIRST_WITH_CDI_ON = (29,)
FIRST_WITH_GPUS_BY_CDI = (29, 2)

FLAGS = {
    "log-driver": "log-driver",
    "log-opts": "log-opt",
    "live-restore": "live-restore",
    "default-ulimits": "default-ulimit",
    "data-root": "data-root",
    "exec-opts": "exec-opt",
    "runtimes": "add-runtime",
    "features": "feature",
}
"""Keys of daemon.json and the flags of dockerd that exclude them (docs: dockerd reference)."""


def version_of(docker: DockerFacts) -> tuple[int, ...]:
    """``(26, 1, 5)`` of ``26.1.5+dfsg1``; empty where no engine answers."""
    return tuple(int(part) for part in re.findall(r"\d+", docker.server_version or "")[:3])


def housekeeping(docker: DockerFacts, host: Host) -> list[Wish]:
    """Logs that rotate, containers that survive a restart of Docker, enough open files, and the
    place of its data."""
    wishes = [*_rotation(docker), *_live_restore(docker), *_nofile(docker)]
    if host.docker_data_root is not None:
        wishes.append(Wish(("data-root",), host.docker_data_root))
    return _not_flags(wishes, docker)


def gpu_access(docker: DockerFacts) -> list[Wish]:
    """The runtime, CDI, and a cgroup driver that keeps GPUs; see above. Where containers run, also
    what lets them survive the restart of Docker that this takes. Raises KeyConflict where
    the admin's own keys make that impossible."""
    present, version = docker.daemon_json or {}, version_of(docker)
    wishes = [RUNTIME]
    if FIRST_WITH_CDI_07 <= version < FIRST_WITH_CDI_ON:
        wishes.append(Wish(("features", "cdi"), True))
    if docker.cgroup_driver == "systemd" and not gpus_by_cdi(docker):
        if "exec-opt" in docker.flags:
            raise KeyConflict("--exec-opt of dockerd", f"{CGROUP_DRIVER}systemd")
        for option in value_at(present, ("exec-opts",)) or ():
            if str(option).startswith(CGROUP_DRIVER) and option != CGROUPFS:
                raise KeyConflict("exec-opts", option)
        wishes.append(Wish(("exec-opts",), [CGROUPFS]))
    if docker.containers_running:
        wishes.extend(_live_restore(docker))
    return _not_flags(wishes, docker)


def changes_cgroups(docker: DockerFacts, content: Mapping[str, Any]) -> bool:
    """Would this engine, started with ``content``, put containers into other cgroups?"""
    options = content.get("exec-opts")
    return docker.cgroup_driver == "systemd" and isinstance(options, list) and CGROUPFS in options


def gpus_by_cdi(docker: DockerFacts) -> bool:
    """Does this engine turn ``--gpus`` into CDI devices?"""
    switched_off = value_at(docker.daemon_json or {}, ("features", "cdi")) is False
    return version_of(docker) >= FIRST_WITH_GPUS_BY_CDI and not switched_off


def _rotation(docker: DockerFacts) -> list[Wish]:
    """json-file never rotates by default; every other log driver is the admin's own choice, and
    refuses json-file's options."""
    present = docker.daemon_json or {}
    if present.get("log-driver", "json-file") != "json-file" or "log-driver" in docker.flags:
        return []
    options = value_at(present, ("log-opts",)) or {}
    wishes = [Wish(("log-driver",), "json-file")]
    if "max-size" not in options:
        wishes.append(Wish(("log-opts", "max-size"), LOG_SIZE))
        wishes.append(Wish(("log-opts", "max-file"), LOG_FILES))
    return wishes


def _live_restore(docker: DockerFacts) -> list[Wish]:
    """Not with swarm mode, which excludes it (docs: live restore)."""
    return [] if docker.swarm else [Wish(("live-restore",), True)]


def _nofile(docker: DockerFacts) -> list[Wish]:
    """Docker 29 gives containers 1024 open files (release notes 29.0); older ones what their unit
    allows. An engine that may not raise limits cannot give more than it has."""
    if version_of(docker) < FIRST_WITH_LOW_NOFILE:
        return []
    hard = min(NOFILE_HARD, docker.nofile_limit or NOFILE_HARD)
    limit = {"Name": "nofile", "Hard": hard, "Soft": min(NOFILE_SOFT, hard)}
    return [Wish(("default-ulimits", "nofile"), limit)]


def _not_flags(wishes: list[Wish], docker: DockerFacts) -> list[Wish]:
    """dockerd refuses to start when a key stands in the file and on its command line."""
    return [wish for wish in wishes if FLAGS[wish.path[0]] not in docker.flags]
