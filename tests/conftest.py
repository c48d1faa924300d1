"""When end-to-end and GPU tests run.

A test marked ``e2e`` needs root and a Docker engine that answers; without them it is skipped with
the reason, or fails where ``RIGUP_E2E=1`` says that they must be there. A test marked ``gpu``
needs a real NVIDIA GPU, which nothing can demand: it is skipped without one. The tests under
``reboot`` start QEMU machines for minutes: they are not even collected unless they are named, by
their marker or their path.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How fast this machine is at the moment is not tested.
settings.register_profile(
    "any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any-machine")

DEMAND_VARIABLE = "RIGUP_E2E"
DOCKER_ANSWERS_WITHIN_S = 30
ON_REQUEST = "reboot"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    if collection_path != Path(__file__).parent / ON_REQUEST:
        return None
    asked = (config.option.markexpr, *config.invocation_params.args)
    return None if any(ON_REQUEST in str(word) for word in asked) else True


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and (obstacle := gpu_obstacle()):
        pytest.skip(obstacle)
    if item.get_closest_marker("e2e") and (obstacle := e2e_obstacle()):
        if os.environ.get(DEMAND_VARIABLE) == "1":
            pytest.fail(f"{obstacle}, but {DEMAND_VARIABLE}=1 demands it", pytrace=False)
        pytest.skip(obstacle)


@functools.lru_cache  # not cache: the agent's tests run on Python 3.8 too
def e2e_obstacle() -> str | None:
    """Why end-to-end tests cannot run here; None where they can."""
    if os.geteuid() != 0:
        return "end-to-end tests need root"
    if shutil.which("docker") is None:
        return "end-to-end tests need the docker client on PATH"
    return _engine_obstacle()


def _engine_obstacle() -> str | None:
    try:
        done = subprocess.run(
            ["docker", "version", "--format", "{{.Server.Version}}"],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=DOCKER_ANSWERS_WITHIN_S,
        )
    except subprocess.TimeoutExpired:
        return f"no Docker engine answered within {DOCKER_ANSWERS_WITHIN_S} s"
    return None if done.returncode == 0 else "end-to-end tests need a running Docker engine"


@functools.lru_cache
def gpu_obstacle() -> str | None:
    """Why GPU tests cannot run here; None where they can."""
    if any(Path("/dev").glob("nvidia[0-9]*")) and shutil.which("nvidia-smi"):
        return None
    return "needs a real NVIDIA GPU"
